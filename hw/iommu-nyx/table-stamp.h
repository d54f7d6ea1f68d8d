/*
 * Nyx IOMMU: what is known of a table without looking at it again
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_IOMMU_NYX_TABLE_STAMP_H
#define HW_IOMMU_NYX_TABLE_STAMP_H

/* SHA-256; see migration/digest.h. */
typedef struct NyxDigest {
    uint8_t bytes[32];
} NyxDigest;

/*
 * Holds as long as the domain has this generation, and nothing was added: a
 * further mapping leaves cached translations, and so the generation, valid.
 */
typedef struct NyxTableStamp {
    uint64_t generation;        /* 0: no stamp; no domain has that */
    NyxDigest digest;           /* of the encoded table */
    bool sent;                  /* ahead, in the migration that runs */
} NyxTableStamp;

#endif
