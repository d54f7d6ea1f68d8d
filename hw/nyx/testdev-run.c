/*
 * Nyx test device: bulk runs of DMA
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/host-utils.h"
#include "qemu/main-loop.h"
#include "qemu/timer.h"
#include "nyx/include/hw/nyx/testdev.h"
#include "migration/vmstate.h"
#include "system/runstate.h"
#include "testdev-run.h"
#include "trace.h"

/*
 * A piece of a run ends after so many DMAs or bytes.  In the main loop, this
 * bounds how long others wait; in the thread, how long a stop takes.
 */
#define PIECE_DMAS      1024
#define PIECE_BYTES     (1024 * 1024)

static uint64_t next_random(uint64_t *state)
{
    /* xorshift64 (Marsaglia); the period is all values but 0. */
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static uint64_t next_address(const NyxTestdevRunPlan *plan,
                             NyxTestdevRunProgress *p)
{
    uint64_t slot;

    if (plan->flags & NTD_FLAG_RANDOM) {
        /* A division would take as long as half of a DMA. */
        slot = (next_random(&p->random) >> 32) * plan->slots >> 32;
    } else {
        slot = p->done % plan->slots;
    }
    return plan->address + slot * plan->stride;
}

static bool plan_finished(const NyxTestdevRunPlan *plan,
                          const NyxTestdevRunProgress *p)
{
    return (plan->count && p->done >= plan->count) ||
           (plan->flags & NTD_FLAG_STOP_ON_ERROR && p->errors);
}

/*
 * As devices do that hand the memory to others.  QEMU maps a bounce buffer
 * where there is no memory, and does not say what became of its content.
 */
static bool copy_mapped(PCIDevice *pdev, uint64_t address, uint8_t *data,
                        uint64_t length, DMADirection direction)
{
    while (length) {
        dma_addr_t piece = length;
        uint8_t *memory = pci_dma_map(pdev, address, &piece, direction);

        if (!memory) {
            return false;
        }
        if (direction == DMA_DIRECTION_FROM_DEVICE) {
            memcpy(memory, data, piece);
        } else {
            memcpy(data, memory, piece);
        }
        pci_dma_unmap(pdev, memory, piece, direction, piece);
        address += piece;
        data += piece;
        length -= piece;
    }
    return true;
}

static bool transfer(NyxTestdevRun *run, uint64_t address, uint8_t *data)
{
    const NyxTestdevRunPlan *plan = &run->plan;
    DMADirection direction = plan->flags & NTD_FLAG_WRITE ?
                             DMA_DIRECTION_FROM_DEVICE :
                             DMA_DIRECTION_TO_DEVICE;

    if (plan->flags & NTD_FLAG_MAP) {
        return copy_mapped(run->pdev, address, data, plan->length, direction);
    }
    return pci_dma_rw(run->pdev, address, data, plan->length, direction,
                      MEMTXATTRS_UNSPECIFIED) == MEMTX_OK;
}

static void one_dma(NyxTestdevRun *run, uint8_t *data,
                    NyxTestdevRunProgress *p)
{
    uint64_t address = next_address(&run->plan, p);

    if (!transfer(run, address, data)) {
        if (!p->errors) {
            p->first_error = address;
        }
        p->errors++;
    }
    p->done++;
}

/*
 * Without the BQL in the thread, with it in the main loop.  Returns whether the
 * run goes on.
 */
static bool run_piece(NyxTestdevRun *run)
{
    uint32_t generation = qatomic_read(&run->generation);
    NyxTestdevRunProgress p = nyx_testdev_run_progress(run);
    uint8_t *data = memory_region_get_ram_ptr(run->buffer) + run->plan.offset;
    uint64_t dmas = 0, bytes = 0;
    int64_t start = get_clock();

    while (dmas < PIECE_DMAS && bytes < PIECE_BYTES &&
           !plan_finished(&run->plan, &p) && !qatomic_read(&run->cancel)) {
        one_dma(run, data, &p);
        dmas++;
        bytes += run->plan.length;
    }
    p.elapsed_ns += get_clock() - start;

    if (!(run->plan.flags & NTD_FLAG_WRITE)) {
        memory_region_set_dirty(run->buffer, run->plan.offset,
                                run->plan.length);
    }
    WITH_QEMU_LOCK_GUARD(&run->lock) {
        /* Our own DMA can have reset us. */
        if (generation == qatomic_read(&run->generation)) {
            run->progress = p;
        }
    }
    return !qatomic_read(&run->cancel) && !plan_finished(&run->plan, &p);
}

/* The run is at its end, or was cancelled.  False: it was resumed meanwhile. */
static bool run_ended(NyxTestdevRun *run)
{
    NyxTestdevRunProgress p = nyx_testdev_run_progress(run);

    if (plan_finished(&run->plan, &p)) {
        run->active = false;
    }
    if (run->active && !qatomic_read(&run->cancel)) {
        return false;
    }
    trace_nyx_testdev_run_pause(run->pdev->name, run->active, p.done,
                                p.errors, p.elapsed_ns);
    return true;
}

static void run_bh(void *opaque)
{
    NyxTestdevRun *run = opaque;
    Object *device = OBJECT(run->pdev);

    /* Our own DMA can unplug us. */
    object_ref(device);
    if (run_piece(run) || !run_ended(run)) {
        qemu_bh_schedule(run->bh);
    }
    object_unref(device);
}

static void *run_thread(void *opaque)
{
    NyxTestdevRun *run = opaque;
    Object *device = OBJECT(run->pdev);

    rcu_register_thread();
    for (;;) {
        if (run_piece(run)) {
            continue;
        }
        bql_lock();
        if (run_ended(run)) {
            break;
        }
        bql_unlock();
    }
    run->in_thread = false;
    qemu_cond_broadcast(&run->thread_ended);
    object_unref(device);
    bql_unlock();
    rcu_unregister_thread();
    return NULL;
}

static void resume(NyxTestdevRun *run)
{
    qatomic_set(&run->cancel, false);
    if (run->in_thread) {
        return;     /* it was told to end, has not yet, and now will not */
    }
    if (run->plan.flags & NTD_FLAG_THREAD) {
        run->in_thread = true;
        object_ref(OBJECT(run->pdev));
        qemu_thread_create(&run->thread, TYPE_NYX_TESTDEV, run_thread, run,
                           QEMU_THREAD_DETACHED);
    } else {
        qemu_bh_schedule(run->bh);
    }
}

/* Afterwards no DMA is under way, unless we are called by it. */
static void suspend(NyxTestdevRun *run)
{
    qatomic_set(&run->cancel, true);
    qemu_bh_cancel(run->bh);
    while (run->in_thread && !qemu_thread_is_self(&run->thread)) {
        qemu_cond_wait_bql(&run->thread_ended);
        qatomic_set(&run->cancel, true);
    }
}

static void vm_state_changed(void *opaque, bool running, RunState state)
{
    NyxTestdevRun *run = opaque;

    if (!run->active) {
        return;
    }
    if (running) {
        resume(run);
    } else {
        suspend(run);
    }
}

void nyx_testdev_run_init(NyxTestdevRun *run, PCIDevice *pdev)
{
    run->pdev = pdev;
    run->progress.random = 1;
    qemu_mutex_init(&run->lock);
    qemu_cond_init(&run->thread_ended);
}

void nyx_testdev_run_finalize(NyxTestdevRun *run)
{
    qemu_cond_destroy(&run->thread_ended);
    qemu_mutex_destroy(&run->lock);
}

void nyx_testdev_run_realize(NyxTestdevRun *run, MemoryRegion *buffer)
{
    DeviceState *dev = DEVICE(run->pdev);

    run->buffer = buffer;
    run->bh = qemu_bh_new_guarded(run_bh, run, &dev->mem_reentrancy_guard);
    run->vm_state = qdev_add_vm_change_state_handler(dev, vm_state_changed,
                                                     NULL, run);
}

void nyx_testdev_run_unrealize(NyxTestdevRun *run)
{
    nyx_testdev_run_reset(run);
    qemu_del_vm_change_state_handler(run->vm_state);
    qemu_bh_delete(run->bh);
}

bool nyx_testdev_run_plan_valid(const NyxTestdevRunPlan *plan)
{
    uint64_t span, last;

    return plan->length > 0 && plan->length <= NTD_BUFFER_SIZE &&
           plan->offset <= NTD_BUFFER_SIZE - plan->length &&
           plan->slots > 0 && !(plan->flags & ~NTD_FLAG_MASK) &&
           !umul64_overflow(plan->stride, plan->slots - 1, &span) &&
           !uadd64_overflow(plan->address, span, &last) &&
           !uadd64_overflow(last, plan->length - 1, &last);
}

void nyx_testdev_run_start(NyxTestdevRun *run, const NyxTestdevRunPlan *plan,
                           uint32_t seed)
{
    run->plan = *plan;
    WITH_QEMU_LOCK_GUARD(&run->lock) {
        /* Not 0, and different for each seed. */
        run->progress = (NyxTestdevRunProgress) {
            .random = ((uint64_t)seed << 1) | 1,
        };
    }
    run->active = true;
    trace_nyx_testdev_run_start(run->pdev->name, plan->address, plan->length,
                                plan->count, plan->slots, plan->stride,
                                plan->flags);
    if (runstate_is_running()) {
        resume(run);
    }
}

bool nyx_testdev_run_busy(const NyxTestdevRun *run)
{
    return run->active || run->in_thread;
}

void nyx_testdev_run_stop(NyxTestdevRun *run)
{
    qatomic_set(&run->cancel, true);
    qemu_bh_cancel(run->bh);
    run->active = false;
}

void nyx_testdev_run_reset(NyxTestdevRun *run)
{
    qatomic_inc(&run->generation);
    suspend(run);
    run->active = false;
    WITH_QEMU_LOCK_GUARD(&run->lock) {
        run->progress = (NyxTestdevRunProgress) { .random = 1 };
    }
}

NyxTestdevRunProgress nyx_testdev_run_progress(NyxTestdevRun *run)
{
    QEMU_LOCK_GUARD(&run->lock);

    return run->progress;
}

static int run_post_load(void *opaque, int version_id)
{
    NyxTestdevRun *run = opaque;

    if (run->progress.random == 0 ||
        (run->active && !nyx_testdev_run_plan_valid(&run->plan))) {
        return -EINVAL;
    }
    return 0;
}

const VMStateDescription vmstate_nyx_testdev_run = {
    .name = "nyx-testdev-run",
    .version_id = 1,
    .minimum_version_id = 1,
    .post_load = run_post_load,
    .fields = (const VMStateField[]) {
        VMSTATE_BOOL(active, NyxTestdevRun),
        VMSTATE_UINT64(plan.address, NyxTestdevRun),
        VMSTATE_UINT64(plan.stride, NyxTestdevRun),
        VMSTATE_UINT32(plan.slots, NyxTestdevRun),
        VMSTATE_UINT32(plan.length, NyxTestdevRun),
        VMSTATE_UINT32(plan.offset, NyxTestdevRun),
        VMSTATE_UINT32(plan.count, NyxTestdevRun),
        VMSTATE_UINT32(plan.flags, NyxTestdevRun),
        VMSTATE_UINT64(progress.done, NyxTestdevRun),
        VMSTATE_UINT64(progress.errors, NyxTestdevRun),
        VMSTATE_UINT64(progress.first_error, NyxTestdevRun),
        VMSTATE_UINT64(progress.elapsed_ns, NyxTestdevRun),
        VMSTATE_UINT64(progress.random, NyxTestdevRun),
        VMSTATE_END_OF_LIST()
    }
};
