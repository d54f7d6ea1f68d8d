/*
 * Nyx IOMMU: state that leaves, as the stream has it
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "arrival.h"
#include "departure.h"
#include "travelling-table.h"

/* Keep a list of saved elements in ascending order of a string of theirs. */
#define INSERT_ORDERED(head, elm, key) \
    do { \
        typeof(elm) other_; \
        QTAILQ_FOREACH(other_, head, next) { \
            if (strcmp((char *)(elm)->key->data, \
                       (char *)other_->key->data) < 0) { \
                break; \
            } \
        } \
        if (other_) { \
            QTAILQ_INSERT_BEFORE(other_, elm, next); \
        } else { \
            QTAILQ_INSERT_TAIL(head, elm, next); \
        } \
    } while (0)

static void save_domain(NyxSavedIommu *saved, NyxDomain *domain,
                        NyxTableProof proof)
{
    NyxSavedDomain *s = g_new0(NyxSavedDomain, 1);

    *s = (NyxSavedDomain) {
        .id = nyx_saved_string(domain->id),
        .automatic = domain->automatic,
        .isolation = domain->isolation,
        .default_map = domain->default_map,
        .peer_to_peer = domain->peer_to_peer,
        .large_pages = domain->large_pages,
        .contained = domain->contained,
        .policy = nyx_saved_policy(&domain->policy),
        .invalidations = domain->invalidations,
        .has_table = domain->table,
        .has_sum = domain->table && proof == NYX_TABLES_BY_SUM,
    };
    if (s->has_sum) {
        s->sum = *nyx_domain_table_sum(domain);
    } else {
        s->table = *nyx_domain_table_digest(domain);
    }
    INSERT_ORDERED(&saved->domains, s, id);
}

static void save_faults(NyxSavedEndpoint *s, NyxFaultLog *log)
{
    const NyxFault *fault;

    for (unsigned n = 0; (fault = nyx_fault_log_get(log, n)); n++) {
        NyxSavedFault *sf = g_new0(NyxSavedFault, 1);

        *sf = (NyxSavedFault) {
            .type = fault->type,
            .access = fault->access,
            .injected = fault->injected,
            .address = fault->address,
            .time_ns = fault->time_ns,
            .count = fault->count,
            .domain = nyx_saved_string(fault->domain ?: ""),
        };
        QTAILQ_INSERT_HEAD(&s->faults, sf, next);
    }
    s->total_faults = log->total;
    memcpy(s->faults_by_type, log->by_type, sizeof(s->faults_by_type));
    s->faults_since_restart = log->since_restart;
    s->last_fault_ns = log->last_ns;
    s->fault_clock = log->clock;
    s->beyond_limit = log->beyond;
    for (uint32_t i = 0; i < log->times.used; i++) {
        uint64_t ns = nyx_fault_log_time(log, i);

        g_array_append_val(s->fault_times, ns);
    }
}

static void save_budget(NyxSavedEndpoint *s, const NyxRecoveryBudget *budget)
{
    s->recovery_clock = budget->clock;
    for (uint32_t i = 0; i < budget->used; i++) {
        uint64_t ns = budget->ns[(budget->first + i) % ARRAY_SIZE(budget->ns)];

        g_array_append_val(s->recovery_times, ns);
    }
}

static void save_endpoint(NyxSavedIommu *saved, NyxEndpoint *ep)
{
    NyxSavedEndpoint *s = g_new0(NyxSavedEndpoint, 1);
    g_autofree char *path = nyx_arrival_path(nyx_endpoint_leader(ep));

    *s = (NyxSavedEndpoint) {
        .device = nyx_saved_string(path),
        .domain = nyx_saved_string(ep->domain->id),
        .state = ep->state,
        .policy = nyx_saved_policy(&ep->override),
        .fault_times = g_array_new(false, false, sizeof(uint64_t)),
        .recovery_times = g_array_new(false, false, sizeof(uint64_t)),
        .msi_delivered = qatomic_read(&ep->msi_delivered),
        .msi_refused = qatomic_read(&ep->msi_refused),
    };
    QTAILQ_INIT(&s->faults);
    WITH_QEMU_LOCK_GUARD(&ep->lock) {
        save_faults(s, &ep->log);
        s->report_pending = ep->pending.report;
        s->restart_pending = ep->pending.restart;
        s->reported_ns = ep->pending.reported_ns;
        s->limit_pending = ep->pending.limit;
        s->limit_action = ep->pending.limit ? ep->pending.action : 0;
    }
    save_budget(s, &ep->budget);
    INSERT_ORDERED(&saved->endpoints, s, device);
}

void nyx_departure_iommu(NyxIommu *iommu, NyxSavedIommu *saved,
                         NyxTableProof proof)
{
    NyxEndpoint *ep;
    NyxDomain *domain;

    nyx_saved_iommu_clear(saved);
    saved->stage1 = iommu->stage1;
    saved->default_isolation = iommu->default_isolation;
    saved->policy = nyx_saved_policy(&iommu->policy);
    saved->quarantines = iommu->stats.quarantines;
    saved->recoveries = iommu->stats.recoveries;
    saved->past_faults = iommu->past_faults;
    saved->past_msi_delivered = iommu->past_msi_delivered;
    saved->past_msi_refused = iommu->past_msi_refused;
    QTAILQ_FOREACH(domain, &iommu->domains, link) {
        save_domain(saved, domain, proof);
    }
    QTAILQ_FOREACH(ep, &iommu->endpoints, link) {
        save_endpoint(saved, ep);
    }
}

static void save_function(NyxSavedFunctions *saved, NyxFunction *fn)
{
    NyxSavedFunction *s = g_new0(NyxSavedFunction, 1);
    g_autofree char *path = nyx_arrival_path(fn);

    s->device = nyx_saved_string(path);
    s->locks = fn->quarantine.locks;
    memcpy(s->lock, fn->quarantine.lock, s->locks * sizeof(s->lock[0]));
    INSERT_ORDERED(&saved->list, s, device);
}

void nyx_departure_functions(NyxIommu *iommu, NyxSavedFunctions *saved)
{
    NyxEndpoint *ep;
    NyxFunction *fn;

    nyx_saved_functions_clear(saved);
    QTAILQ_FOREACH(ep, &iommu->endpoints, link) {
        QTAILQ_FOREACH(fn, &ep->functions, link) {
            if (fn->quarantine.active) {
                save_function(saved, fn);
            }
        }
    }
}

NyxEndpoint *nyx_departure_recovering(NyxIommu *iommu)
{
    NyxEndpoint *ep;

    QTAILQ_FOREACH(ep, &iommu->endpoints, link) {
        if (ep->state == NYX_DEVICE_STATE_RECOVERING) {
            return ep;
        }
    }
    return NULL;
}
