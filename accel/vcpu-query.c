/*
 * vCPU health: query-nyx-vcpus
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "host-thread.h"
#include "qapi/error.h"
#include "qapi/qapi-commands-nyx-vcpus.h"
#include "qapi/qapi-commands-stats.h"
#include "system/cpus.h"
#include "system/kvm.h"
#include "vcpu-health.h"

static NyxVcpuState state_of(CPUState *cpu, const NyxVcpu *v)
{
    if (!cpu_can_run(cpu)) {
        return NYX_VCPU_STATE_STOPPED;
    }
    if (!v || !v->tracker.seen) {
        return NYX_VCPU_STATE_UNKNOWN;
    }
    if (v->tracker.sight.wait_for_sipi) {
        return NYX_VCPU_STATE_WAIT_FOR_SIPI;
    }
    return v->tracker.sight.halted ? NYX_VCPU_STATE_HALTED
                                   : NYX_VCPU_STATE_RUNNING;
}

static void describe(NyxVcpuInfo *info, const NyxVcpu *v)
{
    const NyxVcpuTracker *t = &v->tracker;

    info->has_interrupts = t->seen;
    info->interrupts = t->sight.interrupts;
    info->has_stuck = info->has_stuck_since_ns = t->is_stuck;
    info->stuck = t->reason;
    info->stuck_since_ns = v->stuck_ns;
    info->suspect_ns = nyx_vcpu_tracker_time(t);
    info->has_last_progress_ns = v->progress_ns >= 0;
    info->last_progress_ns = v->progress_ns;
    info->halted_ns = v->halted_ns;
    info->has_pc = t->seen && nyx_vcpu_runs_closed(&t->sight);
    info->pc = t->sight.pc;
}

/* KVM's own count of all vCPUs: read from the kernel, not from the threads. */
static StatsResultList *kvm_exits(void)
{
    strList name = { .value = (char *)"exits" };
    StatsRequest request = { STATS_PROVIDER_KVM, true, &name };
    StatsRequestList requests = { .value = &request };
    StatsFilter filter = {
        .target = STATS_TARGET_VCPU,
        .has_providers = true,
        .providers = &requests,
    };

    return kvm_enabled() ? qmp_query_stats(&filter, NULL) : NULL;
}

static void add_exits(NyxVcpuInfo *info, const StatsResultList *exits)
{
    for (; exits; exits = exits->next) {
        const StatsList *stats = exits->value->stats;

        if (g_strcmp0(exits->value->qom_path, info->qom_path) == 0 && stats) {
            info->has_exits = true;
            info->exits = stats->value->value->u.scalar;
        }
    }
}

NyxVcpuInfoList *qmp_query_nyx_vcpus(Error **errp)
{
    NyxVcpuHealth *h = nyx_vcpu_health_get();
    g_autoptr(StatsResultList) exits = h->started ? kvm_exits() : NULL;
    NyxVcpuInfoList *list = NULL, **tail = &list;
    CPUState *cpu;

    if (!h->started) {
        return NULL;
    }
    CPU_FOREACH(cpu) {
        NyxVcpuInfo *info = g_new0(NyxVcpuInfo, 1);
        NyxVcpu *v = nyx_vcpu_health_find(h, cpu);

        info->vcpu = cpu->cpu_index;
        info->qom_path = object_get_canonical_path(OBJECT(cpu));
        info->thread_id = cpu->thread_id;
        info->state = state_of(cpu, v);
        info->cpu_time_ns = cpu->created ? nyx_thread_cpu_ns(cpu->thread) : 0;
        if (v) {
            describe(info, v);
        }
        add_exits(info, exits);
        QAPI_LIST_APPEND(tail, info);
    }
    return list;
}
