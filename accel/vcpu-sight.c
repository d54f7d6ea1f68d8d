/*
 * vCPU health: how a vCPU stands
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "cpu.h"
#include "hw/i386/apic_internal.h"
#include "system/kvm.h"
#include "vcpu-sight.h"

/*
 * While a guest of the guest runs, interrupts go to the hypervisor in the
 * guest, whatever the inner guest does with its own flag.
 */
static bool takes_interrupts(const CPUX86State *env)
{
    if (env->hflags & HF_GUEST_MASK) {
        return true;
    }
    return (env->eflags & IF_MASK) && (env->hflags2 & HF2_GIF_MASK);
}

void nyx_vcpu_look_apic(CPUState *cpu, NyxVcpuSight *sight)
{
    APICCommonState *apic = X86_CPU(cpu)->apic_state;

    sight->halted = cpu->halted;
    sight->wait_for_sipi = apic && apic->wait_for_sipi;
}

void nyx_vcpu_look(CPUState *cpu, NyxVcpuSight *sight)
{
    CPUX86State *env = cpu_env(cpu);

    *sight = (NyxVcpuSight) {};
#ifdef CONFIG_KVM
    if (kvm_enabled()) {
        nyx_vcpu_look_kvm(cpu, sight);
        return;
    }
#endif
    nyx_vcpu_look_apic(cpu, sight);
    sight->interrupts = takes_interrupts(env);
    sight->pc = env->segs[R_CS].base + env->eip;
}
