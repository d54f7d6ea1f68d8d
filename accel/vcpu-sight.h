/*
 * vCPU health: how a vCPU stands
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef NYX_ACCEL_VCPU_SIGHT_H
#define NYX_ACCEL_VCPU_SIGHT_H

typedef struct NyxVcpuSight {
    bool halted;            /* executed HLT and waits for an interrupt */
    bool wait_for_sipi;     /* waits for another processor to start it */
    /* An interrupt would be taken: by the guest, or its own hypervisor. */
    bool interrupts;
    uint64_t pc;            /* linear; with KVM, if it runs without them */
} NyxVcpuSight;

/* Interrupts do not reach it, and it does not wait for any. */
static inline bool nyx_vcpu_runs_closed(const NyxVcpuSight *sight)
{
    return !sight->halted && !sight->wait_for_sipi && !sight->interrupts;
}

/* It waits, and only an NMI, an SMI or an INIT could wake it. */
static inline bool nyx_vcpu_halts_closed(const NyxVcpuSight *sight)
{
    return sight->halted && !sight->wait_for_sipi && !sight->interrupts;
}

/*
 * Look at @cpu.  In its own thread, or when that is idle (see
 * cpu_thread_is_idle()); BQL held.
 */
void nyx_vcpu_look(CPUState *cpu, NyxVcpuSight *sight);

/* The same with KVM, without a cost to speak of as long as all is well. */
void nyx_vcpu_look_kvm(CPUState *cpu, NyxVcpuSight *sight);

/* What it waits for, by an interrupt controller that QEMU emulates. */
void nyx_vcpu_look_apic(CPUState *cpu, NyxVcpuSight *sight);

#endif
