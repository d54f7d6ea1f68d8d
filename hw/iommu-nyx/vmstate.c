/*
 * Nyx IOMMU: taking its state along
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Two sections of the stream.  The first comes before all PCI devices, which
 * access memory while they are loaded: domains, tables, assignments, states.
 * The second comes after them, and puts functions into quarantine once more.
 *
 * What arrives is checked as a whole before any of it is taken over.
 */

#include "qemu/osdep.h"
#include "arrival.h"
#include "hw/pci/pci.h"
#include "qapi/error.h"
#include "table-codec.h"
#include "vmstate.h"

/* Save */

static void save_domain(NyxSavedIommu *saved, NyxDomain *domain)
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
        .table = g_byte_array_new(),
    };
    nyx_table_encode(domain->table, s->table);
    QTAILQ_INSERT_TAIL(&saved->domains, s, next);
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
    s->faults_since_restart = log->since_restart;
    s->last_fault_ns = log->last_ns;
    s->fault_clock = log->clock;
    s->beyond_limit = log->beyond;
    s->fault_times = g_array_new(false, false, sizeof(uint64_t));
    for (uint32_t i = 0; i < log->times.used; i++) {
        uint64_t ns = nyx_fault_log_time(log, i);

        g_array_append_val(s->fault_times, ns);
    }
}

static void save_budget(NyxSavedEndpoint *s, const NyxRecoveryBudget *budget)
{
    s->recovery_clock = budget->clock;
    s->recovery_times = g_array_new(false, false, sizeof(uint64_t));
    for (uint32_t i = 0; i < budget->used; i++) {
        uint64_t ns = budget->ns[(budget->first + i) % ARRAY_SIZE(budget->ns)];

        g_array_append_val(s->recovery_times, ns);
    }
}

static void save_endpoint(NyxSavedIommu *saved, NyxEndpoint *ep)
{
    NyxSavedEndpoint *s = g_new0(NyxSavedEndpoint, 1);
    NyxFunction *fn = nyx_endpoint_leader(ep);
    g_autofree char *path = nyx_arrival_path(fn);

    QTAILQ_INIT(&s->faults);
    s->device = nyx_saved_string(path);
    s->domain = nyx_saved_string(ep->domain->id);
    s->state = ep->state;
    s->policy = nyx_saved_policy(&ep->override);
    WITH_QEMU_LOCK_GUARD(&ep->lock) {
        save_faults(s, &ep->log);
        s->report_pending = ep->pending.report;
        s->restart_pending = ep->pending.restart;
        s->reported_ns = ep->pending.reported_ns;
    }
    save_budget(s, &ep->budget);
    s->msi_delivered = qatomic_read(&ep->msi_delivered);
    s->msi_refused = qatomic_read(&ep->msi_refused);
    QTAILQ_INSERT_TAIL(&saved->endpoints, s, next);
}

/* What is due at this moment is done first: it does not travel. */
static bool iommu_pre_save(void *opaque, Error **errp)
{
    NyxIommu *iommu = opaque;
    NyxSavedIommu *saved = &iommu->saved;
    NyxEndpoint *ep;
    NyxDomain *domain;

    QTAILQ_FOREACH(ep, &iommu->endpoints, link) {
        nyx_endpoint_settle(ep);
    }
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
        save_domain(saved, domain);
    }
    QTAILQ_FOREACH(ep, &iommu->endpoints, link) {
        save_endpoint(saved, ep);
    }
    return true;
}

static void iommu_post_save(void *opaque)
{
    nyx_saved_iommu_clear(&NYX_IOMMU(opaque)->saved);
}

/* Take over */

static void load_domain(NyxIommu *iommu, Arrival *a)
{
    if (!a->domain) {
        a->domain = nyx_domain_new_automatic(iommu, a->id, a->saved->isolation);
    }
    a->domain->policy = a->policy;
    a->domain->invalidations = a->saved->invalidations;
    nyx_domain_replace_table(a->domain, g_steal_pointer(&a->table));
}

static void load_faults(NyxFaultLog *log, const NyxSavedEndpoint *s)
{
    const NyxSavedFault *sf;

    nyx_fault_log_load_begin(log);
    QTAILQ_FOREACH(sf, &s->faults, next) {
        NyxFault fault = {
            .type = sf->type,
            .access = sf->access,
            .injected = sf->injected,
            .address = sf->address,
            .time_ns = sf->time_ns,
            .count = sf->count,
            .domain = g_intern_string((const char *)sf->domain->data),
        };

        nyx_fault_log_load_record(log, &fault);
    }
    log->total = s->total_faults;
    log->since_restart = s->faults_since_restart;
    log->last_ns = s->last_fault_ns;
    log->clock = s->fault_clock;
    log->beyond = s->beyond_limit;
    for (guint i = 0; i < s->fault_times->len; i++) {
        nyx_fault_log_load_time(log,
                                g_array_index(s->fault_times, uint64_t, i));
    }
}

static void load_budget(NyxRecoveryBudget *budget, const NyxSavedEndpoint *s)
{
    nyx_recovery_budget_init(budget);
    budget->clock = s->recovery_clock;
    budget->used = s->recovery_times->len;
    for (uint32_t i = 0; i < budget->used; i++) {
        budget->ns[i] = g_array_index(s->recovery_times, uint64_t, i);
    }
}

static void load_endpoint(NyxIommu *iommu, GPtrArray *arrivals,
                          const NyxSavedEndpoint *s)
{
    NyxFunction *fn = nyx_arrival_find_device(iommu, (const char *)s->device->data);
    NyxEndpoint *ep = fn->endpoint;
    Arrival *a = nyx_arrival_find(arrivals, (const char *)s->domain->data);

    nyx_saved_get_policy(&s->policy, &ep->override, NULL);
    /* Domains that become empty stay until all endpoints are where they go. */
    if (ep->domain != a->domain) {
        nyx_endpoint_set_domain(ep, a->domain);
    }
    nyx_endpoint_update_policy(ep);
    WITH_QEMU_LOCK_GUARD(&ep->lock) {
        load_faults(&ep->log, s);
    }
    load_budget(&ep->budget, s);
    qatomic_set(&ep->msi_delivered, s->msi_delivered);
    qatomic_set(&ep->msi_refused, s->msi_refused);
    nyx_endpoint_resume(ep, s->state, s->report_pending, s->restart_pending,
                        s->reported_ns);
}

/* Devices as they were before a snapshot is loaded into a VM that runs */
static void release_functions(NyxIommu *iommu)
{
    NyxEndpoint *ep;
    NyxFunction *fn;

    QTAILQ_FOREACH(ep, &iommu->endpoints, link) {
        QTAILQ_FOREACH(fn, &ep->functions, link) {
            nyx_quarantine_release(&fn->quarantine, fn->dev);
        }
    }
}

static void load_all(NyxIommu *iommu, GPtrArray *arrivals)
{
    const NyxSavedIommu *saved = &iommu->saved;
    const NyxSavedEndpoint *s;

    release_functions(iommu);
    nyx_saved_get_policy(&saved->policy, &iommu->policy, NULL);
    iommu->stats.quarantines = saved->quarantines;
    iommu->stats.recoveries = saved->recoveries;
    iommu->past_faults = saved->past_faults;
    iommu->past_msi_delivered = saved->past_msi_delivered;
    iommu->past_msi_refused = saved->past_msi_refused;
    for (guint i = 0; i < arrivals->len; i++) {
        load_domain(iommu, arrivals->pdata[i]);
    }
    QTAILQ_FOREACH(s, &saved->endpoints, next) {
        load_endpoint(iommu, arrivals, s);
    }
    nyx_iommu_drop_unused_domains(iommu);
}

static bool iommu_pre_load(void *opaque, Error **errp)
{
    nyx_saved_iommu_clear(&NYX_IOMMU(opaque)->saved);
    return true;
}

static bool iommu_post_load(void *opaque, int version_id, Error **errp)
{
    NyxIommu *iommu = opaque;
    g_autoptr(GPtrArray) arrivals = NULL;
    ERRP_GUARD();

    arrivals = nyx_arrival_check(iommu, errp);
    if (arrivals) {
        load_all(iommu, arrivals);
    } else {
        error_prepend(errp, "nyx-iommu: ");
    }
    nyx_saved_iommu_clear(&iommu->saved);
    return arrivals;
}

const VMStateDescription nyx_vmstate_iommu = {
    .name = "nyx-iommu",
    .version_id = 1,
    .minimum_version_id = 1,
    .priority = MIG_PRI_IOMMU,
    .pre_save_errp = iommu_pre_save,
    .post_save = iommu_post_save,
    .pre_load_errp = iommu_pre_load,
    .post_load_errp = iommu_post_load,
    .fields = (const VMStateField[]) {
        VMSTATE_STRUCT(saved, NyxIommu, 1, nyx_vmstate_saved_iommu,
                       NyxSavedIommu),
        VMSTATE_END_OF_LIST()
    },
};

/* Functions in quarantine */

static void save_function(NyxSavedFunctions *saved, NyxFunction *fn)
{
    NyxSavedFunction *s = g_new0(NyxSavedFunction, 1);
    g_autofree char *path = nyx_arrival_path(fn);

    s->device = nyx_saved_string(path);
    s->locks = fn->quarantine.locks;
    memcpy(s->lock, fn->quarantine.lock, sizeof(s->lock));
    QTAILQ_INSERT_TAIL(&saved->list, s, next);
}

static bool functions_pre_save(void *opaque, Error **errp)
{
    NyxIommu *iommu = opaque;
    NyxEndpoint *ep;
    NyxFunction *fn;

    nyx_saved_functions_clear(&iommu->saved_functions);
    QTAILQ_FOREACH(ep, &iommu->endpoints, link) {
        QTAILQ_FOREACH(fn, &ep->functions, link) {
            if (fn->quarantine.active) {
                save_function(&iommu->saved_functions, fn);
            }
        }
    }
    return true;
}

static void functions_post_save(void *opaque)
{
    nyx_saved_functions_clear(&NYX_IOMMU(opaque)->saved_functions);
}

static bool functions_pre_load(void *opaque, Error **errp)
{
    nyx_saved_functions_clear(&NYX_IOMMU(opaque)->saved_functions);
    return true;
}

static const NyxSavedFunction *find_saved(const NyxSavedFunctions *saved,
                                          NyxFunction *fn)
{
    g_autofree char *path = nyx_arrival_path(fn);
    const NyxSavedFunction *s;

    QTAILQ_FOREACH(s, &saved->list, next) {
        if (!g_strcmp0((const char *)s->device->data, path)) {
            return s;
        }
    }
    return NULL;
}

/* The endpoint is cut off already; now its devices are. */
static bool load_functions(NyxIommu *iommu, NyxEndpoint *ep, Error **errp)
{
    NyxFunction *fn;

    QTAILQ_FOREACH(fn, &ep->functions, link) {
        const NyxSavedFunction *s = find_saved(&iommu->saved_functions, fn);

        if (nyx_is_bridge(fn->dev)) {
            continue;
        }
        nyx_quarantine_enter(&fn->quarantine, OBJECT(fn), fn->dev,
                             MEMORY_REGION(&ep->gate));
        if (!s || !nyx_quarantine_load(&fn->quarantine, s->lock, s->locks)) {
            g_autofree char *name = nyx_function_name(fn);

            error_setg(errp, "nyx-iommu: what device '%s' had set up before "
                       "its quarantine is missing or does not fit it", name);
            return false;
        }
    }
    return true;
}

static bool functions_post_load(void *opaque, int version_id, Error **errp)
{
    NyxIommu *iommu = opaque;
    const NyxSavedFunction *s;
    NyxEndpoint *ep;
    bool ok = true;

    QTAILQ_FOREACH(s, &iommu->saved_functions.list, next) {
        ok = ok && nyx_saved_get_string(s->device, "a device", errp);
    }
    QTAILQ_FOREACH(ep, &iommu->endpoints, link) {
        if (ok && ep->state != NYX_DEVICE_STATE_OPERATIONAL) {
            ok = load_functions(iommu, ep, errp);
        }
    }
    nyx_saved_functions_clear(&iommu->saved_functions);
    return ok;
}

static const VMStateDescription vmstate_functions = {
    .name = "nyx-iommu-functions",
    .version_id = 1,
    .minimum_version_id = 1,
    .priority = MIG_PRI_LOW,
    .pre_save_errp = functions_pre_save,
    .post_save = functions_post_save,
    .pre_load_errp = functions_pre_load,
    .post_load_errp = functions_post_load,
    .fields = (const VMStateField[]) {
        VMSTATE_STRUCT(saved_functions, NyxIommu, 1,
                       nyx_vmstate_saved_functions, NyxSavedFunctions),
        VMSTATE_END_OF_LIST()
    },
};

void nyx_vmstate_init(NyxIommu *iommu)
{
    nyx_saved_iommu_init(&iommu->saved);
    nyx_saved_functions_init(&iommu->saved_functions);
    vmstate_register(VMSTATE_IF(iommu), 0, &vmstate_functions, iommu);
}
