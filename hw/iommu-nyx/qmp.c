/*
 * Nyx IOMMU: QMP commands
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "backend.h"
#include "containment.h"
#include "nyx/include/hw/iommu-nyx/vhost-user-wait.h"
#include "qapi/error.h"
#include "qapi/qapi-commands-nyx.h"
#include "qapi/qapi-visit-nyx.h"
#include "qapi/qobject-output-visitor.h"
#include "qemu/rcu.h"
#include "qobject/qjson.h"
#include "qobject/qobject.h"
#include "query.h"
#include "trace.h"

#define INJECT_MAX          100000
#define STORAGE_WAIT_MS     10000

static NyxIommu *need_iommu(Error **errp)
{
    NyxIommu *iommu = nyx_iommu_get();

    if (!iommu) {
        error_setg(errp, "this machine has no Nyx IOMMU; use -M nyx-pc");
    }
    return iommu;
}

static NyxFunction *need_function(const char *device, Error **errp)
{
    NyxIommu *iommu = need_iommu(errp);

    return iommu ? nyx_iommu_find_function(iommu, device, errp) : NULL;
}

/* One whose own DMA the IOMMU sees, and can stop. */
static NyxFunction *need_confined(const char *device, Error **errp)
{
    NyxFunction *fn = need_function(device, errp);

    if (fn && nyx_endpoint_bypassed(fn->endpoint, errp)) {
        return NULL;
    }
    if (fn && nyx_is_bridge(fn->dev)) {
        error_setg(errp, "device '%s' is a bridge or part of the chipset; name "
                   "a device behind it", device);
        return NULL;
    }
    return fn;
}

static NyxDomain *need_domain(const char *id, Error **errp)
{
    NyxIommu *iommu = need_iommu(errp);

    return iommu ? nyx_iommu_find_domain(iommu, id, errp) : NULL;
}

NyxIommuInfo *qmp_query_nyx_iommu(Error **errp)
{
    return nyx_query_iommu(nyx_iommu_get());
}

/* Without a Nyx IOMMU there are no domains, devices and faults. */

NyxDomainInfoList *qmp_query_nyx_domains(Error **errp)
{
    NyxIommu *iommu = nyx_iommu_get();

    return iommu ? nyx_query_domains(iommu) : NULL;
}

NyxDeviceInfoList *qmp_query_nyx_devices(const char *device, Error **errp)
{
    NyxFunction *only = device ? need_function(device, errp) : NULL;

    if (!nyx_iommu_get() || (device && !only)) {
        return NULL;
    }
    return nyx_query_devices(nyx_iommu_get(), only);
}

NyxFaultInfoList *qmp_query_nyx_faults(const char *device, bool has_limit,
                                       uint32_t limit, Error **errp)
{
    NyxFunction *only = device ? need_function(device, errp) : NULL;

    if (!nyx_iommu_get() || (device && !only)) {
        return NULL;
    }
    return nyx_query_faults(nyx_iommu_get(), only,
                            has_limit ? limit : UINT32_MAX);
}

/*
 * A backend that does not answer loses its connection, but not guest RAM.
 * @lost: connections that had been lost before; what follows: what is done.
 */
static void G_GNUC_PRINTF(3, 4) check_answers(unsigned lost, Error **errp,
                                              const char *fmt, ...)
{
    g_autofree char *done = NULL;
    va_list ap;

    if (nyx_vhost_user_lost() == lost) {
        return;
    }
    va_start(ap, fmt);
    done = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    error_setg(errp, "%s, but a vhost-user backend did not answer: end its "
               "process, which may still access guest RAM", done);
}

static bool can_all_join(NyxEndpoint *ep, NyxDomain *domain, Error **errp)
{
    NyxFunction *fn;
    ERRP_GUARD();

    QTAILQ_FOREACH(fn, &ep->functions, link) {
        if (!nyx_backend_can_join(fn->dev, domain, errp)) {
            g_autofree char *name = nyx_function_name(fn);

            error_prepend(errp, "device '%s': ", name);
            return false;
        }
    }
    return true;
}

void qmp_nyx_assign_device(const char *device, const char *id, Error **errp)
{
    NyxFunction *fn = need_function(device, errp);
    NyxDomain *domain = fn ? need_domain(id, errp) : NULL;
    NyxEndpoint *ep;
    ERRP_GUARD();

    if (!domain) {
        return;
    }
    ep = fn->endpoint;
    if (fn->container && domain != ep->domain) {
        error_setg(errp, "device '%s' is in one container of the host with the "
                   "VFIO devices of domain '%s'; unplug it, and plug it in "
                   "again with nyx-domain=%s", device, fn->container->id, id);
        return;
    }
    if (ep->state != NYX_DEVICE_STATE_OPERATIONAL) {
        error_setg(errp, "device '%s' is %s; recover it first", device,
                   NyxDeviceState_str(ep->state));
        return;
    }
    if (!nyx_domain_admits(domain, ep, errp)) {
        return;
    }
    if (!can_all_join(ep, domain, errp)) {
        return;
    }
    if (domain != ep->domain) {
        unsigned lost = nyx_vhost_user_lost();

        trace_nyx_assign(device, ep->domain->id, domain->id);
        nyx_iommu_move_endpoint(ep->iommu, ep, domain);
        nyx_endpoint_renew(ep);
        drain_call_rcu();
        check_answers(lost, errp, "device '%s' is in domain '%s'", device, id);
    }
}

static IOMMUAccessFlags access_flags(NyxAccess access)
{
    switch (access) {
    case NYX_ACCESS_R:
        return IOMMU_RO;
    case NYX_ACCESS_W:
        return IOMMU_WO;
    default:
        return IOMMU_RW;
    }
}

void qmp_nyx_map(const char *id, uint64_t iova, uint64_t gpa, uint64_t size,
                 NyxAccess access, Error **errp)
{
    NyxDomain *domain = need_domain(id, errp);

    if (domain) {
        nyx_domain_map(domain, iova, gpa, size, access_flags(access), errp);
    }
}

void qmp_nyx_unmap(const char *id, uint64_t iova, uint64_t size, Error **errp)
{
    NyxDomain *domain = need_domain(id, errp);
    unsigned lost = nyx_vhost_user_lost();

    if (domain && nyx_domain_unmap(domain, iova, size, errp)) {
        nyx_domain_quiesce(domain);
        check_answers(lost, errp, "the range is not mapped any more");
    }
}

static bool any_io_under_way(GPtrArray *endpoints)
{
    for (guint i = 0; i < endpoints->len; i++) {
        if (nyx_endpoint_io_under_way(endpoints->pdata[i])) {
            return true;
        }
    }
    return false;
}

/*
 * Let the VM go on and wait until the endpoints' storage has finished, and the
 * devices have been told, which happens just after.  They may be unplugged
 * meanwhile.  False if it takes too long.
 */
static bool coroutine_fn wait_for_storage(GPtrArray *endpoints)
{
    int64_t end = qemu_clock_get_ms(QEMU_CLOCK_REALTIME) + STORAGE_WAIT_MS;

    while (any_io_under_way(endpoints)) {
        if (qemu_clock_get_ms(QEMU_CLOCK_REALTIME) >= end) {
            return false;
        }
        qemu_co_sleep_ns(QEMU_CLOCK_REALTIME, SCALE_MS);
    }
    qemu_co_sleep_ns(QEMU_CLOCK_REALTIME, SCALE_MS);
    return true;
}

static GPtrArray *endpoints_in_scope(NyxEndpoint *ep)
{
    GPtrArray *array = g_ptr_array_new_with_free_func(object_unref);
    NyxEndpoint *other;

    g_ptr_array_add(array, object_ref(OBJECT(ep)));
    if (ep->policy.scope == NYX_SCOPE_DOMAIN) {
        QTAILQ_FOREACH(other, &ep->domain->endpoints, domain_link) {
            g_ptr_array_add(array, object_ref(OBJECT(other)));
        }
    }
    return array;
}

typedef struct QuarantineRequest {
    NyxEndpoint *ep;
    const char *reason;
    Coroutine *co;
} QuarantineRequest;

/* Devices that stop do what must not be done in a coroutine. */
static void quarantine_bh(void *opaque)
{
    QuarantineRequest *request = opaque;

    /* Its device may have been unplugged meanwhile. */
    if (nyx_endpoint_leader(request->ep)) {
        nyx_containment_quarantine(request->ep, request->reason);
    }
    /* DMA that other threads do runs inside RCU read-side critical sections. */
    drain_call_rcu();
    aio_co_wake(request->co);
}

void coroutine_fn qmp_nyx_quarantine_device(const char *device,
                                            const char *reason, Error **errp)
{
    NyxFunction *fn = need_confined(device, errp);
    g_autoptr(GPtrArray) endpoints = NULL;
    unsigned lost = nyx_vhost_user_lost();
    QuarantineRequest request;

    if (!fn) {
        return;
    }
    endpoints = endpoints_in_scope(fn->endpoint);
    request = (QuarantineRequest) {
        .ep = fn->endpoint,
        .reason = reason ?: "by the operator",
        .co = qemu_coroutine_self(),
    };
    aio_bh_schedule_oneshot(iohandler_get_aio_context(), quarantine_bh,
                            &request);
    qemu_coroutine_yield();

    if (!wait_for_storage(endpoints)) {
        error_setg(errp, "device '%s' is cut off, but its storage has not "
                   "finished requests from before; see io-under-way in "
                   "query-nyx-devices", device);
        return;
    }
    check_answers(lost, errp, "device '%s' is cut off", device);
}

void qmp_nyx_recover_device(const char *device, bool has_force, bool force,
                            Error **errp)
{
    NyxFunction *fn = need_function(device, errp);

    if (fn) {
        nyx_containment_recover(fn->endpoint, has_force && force, errp);
    }
}

void qmp_nyx_set_policy(const char *device, const char *id,
                        bool has_max_faults, uint32_t max_faults,
                        bool has_fault_window_ms, uint32_t fault_window_ms,
                        bool has_on_fault_limit, NyxLimitAction on_fault_limit,
                        bool has_max_recoveries, uint32_t max_recoveries,
                        bool has_scope, NyxScope scope,
                        bool has_count_stage1, bool count_stage1,
                        bool has_recovery, NyxRecovery recovery,
                        bool has_on_recovery_limit,
                        NyxRecoveryLimitAction on_recovery_limit,
                        Error **errp)
{
    NyxPolicyOverride new = {
        .set = has_max_faults << NYX_POLICY_MAX_FAULTS |
               has_fault_window_ms << NYX_POLICY_FAULT_WINDOW_MS |
               has_on_fault_limit << NYX_POLICY_ON_FAULT_LIMIT |
               has_max_recoveries << NYX_POLICY_MAX_RECOVERIES |
               has_scope << NYX_POLICY_SCOPE |
               has_count_stage1 << NYX_POLICY_COUNT_STAGE1 |
               has_recovery << NYX_POLICY_RECOVERY |
               has_on_recovery_limit << NYX_POLICY_ON_RECOVERY_LIMIT,
        .values = {
            .max_faults = max_faults,
            .fault_window_ms = fault_window_ms,
            .on_fault_limit = on_fault_limit,
            .max_recoveries = max_recoveries,
            .scope = scope,
            .count_stage1 = count_stage1,
            .recovery = recovery,
            .on_recovery_limit = on_recovery_limit,
        },
    };
    NyxFunction *fn;
    NyxDomain *domain;

    if (!device == !id) {
        error_setg(errp, "give either 'device' or 'domain'");
        return;
    }
    if (!new.set) {
        error_setg(errp, "give at least one of max-faults, fault-window-ms, "
                   "on-fault-limit, max-recoveries, scope, count-stage1, "
                   "recovery, on-recovery-limit");
        return;
    }
    if (!nyx_policy_check(&new, errp)) {
        return;
    }
    if (device) {
        fn = need_function(device, errp);
        if (fn) {
            nyx_policy_merge(&fn->endpoint->override, &new);
            nyx_endpoint_update_policy(fn->endpoint);
        }
    } else {
        domain = need_domain(id, errp);
        if (domain) {
            nyx_policy_merge(&domain->policy, &new);
            nyx_domain_policy_changed(domain);
        }
    }
}

void qmp_nyx_inject_fault(const char *device, uint64_t address,
                          NyxAccess access, bool has_count, uint32_t count,
                          Error **errp)
{
    NyxFunction *fn = need_confined(device, errp);

    if (!fn) {
        return;
    }
    if (!has_count) {
        count = 1;
    }
    if (count < 1 || count > INJECT_MAX) {
        error_setg(errp, "count must be between 1 and %d", INJECT_MAX);
        return;
    }
    while (count--) {
        nyx_endpoint_fault(fn->endpoint, NYX_FAULT_TYPE_UNMAPPED, access,
                           address, 1, true);
    }
}

static void write_dump(const char *filename, const GString *text, Error **errp)
{
    int fd = qemu_create(filename, O_WRONLY | O_TRUNC | O_BINARY, 0600, errp);
    bool done;

    if (fd < 0) {
        return;
    }
    done = qemu_write_full(fd, text->str, text->len) == text->len;
    if (qemu_close(fd) < 0 || !done) {
        error_setg_errno(errp, errno, "cannot write '%s'", filename);
    }
}

QObject *nyx_iommu_dump(NyxIommu *iommu)
{
    g_autoptr(NyxDump) dump = g_new0(NyxDump, 1);
    QObject *obj;
    Visitor *v;

    dump->iommu = nyx_query_iommu(iommu);
    dump->domains = nyx_query_domains(iommu);
    dump->devices = nyx_query_devices(iommu, NULL);
    dump->faults = nyx_query_faults(iommu, NULL, UINT32_MAX);
    dump->tables = nyx_query_tables(iommu);

    v = qobject_output_visitor_new(&obj);
    visit_type_NyxDump(v, NULL, &dump, &error_abort);
    visit_complete(v, &obj);
    visit_free(v);
    return obj;
}

void qmp_nyx_dump(const char *filename, Error **errp)
{
    NyxIommu *iommu = need_iommu(errp);
    g_autoptr(GString) json = NULL;
    QObject *obj;

    if (!iommu) {
        return;
    }
    obj = nyx_iommu_dump(iommu);
    json = qobject_to_json_pretty(obj, true);
    qobject_unref(obj);
    g_string_append_c(json, '\n');

    write_dump(filename, json, errp);
}
