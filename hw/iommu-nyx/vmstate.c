/*
 * Nyx IOMMU: taking its state along
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Three sections of the stream, beside those of tables (travelling-table.h).
 * The first comes before all PCI devices, which access memory while they are
 * loaded: domains, assignments, states.  The second comes after them, and puts
 * functions into quarantine once more.  The third is the digest of both.
 *
 * What arrives is checked as a whole before any of it is taken over, and what
 * does not arrive is an error.
 */

#include "qemu/osdep.h"
#include "arrival.h"
#include "departure.h"
#include "hw/pci/pci.h"
#include "hw/pci/pcie.h"
#include "nyx/include/hw/iommu-nyx/loadvm.h"
#include "nyx/migration/digest.h"
#include "qapi/error.h"
#include "qemu/error-report.h"
#include "travelling-table.h"
#include "vmstate.h"

/* Save */

/* What is due at this moment is done first: it does not travel. */
static bool iommu_pre_save(void *opaque, Error **errp)
{
    NyxIommu *iommu = opaque;
    NyxEndpoint *ep = nyx_departure_recovering(iommu);

    if (ep) {
        g_autofree char *name = nyx_endpoint_name(ep);

        error_setg(errp, "device '%s' is being recovered; try again when its "
                   "state is another", name);
        return false;
    }
    QTAILQ_FOREACH(ep, &iommu->endpoints, link) {
        nyx_endpoint_settle(ep);
    }
    nyx_departure_iommu(iommu, &iommu->saved, NYX_TABLES_BY_SUM);
    nyx_digest_iommu(&iommu->saved, &iommu->digests.iommu);
    return true;
}

static void iommu_post_save(void *opaque)
{
    NyxIommu *iommu = opaque;

    nyx_saved_iommu_clear(&iommu->saved);
    nyx_travelling_tables_done(iommu);
}

/* Take over */

static void load_domain(NyxIommu *iommu, Arrival *a)
{
    if (!a->domain) {
        a->domain = nyx_domain_new_automatic(iommu, a->id, a->saved->isolation);
    }
    a->domain->policy = a->policy;
    nyx_domain_replace_table(a->domain, g_steal_pointer(&a->table));
    /* It was found to have that when it came. */
    if (a->saved->has_sum) {
        a->domain->stamp.summed = true;
        a->domain->stamp.sum = a->saved->sum;
    } else if (a->saved->has_table) {
        a->domain->stamp.generation = a->domain->generation;
        a->domain->stamp.digest = a->saved->table;
    }
    a->domain->invalidations = a->saved->invalidations;
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
    memcpy(log->by_type, s->faults_by_type, sizeof(log->by_type));
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
    NyxFunction *fn =
        nyx_arrival_find_device(iommu, (const char *)s->device->data);
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
    if (s->limit_pending) {
        nyx_endpoint_resume_limit(ep, s->limit_action);
    }
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
    NyxIommu *iommu = opaque;

    iommu->arrived = NYX_ARRIVED_NOTHING;
    nyx_saved_iommu_clear(&iommu->saved);
    return true;
}

/* As the stream has it, so that it is the same */
static NyxTableProof proof_of(const NyxSavedIommu *saved)
{
    const NyxSavedDomain *s;

    QTAILQ_FOREACH(s, &saved->domains, next) {
        if (s->has_table && !s->has_sum) {
            return NYX_TABLES_BY_DIGEST;
        }
    }
    return NYX_TABLES_BY_SUM;
}

static bool iommu_post_load(void *opaque, int version_id, Error **errp)
{
    NyxIommu *iommu = opaque;
    g_autoptr(GPtrArray) arrivals = NULL;
    ERRP_GUARD();

    arrivals = nyx_arrival_check(iommu, errp);
    if (arrivals) {
        load_all(iommu, arrivals);
        /* Now: devices that are loaded next may cause faults. */
        nyx_departure_iommu(iommu, &iommu->saved, proof_of(&iommu->saved));
        nyx_digest_iommu(&iommu->saved, &iommu->digests.iommu);
        iommu->arrived = NYX_ARRIVED_STATE;
    } else {
        error_prepend(errp, "nyx-iommu: ");
    }
    nyx_saved_iommu_clear(&iommu->saved);
    nyx_travelling_tables_done(iommu);
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

static bool functions_pre_save(void *opaque, Error **errp)
{
    NyxIommu *iommu = opaque;

    nyx_departure_functions(iommu, &iommu->saved_functions);
    nyx_digest_functions(&iommu->saved_functions, &iommu->digests.functions);
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
    nyx_departure_functions(iommu, &iommu->saved_functions);
    nyx_digest_functions(&iommu->saved_functions, &iommu->digests.functions);
    nyx_saved_functions_clear(&iommu->saved_functions);
    if (ok && iommu->arrived == NYX_ARRIVED_STATE) {
        iommu->arrived = NYX_ARRIVED_FUNCTIONS;
    }
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

/* Is what has become of it here what left the source? */

static bool digest_pre_save(void *opaque, Error **errp)
{
    NyxDigests *d = &NYX_IOMMU(opaque)->digests;

    nyx_digest_join(&d->iommu, &d->functions, &d->joined);
    return true;
}

static bool digest_post_load(void *opaque, int version_id, Error **errp)
{
    NyxIommu *iommu = opaque;
    NyxDigests *d = &iommu->digests;
    NyxDigest own;

    nyx_digest_join(&d->iommu, &d->functions, &own);
    if (memcmp(&own, &d->joined, sizeof(own))) {
        g_autofree char *here = nyx_digest_text(&own);
        g_autofree char *there = nyx_digest_text(&d->joined);

        error_setg(errp, "nyx-iommu: the state taken over has the digest %s, "
                   "and had %s on the source; it is not the same, and the VM "
                   "must not run with it", here, there);
        return false;
    }
    if (iommu->arrived == NYX_ARRIVED_FUNCTIONS) {
        iommu->arrived = NYX_ARRIVED_DIGEST;
    }
    return true;
}

static const VMStateDescription vmstate_digest = {
    .name = "nyx-iommu-digest",
    .version_id = 1,
    .minimum_version_id = 1,
    .priority = MIG_PRI_LOW,
    .pre_save_errp = digest_pre_save,
    .post_load_errp = digest_post_load,
    .fields = (const VMStateField[]) {
        VMSTATE_UINT8_ARRAY(digests.joined.bytes, NyxIommu, sizeof(NyxDigest)),
        VMSTATE_END_OF_LIST()
    },
};

/* Has all of it come? */

static bool is_complete(Error **errp)
{
    static const char *const next[] = {
        [NYX_ARRIVED_NOTHING] = "nyx-iommu",
        [NYX_ARRIVED_STATE] = "nyx-iommu-functions",
        [NYX_ARRIVED_FUNCTIONS] = "nyx-iommu-digest",
    };
    NyxIommu *iommu = nyx_iommu_get();

    if (!iommu || iommu->arrived == NYX_ARRIVED_DIGEST) {
        return true;
    }
    error_setg(errp, "nyx-iommu: the stream has no section '%s' where it "
               "belongs; it is damaged, or not of a machine nyx-pc, and the VM "
               "must not run without", next[iommu->arrived]);
    return false;
}

bool nyx_loadvm_may_run(Error **errp)
{
    ERRP_GUARD();

    if (!is_complete(errp)) {
        error_report("%s", error_get_pretty(*errp));
        return false;
    }
    return true;
}

int nyx_loadvm_done(int ret, Error **errp)
{
    NyxIommu *iommu = nyx_iommu_get();

    if (ret >= 0 && !is_complete(errp)) {
        ret = -EINVAL;
    }
    if (iommu) {
        iommu->arrived = NYX_ARRIVED_NOTHING;
        /* Of a stream that ended early they would wait for ever. */
        nyx_travelling_tables_done(iommu);
    }
    return ret;
}

/*
 * QEMU's models compare what AER has logged with the destination, where nothing
 * was, and refuse to load it.
 */
void nyx_vmstate_prepare(PCIDevice *dev)
{
    uint8_t *aer;

    if (!dev->exp.aer_cap) {
        return;
    }
    aer = dev->cmask + dev->exp.aer_cap;
    pci_long_test_and_clear_mask(aer + PCI_ERR_CAP,
                                 PCI_ERR_CAP_FEP_MASK | PCI_ERR_CAP_TLP);
    memset(aer + PCI_ERR_HEADER_LOG, 0, PCI_ERR_HEADER_LOG_SIZE);
    memset(aer + PCI_ERR_TLP_PREFIX_LOG, 0, PCI_ERR_TLP_PREFIX_LOG_SIZE);
    if (pcie_cap_get_type(dev) == PCI_EXP_TYPE_ROOT_PORT) {
        pci_set_long(aer + PCI_ERR_ROOT_ERR_SRC, 0);
    }
}

void nyx_vmstate_init(NyxIommu *iommu)
{
    nyx_travelling_tables_init(iommu);
    nyx_saved_iommu_init(&iommu->saved);
    nyx_saved_functions_init(&iommu->saved_functions);
    vmstate_register(VMSTATE_IF(iommu), 0, &vmstate_functions, iommu);
    vmstate_register(VMSTATE_IF(iommu), 0, &vmstate_digest, iommu);
}
