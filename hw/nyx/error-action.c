/*
 * nyx-pc: what the policy names for an error, done
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * In the main loop, where nobody is at work with a device or the VM's state.
 */

#include "qemu/osdep.h"
#include "error-recovery.h"
#include "hw/core/cpu.h"
#include "hw/isa/isa.h"
#include "hw/pci/pci_device.h"
#include "migration/misc.h"
#include "nyx/include/hw/iommu-nyx/nyx-iommu.h"
#include "qapi/clone-visitor.h"
#include "qapi/error.h"
#include "qapi/qapi-events-nyx-errors.h"
#include "qapi/qapi-visit-nyx-errors.h"
#include "qemu/timer.h"
#include "system/cpus.h"
#include "system/runstate.h"
#include "system/runstate-action.h"
#include "target/i386/cpu.h"
#include "trace.h"

/* The device */

static DeviceState *find_device(const char *name)
{
    return name ? DEVICE(object_resolve_path_type(name, TYPE_DEVICE, NULL))
                : NULL;
}

/* What the IOMMU can act on: the PCI function that a disk is behind, or NULL */
static PCIDevice *pci_function_of(DeviceState *dev)
{
    while (dev && !object_dynamic_cast(OBJECT(dev), TYPE_PCI_DEVICE)) {
        /* The bridge to an ISA bus is not to blame for what is on it. */
        if (!dev->parent_bus ||
            object_dynamic_cast(OBJECT(dev->parent_bus), TYPE_ISA_BUS)) {
            return NULL;
        }
        dev = dev->parent_bus->parent;
    }
    return dev ? PCI_DEVICE(dev) : NULL;
}

/* For people and QMP: that of the PCI function where there is one */
static char *device_name(const char *reported)
{
    PCIDevice *pci = pci_function_of(find_device(reported));

    return pci ? nyx_iommu_device_name(pci) : g_strdup(reported);
}

static bool act_on_device(const NyxErrorReport *report, bool reset,
                          Error **errp)
{
    PCIDevice *pci = pci_function_of(find_device(report->device));
    const char *reason = report->detail ?: "device error";

    if (!pci) {
        error_setg(errp, "device '%s' is gone, or not behind a PCI device",
                   report->device);
        return false;
    }
    return reset ? nyx_iommu_reset_device(pci, reason, errp)
                 : nyx_iommu_isolate_device(pci, reason, errp);
}

/* What was cut off meanwhile fails with what it had begun. */
static bool is_cut_off(const NyxErrorReport *report)
{
    PCIDevice *pci = pci_function_of(find_device(report->device));

    return report->cause == NYX_ERROR_CAUSE_DEVICE_ERROR && pci &&
           nyx_iommu_device_state(pci) != NYX_DEVICE_STATE_OPERATIONAL;
}

/* Resets */

static int64_t host_now(void)
{
    return qemu_clock_get_ns(QEMU_CLOCK_REALTIME);
}

static bool spend_reset(Error **errp)
{
    NyxErrorPolicy *policy = &nyx_error_policy;

    if (!nyx_recovery_budget_left(&policy->resets, policy->max_resets,
                                  host_now())) {
        error_setg(errp, "errors have led to %" PRIu32 " resets within the "
                   "last hour; more are allowed by the machine option "
                   "max-resets",
                   nyx_recovery_budget_used(&policy->resets, host_now()));
        return false;
    }
    nyx_recovery_budget_spend(&policy->resets, host_now());
    return true;
}

static bool reset_vm(Error **errp)
{
    if (reboot_action == REBOOT_ACTION_SHUTDOWN) {
        error_setg(errp, "the VM is not to be reset (-action reboot=shutdown)");
        return false;
    }
    if (!cpus_are_resettable()) {
        error_setg(errp, "the state of a confidential VM cannot be reset");
        return false;
    }
    if (!spend_reset(errp)) {
        return false;
    }
    qemu_system_reset(SHUTDOWN_CAUSE_HOST_ERROR);
    return true;
}

static bool reset_vcpu(int index, Error **errp)
{
    CPUState *cs = qemu_get_cpu(index);

    if (!cs) {
        error_setg(errp, "vCPU %d has been unplugged", index);
        return false;
    }
    if (cpu_is_bsp(X86_CPU(cs))) {
        error_setg(errp, "vCPU %d boots the VM, and cannot be reset without "
                   "it; use reset-vm", index);
        return false;
    }
    if (!spend_reset(errp)) {
        return false;
    }
    cpu_interrupt(cs, CPU_INTERRUPT_INIT);
    return true;
}

/* The VM */

static bool is_migrating(void)
{
    return runstate_check(RUN_STATE_FINISH_MIGRATE) ||
           runstate_check(RUN_STATE_POSTMIGRATE) ||
           runstate_check(RUN_STATE_COLO);
}

/* The VM stands still because of this error, and nothing else. */
static bool stopped_by(NyxErrorCause cause)
{
    switch (cause) {
    case NYX_ERROR_CAUSE_GUEST_PANIC:
        return runstate_check(RUN_STATE_GUEST_PANICKED);
    case NYX_ERROR_CAUSE_WATCHDOG:
        return runstate_check(RUN_STATE_WATCHDOG);
    case NYX_ERROR_CAUSE_TRIPLE_FAULT:
    case NYX_ERROR_CAUSE_MACHINE_CHECK:
        return runstate_check(RUN_STATE_INTERNAL_ERROR);
    default:
        return false;
    }
}

/* A processor that could not go on can do so now. */
static void go_on(void)
{
    if (runstate_check(RUN_STATE_INTERNAL_ERROR)) {
        runstate_set(RUN_STATE_PAUSED);
    }
    if (!runstate_is_running()) {
        vm_start();
    } else {
        /* Whoever reported may have stopped itself alone. */
        resume_all_vcpus();
    }
}

/* The VM cannot be stopped any more: what does not need that? */
static bool works_unstopped(NyxErrorAction action)
{
    return action == NYX_ERROR_ACTION_IGNORE ||
           action == NYX_ERROR_ACTION_RESET_DEVICE ||
           action == NYX_ERROR_ACTION_ISOLATE_DEVICE;
}

static bool perform(NyxErrorAction action, const NyxErrorReport *report,
                    Error **errp)
{
    switch (action) {
    case NYX_ERROR_ACTION_RESET_DEVICE:
        return act_on_device(report, true, errp);
    case NYX_ERROR_ACTION_ISOLATE_DEVICE:
        return act_on_device(report, false, errp);
    case NYX_ERROR_ACTION_RESET_VCPU:
        return reset_vcpu(report->vcpu, errp);
    case NYX_ERROR_ACTION_RESET_VM:
        return reset_vm(errp);
    case NYX_ERROR_ACTION_RESTORE_SNAPSHOT:
        return nyx_iommu_restore_snapshot(nyx_iommu_get(), errp);
    case NYX_ERROR_ACTION_SHUTDOWN:
        qemu_system_shutdown_request(SHUTDOWN_CAUSE_HOST_ERROR);
        return true;
    default:
        return true;
    }
}

/* Does the VM run afterwards, if it ran before? */
static bool leaves_running(NyxErrorAction action, bool success)
{
    if (action == NYX_ERROR_ACTION_PAUSE_VM ||
        action == NYX_ERROR_ACTION_SHUTDOWN) {
        return false;
    }
    return success || works_unstopped(action);
}

static void carry_out(NyxErrorAction action, const NyxErrorReport *report,
                      NyxErrorDecision *decision, Error **errp)
{
    RunState requested;
    bool ran;

    /* A vCPU has asked for it, and it says how the VM may go on. */
    if (qemu_vmstop_requested(&requested)) {
        vm_stop(requested);
    }
    ran = runstate_is_running() || stopped_by(report->cause);
    if (nyx_error_policy_stops(report->cause) && runstate_is_running()) {
        vm_stop(RUN_STATE_PAUSED);
    }
    if (nyx_error_policy.dump && !report->thread_is_stuck) {
        nyx_diagnostic_dump(&nyx_error_policy, decision);
    }
    decision->success = perform(action, report, errp);
    if (ran && leaves_running(action, decision->success)) {
        go_on();
    }
}

/* Why nothing can be done, if so */
static bool may_act(NyxErrorAction action, const NyxErrorReport *report,
                    Error **errp)
{
    if (is_migrating()) {
        error_setg(errp, "the VM is being migrated");
        return false;
    }
    if (report->vm_stops && action != NYX_ERROR_ACTION_IGNORE &&
        action != NYX_ERROR_ACTION_PAUSE_VM) {
        error_setg(errp, "the device stops the VM by itself on this error "
                   "(werror, rerror), to go on once it is mended");
        return false;
    }
    if (report->thread_is_stuck && !works_unstopped(action)) {
        error_setg(errp, "the thread of vCPU %d does not answer, so the VM "
                   "cannot be stopped; end the process of QEMU",
                   report->vcpu);
        return false;
    }
    return true;
}

static void publish(NyxErrorDecision *decision, Error *err)
{
    NyxErrorDecision **last = &nyx_error_policy.last[decision->cause];

    decision->error = err ? g_strdup(error_get_pretty(err)) : NULL;
    trace_nyx_error_action(NyxErrorCause_str(decision->cause),
                           NyxErrorAction_str(decision->action),
                           decision->device ?: "", decision->vcpu,
                           decision->error ?: "done");
    qapi_event_send_nyx_error_action(decision);
    qapi_free_NyxErrorDecision(*last);
    *last = decision;
}

bool nyx_error_act(const NyxErrorItem *item)
{
    const NyxErrorReport *report = &item->report;
    NyxErrorAction action = nyx_error_policy_action(report->cause);
    NyxErrorDecision *decision;
    Error *err = NULL;
    bool is_another;

    if (action == NYX_ERROR_ACTION_DEFAULT || is_cut_off(report)) {
        return false;
    }
    decision = g_new0(NyxErrorDecision, 1);
    decision->cause = report->cause;
    decision->action = action;
    decision->count = item->count;
    decision->device = device_name(report->device);
    decision->has_vcpu = report->vcpu >= 0;
    decision->vcpu = report->vcpu;
    decision->detail = g_strdup(report->detail);
    if (may_act(action, report, &err)) {
        carry_out(action, report, decision, &err);
    }
    is_another = decision->success &&
                 (action == NYX_ERROR_ACTION_RESET_VM ||
                  action == NYX_ERROR_ACTION_RESTORE_SNAPSHOT);
    publish(decision, err);
    error_free(err);
    return is_another;
}
