/*
 * vCPU health: whether a vCPU is stuck, from what is seen of it over time
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "nyx/accel/vcpu-tracker.h"

#define LIMIT   1000

static const NyxVcpuSight closed = {};
static const NyxVcpuSight wide = { .interrupts = true };
static const NyxVcpuSight idle = { .interrupts = true, .halted = true };
static const NyxVcpuSight offline = { .halted = true };
static const NyxVcpuSight unborn = { .halted = true, .wait_for_sipi = true };

static NyxVcpuChange judge(NyxVcpuTracker *t)
{
    return nyx_vcpu_tracker_judge(t, LIMIT, false);
}

static void assert_stuck(NyxVcpuTracker *t, NyxVcpuStuckReason reason)
{
    g_assert_cmpint(judge(t), ==, NYX_VCPU_GOT_STUCK);
    g_assert_true(t->is_stuck);
    g_assert_cmpint(t->reason, ==, reason);
    /* told once */
    g_assert_cmpint(judge(t), ==, NYX_VCPU_SAME);
}

/* From the first sight without interrupts on, up to the limit and no further */
static void test_closed(void)
{
    NyxVcpuTracker t = {};

    nyx_vcpu_tracker_saw(&t, &closed, 10 * LIMIT);
    g_assert_cmpint(judge(&t), ==, NYX_VCPU_SAME);
    g_assert_true(nyx_vcpu_tracker_is_suspect(&t));
    nyx_vcpu_tracker_saw(&t, &closed, LIMIT - 1);
    g_assert_cmpint(judge(&t), ==, NYX_VCPU_SAME);
    g_assert_cmpuint(nyx_vcpu_tracker_time(&t), ==, LIMIT - 1);
    nyx_vcpu_tracker_saw(&t, &closed, 1);
    assert_stuck(&t, NYX_VCPU_STUCK_REASON_INTERRUPTS_OFF);
    nyx_vcpu_tracker_saw(&t, &closed, 1);
    g_assert_cmpint(judge(&t), ==, NYX_VCPU_SAME);
    nyx_vcpu_tracker_saw(&t, &wide, 1);
    g_assert_cmpint(judge(&t), ==, NYX_VCPU_GOT_WELL);
    g_assert_cmpuint(nyx_vcpu_tracker_time(&t), ==, 0);
}

/* One sight of anything better, and it begins anew. */
static void test_interrupted(void)
{
    const NyxVcpuSight *const better[] = { &wide, &idle, &offline, &unborn };
    NyxVcpuTracker t = {};

    for (int i = 0; i < 40; i++) {
        nyx_vcpu_tracker_saw(&t, &closed, LIMIT);
        nyx_vcpu_tracker_saw(&t, &closed, LIMIT - 1);
        g_assert_cmpint(judge(&t), ==, NYX_VCPU_SAME);
        nyx_vcpu_tracker_saw(&t, better[i % 4], LIMIT);
        g_assert_cmpint(judge(&t), ==, NYX_VCPU_SAME);
        g_assert_false(nyx_vcpu_tracker_is_suspect(&t));
    }
}

static void test_silent(void)
{
    NyxVcpuTracker t = {};

    nyx_vcpu_tracker_silent(&t, LIMIT - 1);
    nyx_vcpu_tracker_saw(&t, &wide, 0);
    nyx_vcpu_tracker_silent(&t, LIMIT - 1);
    g_assert_cmpint(judge(&t), ==, NYX_VCPU_SAME);
    nyx_vcpu_tracker_silent(&t, 1);
    assert_stuck(&t, NYX_VCPU_STUCK_REASON_THREAD);
    /* An answer ends it, whatever it says. */
    nyx_vcpu_tracker_saw(&t, &closed, 0);
    g_assert_cmpint(judge(&t), ==, NYX_VCPU_GOT_WELL);
}

/* A VM that is stopped and goes on: not well before it is seen to be. */
static void test_restart(void)
{
    NyxVcpuTracker t = {};

    nyx_vcpu_tracker_saw(&t, &closed, 0);
    nyx_vcpu_tracker_saw(&t, &closed, LIMIT - 1);
    nyx_vcpu_tracker_restart(&t);
    nyx_vcpu_tracker_saw(&t, &closed, LIMIT);
    g_assert_cmpint(judge(&t), ==, NYX_VCPU_SAME);
    nyx_vcpu_tracker_saw(&t, &closed, LIMIT);
    assert_stuck(&t, NYX_VCPU_STUCK_REASON_INTERRUPTS_OFF);
    nyx_vcpu_tracker_restart(&t);
    g_assert_cmpint(judge(&t), ==, NYX_VCPU_SAME);
    nyx_vcpu_tracker_saw(&t, &closed, 0);
    g_assert_cmpint(judge(&t), ==, NYX_VCPU_SAME);
    nyx_vcpu_tracker_saw(&t, &idle, 0);
    g_assert_cmpint(judge(&t), ==, NYX_VCPU_GOT_WELL);
}

/* Halted for good, for all of them */
static void test_dead(void)
{
    NyxVcpuTracker t = {};

    nyx_vcpu_tracker_saw(&t, &offline, 10 * LIMIT);
    nyx_vcpu_tracker_saw(&t, &offline, 10 * LIMIT);
    g_assert_cmpint(judge(&t), ==, NYX_VCPU_SAME);
    g_assert_cmpint(nyx_vcpu_tracker_judge(&t, LIMIT, true), ==,
                    NYX_VCPU_GOT_STUCK);
    g_assert_cmpint(t.reason, ==, NYX_VCPU_STUCK_REASON_HALTED);
    g_assert_cmpint(nyx_vcpu_tracker_judge(&t, LIMIT, true), ==,
                    NYX_VCPU_SAME);
    g_assert_cmpint(judge(&t), ==, NYX_VCPU_GOT_WELL);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/nyx/vcpu-tracker/closed", test_closed);
    g_test_add_func("/nyx/vcpu-tracker/interrupted", test_interrupted);
    g_test_add_func("/nyx/vcpu-tracker/silent", test_silent);
    g_test_add_func("/nyx/vcpu-tracker/restart", test_restart);
    g_test_add_func("/nyx/vcpu-tracker/dead", test_dead);
    return g_test_run();
}
