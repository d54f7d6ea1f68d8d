/*
 * Nyx IOMMU: policies, and what overrides what
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qapi/qapi-visit-nyx-types.h"
#include "qemu/bitops.h"
#include "device-state.h"
#include "fault.h"
#include "policy.h"

const NyxPolicy nyx_policy_default = {
    .max_faults = 10,
    .fault_window_ms = 60000,
    .on_fault_limit = NYX_LIMIT_ACTION_QUARANTINE,
    .max_recoveries = 5,
    .scope = NYX_SCOPE_DEVICE,
    .count_stage1 = true,
    .recovery = NYX_RECOVERY_MANUAL,
    .on_recovery_limit = NYX_RECOVERY_LIMIT_ACTION_FAIL,
};

typedef struct NyxPolicyFieldInfo {
    const char *name;
    const char *type;
    const char *help;
    size_t offset;              /* in NyxPolicy */
    size_t size;
    uint32_t max;               /* of a number; 0: it is none */
    const QEnumLookup *lookup;  /* of an enumeration */
} NyxPolicyFieldInfo;

static bool visit_field(Visitor *v, const char *name, void *value,
                        const NyxPolicyFieldInfo *info, Error **errp)
{
    if (info->lookup) {
        return visit_type_enum(v, name, value, info->lookup, errp);
    }
    return info->max ? visit_type_uint32(v, name, value, errp)
                     : visit_type_bool(v, name, value, errp);
}

#define FIELD(member) \
    .offset = offsetof(NyxPolicy, member), \
    .size = sizeof_field(NyxPolicy, member)

static const NyxPolicyFieldInfo nyx_policy_fields[NYX_POLICY__MAX] = {
    [NYX_POLICY_MAX_FAULTS] = {
        .name = "max-faults", .type = "uint32", FIELD(max_faults),
        .max = NYX_MAX_FAULTS_LIMIT,
        .help = "Faults within the window that a device may cause "
                "(machine: 10)",
    },
    [NYX_POLICY_FAULT_WINDOW_MS] = {
        .name = "fault-window-ms", .type = "uint32", FIELD(fault_window_ms),
        .max = UINT32_MAX,
        .help = "Window in which faults count, in ms; 0 counts for ever "
                "(machine: 60000)",
    },
    [NYX_POLICY_ON_FAULT_LIMIT] = {
        .name = "on-fault-limit", .type = "NyxLimitAction",
        FIELD(on_fault_limit), .lookup = &NyxLimitAction_lookup,
        .help = "What happens past the limit (quarantine, report, "
                "reset-device, pause-vm, reset-vm, shutdown, unplug, "
                "restore-snapshot; machine: quarantine)",
    },
    [NYX_POLICY_MAX_RECOVERIES] = {
        .name = "max-recoveries", .type = "uint32", FIELD(max_recoveries),
        .max = NYX_MAX_RECOVERIES_LIMIT,
        .help = "Recoveries of a device per hour, after which it fails "
                "(machine: 5)",
    },
    [NYX_POLICY_SCOPE] = {
        .name = "scope", .type = "NyxScope", FIELD(scope),
        .lookup = &NyxScope_lookup,
        .help = "Whom a quarantine takes in (device, domain; machine: device)",
    },
    [NYX_POLICY_COUNT_STAGE1] = {
        .name = "count-stage1", .type = "bool", FIELD(count_stage1),
        .help = "Whether what the guest's own IOMMU refuses counts "
                "(machine: on)",
    },
    [NYX_POLICY_RECOVERY] = {
        .name = "recovery", .type = "NyxRecovery", FIELD(recovery),
        .lookup = &NyxRecovery_lookup,
        .help = "Who begins a recovery (manual: the operator; auto: also the "
                "guest, by a nyx-root-port; machine: manual)",
    },
    [NYX_POLICY_ON_RECOVERY_LIMIT] = {
        .name = "on-recovery-limit", .type = "NyxRecoveryLimitAction",
        FIELD(on_recovery_limit), .lookup = &NyxRecoveryLimitAction_lookup,
        .help = "What happens when a device fails (fail, unplug, pause-vm, "
                "reset-vm, shutdown, restore-snapshot; machine: fail)",
    },
};

static void *field_of(const NyxPolicy *policy, NyxPolicyField field)
{
    return (char *)policy + nyx_policy_fields[field].offset;
}

void nyx_policy_apply(NyxPolicy *policy, const NyxPolicyOverride *override)
{
    for (int i = 0; i < NYX_POLICY__MAX; i++) {
        if (override->set & BIT(i)) {
            memcpy(field_of(policy, i), field_of(&override->values, i),
                   nyx_policy_fields[i].size);
        }
    }
}

void nyx_policy_merge(NyxPolicyOverride *override,
                      const NyxPolicyOverride *more)
{
    nyx_policy_apply(&override->values, more);
    override->set |= more->set;
}

bool nyx_policy_check(const NyxPolicyOverride *override, Error **errp)
{
    for (int i = 0; i < NYX_POLICY__MAX; i++) {
        const NyxPolicyFieldInfo *info = &nyx_policy_fields[i];

        if (!(override->set & BIT(i)) || !info->max) {
            continue;
        }
        if (*(uint32_t *)field_of(&override->values, i) > info->max) {
            error_setg(errp, "%s must be at most %" PRIu32, info->name,
                       info->max);
            return false;
        }
    }
    return true;
}

/*
 * A property's opaque value is its owner's entry in this array, from which
 * both the field and the owner follow.
 */
typedef struct NyxPolicyProperty {
    NyxPolicyField field;
    const NyxPolicyOwner *owner;
} NyxPolicyProperty;

static void nyx_policy_property_get(Object *obj, Visitor *v, const char *name,
                                    void *opaque, Error **errp)
{
    const NyxPolicyProperty *prop = opaque;
    const NyxPolicyFieldInfo *info = &nyx_policy_fields[prop->field];
    NyxPolicy policy = prop->owner->effective(obj);

    visit_field(v, name, field_of(&policy, prop->field), info, errp);
}

static void nyx_policy_property_set(Object *obj, Visitor *v, const char *name,
                                    void *opaque, Error **errp)
{
    const NyxPolicyProperty *prop = opaque;
    const NyxPolicyFieldInfo *info = &nyx_policy_fields[prop->field];
    NyxPolicyOverride new = { .set = BIT(prop->field) };
    void *value = field_of(&new.values, prop->field);

    if (!visit_field(v, name, value, info, errp)) {
        return;
    }
    if (!nyx_policy_check(&new, errp)) {
        return;
    }
    nyx_policy_merge(prop->owner->get(obj), &new);
    prop->owner->changed(obj);
}

void nyx_policy_add_class_properties(ObjectClass *oc,
                                     const NyxPolicyOwner *owner)
{
    /* Lives as long as the class, which is for ever. */
    NyxPolicyProperty *props = g_new(NyxPolicyProperty, NYX_POLICY__MAX);

    for (int i = 0; i < NYX_POLICY__MAX; i++) {
        const NyxPolicyFieldInfo *info = &nyx_policy_fields[i];

        props[i] = (NyxPolicyProperty) { .field = i, .owner = owner };
        object_class_property_add(oc, info->name, info->type,
                                  nyx_policy_property_get,
                                  nyx_policy_property_set, NULL, &props[i]);
        object_class_property_set_description(oc, info->name, info->help);
    }
}
