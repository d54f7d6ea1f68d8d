/*
 * nyx-pc: report what went wrong, for the machine's policy to act upon
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_NYX_ERROR_POLICY_H
#define HW_NYX_ERROR_POLICY_H

#include "qapi/qapi-types-block-core.h"
#include "qapi/qapi-types-nyx-errors.h"

typedef struct NyxErrorReport {
    NyxErrorCause cause;
    const char *device;         /* qdev id or QOM path; NULL: of no device */
    int vcpu;                   /* CPUState.cpu_index; -1: of no processor */
    const char *detail;         /* one clause, for people; NULL: none */
    /*
     * The thread of the processor does not answer, so that vCPUs cannot be
     * stopped any more: whoever tries waits for ever, with the main loop.
     * Nothing is then done that needs it.
     */
    bool thread_is_stuck;
    /* QEMU is about to stop the VM for it, as the device was told to. */
    bool vm_stops;
} NyxErrorReport;

/*
 * The machine's policy for the cause is carried out in the main loop, a little
 * later, and told by NYX_ERROR_ACTION.  Reports of one cause and one place that
 * come until then are counted as one.  Without a policy for the cause, or on
 * another machine than nyx-pc, nothing happens.
 *
 * Any thread, with or without the BQL; not in a signal handler.  @report is
 * copied.  A vCPU thread that reports an error of its own goes on: see
 * cpu_stop_current().
 */
void nyx_error_report(const NyxErrorReport *report);

/* What QEMU's own files call.  Any thread, with or without the BQL. */

/* Processor @cs has shut down, in its own thread: reset the VM, or whatever. */
void nyx_triple_fault(CPUState *cs);

/*
 * An uncorrected machine check for processor @cs, in its own thread, BQL held.
 * @deliverable: it is about to be delivered; else the processor shuts down.
 */
void nyx_machine_check(CPUState *cs, int bank, uint64_t status,
                       uint64_t address, bool deliverable);

/* The storage of a device failed with @error, an errno; @action: then? */
void nyx_block_error(BlockBackend *blk, BlockErrorAction action, bool is_read,
                     int error);

#endif
