/*
 * vCPU health: find stuck vCPUs from the host's side
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * From time to time each vCPU is asked to look at itself between two
 * instructions of the guest.  Whether it does so within the limit, and what it
 * sees then, tells whether it is stuck (vcpu-tracker.h).
 *
 * Everything here is under the BQL.
 */

#ifndef NYX_ACCEL_VCPU_HEALTH_H
#define NYX_ACCEL_VCPU_HEALTH_H

#include "hw/core/cpu.h"
#include "vcpu-tracker.h"

/* A vCPU; dropped when it is unrealized */
typedef struct NyxVcpu {
    CPUState *cpu;
    NyxVcpuTracker tracker;
    int asked;                  /* number of the question; 0: all answered */
    int64_t asked_ns;           /* host clock, of the last question */
    uint64_t silent_cpu_ns;     /* the thread's time when it last was silent */
    int64_t seen_ns;            /* host clock, of the last sight */
    uint64_t seen_cpu_ns;       /* the thread's time then */
    uint64_t halted_ns;
    int64_t progress_ns;        /* virtual clock; -1: never */
    int64_t stuck_ns;           /* virtual clock, if it is stuck */
} NyxVcpu;

typedef struct NyxVcpuHealth {
    uint32_t check_ms;          /* 0: nobody looks */
    uint32_t stuck_ms;
    bool started;
    QEMUTimer *timer;
    GHashTable *vcpus;          /* CPUState -> NyxVcpu */
    DeviceListener listener;
    int64_t tick_ns;            /* host clock, of the last tick */
    int64_t period_ns;          /* planned from there to the next one */
    int questions;
    uint64_t dead_ns;           /* all vCPUs have been halted for good */
} NyxVcpuHealth;

/* That of this VM */
NyxVcpuHealth *nyx_vcpu_health_get(void);

/* Whether its options fit each other. */
bool nyx_vcpu_options_check(const NyxVcpuHealth *h, Error **errp);

/* The options have changed. */
void nyx_vcpu_health_update(NyxVcpuHealth *h);

/* NULL if nothing is known of it. */
NyxVcpu *nyx_vcpu_health_find(NyxVcpuHealth *h, CPUState *cpu);

#endif
