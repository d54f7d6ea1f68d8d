/*
 * Nyx IOMMU: its state, as it travels
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "migration/qemu-file-types.h"
#include "qapi/error.h"
#include "qemu/cutils.h"
#include "saved-state.h"

/*
 * Variable lengths: no more is allocated than the stream really has.  On error
 * nothing stays, as QEMU forgets the element of a list that cannot be loaded.
 */

#define CHUNK_BYTES     65536
#define STRING_MAX      4096

static bool load_bytes(QEMUFile *f, void *pv, size_t size,
                       const VMStateField *field, Error **errp)
{
    uint32_t left = qemu_get_be32(f);
    GByteArray *bytes = g_byte_array_new();

    while (left) {
        guint chunk = MIN(left, CHUNK_BYTES), used = bytes->len;

        g_byte_array_set_size(bytes, used + chunk);
        if (qemu_get_buffer(f, bytes->data + used, chunk) != chunk) {
            error_setg(errp, "the stream ends within %s", field->name);
            g_byte_array_unref(bytes);
            *(GByteArray **)pv = NULL;
            return false;
        }
        left -= chunk;
    }
    *(GByteArray **)pv = bytes;
    return true;
}

static bool save_bytes(QEMUFile *f, void *pv, size_t size,
                       const VMStateField *field, JSONWriter *vmdesc,
                       Error **errp)
{
    GByteArray *bytes = *(GByteArray **)pv;

    qemu_put_be32(f, bytes->len);
    qemu_put_buffer(f, bytes->data, bytes->len);
    return true;
}

static const VMStateInfo info_bytes = {
    .name = "bytes",
    .load = load_bytes,
    .save = save_bytes,
};

static bool read_times(QEMUFile *f, GArray *times, const char *name,
                       Error **errp)
{
    uint32_t count = qemu_get_be32(f);

    if (count > NYX_MAX_FAULTS_LIMIT + 1) {
        error_setg(errp, "%s: %" PRIu32 " times are too many", name, count);
        return false;
    }
    while (count--) {
        uint64_t ns = qemu_get_be64(f);

        if (times->len && ns < g_array_index(times, uint64_t, times->len - 1)) {
            error_setg(errp, "%s: times go back", name);
            return false;
        }
        g_array_append_val(times, ns);
    }
    return true;
}

static bool load_times(QEMUFile *f, void *pv, size_t size,
                       const VMStateField *field, Error **errp)
{
    GArray *times = g_array_new(false, false, sizeof(uint64_t));

    if (!read_times(f, times, field->name, errp)) {
        g_array_unref(times);
        *(GArray **)pv = NULL;
        return false;
    }
    *(GArray **)pv = times;
    return true;
}

static bool save_times(QEMUFile *f, void *pv, size_t size,
                       const VMStateField *field, JSONWriter *vmdesc,
                       Error **errp)
{
    GArray *times = *(GArray **)pv;

    qemu_put_be32(f, times->len);
    for (guint i = 0; i < times->len; i++) {
        qemu_put_be64(f, g_array_index(times, uint64_t, i));
    }
    return true;
}

static const VMStateInfo info_times = {
    .name = "times",
    .load = load_times,
    .save = save_times,
};

#define VMSTATE_BYTES(_f, _s) \
    VMSTATE_SINGLE(_f, _s, 0, info_bytes, GByteArray *)
#define VMSTATE_TIMES(_f, _s) \
    VMSTATE_SINGLE(_f, _s, 0, info_times, GArray *)

/* Elements of lists come uninitialised. */
#define ZERO_BEFORE_LOAD(name, type) \
    static bool name(void *opaque, Error **errp) \
    { \
        memset(opaque, 0, sizeof(type)); \
        return true; \
    }

static bool has_on_recovery_limit(void *opaque)
{
    return ((NyxSavedPolicy *)opaque)->has_on_recovery_limit;
}

static const VMStateDescription vmstate_on_recovery_limit = {
    .name = "nyx-policy/on-recovery-limit",
    .version_id = 1,
    .minimum_version_id = 1,
    .needed = has_on_recovery_limit,
    .fields = (const VMStateField[]) {
        VMSTATE_BOOL(has_on_recovery_limit, NyxSavedPolicy),
        VMSTATE_UINT32(on_recovery_limit, NyxSavedPolicy),
        VMSTATE_END_OF_LIST()
    },
};

static const VMStateDescription vmstate_policy = {
    .name = "nyx-policy",
    .version_id = 1,
    .minimum_version_id = 1,
    .fields = (const VMStateField[]) {
        VMSTATE_UINT32(set, NyxSavedPolicy),
        VMSTATE_UINT32(max_faults, NyxSavedPolicy),
        VMSTATE_UINT32(fault_window_ms, NyxSavedPolicy),
        VMSTATE_UINT32(on_fault_limit, NyxSavedPolicy),
        VMSTATE_UINT32(max_recoveries, NyxSavedPolicy),
        VMSTATE_UINT32(scope, NyxSavedPolicy),
        VMSTATE_BOOL(count_stage1, NyxSavedPolicy),
        VMSTATE_UINT32(recovery, NyxSavedPolicy),
        VMSTATE_END_OF_LIST()
    },
    .subsections = (const VMStateDescription * const []) {
        &vmstate_on_recovery_limit,
        NULL
    },
};

static const VMStateDescription vmstate_clock = {
    .name = "nyx-clock",
    .version_id = 1,
    .minimum_version_id = 1,
    .fields = (const VMStateField[]) {
        VMSTATE_BOOL(started, NyxSteadyClock),
        VMSTATE_INT64(source_ns, NyxSteadyClock),
        VMSTATE_UINT64(steady_ns, NyxSteadyClock),
        VMSTATE_END_OF_LIST()
    },
};

static bool has_sum(void *opaque)
{
    return ((NyxSavedDomain *)opaque)->has_sum;
}

static bool sum_pre_load(void *opaque, Error **errp)
{
    ((NyxSavedDomain *)opaque)->has_sum = true;
    return true;
}

static const VMStateDescription vmstate_sum = {
    .name = "nyx-domain/table-sum",
    .version_id = 1,
    .minimum_version_id = 1,
    .needed = has_sum,
    .pre_load_errp = sum_pre_load,
    .fields = (const VMStateField[]) {
        VMSTATE_UINT64(sum.pages, NyxSavedDomain),
        VMSTATE_UINT64_ARRAY(sum.part, NyxSavedDomain, NYX_TABLE_SUM_PARTS),
        VMSTATE_END_OF_LIST()
    },
};

ZERO_BEFORE_LOAD(domain_pre_load, NyxSavedDomain)

static const VMStateDescription vmstate_domain = {
    .name = "nyx-domain",
    .version_id = 1,
    .minimum_version_id = 1,
    .pre_load_errp = domain_pre_load,
    .fields = (const VMStateField[]) {
        VMSTATE_BYTES(id, NyxSavedDomain),
        VMSTATE_BOOL(automatic, NyxSavedDomain),
        VMSTATE_UINT32(isolation, NyxSavedDomain),
        VMSTATE_UINT32(default_map, NyxSavedDomain),
        VMSTATE_BOOL(peer_to_peer, NyxSavedDomain),
        VMSTATE_BOOL(large_pages, NyxSavedDomain),
        VMSTATE_BOOL(contained, NyxSavedDomain),
        VMSTATE_STRUCT(policy, NyxSavedDomain, 0, vmstate_policy,
                       NyxSavedPolicy),
        VMSTATE_UINT64(invalidations, NyxSavedDomain),
        VMSTATE_BOOL(has_table, NyxSavedDomain),
        VMSTATE_UINT8_ARRAY(table.bytes, NyxSavedDomain, sizeof(NyxDigest)),
        VMSTATE_END_OF_LIST()
    },
    .subsections = (const VMStateDescription * const []) {
        &vmstate_sum,
        NULL
    },
};

ZERO_BEFORE_LOAD(fault_pre_load, NyxSavedFault)

static const VMStateDescription vmstate_fault = {
    .name = "nyx-fault",
    .version_id = 1,
    .minimum_version_id = 1,
    .pre_load_errp = fault_pre_load,
    .fields = (const VMStateField[]) {
        VMSTATE_UINT32(type, NyxSavedFault),
        VMSTATE_UINT32(access, NyxSavedFault),
        VMSTATE_BOOL(injected, NyxSavedFault),
        VMSTATE_UINT64(address, NyxSavedFault),
        VMSTATE_INT64(time_ns, NyxSavedFault),
        VMSTATE_UINT64(count, NyxSavedFault),
        VMSTATE_BYTES(domain, NyxSavedFault),
        VMSTATE_END_OF_LIST()
    },
};

static bool endpoint_pre_load(void *opaque, Error **errp)
{
    NyxSavedEndpoint *ep = opaque;

    memset(ep, 0, sizeof(*ep));
    QTAILQ_INIT(&ep->faults);
    return true;
}

/* The length is part of the format: a new type needs a subsection. */
QEMU_BUILD_BUG_ON(NYX_FAULT_TYPE__MAX != 6);

static bool fault_types_needed(void *opaque)
{
    NyxSavedEndpoint *ep = opaque;

    return !buffer_is_zero(ep->faults_by_type, sizeof(ep->faults_by_type));
}

static const VMStateDescription vmstate_fault_types = {
    .name = "nyx-endpoint/fault-types",
    .version_id = 1,
    .minimum_version_id = 1,
    .needed = fault_types_needed,
    .fields = (const VMStateField[]) {
        VMSTATE_UINT64_ARRAY(faults_by_type, NyxSavedEndpoint,
                             NYX_FAULT_TYPE__MAX),
        VMSTATE_END_OF_LIST()
    },
};

static bool limit_pending(void *opaque)
{
    return ((NyxSavedEndpoint *)opaque)->limit_pending;
}

static bool limit_pre_load(void *opaque, Error **errp)
{
    ((NyxSavedEndpoint *)opaque)->limit_pending = true;
    return true;
}

static const VMStateDescription vmstate_limit = {
    .name = "nyx-endpoint/limit",
    .version_id = 1,
    .minimum_version_id = 1,
    .needed = limit_pending,
    .pre_load_errp = limit_pre_load,
    .fields = (const VMStateField[]) {
        VMSTATE_UINT32(limit_action, NyxSavedEndpoint),
        VMSTATE_END_OF_LIST()
    },
};

static const VMStateDescription vmstate_endpoint = {
    .name = "nyx-endpoint",
    .version_id = 1,
    .minimum_version_id = 1,
    .pre_load_errp = endpoint_pre_load,
    .fields = (const VMStateField[]) {
        VMSTATE_BYTES(device, NyxSavedEndpoint),
        VMSTATE_BYTES(domain, NyxSavedEndpoint),
        VMSTATE_UINT32(state, NyxSavedEndpoint),
        VMSTATE_STRUCT(policy, NyxSavedEndpoint, 0, vmstate_policy,
                       NyxSavedPolicy),
        VMSTATE_QTAILQ_V(faults, NyxSavedEndpoint, 1, vmstate_fault,
                         NyxSavedFault, next),
        VMSTATE_UINT64(total_faults, NyxSavedEndpoint),
        VMSTATE_UINT64(faults_since_restart, NyxSavedEndpoint),
        VMSTATE_INT64(last_fault_ns, NyxSavedEndpoint),
        VMSTATE_STRUCT(fault_clock, NyxSavedEndpoint, 0, vmstate_clock,
                       NyxSteadyClock),
        VMSTATE_TIMES(fault_times, NyxSavedEndpoint),
        VMSTATE_BOOL(beyond_limit, NyxSavedEndpoint),
        VMSTATE_BOOL(report_pending, NyxSavedEndpoint),
        VMSTATE_BOOL(restart_pending, NyxSavedEndpoint),
        VMSTATE_INT64(reported_ns, NyxSavedEndpoint),
        VMSTATE_STRUCT(recovery_clock, NyxSavedEndpoint, 0, vmstate_clock,
                       NyxSteadyClock),
        VMSTATE_TIMES(recovery_times, NyxSavedEndpoint),
        VMSTATE_UINT64(msi_delivered, NyxSavedEndpoint),
        VMSTATE_UINT64(msi_refused, NyxSavedEndpoint),
        VMSTATE_END_OF_LIST()
    },
    .subsections = (const VMStateDescription * const []) {
        &vmstate_fault_types,
        &vmstate_limit,
        NULL
    },
};

const VMStateDescription nyx_vmstate_saved_iommu = {
    .name = "nyx-iommu/state",
    .version_id = 1,
    .minimum_version_id = 1,
    .fields = (const VMStateField[]) {
        VMSTATE_UINT32(stage1, NyxSavedIommu),
        VMSTATE_UINT32(default_isolation, NyxSavedIommu),
        VMSTATE_STRUCT(policy, NyxSavedIommu, 0, vmstate_policy,
                       NyxSavedPolicy),
        VMSTATE_UINT64(quarantines, NyxSavedIommu),
        VMSTATE_UINT64(recoveries, NyxSavedIommu),
        VMSTATE_UINT64(past_faults, NyxSavedIommu),
        VMSTATE_UINT64(past_msi_delivered, NyxSavedIommu),
        VMSTATE_UINT64(past_msi_refused, NyxSavedIommu),
        VMSTATE_QTAILQ_V(domains, NyxSavedIommu, 1, vmstate_domain,
                         NyxSavedDomain, next),
        VMSTATE_QTAILQ_V(endpoints, NyxSavedIommu, 1, vmstate_endpoint,
                         NyxSavedEndpoint, next),
        VMSTATE_END_OF_LIST()
    },
};

static const VMStateDescription vmstate_lock = {
    .name = "nyx-config-lock",
    .version_id = 1,
    .minimum_version_id = 1,
    .fields = (const VMStateField[]) {
        VMSTATE_UINT16(offset, NyxConfigLock),
        VMSTATE_UINT16(mask, NyxConfigLock),
        VMSTATE_UINT16(writable, NyxConfigLock),
        VMSTATE_UINT16(before, NyxConfigLock),
        VMSTATE_END_OF_LIST()
    },
};

ZERO_BEFORE_LOAD(function_pre_load, NyxSavedFunction)

static const VMStateDescription vmstate_function = {
    .name = "nyx-function",
    .version_id = 1,
    .minimum_version_id = 1,
    .pre_load_errp = function_pre_load,
    .fields = (const VMStateField[]) {
        VMSTATE_BYTES(device, NyxSavedFunction),
        VMSTATE_UINT32(locks, NyxSavedFunction),
        VMSTATE_STRUCT_ARRAY(lock, NyxSavedFunction, NYX_CONFIG_LOCKS, 0,
                             vmstate_lock, NyxConfigLock),
        VMSTATE_END_OF_LIST()
    },
};

const VMStateDescription nyx_vmstate_saved_functions = {
    .name = "nyx-iommu/functions",
    .version_id = 1,
    .minimum_version_id = 1,
    .fields = (const VMStateField[]) {
        VMSTATE_QTAILQ_V(list, NyxSavedFunctions, 1, vmstate_function,
                         NyxSavedFunction, next),
        VMSTATE_END_OF_LIST()
    },
};

static bool has_changed(void *opaque)
{
    return ((NyxSavedTable *)opaque)->changed;
}

static const VMStateDescription vmstate_changed = {
    .name = "nyx-table/changed",
    .version_id = 1,
    .minimum_version_id = 1,
    .needed = has_changed,
    .fields = (const VMStateField[]) {
        VMSTATE_BYTES(changed, NyxSavedTable),
        VMSTATE_END_OF_LIST()
    },
};

ZERO_BEFORE_LOAD(table_pre_load, NyxSavedTable)

static const VMStateDescription vmstate_table = {
    .name = "nyx-table",
    .version_id = 1,
    .minimum_version_id = 1,
    .pre_load_errp = table_pre_load,
    .fields = (const VMStateField[]) {
        VMSTATE_BYTES(id, NyxSavedTable),
        VMSTATE_BOOL(large_pages, NyxSavedTable),
        VMSTATE_BYTES(table, NyxSavedTable),
        VMSTATE_END_OF_LIST()
    },
    .subsections = (const VMStateDescription * const []) {
        &vmstate_changed,
        NULL
    },
};

const VMStateDescription nyx_vmstate_saved_tables = {
    .name = "nyx-iommu/tables",
    .version_id = 1,
    .minimum_version_id = 1,
    .fields = (const VMStateField[]) {
        VMSTATE_QTAILQ_V(list, NyxSavedTables, 1, vmstate_table, NyxSavedTable,
                         next),
        VMSTATE_END_OF_LIST()
    },
};

/* Life */

static void free_bytes(GByteArray *bytes)
{
    if (bytes) {
        g_byte_array_unref(bytes);
    }
}

static void free_times(GArray *times)
{
    if (times) {
        g_array_unref(times);
    }
}

static void free_domain(NyxSavedDomain *domain)
{
    free_bytes(domain->id);
    g_free(domain);
}

static void free_endpoint(NyxSavedEndpoint *ep)
{
    NyxSavedFault *fault;

    while ((fault = QTAILQ_FIRST(&ep->faults))) {
        QTAILQ_REMOVE(&ep->faults, fault, next);
        free_bytes(fault->domain);
        g_free(fault);
    }
    free_bytes(ep->device);
    free_bytes(ep->domain);
    free_times(ep->fault_times);
    free_times(ep->recovery_times);
    g_free(ep);
}

void nyx_saved_iommu_init(NyxSavedIommu *saved)
{
    *saved = (NyxSavedIommu) {};
    QTAILQ_INIT(&saved->domains);
    QTAILQ_INIT(&saved->endpoints);
}

void nyx_saved_iommu_clear(NyxSavedIommu *saved)
{
    NyxSavedDomain *domain;
    NyxSavedEndpoint *ep;

    while ((domain = QTAILQ_FIRST(&saved->domains))) {
        QTAILQ_REMOVE(&saved->domains, domain, next);
        free_domain(domain);
    }
    while ((ep = QTAILQ_FIRST(&saved->endpoints))) {
        QTAILQ_REMOVE(&saved->endpoints, ep, next);
        free_endpoint(ep);
    }
    nyx_saved_iommu_init(saved);
}

void nyx_saved_functions_init(NyxSavedFunctions *saved)
{
    QTAILQ_INIT(&saved->list);
}

void nyx_saved_functions_clear(NyxSavedFunctions *saved)
{
    NyxSavedFunction *fn;

    while ((fn = QTAILQ_FIRST(&saved->list))) {
        QTAILQ_REMOVE(&saved->list, fn, next);
        free_bytes(fn->device);
        g_free(fn);
    }
}

void nyx_saved_tables_init(NyxSavedTables *saved)
{
    QTAILQ_INIT(&saved->list);
}

void nyx_saved_tables_clear(NyxSavedTables *saved)
{
    NyxSavedTable *table;

    while ((table = QTAILQ_FIRST(&saved->list))) {
        QTAILQ_REMOVE(&saved->list, table, next);
        free_bytes(table->id);
        free_bytes(table->table);
        free_bytes(table->changed);
        g_free(table);
    }
}

/* Contents */

GByteArray *nyx_saved_string(const char *string)
{
    GByteArray *bytes = g_byte_array_new();

    return g_byte_array_append(bytes, (const guint8 *)string,
                               strlen(string) + 1);
}

const char *nyx_saved_get_string(const GByteArray *saved, const char *what,
                                 Error **errp)
{
    if (saved->len == 0 || saved->len > STRING_MAX ||
        memchr(saved->data, 0, saved->len) != saved->data + saved->len - 1 ||
        !g_utf8_validate((const char *)saved->data, saved->len - 1, NULL)) {
        error_setg(errp, "%s is no string", what);
        return NULL;
    }
    return (const char *)saved->data;
}

static bool sets_on_recovery_limit(uint32_t set)
{
    return set & BIT(NYX_POLICY_ON_RECOVERY_LIMIT);
}

NyxSavedPolicy nyx_saved_policy(const NyxPolicyOverride *policy)
{
    return (NyxSavedPolicy) {
        .set = policy->set,
        .max_faults = policy->values.max_faults,
        .fault_window_ms = policy->values.fault_window_ms,
        .on_fault_limit = policy->values.on_fault_limit,
        .max_recoveries = policy->values.max_recoveries,
        .scope = policy->values.scope,
        .count_stage1 = policy->values.count_stage1,
        .recovery = policy->values.recovery,
        .has_on_recovery_limit = sets_on_recovery_limit(policy->set),
        .on_recovery_limit = policy->values.on_recovery_limit,
    };
}

bool nyx_saved_get_policy(const NyxSavedPolicy *saved,
                          NyxPolicyOverride *policy, Error **errp)
{
    *policy = (NyxPolicyOverride) {
        .set = saved->set,
        .values = {
            .max_faults = saved->max_faults,
            .fault_window_ms = saved->fault_window_ms,
            .on_fault_limit = saved->on_fault_limit,
            .max_recoveries = saved->max_recoveries,
            .scope = saved->scope,
            .count_stage1 = saved->count_stage1,
            .recovery = saved->recovery,
            .on_recovery_limit = saved->on_recovery_limit,
        },
    };
    if (saved->set >> NYX_POLICY__MAX ||
        saved->on_fault_limit >= NYX_LIMIT_ACTION__MAX ||
        saved->scope >= NYX_SCOPE__MAX ||
        saved->recovery >= NYX_RECOVERY__MAX ||
        saved->on_recovery_limit >= NYX_RECOVERY_LIMIT_ACTION__MAX ||
        saved->has_on_recovery_limit != sets_on_recovery_limit(saved->set)) {
        error_setg(errp, "a policy has values that there are not");
        return false;
    }
    return nyx_policy_check(policy, errp);
}
