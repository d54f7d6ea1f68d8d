/*
 * Nyx IOMMU: tests of the device state machine and of the recovery budget
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "../../hw/iommu-nyx/device-state.h"

#define SECOND  1000000000LL
#define HOUR    (3600 * SECOND)

#define O   NYX_DEVICE_STATE_OPERATIONAL
#define Q   NYX_DEVICE_STATE_QUARANTINED
#define R   NYX_DEVICE_STATE_RECOVERING
#define F   NYX_DEVICE_STATE_FAILED
#define NO  -1

/* Every state and event; NO is forbidden. */
static const struct {
    NyxDeviceState from;
    int to[NYX_EVENT__MAX];
} expected[] = {
    /*     contain recover exhausted force recovered recovery-failed */
    { O, { Q,      NO,     NO,       NO,   NO,       NO } },
    { Q, { NO,     R,      F,        R,    NO,       NO } },
    { R, { Q,      NO,     NO,       NO,   O,        F  } },
    { F, { NO,     NO,     NO,       R,    NO,       NO } },
};

static void test_every_edge(void)
{
    unsigned i;
    NyxStateEvent event;

    QEMU_BUILD_BUG_ON(ARRAY_SIZE(expected) != NYX_DEVICE_STATE__MAX);
    for (i = 0; i < ARRAY_SIZE(expected); i++) {
        for (event = 0; event < NYX_EVENT__MAX; event++) {
            NyxDeviceState state = expected[i].from;
            int to = expected[i].to[event];

            g_test_message("%s, event %d",
                           NyxDeviceState_str(expected[i].from), event);
            g_assert_cmpint(nyx_state_step(&state, event), ==, to != NO);
            g_assert_cmpint(state, ==, to == NO ? (int)expected[i].from : to);
        }
    }
}

static void test_budget_hour(void)
{
    NyxRecoveryBudget budget;

    nyx_recovery_budget_init(&budget);
    g_assert_cmpuint(nyx_recovery_budget_used(&budget, 0), ==, 0);
    g_assert_false(nyx_recovery_budget_left(&budget, 0, 0));
    g_assert_true(nyx_recovery_budget_left(&budget, 1, 0));

    nyx_recovery_budget_spend(&budget, 10);
    nyx_recovery_budget_spend(&budget, 20);
    g_assert_false(nyx_recovery_budget_left(&budget, 2, 20));
    g_assert_false(nyx_recovery_budget_left(&budget, 2, HOUR + 9));
    /* The first one is now one hour ago. */
    g_assert_true(nyx_recovery_budget_left(&budget, 2, HOUR + 10));
    g_assert_cmpuint(nyx_recovery_budget_used(&budget, HOUR + 10), ==, 1);
    g_assert_cmpuint(nyx_recovery_budget_used(&budget, HOUR + 19), ==, 1);
    g_assert_cmpuint(nyx_recovery_budget_used(&budget, HOUR + 20), ==, 0);
    /* A limit that was lowered meanwhile may be below what was used. */
    g_assert_false(nyx_recovery_budget_left(&budget, 1, 20));
}

static void test_budget_capacity(void)
{
    NyxRecoveryBudget budget;
    unsigned n;

    nyx_recovery_budget_init(&budget);
    for (n = 0; n < NYX_MAX_RECOVERIES_LIMIT; n++) {
        g_assert_true(nyx_recovery_budget_left(&budget,
                                               NYX_MAX_RECOVERIES_LIMIT, n));
        nyx_recovery_budget_spend(&budget, n);
        g_assert_cmpuint(nyx_recovery_budget_used(&budget, n), ==, n + 1);
    }
    g_assert_false(nyx_recovery_budget_left(&budget, NYX_MAX_RECOVERIES_LIMIT,
                                            n));
    /* Forced ones push out the oldest: those of time 0 to 99 are gone. */
    for (n = 0; n < 100; n++) {
        nyx_recovery_budget_spend(&budget, SECOND + n);
    }
    g_assert_cmpuint(nyx_recovery_budget_used(&budget, SECOND + n), ==,
                     NYX_MAX_RECOVERIES_LIMIT);
    g_assert_cmpuint(nyx_recovery_budget_used(&budget, HOUR + 99), ==,
                     NYX_MAX_RECOVERIES_LIMIT);
    g_assert_cmpuint(nyx_recovery_budget_used(&budget, HOUR + 100), ==,
                     NYX_MAX_RECOVERIES_LIMIT - 1);
    g_assert_cmpuint(nyx_recovery_budget_used(&budget, HOUR + SECOND), ==, 99);
}

static void test_budget_time_goes_back(void)
{
    NyxRecoveryBudget budget;

    nyx_recovery_budget_init(&budget);
    nyx_recovery_budget_spend(&budget, 100 * HOUR);
    nyx_recovery_budget_spend(&budget, 5);
    g_assert_cmpuint(nyx_recovery_budget_used(&budget, 0), ==, 2);
    g_assert_cmpuint(nyx_recovery_budget_used(&budget, HOUR + 4), ==, 2);
    g_assert_cmpuint(nyx_recovery_budget_used(&budget, HOUR + 5), ==, 0);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/nyx/device-state/every-edge", test_every_edge);
    g_test_add_func("/nyx/device-state/budget-hour", test_budget_hour);
    g_test_add_func("/nyx/device-state/budget-capacity", test_budget_capacity);
    g_test_add_func("/nyx/device-state/budget-time-goes-back",
                    test_budget_time_goes_back);
    return g_test_run();
}
