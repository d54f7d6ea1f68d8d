/*
 * Nyx IOMMU: tables in the migration stream
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * They come in sections of their own: all of them while the VM still runs, and
 * once it stands still those that have changed since.  The rest of the state
 * names them by domain and digest, so that a million mappings cost the guest
 * nothing.
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

/*
 * The table of domain @id that has come, which is the caller's from now on, or
 * NULL with @errp: there is none, or not with this digest and kind.
 */
NyxPageTable *nyx_travelling_table_take(NyxIommu *iommu, const char *id,
                                        const NyxDigest *digest,
                                        bool large_pages, Error **errp);

#endif
