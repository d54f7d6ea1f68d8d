/*
 * nyx-pc: what happens when the guest, a processor or a device fails
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * A cause (error-cause-*.c, accel/) is reported (error-report.c); the policy
 * (error-policy.c) names an action for it, which is carried out in the main
 * loop (error-action.c) after a dump (diagnostic-dump.c).
 *
 * There is one VM in a process, and so one policy.  It is of the command line,
 * and does not travel.
 *
 * Locking: BQL, but for nyx_error_policy_action().
 */

#ifndef HW_NYX_ERROR_RECOVERY_H
#define HW_NYX_ERROR_RECOVERY_H

#include "nyx/hw/iommu-nyx/device-state.h"
#include "nyx/include/hw/nyx/error-policy.h"
#include "qom/object.h"

#define NYX_MAX_RESETS_LIMIT    NYX_MAX_RECOVERIES_LIMIT

typedef struct NyxErrorPolicy {
    NyxErrorAction action[NYX_ERROR_CAUSE__MAX];    /* atomic access */
    /* Resets of the VM or of processors, within an hour of the host's clock */
    uint32_t max_resets;
    NyxRecoveryBudget resets;
    char *dump;                 /* a folder; NULL: no dumps */
    bool dump_memory;
    uint32_t max_dumps;         /* in the life of the process */
    uint32_t dumps;
    bool started;
    uint64_t reports[NYX_ERROR_CAUSE__MAX];
    NyxErrorDecision *last[NYX_ERROR_CAUSE__MAX];   /* NULL: none */
} NyxErrorPolicy;

extern NyxErrorPolicy nyx_error_policy;

/* Options of the machine */
void nyx_error_policy_add_options(ObjectClass *oc);

/*
 * The machine's devices are going to be created.  Once they all are, what
 * cannot work is refused: that ends the process.
 */
void nyx_error_policy_start(void);

/* What is done on @cause now.  Any thread. */
NyxErrorAction nyx_error_policy_action(NyxErrorCause cause);

/* Is the VM, or the processor that reports, to stop until it has been done? */
bool nyx_error_policy_stops(NyxErrorCause cause);

/* May @action be done on @cause?  Why not, and what to do, in one sentence. */
bool nyx_error_policy_check(NyxErrorCause cause, NyxErrorAction action,
                            Error **errp);

/* Before any error can be reported */
void nyx_error_report_start(void);

/* Errors of one place, in the main loop */
typedef struct NyxErrorItem {
    NyxErrorReport report;      /* of the latest */
    uint64_t count;
} NyxErrorItem;

/* True: the guest is another one now, and older reports are void. */
bool nyx_error_act(const NyxErrorItem *item);

/* Panics and watchdogs: from now on they are reported. */
void nyx_error_run_state_start(void);

/*
 * QEMU has an action of its own for guest-panic and watchdog, and stops the VM
 * for us where we @take that over.  Fails, with the remedy, if somebody else
 * has set it (-action), or if nothing would ever report the cause.
 */
bool nyx_error_run_state_can_take(NyxErrorCause cause, Error **errp);
void nyx_error_run_state_take(NyxErrorCause cause, bool take);

/* Is it still ours?  Any thread. */
bool nyx_error_run_state_is_ours(NyxErrorCause cause);

/* False if the VM is stopped by a device itself when its storage fails. */
bool nyx_error_storage_is_ours(Error **errp);

/*
 * Write what is known of the VM, which stands still, to a new file in the
 * policy's folder, and the guest's memory to another one if the policy says so.
 * Names go to @decision, and why one is missing.
 */
void nyx_diagnostic_dump(NyxErrorPolicy *policy, NyxErrorDecision *decision);

#endif
