/*
 * Nyx IOMMU: interrupts of one device in a row become one
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * After a message has been delivered, the same message is held back for a time;
 * what comes of it meanwhile is delivered once, at the end of that time.  No
 * message is lost, and none waits longer.
 *
 * Locking: BQL.
 */

#ifndef HW_IOMMU_NYX_COALESCE_H
#define HW_IOMMU_NYX_COALESCE_H

#include "exec/memattrs.h"
#include "hw/pci/msi.h"
#include "qemu/timer.h"

#define NYX_COALESCE_US_MAX     10000

/* Different messages that can be held at once; others are not held back. */
#define NYX_COALESCE_SLOTS      16

typedef struct NyxCoalesceSlot {
    MSIMessage msg;
    MemTxAttrs attrs;           /* of the latest */
    int64_t until_ns;           /* virtual clock; the slot is free afterwards */
    uint32_t window_us;
    bool held;
} NyxCoalesceSlot;

typedef void NyxCoalesceDeliver(void *opaque, const MSIMessage *msg,
                                MemTxAttrs attrs);

/* Embedded in an endpoint, all zeroes at first */
typedef struct NyxCoalescer {
    NyxCoalesceSlot slot[NYX_COALESCE_SLOTS];
    QEMUTimer *timer;           /* made when the first message is held */
    NyxCoalesceDeliver *deliver;
    void *opaque;
    uint64_t merged;            /* messages that went into another one */
} NyxCoalescer;

void nyx_coalescer_init(NyxCoalescer *c, NyxCoalesceDeliver *deliver,
                        void *opaque);
void nyx_coalescer_destroy(NyxCoalescer *c);

/*
 * A message that may be delivered.  True: it is held back; @deliver will be
 * called for it.  False: deliver it now.  @window_us: 1..NYX_COALESCE_US_MAX.
 */
bool nyx_coalesce(NyxCoalescer *c, const MSIMessage *msg, MemTxAttrs attrs,
                  uint32_t window_us);

/* Deliver what is held. */
void nyx_coalescer_flush(NyxCoalescer *c);

/* Forget what is held: the device was reset, or cut off. */
void nyx_coalescer_drop(NyxCoalescer *c);

#endif
