/*
 * Nyx IOMMU: a fingerprint of a table that follows its changes
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The sum over all pages that are mapped of
 *
 *   r ^ iova * (4 * gpa + permission)      in pages, modulo 2^61 - 1
 *
 * for two numbers r, and the number of pages.  A run of any length is added or
 * taken away in constant time, and what allows the same has the same sum,
 * whatever its leaves are.  Different tables have the same sum with a
 * probability of 2^-50 or less, unless somebody wants them to: it protects from
 * mistakes.
 */

#ifndef HW_IOMMU_NYX_TABLE_SUM_H
#define HW_IOMMU_NYX_TABLE_SUM_H

#include "page-table.h"

#define NYX_TABLE_SUM_PARTS     2

/* Zeroed: of an empty table */
typedef struct NyxTableSum {
    uint64_t pages;
    uint64_t part[NYX_TABLE_SUM_PARTS];
} NyxTableSum;

/* A run as nyx_page_table_map() takes it */
void nyx_table_sum_add(NyxTableSum *sum, uint64_t first, uint64_t last,
                       uint64_t gpa, IOMMUAccessFlags perm);

/* What has that sum, and is part of what @sum is of, goes. */
void nyx_table_sum_subtract(NyxTableSum *sum, const NyxTableSum *gone);

/* Of what lies in first..last, aligned to pages.  The writer's lock. */
NyxTableSum nyx_table_sum_of(NyxPageTable *table, uint64_t first,
                             uint64_t last);

static inline bool nyx_table_sum_equal(const NyxTableSum *a,
                                       const NyxTableSum *b)
{
    return !memcmp(a, b, sizeof(*a));
}

#endif
