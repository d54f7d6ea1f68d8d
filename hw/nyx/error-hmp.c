/*
 * nyx-pc: the error policy, for the human monitor
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "monitor/monitor.h"
#include "nyx/monitor/hmp-nyx.h"
#include "qapi/error.h"
#include "qapi/qapi-commands-nyx-errors.h"

static void print_last(Monitor *mon, const NyxErrorDecision *last)
{
    monitor_printf(mon, "  last:");
    if (last->device) {
        monitor_printf(mon, " device %s,", last->device);
    }
    if (last->has_vcpu) {
        monitor_printf(mon, " vCPU %" PRId64 ",", last->vcpu);
    }
    if (last->detail) {
        monitor_printf(mon, " %s,", last->detail);
    }
    monitor_printf(mon, " %s: %s\n", NyxErrorAction_str(last->action),
                   last->success ? "done" : last->error);
    if (last->dump) {
        monitor_printf(mon, "  dump: %s\n", last->dump);
    }
}

void hmp_info_nyx_errors(Monitor *mon, const QDict *qdict)
{
    g_autoptr(NyxErrorPolicyInfo) info =
        qmp_query_nyx_error_policy(&error_abort);

    monitor_printf(mon, "%-14s %-16s %s\n", "CAUSE", "ACTION", "REPORTS");
    for (NyxErrorCauseInfoList *item = info->causes; item; item = item->next) {
        NyxErrorCauseInfo *c = item->value;

        monitor_printf(mon, "%-14s %-16s %" PRIu64 "\n",
                       NyxErrorCause_str(c->cause),
                       NyxErrorAction_str(c->action), c->reports);
        if (c->last) {
            print_last(mon, c->last);
        }
    }
    monitor_printf(mon, "resets:   %" PRIu32 " of %" PRIu32 " an hour\n",
                   info->resets, info->max_resets);
    monitor_printf(mon, "restores: %" PRIu32 " of %" PRIu32 " an hour\n",
                   info->restores, info->max_restores);
    if (info->dump) {
        monitor_printf(mon, "dumps:    %" PRIu32 " of %" PRIu32 ", in %s\n",
                       info->dumps, info->max_dumps, info->dump);
    }
}
