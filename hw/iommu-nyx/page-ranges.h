/*
 * Nyx IOMMU: a set of ranges of pages
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * What of a table has changed.  It holds a bounded number of ranges: when there
 * are more, all of them grow to a coarser granule, so that it names more than
 * was added, but never less.
 *
 * Locking: the caller's.
 */

#ifndef HW_IOMMU_NYX_PAGE_RANGES_H
#define HW_IOMMU_NYX_PAGE_RANGES_H

#include "page-table.h"

#define NYX_PAGE_RANGES_MAX     16384

/* Inclusive, aligned to pages, within NYX_IOVA_LAST */
typedef struct NyxPageRange {
    uint64_t first;
    uint64_t last;
} NyxPageRange;

/* Zeroed: empty */
typedef struct NyxPageRanges {
    GArray *array;      /* of NyxPageRange; ascending, with gaps between them */
    unsigned granule_bits;
} NyxPageRanges;

static inline guint nyx_page_ranges_count(const NyxPageRanges *r)
{
    return r->array ? r->array->len : 0;
}

static inline NyxPageRange nyx_page_ranges_get(const NyxPageRanges *r, guint i)
{
    return g_array_index(r->array, NyxPageRange, i);
}

/* first <= last <= NYX_IOVA_LAST */
void nyx_page_ranges_add(NyxPageRanges *r, uint64_t first, uint64_t last);

/* Back to empty; nothing of it needs to be freed then. */
void nyx_page_ranges_clear(NyxPageRanges *r);

/* As a string of bytes: for each one its gap to the last, and pages - 1. */
GByteArray *nyx_page_ranges_encode(const NyxPageRanges *r);

/* False if these are no such ranges.  @r is empty before. */
bool nyx_page_ranges_decode(NyxPageRanges *r, const uint8_t *bytes,
                            size_t size);

#endif
