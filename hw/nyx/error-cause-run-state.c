/*
 * nyx-pc: panics and watchdogs, for which QEMU stops the VM
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * QEMU knows actions for both.  We have it take that which stops the VM, see it
 * stop, and go on from there.
 */

#include "qemu/osdep.h"
#include "error-recovery.h"
#include "hw/acpi/ich9_tco.h"
#include "hw/core/cpu.h"
#include "hw/core/qdev.h"
#include "hw/misc/pvpanic.h"
#include "hw/southbridge/ich9.h"
#include "qapi/error.h"
#include "qapi/qapi-commands-run-state.h"
#include "qemu/bitops.h"
#include "system/runstate.h"
#include "system/runstate-action.h"
#include "system/watchdog.h"

/* Does the policy have an action, for which QEMU's was changed? */
static bool taken[NYX_ERROR_CAUSE__MAX];

static bool is_stopping(NyxErrorCause cause)
{
    return cause == NYX_ERROR_CAUSE_GUEST_PANIC
        ? panic_action == PANIC_ACTION_PAUSE
        : get_watchdog_action() == WATCHDOG_ACTION_PAUSE;
}

static bool is_qemus_default(NyxErrorCause cause)
{
    return cause == NYX_ERROR_CAUSE_GUEST_PANIC
        ? panic_action == PANIC_ACTION_SHUTDOWN
        : get_watchdog_action() == WATCHDOG_ACTION_RESET;
}

bool nyx_error_run_state_is_ours(NyxErrorCause cause)
{
    return taken[cause] && is_stopping(cause);
}

static int is_panic_device(Object *obj, void *opaque)
{
    return object_dynamic_cast(obj, TYPE_PVPANIC_ISA_DEVICE) ||
           object_dynamic_cast(obj, TYPE_PVPANIC_PCI_DEVICE);
}

/* The guest may have Hyper-V's way to say so, with KVM. */
static bool has_hyperv_crash(void)
{
    return object_property_find(OBJECT(first_cpu), "hv-crash") &&
           object_property_get_bool(OBJECT(first_cpu), "hv-crash", NULL);
}

bool nyx_error_run_state_can_take(NyxErrorCause cause, Error **errp)
{
    bool is_panic = cause == NYX_ERROR_CAUSE_GUEST_PANIC;

    if (!nyx_error_run_state_is_ours(cause) && !is_qemus_default(cause)) {
        error_setg(errp, "%s does not go with an -action %s of QEMU's own; "
                   "leave out one of them",
                   is_panic ? "on-guest-panic" : "on-watchdog",
                   is_panic ? "panic" : "watchdog");
        return false;
    }
    if (is_panic && !has_hyperv_crash() &&
        !object_child_foreach_recursive(object_get_root(), is_panic_device,
                                        NULL)) {
        error_setg(errp, "on-guest-panic never happens, as the guest has no "
                   "way to tell of a panic; add -device pvpanic-pci");
        return false;
    }
    return true;
}

void nyx_error_run_state_take(NyxErrorCause cause, bool take)
{
    /* Whoever has used set-action meanwhile keeps what was set. */
    if (!take && !nyx_error_run_state_is_ours(cause)) {
        taken[cause] = false;
        return;
    }
    if (cause == NYX_ERROR_CAUSE_GUEST_PANIC) {
        panic_action = take ? PANIC_ACTION_PAUSE : PANIC_ACTION_SHUTDOWN;
    } else {
        qmp_watchdog_set_action(take ? WATCHDOG_ACTION_PAUSE
                                     : WATCHDOG_ACTION_RESET, &error_abort);
    }
    taken[cause] = take;
}

/* The processor that told of the panic; -1: several have */
static int panicked_vcpu(void)
{
    int index = -1;
    CPUState *cs;

    CPU_FOREACH(cs) {
        if (cs->crash_occurred) {
            if (index >= 0) {
                return -1;
            }
            index = cs->cpu_index;
        }
    }
    return index;
}

static int find_watchdog(Object *obj, void *opaque)
{
    DeviceState **found = opaque;
    DeviceClass *dc = (DeviceClass *)
        object_class_dynamic_cast(object_get_class(obj), TYPE_DEVICE);

    if (dc && test_bit(DEVICE_CATEGORY_WATCHDOG, dc->categories)) {
        *found = DEVICE(obj);
    }
    return *found != NULL;
}

/* That of the chipset has expired since the VM was reset. */
static bool tco_has_expired(void)
{
    Object *lpc = object_resolve_path_type("", TYPE_ICH9_LPC_DEVICE, NULL);

    return lpc && (ICH9_LPC_DEVICE(lpc)->pm.tco_regs.tco.sts2 &
                   TCO_SECOND_TO_STS);
}

/* QEMU does not say which it was, and where both may be it is left open. */
static void report_watchdog(void)
{
    NyxErrorReport report = { .cause = NYX_ERROR_CAUSE_WATCHDOG, .vcpu = -1 };
    g_autofree char *path = NULL;
    DeviceState *plugged = NULL;

    object_child_foreach_recursive(object_get_root(), find_watchdog, &plugged);
    if (!plugged) {
        report.detail = "watchdog of the chipset (iTCO)";
    } else if (!tco_has_expired()) {
        path = object_get_canonical_path(OBJECT(plugged));
        report.device = path;
    }
    nyx_error_report(&report);
}

static void vm_state_changed(void *opaque, bool running, RunState state)
{
    if (state == RUN_STATE_GUEST_PANICKED) {
        nyx_error_report(&(NyxErrorReport) {
            .cause = NYX_ERROR_CAUSE_GUEST_PANIC,
            .vcpu = panicked_vcpu(),
        });
    } else if (state == RUN_STATE_WATCHDOG) {
        report_watchdog();
    }
}

void nyx_error_run_state_start(void)
{
    qemu_add_vm_change_state_handler(vm_state_changed, NULL);
}
