/*
 * nyx-pc: report what went wrong, for the machine's policy to act upon
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_NYX_ERROR_POLICY_H
#define HW_NYX_ERROR_POLICY_H

#include "hw/core/qdev.h"
#include "qapi/qapi-types-nyx-errors.h"

/* Where, and how much is known of it.  Zero-initialised but for what is said. */
typedef struct NyxErrorReport {
    NyxErrorCause cause;
    DeviceState *device;        /* whose error it is; NULL: of no device */
    int vcpu;                   /* CPUState.cpu_index; -1: of no processor */
    const char *detail;         /* one clause, for people; NULL: none */
    /*
     * The thread of the processor does not answer, so that vCPUs cannot be
     * stopped any more: whoever tries waits for ever, with the main loop.
     * Nothing is then done that needs it.
     */
    bool thread_is_stuck;
} NyxErrorReport;

/*
 * The machine's policy for the cause is carried out in the main loop, a little
 * later, and told by NYX_ERROR_ACTION.  Reports of one cause and one place that
 * come until then are counted as one.  Without a policy for the cause, or on
 * another machine than nyx-pc, nothing happens.
 *
 * Any thread, with or without the BQL; not in a signal handler.  All that
 * @report points to is copied, or referenced as long as it is needed.  A vCPU
 * thread that reports an error of its own goes on: see cpu_stop_current().
 */
void nyx_error_report(const NyxErrorReport *report);

#endif
