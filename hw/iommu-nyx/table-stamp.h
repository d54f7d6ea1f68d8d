/*
 * Nyx IOMMU: what is known of a table without looking at it again
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Locking: BQL.
 */

#ifndef HW_IOMMU_NYX_TABLE_STAMP_H
#define HW_IOMMU_NYX_TABLE_STAMP_H

#include "page-ranges.h"
#include "table-sum.h"

/* SHA-256; see migration/digest.h. */
typedef struct NyxDigest {
    uint8_t bytes[32];
} NyxDigest;

/* Zeroed: nothing is known */
typedef struct NyxTableStamp {
    /*
     * The digest holds as long as the domain has this generation, and nothing
     * was added: a further mapping leaves cached translations, and so the
     * generation, valid.  0: none; no domain has that.
     */
    uint64_t generation;
    NyxDigest digest;           /* of the encoded table */

    bool summed;                /* else @sum is 0 */
    NyxTableSum sum;

    bool sent;                  /* ahead, in the migration that runs */
    NyxPageRanges changed;      /* since then */
} NyxTableStamp;

/* The table is another one. */
void nyx_table_stamp_void(NyxTableStamp *stamp);

/* A range was mapped. */
void nyx_table_stamp_mapped(NyxTableStamp *stamp, uint64_t first, uint64_t last,
                            uint64_t gpa, IOMMUAccessFlags perm);

/* A range was unmapped; @gone, if it is summed: of what was there. */
void nyx_table_stamp_unmapped(NyxTableStamp *stamp, uint64_t first,
                              uint64_t last, const NyxTableSum *gone);

/* A migration begins or ends: @sent ahead is the table as it is now, or not. */
void nyx_table_stamp_sent(NyxTableStamp *stamp, bool sent);

#endif
