/*
 * Nyx IOMMU: policies, and what overrides what
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * A policy has a full set of values at the machine; a domain and then a
 * device may each override some of them.
 */

#ifndef HW_IOMMU_NYX_POLICY_H
#define HW_IOMMU_NYX_POLICY_H

#include "qapi/qapi-types-nyx.h"
#include "qom/object.h"

typedef enum NyxPolicyField {
    NYX_POLICY_MAX_FAULTS,
    NYX_POLICY_FAULT_WINDOW_MS,
    NYX_POLICY_ON_FAULT_LIMIT,
    NYX_POLICY_MAX_RECOVERIES,
    NYX_POLICY_SCOPE,
    NYX_POLICY_COUNT_STAGE1,
    NYX_POLICY_RECOVERY,
    NYX_POLICY_ON_RECOVERY_LIMIT,
    NYX_POLICY__MAX,
} NyxPolicyField;

typedef struct NyxPolicyOverride {
    uint32_t set;               /* bit n: field n of values is in force */
    NyxPolicy values;
} NyxPolicyOverride;

/* Does the action cut the device off before anything else? */
static inline bool nyx_limit_action_contains(NyxLimitAction action)
{
    return action == NYX_LIMIT_ACTION_QUARANTINE ||
           action == NYX_LIMIT_ACTION_RESET_DEVICE ||
           action == NYX_LIMIT_ACTION_UNPLUG ||
           action == NYX_LIMIT_ACTION_RESTORE_SNAPSHOT;
}

/* What holds where nobody says otherwise. */
extern const NyxPolicy nyx_policy_default;

/* Replace those fields of @policy that @override sets. */
void nyx_policy_apply(NyxPolicy *policy, const NyxPolicyOverride *override);

/* Let @override set what @more sets, too. */
void nyx_policy_merge(NyxPolicyOverride *override,
                      const NyxPolicyOverride *more);

/* All in range?  Errors name the field and its limit. */
bool nyx_policy_check(const NyxPolicyOverride *override, Error **errp);

/*
 * Give a class one property for each field of the policy, of its QAPI name.
 * @get returns the override inside an instance, @effective the policy in force;
 * @changed is called after a property was set.
 */
typedef struct NyxPolicyOwner {
    NyxPolicyOverride *(*get)(Object *obj);
    NyxPolicy (*effective)(Object *obj);
    void (*changed)(Object *obj);
} NyxPolicyOwner;

void nyx_policy_add_class_properties(ObjectClass *oc,
                                     const NyxPolicyOwner *owner);

#endif
