/*
 * Nyx IOMMU: tables in the migration stream
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * They come in sections of their own: all of them while the VM still runs, and
 * once it stands still what has changed since.  The rest of the state names
 * them by domain and sum, so that a million mappings cost the guest nothing.
 * Streams of before there were sums name them by digest.
 *
 * Locking: BQL.
 */

#ifndef HW_IOMMU_NYX_TRAVELLING_TABLE_H
#define HW_IOMMU_NYX_TRAVELLING_TABLE_H

#include "iommu.h"

/* When the IOMMU is realized, before other sections are registered. */
void nyx_travelling_tables_init(NyxIommu *iommu);

/* Both sides are done with what they have of the stream. */
void nyx_travelling_tables_done(NyxIommu *iommu);

/* Of the domain's table as it is now; that of no table is a digest, too. */
const NyxDigest *nyx_domain_table_digest(NyxDomain *domain);

/* Of the domain's table as it is now; it has one. */
const NyxTableSum *nyx_domain_table_sum(NyxDomain *domain);

/*
 * The table of domain @s that has come, which is the caller's from now on, or
 * NULL with @errp: there is none, or it is not as @s says.  What of it is no
 * RAM is what the domain of that name has peer-to-peer=on for.
 */
NyxPageTable *nyx_travelling_table_take(NyxIommu *iommu,
                                        const NyxSavedDomain *s, Error **errp);

#endif
