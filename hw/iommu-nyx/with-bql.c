/*
 * Work that needs the BQL, for callers that may have it or not
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "nyx/include/hw/iommu-nyx/with-bql.h"
#include "qemu/main-loop.h"
#include "qemu/queue.h"
#include "qemu/thread.h"

/*
 * A device that floods the guest with faults must not fill the host's memory.
 * An interrupt that is left out is no loss: when the last of those that wait is
 * delivered, the event that this one is about is there to be seen, too.
 */
#define WAITING_MAX     256

typedef struct Waiting {
    QSIMPLEQ_ENTRY(Waiting) link;
    void (*work)(void *data);
    uint8_t data[] QEMU_ALIGNED(16);
} Waiting;

static struct {
    QemuSpin lock;
    QSIMPLEQ_HEAD(, Waiting) works;     /* oldest first */
    unsigned number;
} waiting = {
    .works = QSIMPLEQ_HEAD_INITIALIZER(waiting.works),
};

static Waiting *take_oldest(void)
{
    Waiting *w;

    qemu_spin_lock(&waiting.lock);
    w = QSIMPLEQ_FIRST(&waiting.works);
    if (w) {
        QSIMPLEQ_REMOVE_HEAD(&waiting.works, link);
        waiting.number--;
    }
    qemu_spin_unlock(&waiting.lock);
    return w;
}

/* False if there are too many; then it is not taken. */
static bool add(Waiting *w)
{
    bool room;

    qemu_spin_lock(&waiting.lock);
    room = waiting.number < WAITING_MAX;
    if (room) {
        QSIMPLEQ_INSERT_TAIL(&waiting.works, w, link);
        waiting.number++;
    }
    qemu_spin_unlock(&waiting.lock);
    return room;
}

/* One for each, as others have to have their turn in the main loop. */
static void run_oldest(void *opaque)
{
    g_autofree Waiting *w = take_oldest();

    w->work(w->data);
}

static void run_later(void (*work)(void *data), const void *data, size_t size)
{
    Waiting *w = g_malloc(sizeof(*w) + size);

    w->work = work;
    memcpy(w->data, data, size);
    if (add(w)) {
        aio_bh_schedule_oneshot(qemu_get_aio_context(), run_oldest, NULL);
    } else {
        g_free(w);
    }
}

void nyx_with_bql(void (*work)(void *data), void *data, size_t size)
{
    if (bql_locked()) {
        work(data);
    } else {
        run_later(work, data, size);
    }
}
