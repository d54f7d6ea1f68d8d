/*
 * Nyx test device: bulk runs of DMA
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * A run goes on in the main loop, in pieces that let others have their turn, or
 * in a thread of its own that does not hold the BQL (as iothreads do DMA).  It
 * stands still while the VM is stopped, and can migrate.
 *
 * Locking: all functions are called with the BQL held.
 */

#ifndef HW_NYX_TESTDEV_RUN_H
#define HW_NYX_TESTDEV_RUN_H

#include "hw/pci/pci_device.h"
#include "qemu/thread.h"

/* What a run does; does not change while it is under way. */
typedef struct NyxTestdevRunPlan {
    uint64_t address;
    uint64_t stride;
    uint32_t slots;         /* at least 1 */
    uint32_t length;        /* 1 .. NTD_BUFFER_SIZE - offset */
    uint32_t offset;
    uint32_t count;         /* 0: until stopped */
    uint32_t flags;
} NyxTestdevRunPlan;

/* How far a run has come. */
typedef struct NyxTestdevRunProgress {
    uint64_t done;
    uint64_t errors;
    uint64_t first_error;
    uint64_t elapsed_ns;    /* of the host's clock, spent in DMA */
    uint64_t random;        /* state of the generator, never 0 */
} NyxTestdevRunProgress;

typedef struct NyxTestdevRun {
    PCIDevice *pdev;
    MemoryRegion *buffer;   /* RAM of NTD_BUFFER_SIZE bytes */

    bool active;            /* started, and not at its end */
    NyxTestdevRunPlan plan;

    QemuMutex lock;         /* protects progress; no other lock inside */
    NyxTestdevRunProgress progress;

    QEMUBH *bh;
    QemuThread thread;
    bool in_thread;         /* the thread lives */
    QemuCond thread_ended;  /* with the BQL */
    bool cancel;            /* atomic: make no further DMA */
    uint32_t generation;    /* changes when a run is discarded */
    VMChangeStateEntry *vm_state;
} NyxTestdevRun;

/* In instance_init and instance_finalize */
void nyx_testdev_run_init(NyxTestdevRun *run, PCIDevice *pdev);
void nyx_testdev_run_finalize(NyxTestdevRun *run);

/* In realize and unrealize; no DMA is under way after the latter. */
void nyx_testdev_run_realize(NyxTestdevRun *run, MemoryRegion *buffer);
void nyx_testdev_run_unrealize(NyxTestdevRun *run);

/* Whether a plan keeps to the limits above and no address overflows. */
bool nyx_testdev_run_plan_valid(const NyxTestdevRunPlan *plan);

/* @plan must be valid and no run may be busy. */
void nyx_testdev_run_start(NyxTestdevRun *run, const NyxTestdevRunPlan *plan,
                           uint32_t seed);

/* A run is under way, or its thread has yet to end. */
bool nyx_testdev_run_busy(const NyxTestdevRun *run);

/* End the run; returns at once, see nyx_testdev_run_busy() for when it has. */
void nyx_testdev_run_stop(NyxTestdevRun *run);

/*
 * End the run and forget it; no DMA of it is under way afterwards. May release
 * the BQL while it waits.  Called by a DMA of the run itself (which reached the
 * registers that reset this device) it does not wait, as that would not end.
 */
void nyx_testdev_run_reset(NyxTestdevRun *run);

NyxTestdevRunProgress nyx_testdev_run_progress(NyxTestdevRun *run);

extern const VMStateDescription vmstate_nyx_testdev_run;

#endif
