/*
 * vCPU health: how a vCPU stands that KVM runs
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "cpu.h"
#include <linux/kvm.h>
#include "system/kvm.h"
#include "vcpu-sight.h"

static void look_at_mp_state(CPUState *cpu, NyxVcpuSight *sight)
{
    struct kvm_mp_state mp = {};

    if (kvm_vcpu_ioctl(cpu, KVM_GET_MP_STATE, &mp) < 0) {
        return;
    }
    switch (mp.mp_state) {
    case KVM_MP_STATE_HALTED:
        sight->halted = true;
        break;
    case KVM_MP_STATE_UNINITIALIZED:
    case KVM_MP_STATE_INIT_RECEIVED:
    case KVM_MP_STATE_SIPI_RECEIVED:
        sight->wait_for_sipi = true;
        break;
    default:
        break;
    }
}

/* IF is then that of the inner guest, and says nothing of the outer one. */
static bool runs_guest_of_guest(CPUState *cpu)
{
    g_autofree struct kvm_nested_state *state = NULL;
    uint32_t size = kvm_max_nested_state_length();

    if (cpu->kvm_run->flags & KVM_RUN_X86_GUEST_MODE) {
        return true;
    }
    /* Only newer kernels say it there. */
    if (!cpu_env(cpu)->nested_state) {
        return false;
    }
    state = g_malloc0(size);
    state->size = size;
    return kvm_vcpu_ioctl(cpu, KVM_GET_NESTED_STATE, state) >= 0 &&
           (state->flags & KVM_STATE_NESTED_GUEST_MODE);
}

/*
 * Registers are read, and not with cpu_synchronize_state(), which would write
 * all of them back.
 */
static uint64_t linear_pc(CPUState *cpu)
{
    struct kvm_regs regs = {};
    struct kvm_sregs sregs = {};

    if (kvm_vcpu_ioctl(cpu, KVM_GET_REGS, &regs) < 0 ||
        kvm_vcpu_ioctl(cpu, KVM_GET_SREGS, &sregs) < 0) {
        return 0;
    }
    return sregs.cs.base + regs.rip;
}

void nyx_vcpu_look_kvm(CPUState *cpu, NyxVcpuSight *sight)
{
    if (kvm_irqchip_in_kernel()) {
        look_at_mp_state(cpu, sight);
    } else {
        nyx_vcpu_look_apic(cpu, sight);
    }
    /* As it was when KVM last returned, which it has just done. */
    sight->interrupts = cpu_env(cpu)->eflags & IF_MASK;
    if (nyx_vcpu_runs_closed(sight)) {
        sight->interrupts = runs_guest_of_guest(cpu);
        sight->pc = linear_pc(cpu);
    }
}
