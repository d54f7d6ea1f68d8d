/*
 * nyx-pc: errors in a QEMU whose target has no such machine
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "nyx/include/hw/nyx/error-policy.h"
#include "nyx/monitor/hmp-nyx.h"
#include "qapi/error.h"
#include "qapi/qapi-commands-nyx-errors.h"
#include "system/runstate.h"

void nyx_error_report(const NyxErrorReport *report)
{
}

void nyx_triple_fault(CPUState *cs)
{
    qemu_system_reset_request(SHUTDOWN_CAUSE_GUEST_RESET);
}

void nyx_machine_check(CPUState *cs, int bank, uint64_t status,
                       uint64_t address, bool deliverable)
{
    if (!deliverable) {
        qemu_system_reset_request(SHUTDOWN_CAUSE_GUEST_RESET);
    }
}

NyxErrorPolicyInfo *qmp_query_nyx_error_policy(Error **errp)
{
    NyxErrorPolicyInfo *info = g_new0(NyxErrorPolicyInfo, 1);
    NyxErrorCauseInfoList **tail = &info->causes;

    for (int i = 0; i < NYX_ERROR_CAUSE__MAX; i++) {
        NyxErrorCauseInfo *cause = g_new0(NyxErrorCauseInfo, 1);

        cause->cause = i;
        QAPI_LIST_APPEND(tail, cause);
    }
    return info;
}

void hmp_info_nyx_errors(Monitor *mon, const QDict *qdict)
{
    monitor_printf(mon, "This target has no nyx-pc\n");
}
