/*
 * vCPU health: whether a vCPU is stuck, from what is seen of it over time
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Knows neither clocks nor threads.  All times are nanoseconds in which the
 * vCPU could have done better; who calls has taken out of them those in which
 * the host did not let it.
 */

#ifndef NYX_ACCEL_VCPU_TRACKER_H
#define NYX_ACCEL_VCPU_TRACKER_H

#include "qapi/qapi-types-nyx-vcpus.h"
#include "vcpu-sight.h"

typedef struct NyxVcpuTracker {
    NyxVcpuSight sight;         /* the last one */
    bool seen;                  /* there is one */
    uint64_t silent_ns;         /* since it was asked for another */
    uint64_t closed_ns;         /* between sights, all without interrupts */
    bool is_stuck;
    NyxVcpuStuckReason reason;  /* if it is */
} NyxVcpuTracker;

typedef enum NyxVcpuChange {
    NYX_VCPU_SAME,
    NYX_VCPU_GOT_STUCK,
    NYX_VCPU_GOT_WELL,
} NyxVcpuChange;

/* It answered: @sight.  @ran_ns: what it ran since the sight before. */
void nyx_vcpu_tracker_saw(NyxVcpuTracker *t, const NyxVcpuSight *sight,
                          uint64_t ran_ns);

/* It did not answer for @ns more. */
void nyx_vcpu_tracker_silent(NyxVcpuTracker *t, uint64_t ns);

/* It was stopped by others: what comes says nothing of what was. */
void nyx_vcpu_tracker_restart(NyxVcpuTracker *t);

/*
 * Judge what came since the last time.  @dead: all vCPUs are halted without
 * interrupts, past the limit, and this one stands for them.
 */
NyxVcpuChange nyx_vcpu_tracker_judge(NyxVcpuTracker *t, uint64_t limit_ns,
                                     bool dead);

/* Time that counts toward the limit: what got it stuck, or may. */
uint64_t nyx_vcpu_tracker_time(const NyxVcpuTracker *t);

/* Whether another sight is wanted soon. */
bool nyx_vcpu_tracker_is_suspect(const NyxVcpuTracker *t);

#endif
