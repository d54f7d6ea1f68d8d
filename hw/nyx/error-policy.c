/*
 * nyx-pc: the error policy, as options of the machine
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "error-recovery.h"
#include "hw/core/boards.h"
#include "nyx/include/hw/iommu-nyx/nyx-iommu.h"
#include "qapi/error.h"
#include "qapi/qapi-commands-nyx-errors.h"
#include "qapi/qapi-visit-nyx-errors.h"
#include "qapi/clone-visitor.h"
#include "qapi/visitor.h"
#include "qemu/bitops.h"
#include "qemu/error-report.h"
#include "qemu/timer.h"
#include "system/runstate-action.h"
#include "system/system.h"

#define MAX_RESETS_DEFAULT  3
#define MAX_DUMPS_DEFAULT   5

#define ON_VM \
    (BIT(NYX_ERROR_ACTION_DEFAULT) | BIT(NYX_ERROR_ACTION_RESET_VM) | \
     BIT(NYX_ERROR_ACTION_PAUSE_VM) | \
     BIT(NYX_ERROR_ACTION_RESTORE_SNAPSHOT) | BIT(NYX_ERROR_ACTION_SHUTDOWN))
#define ON_DEVICE \
    (BIT(NYX_ERROR_ACTION_RESET_DEVICE) | BIT(NYX_ERROR_ACTION_ISOLATE_DEVICE))

typedef struct CauseInfo {
    const char *option;
    const char *help;
    uint32_t actions;           /* bit n: action n makes sense */
} CauseInfo;

static const CauseInfo causes[NYX_ERROR_CAUSE__MAX] = {
    [NYX_ERROR_CAUSE_GUEST_PANIC] = {
        .option = "on-guest-panic",
        .help = "What happens when the guest's kernel panics",
        .actions = ON_VM | BIT(NYX_ERROR_ACTION_IGNORE),
    },
    [NYX_ERROR_CAUSE_TRIPLE_FAULT] = {
        .option = "on-triple-fault",
        .help = "What happens when a processor shuts down",
        .actions = ON_VM | BIT(NYX_ERROR_ACTION_RESET_VCPU),
    },
    [NYX_ERROR_CAUSE_MACHINE_CHECK] = {
        .option = "on-machine-check",
        .help = "What happens when a processor gets a machine check",
        .actions = ON_VM | BIT(NYX_ERROR_ACTION_IGNORE) |
                   BIT(NYX_ERROR_ACTION_RESET_VCPU),
    },
    [NYX_ERROR_CAUSE_VCPU_STUCK] = {
        .option = "on-vcpu-stuck",
        .help = "What happens when a processor makes no progress",
        .actions = ON_VM | BIT(NYX_ERROR_ACTION_IGNORE) |
                   BIT(NYX_ERROR_ACTION_RESET_VCPU),
    },
    [NYX_ERROR_CAUSE_DEVICE_ERROR] = {
        .option = "on-device-error",
        .help = "What happens when the storage of a device fails",
        .actions = ON_VM | BIT(NYX_ERROR_ACTION_IGNORE) | ON_DEVICE,
    },
    [NYX_ERROR_CAUSE_WATCHDOG] = {
        .option = "on-watchdog",
        .help = "What happens when a watchdog of the guest expires",
        .actions = ON_VM | BIT(NYX_ERROR_ACTION_IGNORE),
    },
};

NyxErrorPolicy nyx_error_policy = {
    .max_resets = MAX_RESETS_DEFAULT,
    .max_dumps = MAX_DUMPS_DEFAULT,
};

static bool has_run_state(NyxErrorCause cause)
{
    return cause == NYX_ERROR_CAUSE_GUEST_PANIC ||
           cause == NYX_ERROR_CAUSE_WATCHDOG;
}

NyxErrorAction nyx_error_policy_action(NyxErrorCause cause)
{
    if (!qatomic_load_acquire(&nyx_error_policy.started) ||
        (has_run_state(cause) && !nyx_error_run_state_is_ours(cause))) {
        return NYX_ERROR_ACTION_DEFAULT;
    }
    return qatomic_read(&nyx_error_policy.action[cause]);
}

bool nyx_error_policy_stops(NyxErrorCause cause)
{
    switch (nyx_error_policy_action(cause)) {
    case NYX_ERROR_ACTION_DEFAULT:
        return false;
    case NYX_ERROR_ACTION_IGNORE:
    case NYX_ERROR_ACTION_RESET_DEVICE:
    case NYX_ERROR_ACTION_ISOLATE_DEVICE:
        return nyx_error_policy.dump;
    default:
        return true;
    }
}

/* What is refused */

/* Those that make sense, for people */
static char *list_actions(uint32_t actions)
{
    GString *list = g_string_new(NULL);
    uint32_t left = actions & ~BIT(NYX_ERROR_ACTION_DEFAULT);

    for (int i = 0; i < NYX_ERROR_ACTION__MAX; i++) {
        if (left & BIT(i)) {
            left &= ~BIT(i);
            g_string_append_printf(list, "%s%s",
                                   !list->len ? "" : left ? ", " : " or ",
                                   NyxErrorAction_str(i));
        }
    }
    return g_string_free(list, false);
}

static bool makes_sense(NyxErrorCause cause, NyxErrorAction action,
                        Error **errp)
{
    const CauseInfo *info = &causes[cause];
    const char *name = NyxErrorAction_str(action);
    g_autofree char *others = list_actions(info->actions);

    if (info->actions & BIT(action)) {
        return true;
    }
    if (BIT(action) & ON_DEVICE) {
        error_setg(errp, "%s=%s has no device to act on; use %s", info->option,
                   name, others);
    } else if (action == NYX_ERROR_ACTION_RESET_VCPU) {
        error_setg(errp, "%s=reset-vcpu has no processor to act on; use %s",
                   info->option, others);
    } else {
        error_setg(errp, "%s=%s cannot be, as the processor does not go on by "
                   "itself; use %s", info->option, name, others);
    }
    return false;
}

static Object *the_iommu(void)
{
    return OBJECT(nyx_iommu_get());
}

static bool can_restore(const CauseInfo *info, Error **errp)
{
    g_autofree char *name =
        object_property_get_str(the_iommu(), "recovery-snapshot", NULL);

    if (!name || !*name) {
        error_setg(errp, "%s=restore-snapshot has no snapshot to go back to; "
                   "name it with the machine option recovery-snapshot",
                   info->option);
        return false;
    }
    if (!object_property_get_uint(the_iommu(), "max-restores", &error_abort)) {
        error_setg(errp, "%s=restore-snapshot is never allowed with "
                   "max-restores=0", info->option);
        return false;
    }
    return true;
}

static bool can_reset(const CauseInfo *info, Error **errp)
{
    if (reboot_action == REBOOT_ACTION_SHUTDOWN) {
        error_setg(errp, "%s=reset-vm does not go with -no-reboot (-action "
                   "reboot=shutdown); use shutdown", info->option);
        return false;
    }
    if (!nyx_error_policy.max_resets) {
        error_setg(errp, "%s=reset-vm is never allowed with max-resets=0",
                   info->option);
        return false;
    }
    return true;
}

static bool can_reset_vcpu(const CauseInfo *info, Error **errp)
{
    if (current_machine->smp.max_cpus < 2) {
        error_setg(errp, "%s=reset-vcpu cannot reset the processor that boots "
                   "the VM, which is the only one; use reset-vm",
                   info->option);
        return false;
    }
    if (!nyx_error_policy.max_resets) {
        error_setg(errp, "%s=reset-vcpu is never allowed with max-resets=0",
                   info->option);
        return false;
    }
    return true;
}

bool nyx_error_policy_check(NyxErrorCause cause, NyxErrorAction action,
                            Error **errp)
{
    const CauseInfo *info = &causes[cause];

    if (!makes_sense(cause, action, errp)) {
        return false;
    }
    if (action == NYX_ERROR_ACTION_DEFAULT) {
        return true;
    }
    if (has_run_state(cause) && !nyx_error_run_state_can_take(cause, errp)) {
        return false;
    }
    if (cause == NYX_ERROR_CAUSE_DEVICE_ERROR &&
        action != NYX_ERROR_ACTION_IGNORE &&
        action != NYX_ERROR_ACTION_PAUSE_VM &&
        !nyx_error_storage_is_ours(errp)) {
        return false;
    }
    switch (action) {
    case NYX_ERROR_ACTION_RESTORE_SNAPSHOT:
        return can_restore(info, errp);
    case NYX_ERROR_ACTION_RESET_VM:
        return can_reset(info, errp);
    case NYX_ERROR_ACTION_RESET_VCPU:
        return can_reset_vcpu(info, errp);
    default:
        return true;
    }
}

static bool check_dump(const char *folder, bool memory, Error **errp)
{
    if (!folder) {
        if (memory) {
            error_setg(errp, "dump-memory=on has no folder to write to; name "
                       "it with dump");
            return false;
        }
        return true;
    }
    if (!g_file_test(folder, G_FILE_TEST_IS_DIR)) {
        error_setg(errp, "dump: '%s' is no folder; create it first", folder);
        return false;
    }
    if (access(folder, W_OK | X_OK)) {
        error_setg(errp, "dump: nothing can be written to folder '%s': %s",
                   folder, strerror(errno));
        return false;
    }
    return true;
}

/* Options */

static void get_action(Object *obj, Visitor *v, const char *name, void *opaque,
                       Error **errp)
{
    NyxErrorAction action =
        nyx_error_policy.action[GPOINTER_TO_UINT(opaque)];

    visit_type_NyxErrorAction(v, name, &action, errp);
}

/* Also while the VM runs */
static void set_action(Object *obj, Visitor *v, const char *name, void *opaque,
                       Error **errp)
{
    NyxErrorCause cause = GPOINTER_TO_UINT(opaque);
    NyxErrorPolicy *policy = &nyx_error_policy;
    NyxErrorAction action;

    if (!visit_type_NyxErrorAction(v, name, &action, errp)) {
        return;
    }
    /* What depends on other options is asked once they are all there. */
    if (!(policy->started ? nyx_error_policy_check : makes_sense)(cause, action,
                                                                  errp)) {
        return;
    }
    qatomic_set(&policy->action[cause], action);
    if (policy->started && has_run_state(cause)) {
        nyx_error_run_state_take(cause, action != NYX_ERROR_ACTION_DEFAULT);
    }
}

static void get_number(Object *obj, Visitor *v, const char *name, void *opaque,
                       Error **errp)
{
    visit_type_uint32(v, name, opaque, errp);
}

static void set_number(Object *obj, Visitor *v, const char *name, void *opaque,
                       Error **errp)
{
    uint32_t value;

    if (!visit_type_uint32(v, name, &value, errp)) {
        return;
    }
    if (value > NYX_MAX_RESETS_LIMIT) {
        error_setg(errp, "%s must be at most %d", name, NYX_MAX_RESETS_LIMIT);
        return;
    }
    *(uint32_t *)opaque = value;
}

static char *get_dump(Object *obj, Error **errp)
{
    return g_strdup(nyx_error_policy.dump ?: "");
}

static void set_dump(Object *obj, const char *value, Error **errp)
{
    NyxErrorPolicy *policy = &nyx_error_policy;
    const char *folder = *value ? value : NULL;

    if (!policy->started || check_dump(folder, policy->dump_memory, errp)) {
        g_free(policy->dump);
        policy->dump = g_strdup(folder);
    }
}

static bool get_dump_memory(Object *obj, Error **errp)
{
    return nyx_error_policy.dump_memory;
}

static void set_dump_memory(Object *obj, bool value, Error **errp)
{
    NyxErrorPolicy *policy = &nyx_error_policy;

    if (!policy->started || check_dump(policy->dump, value, errp)) {
        policy->dump_memory = value;
    }
}

static void add_number(ObjectClass *oc, const char *name, uint32_t *value,
                       const char *help)
{
    object_class_property_add(oc, name, "uint32", get_number, set_number, NULL,
                              value);
    object_class_property_set_description(oc, name, help);
}

void nyx_error_policy_add_options(ObjectClass *oc)
{
    for (int i = 0; i < NYX_ERROR_CAUSE__MAX; i++) {
        g_autofree char *actions = list_actions(causes[i].actions);
        g_autofree char *help =
            g_strdup_printf("%s (default: what QEMU does; %s)", causes[i].help,
                            actions);

        object_class_property_add(oc, causes[i].option, "NyxErrorAction",
                                  get_action, set_action, NULL,
                                  GUINT_TO_POINTER(i));
        object_class_property_set_description(oc, causes[i].option, help);
    }
    add_number(oc, "max-resets", &nyx_error_policy.max_resets,
               "Times within an hour that errors may reset the VM or a "
               "processor (default: 3)");
    object_class_property_add_str(oc, "dump", get_dump, set_dump);
    object_class_property_set_description(oc, "dump",
        "Folder for a diagnostic dump before anything is done on an error");
    object_class_property_add_bool(oc, "dump-memory", get_dump_memory,
                                   set_dump_memory);
    object_class_property_set_description(oc, "dump-memory",
        "Write the guest's memory there, too (default: off)");
    add_number(oc, "max-dumps", &nyx_error_policy.max_dumps,
               "Diagnostic dumps that are written at most (default: 5)");
}

/* Start */

static void check_all(Notifier *notifier, void *data)
{
    NyxErrorPolicy *policy = &nyx_error_policy;
    Error *err = NULL;

    check_dump(policy->dump, policy->dump_memory, &err);
    for (int i = 0; i < NYX_ERROR_CAUSE__MAX && !err; i++) {
        nyx_error_policy_check(i, policy->action[i], &err);
    }
    if (err) {
        error_report_err(err);
        exit(EXIT_FAILURE);
    }
    for (int i = 0; i < NYX_ERROR_CAUSE__MAX; i++) {
        if (has_run_state(i) && policy->action[i]) {
            nyx_error_run_state_take(i, true);
        }
    }
    qatomic_store_release(&policy->started, true);
}

void nyx_error_policy_start(void)
{
    static Notifier all_there = { .notify = check_all };

    nyx_recovery_budget_init(&nyx_error_policy.resets);
    nyx_error_report_start();
    nyx_error_run_state_start();
    qemu_add_machine_init_done_notifier(&all_there);
}

/* Query */

static NyxErrorCauseInfo *query_cause(NyxErrorCause cause)
{
    NyxErrorCauseInfo *info = g_new0(NyxErrorCauseInfo, 1);
    const NyxErrorDecision *last = nyx_error_policy.last[cause];

    info->cause = cause;
    info->action = nyx_error_policy_action(cause);
    info->reports = nyx_error_policy.reports[cause];
    info->last = last ? QAPI_CLONE(NyxErrorDecision, last) : NULL;
    return info;
}

NyxErrorPolicyInfo *qmp_query_nyx_error_policy(Error **errp)
{
    const NyxErrorPolicy *policy = &nyx_error_policy;
    NyxErrorPolicyInfo *info = g_new0(NyxErrorPolicyInfo, 1);
    NyxErrorCauseInfoList **tail = &info->causes;
    g_autofree char *snapshot = NULL;

    for (int i = 0; i < NYX_ERROR_CAUSE__MAX; i++) {
        QAPI_LIST_APPEND(tail, query_cause(i));
    }
    info->max_resets = policy->max_resets;
    info->dump = g_strdup(policy->dump);
    info->dump_memory = policy->dump_memory;
    info->dumps = policy->dumps;
    info->max_dumps = policy->max_dumps;
    if (!policy->started) {
        return info;
    }
    info->resets = nyx_recovery_budget_used(
        &policy->resets, qemu_clock_get_ns(QEMU_CLOCK_REALTIME));
    info->restores = nyx_iommu_restores(nyx_iommu_get());
    info->max_restores = object_property_get_uint(the_iommu(), "max-restores",
                                                  &error_abort);
    snapshot = object_property_get_str(the_iommu(), "recovery-snapshot", NULL);
    if (snapshot && *snapshot) {
        info->recovery_snapshot = g_steal_pointer(&snapshot);
    }
    return info;
}
