/*
 * vCPU health: whether a vCPU is stuck, from what is seen of it over time
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "vcpu-tracker.h"

void nyx_vcpu_tracker_saw(NyxVcpuTracker *t, const NyxVcpuSight *sight,
                          uint64_t ran_ns)
{
    if (!nyx_vcpu_runs_closed(sight)) {
        t->closed_ns = 0;
    } else if (t->seen && nyx_vcpu_runs_closed(&t->sight)) {
        t->closed_ns += ran_ns;
    }
    t->sight = *sight;
    t->seen = true;
    t->silent_ns = 0;
}

void nyx_vcpu_tracker_silent(NyxVcpuTracker *t, uint64_t ns)
{
    t->silent_ns += ns;
}

void nyx_vcpu_tracker_restart(NyxVcpuTracker *t)
{
    t->seen = false;
    t->silent_ns = 0;
    t->closed_ns = 0;
}

/* Only what is seen ends it, not that nothing is. */
static bool is_well(const NyxVcpuTracker *t, bool dead)
{
    if (!t->seen || t->silent_ns) {
        return false;
    }
    switch (t->reason) {
    case NYX_VCPU_STUCK_REASON_THREAD:
        return true;
    case NYX_VCPU_STUCK_REASON_INTERRUPTS_OFF:
        return !nyx_vcpu_runs_closed(&t->sight);
    case NYX_VCPU_STUCK_REASON_HALTED:
        return !dead;
    default:
        g_assert_not_reached();
    }
}

static bool find_reason(NyxVcpuTracker *t, uint64_t limit_ns, bool dead)
{
    if (t->silent_ns >= limit_ns) {
        t->reason = NYX_VCPU_STUCK_REASON_THREAD;
    } else if (t->closed_ns >= limit_ns) {
        t->reason = NYX_VCPU_STUCK_REASON_INTERRUPTS_OFF;
    } else if (dead) {
        t->reason = NYX_VCPU_STUCK_REASON_HALTED;
    } else {
        return false;
    }
    return true;
}

NyxVcpuChange nyx_vcpu_tracker_judge(NyxVcpuTracker *t, uint64_t limit_ns,
                                     bool dead)
{
    if (t->is_stuck) {
        if (!is_well(t, dead)) {
            return NYX_VCPU_SAME;
        }
        t->is_stuck = false;
        return NYX_VCPU_GOT_WELL;
    }
    t->is_stuck = find_reason(t, limit_ns, dead);
    return t->is_stuck ? NYX_VCPU_GOT_STUCK : NYX_VCPU_SAME;
}

uint64_t nyx_vcpu_tracker_time(const NyxVcpuTracker *t)
{
    return MAX(t->silent_ns, t->closed_ns);
}

bool nyx_vcpu_tracker_is_suspect(const NyxVcpuTracker *t)
{
    return !t->is_stuck && t->seen && nyx_vcpu_runs_closed(&t->sight);
}
