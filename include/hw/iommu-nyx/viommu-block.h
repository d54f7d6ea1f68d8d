/*
 * Nyx: how large a page virtio-iommu may say that a translation is of
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_IOMMU_NYX_VIOMMU_BLOCK_H
#define HW_IOMMU_NYX_VIOMMU_BLOCK_H

#include "exec/hwaddr.h"
#include "qemu/reserved-region.h"

/*
 * The mask of the largest block of 2^n bytes around @addr that the mapping of
 * [@low, @high] (inclusive) to @phys translates alike and in which there is
 * none of @reserved, a list of ReservedRegion; @addr lies in that mapping and
 * in no reserved region.  Virtio-iommu translates by its smallest page, however
 * large the mapping is; who caches would have an entry for each of them.
 */
static inline hwaddr nyx_viommu_block(GList *reserved, hwaddr addr, hwaddr low,
                                      hwaddr high, hwaddr phys)
{
    const hwaddr distance = phys - low;
    hwaddr mask = 0;
    hwaddr next = 1;

    for (GList *l = reserved; l; l = l->next) {
        ReservedRegion *region = l->data;

        if (range_lob(&region->range) > addr) {
            high = MIN(high, range_lob(&region->range) - 1);
        } else {
            low = MAX(low, range_upb(&region->range) + 1);
        }
    }
    /* A block begins at a multiple of its size on both sides. */
    while (!(distance & next) && (addr & ~next) >= low &&
           (addr | next) <= high && next != UINT64_MAX) {
        mask = next;
        next = next << 1 | 1;
    }
    return mask;
}

#endif
