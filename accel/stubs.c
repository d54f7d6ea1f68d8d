/*
 * vCPU health: commands in a QEMU whose target has no nyx-pc
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "nyx/monitor/hmp-nyx.h"
#include "qapi/qapi-commands-nyx-vcpus.h"

NyxVcpuInfoList *qmp_query_nyx_vcpus(Error **errp)
{
    return NULL;
}

void hmp_info_nyx_vcpus(Monitor *mon, const QDict *qdict)
{
    monitor_printf(mon, "This target does not watch its vCPUs\n");
}
