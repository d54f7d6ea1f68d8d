/*
 * nyx-pc: processors that shut down, or get a machine check
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "error-recovery.h"
#include "hw/core/cpu.h"
#include "system/cpus.h"
#include "system/runstate.h"
#include "target/i386/cpu.h"

/*
 * It cannot go on as it is: the VM stops, and cannot be continued without a
 * reset unless that of the processor comes first.
 */
static void shut_down(CPUState *cs, NyxErrorCause cause, const char *detail)
{
    if (nyx_error_policy_action(cause) == NYX_ERROR_ACTION_DEFAULT) {
        qemu_system_reset_request(SHUTDOWN_CAUSE_GUEST_RESET);
        return;
    }
    vm_stop(RUN_STATE_INTERNAL_ERROR);
    nyx_error_report(&(NyxErrorReport) {
        .cause = cause,
        .vcpu = cs->cpu_index,
        .detail = detail,
    });
}

void nyx_triple_fault(CPUState *cs)
{
    shut_down(cs, NYX_ERROR_CAUSE_TRIPLE_FAULT, NULL);
}

/* A processor that cannot take it shuts down. */
static void undeliverable(CPUState *cs, const char *detail)
{
    g_autofree char *more =
        g_strdup_printf("machine check that the guest cannot take: %s", detail);
    NyxErrorAction action =
        nyx_error_policy_action(NYX_ERROR_CAUSE_MACHINE_CHECK);

    shut_down(cs, action == NYX_ERROR_ACTION_IGNORE
                  ? NYX_ERROR_CAUSE_TRIPLE_FAULT
                  : NYX_ERROR_CAUSE_MACHINE_CHECK, more);
}

void nyx_machine_check(CPUState *cs, int bank, uint64_t status,
                       uint64_t address, bool deliverable)
{
    g_autoptr(GString) detail = g_string_new(NULL);

    g_string_printf(detail, "bank %d, status 0x%016" PRIx64, bank, status);
    if (status & MCI_STATUS_ADDRV) {
        g_string_append_printf(detail, ", address 0x%" PRIx64, address);
    }
    if (!deliverable) {
        undeliverable(cs, detail->str);
        return;
    }
    if (nyx_error_policy_stops(NYX_ERROR_CAUSE_MACHINE_CHECK)) {
        cpu_stop_current();
    }
    nyx_error_report(&(NyxErrorReport) {
        .cause = NYX_ERROR_CAUSE_MACHINE_CHECK,
        .vcpu = cs->cpu_index,
        .detail = detail->str,
    });
}
