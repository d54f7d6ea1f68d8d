/*
 * Nyx IOMMU: life of an endpoint, as a table of states and events, and the
 * budget of recoveries
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Locking: the caller's.
 */

#ifndef HW_IOMMU_NYX_DEVICE_STATE_H
#define HW_IOMMU_NYX_DEVICE_STATE_H

#include "qapi/qapi-types-nyx.h"
#include "steady-clock.h"

/*
 * operational -contain-> quarantined
 * quarantined -recover-> recovering
 * quarantined -exhausted-> failed
 * quarantined, failed -force-> recovering
 * recovering  -recovered-> operational
 * recovering  -recovery-failed-> failed
 * recovering  -contain-> quarantined   (it misbehaved during its recovery)
 * Everything else is forbidden.
 */
typedef enum NyxStateEvent {
    NYX_EVENT_CONTAIN,
    NYX_EVENT_RECOVER,          /* an operator or policy asks, budget is left */
    NYX_EVENT_EXHAUSTED,        /* the same, but the budget is spent */
    NYX_EVENT_FORCE,
    NYX_EVENT_RECOVERED,
    NYX_EVENT_RECOVERY_FAILED,
    NYX_EVENT__MAX,
} NyxStateEvent;

/* False: forbidden, *state unchanged. */
bool nyx_state_step(NyxDeviceState *state, NyxStateEvent event);

#define NYX_MAX_RECOVERIES_LIMIT    255     /* largest max-recoveries */

/*
 * When the recoveries within the last hour began.  A time before an earlier one
 * counts as equal to it.
 */
typedef struct NyxRecoveryBudget {
    uint64_t ns[NYX_MAX_RECOVERIES_LIMIT];  /* of the steady clock, ascending */
    uint32_t first;             /* the oldest */
    uint32_t used;
    NyxSteadyClock clock;
} NyxRecoveryBudget;

void nyx_recovery_budget_init(NyxRecoveryBudget *b);

/* @max: 0..NYX_MAX_RECOVERIES_LIMIT; 0 allows no recovery at all. */
bool nyx_recovery_budget_left(const NyxRecoveryBudget *b, uint32_t max,
                              int64_t now_ns);

/* Never refuses (a recovery may be forced); the oldest makes room. */
void nyx_recovery_budget_spend(NyxRecoveryBudget *b, int64_t now_ns);

/* Recoveries less than one hour ago, at most NYX_MAX_RECOVERIES_LIMIT. */
uint32_t nyx_recovery_budget_used(const NyxRecoveryBudget *b, int64_t now_ns);

#endif
