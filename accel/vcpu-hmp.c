/*
 * vCPU health: "info nyx-vcpus" of the human monitor
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "monitor/monitor.h"
#include "nyx/monitor/hmp-nyx.h"
#include "qapi/error.h"
#include "qapi/qapi-commands-nyx-vcpus.h"

static const char *interrupts_text(const NyxVcpuInfo *info)
{
    if (!info->has_interrupts) {
        return "-";
    }
    return info->interrupts ? "on" : "off";
}

void hmp_info_nyx_vcpus(Monitor *mon, const QDict *qdict)
{
    g_autoptr(NyxVcpuInfoList) list = qmp_query_nyx_vcpus(&error_abort);

    if (!list) {
        monitor_printf(mon, "This machine does not watch its vCPUs\n");
        return;
    }
    monitor_printf(mon, "%4s %8s %-13s %-10s %-14s %10s %10s %10s\n", "VCPU",
                   "THREAD", "STATE", "INTERRUPTS", "STUCK", "SUSPECT/s",
                   "CPU/s", "HALTED/s");
    for (NyxVcpuInfoList *item = list; item; item = item->next) {
        const NyxVcpuInfo *info = item->value;

        monitor_printf(mon, "%4" PRId64 " %8" PRId64
                       " %-13s %-10s %-14s %10.1f %10.1f %10.1f\n", info->vcpu,
                       info->thread_id, NyxVcpuState_str(info->state),
                       interrupts_text(info),
                       info->has_stuck ? NyxVcpuStuckReason_str(info->stuck)
                                       : "no",
                       info->suspect_ns / 1e9, info->cpu_time_ns / 1e9,
                       info->halted_ns / 1e9);
    }
}
