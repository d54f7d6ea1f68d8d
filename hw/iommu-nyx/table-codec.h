/*
 * Nyx IOMMU: a table as a string of bytes, for the migration stream
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Runs of pages that are contiguous on both sides, in ascending order, each
 * relative to the one before.  Numbers are in LEB128.  A run is:
 *
 *   gap << 3 | longer << 2 | permission     pages since the last run's end;
 *                                           1: read, 2: write, 3: both
 *   pages - 2                               only if longer
 *   zigzag(gpa - last gpa's end)            in pages; 0, -1, 1, -2, ... as
 *                                           0, 1, 2, 3, ...
 *
 * Or up to NYX_TABLE_BLOCK runs are packed together, in as many bits for each
 * as the largest of them needs:
 *
 *   runs << 2                               permission 0, which no run has
 *   gap                                     before the first run
 *   zigzag(base - last gpa's end)           the lowest gpa among the runs
 *   four bytes: how many bits a permission has (0: all have 3), a gap, a
 *   number of pages and a gpa
 *   for each run, the lowest bits first:
 *     permission, gap (not the first run's), pages - 1, gpa - base
 *   bits of 0 up to the next byte
 *
 * 0 ends the table.
 */

#ifndef HW_IOMMU_NYX_TABLE_CODEC_H
#define HW_IOMMU_NYX_TABLE_CODEC_H

#include "page-ranges.h"
#include "page-table.h"

#define NYX_TABLE_BLOCK     512

/*
 * Appends to @out.  NULL stands for an empty table.  The writer's lock.
 * Tables that allow the same are the same bytes, whatever their leaves are:
 * the first form alone.
 */
void nyx_table_encode(NyxPageTable *table, GByteArray *out);

/*
 * Appends what lies in @ranges (NULL: all of it), in the second form, with no
 * more bytes than it needs.
 */
void nyx_table_pack(NyxPageTable *table, const NyxPageRanges *ranges,
                    GByteArray *out);

/*
 * Add to @table what the bytes, which come from a stranger, say in either form;
 * @admit, if any, is asked for each run before that takes memory.  False and
 * @errp if they say nothing, or what there cannot be, or @admit refuses; then
 * @table has a part of it.
 */
bool nyx_table_decode(NyxPageTable *table, const uint8_t *bytes, size_t size,
                      NyxPageTableVisit admit, void *opaque, Error **errp);

#endif
