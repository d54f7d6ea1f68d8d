/*
 * Nyx IOMMU: what is known of a table without looking at it again
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "table-stamp.h"

void nyx_table_stamp_void(NyxTableStamp *stamp)
{
    stamp->generation = 0;
    stamp->summed = false;
    stamp->sum = (NyxTableSum) {};
    nyx_table_stamp_sent(stamp, false);
}

static void changed(NyxTableStamp *stamp, uint64_t first, uint64_t last)
{
    stamp->generation = 0;
    if (stamp->sent) {
        nyx_page_ranges_add(&stamp->changed, first, last);
    }
}

void nyx_table_stamp_mapped(NyxTableStamp *stamp, uint64_t first, uint64_t last,
                            uint64_t gpa, IOMMUAccessFlags perm)
{
    changed(stamp, first, last);
    if (stamp->summed) {
        nyx_table_sum_add(&stamp->sum, first, last, gpa, perm);
    }
}

void nyx_table_stamp_unmapped(NyxTableStamp *stamp, uint64_t first,
                              uint64_t last, const NyxTableSum *gone)
{
    changed(stamp, first, last);
    if (stamp->summed) {
        nyx_table_sum_subtract(&stamp->sum, gone);
    }
}

void nyx_table_stamp_sent(NyxTableStamp *stamp, bool sent)
{
    stamp->sent = sent;
    nyx_page_ranges_clear(&stamp->changed);
}
