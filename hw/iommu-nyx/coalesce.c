/*
 * Nyx IOMMU: interrupts of one device in a row become one
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "coalesce.h"

/* The slot of @msg; else one that is free; else NULL */
static NyxCoalesceSlot *find_slot(NyxCoalescer *c, const MSIMessage *msg,
                                  int64_t now)
{
    NyxCoalesceSlot *unused = NULL;

    for (unsigned i = 0; i < NYX_COALESCE_SLOTS; i++) {
        NyxCoalesceSlot *slot = &c->slot[i];

        if (!slot->held && slot->until_ns <= now) {
            unused = unused ?: slot;
        } else if (slot->msg.address == msg->address &&
                   slot->msg.data == msg->data) {
            return slot;
        }
    }
    return unused;
}

static void set_timer(NyxCoalescer *c)
{
    int64_t first = INT64_MAX;

    for (unsigned i = 0; i < NYX_COALESCE_SLOTS; i++) {
        if (c->slot[i].held) {
            first = MIN(first, c->slot[i].until_ns);
        }
    }
    if (first < INT64_MAX) {
        timer_mod(c->timer, first);
    } else if (c->timer) {
        timer_del(c->timer);
    }
}

static void open_window(NyxCoalesceSlot *slot, int64_t now)
{
    slot->held = false;
    slot->until_ns = now + slot->window_us * SCALE_US;
}

static void deliver_until(NyxCoalescer *c, int64_t last)
{
    int64_t now = qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL);

    for (unsigned i = 0; i < NYX_COALESCE_SLOTS; i++) {
        NyxCoalesceSlot *slot = &c->slot[i];

        if (slot->held && slot->until_ns <= last) {
            MSIMessage msg = slot->msg;

            open_window(slot, now);
            c->deliver(c->opaque, &msg, slot->attrs);
        }
    }
    set_timer(c);
}

static void time_is_over(void *opaque)
{
    deliver_until(opaque, qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL));
}

void nyx_coalescer_init(NyxCoalescer *c, NyxCoalesceDeliver *deliver,
                        void *opaque)
{
    *c = (NyxCoalescer) { .deliver = deliver, .opaque = opaque };
}

void nyx_coalescer_destroy(NyxCoalescer *c)
{
    timer_free(c->timer);
}

bool nyx_coalesce(NyxCoalescer *c, const MSIMessage *msg, MemTxAttrs attrs,
                  uint32_t window_us)
{
    int64_t now = qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL);
    NyxCoalesceSlot *slot = find_slot(c, msg, now);

    if (!slot) {
        return false;
    }
    if (!slot->held && slot->until_ns <= now) {
        *slot = (NyxCoalesceSlot) { .msg = *msg, .window_us = window_us };
        open_window(slot, now);
        return false;
    }
    c->merged += slot->held;
    slot->held = true;
    slot->attrs = attrs;
    if (!c->timer) {
        c->timer = timer_new_ns(QEMU_CLOCK_VIRTUAL, time_is_over, c);
    }
    set_timer(c);
    return true;
}

void nyx_coalescer_flush(NyxCoalescer *c)
{
    if (c->timer) {
        deliver_until(c, INT64_MAX);
    }
}

void nyx_coalescer_drop(NyxCoalescer *c)
{
    if (c->timer) {
        memset(c->slot, 0, sizeof(c->slot));
        timer_del(c->timer);
    }
}
