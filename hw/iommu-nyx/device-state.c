/*
 * Nyx IOMMU: life of an endpoint, and the budget of recoveries
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "device-state.h"

#define HOUR_NS     (3600ULL * 1000 * 1000 * 1000)

/* Cells hold the new state plus one, so that what is not named is forbidden. */
#define TO(state)   (NYX_DEVICE_STATE_##state + 1)

static const uint8_t transitions[NYX_DEVICE_STATE__MAX][NYX_EVENT__MAX] = {
    [NYX_DEVICE_STATE_OPERATIONAL] = {
        [NYX_EVENT_CONTAIN] = TO(QUARANTINED),
    },
    [NYX_DEVICE_STATE_QUARANTINED] = {
        [NYX_EVENT_RECOVER] = TO(RECOVERING),
        [NYX_EVENT_EXHAUSTED] = TO(FAILED),
        [NYX_EVENT_FORCE] = TO(RECOVERING),
    },
    [NYX_DEVICE_STATE_RECOVERING] = {
        [NYX_EVENT_CONTAIN] = TO(QUARANTINED),
        [NYX_EVENT_RECOVERED] = TO(OPERATIONAL),
        [NYX_EVENT_RECOVERY_FAILED] = TO(FAILED),
    },
    [NYX_DEVICE_STATE_FAILED] = {
        [NYX_EVENT_FORCE] = TO(RECOVERING),
    },
};

bool nyx_state_step(NyxDeviceState *state, NyxStateEvent event)
{
    g_assert(*state < NYX_DEVICE_STATE__MAX && event < NYX_EVENT__MAX);

    if (!transitions[*state][event]) {
        return false;
    }
    *state = transitions[*state][event] - 1;
    return true;
}

void nyx_recovery_budget_init(NyxRecoveryBudget *b)
{
    *b = (NyxRecoveryBudget) {};
}

uint32_t nyx_recovery_budget_used(const NyxRecoveryBudget *b, int64_t now_ns)
{
    uint64_t steady_ns = nyx_steady_clock_peek(&b->clock, now_ns);
    uint32_t old = 0;

    while (old < b->used &&
           steady_ns - b->ns[(b->first + old) % NYX_MAX_RECOVERIES_LIMIT] >=
           HOUR_NS) {
        old++;
    }
    return b->used - old;
}

bool nyx_recovery_budget_left(const NyxRecoveryBudget *b, uint32_t max,
                              int64_t now_ns)
{
    g_assert(max <= NYX_MAX_RECOVERIES_LIMIT);

    return nyx_recovery_budget_used(b, now_ns) < max;
}

void nyx_recovery_budget_spend(NyxRecoveryBudget *b, int64_t now_ns)
{
    if (b->used == NYX_MAX_RECOVERIES_LIMIT) {
        b->first = (b->first + 1) % NYX_MAX_RECOVERIES_LIMIT;
        b->used--;
    }
    b->ns[(b->first + b->used) % NYX_MAX_RECOVERIES_LIMIT] =
        nyx_steady_clock_read(&b->clock, now_ns);
    b->used++;
}
