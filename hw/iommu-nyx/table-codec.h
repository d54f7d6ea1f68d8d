/*
 * Nyx IOMMU: a table as a string of bytes, for the migration stream
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Runs of pages that are contiguous on both sides, in ascending order, each
 * relative to the one before.  Numbers are in LEB128: seven bits a byte, the
 * lowest first, the highest bit says that more follow.  A run is:
 *
 *   gap << 3 | longer << 2 | permission     pages since the last run's end;
 *                                           1: read, 2: write, 3: both
 *   pages - 2                               only if longer
 *   zigzag(gpa - last gpa's end)            in pages; 0, -1, 1, -2, ... as
 *                                           0, 1, 2, 3, ...
 *
 * Permission 0 ends the table.  Tables that allow the same are the same bytes,
 * whatever their leaves are.
 */

#ifndef HW_IOMMU_NYX_TABLE_CODEC_H
#define HW_IOMMU_NYX_TABLE_CODEC_H

#include "page-table.h"

/* Appends to @out.  NULL stands for an empty table.  The writer's lock. */
void nyx_table_encode(NyxPageTable *table, GByteArray *out);

/*
 * NULL and @errp if the bytes are no such string, or one of a table that there
 * cannot be.  They come from a stranger.
 */
NyxPageTable *nyx_table_decode(const uint8_t *bytes, size_t size,
                               bool large_pages, Error **errp);

#endif
