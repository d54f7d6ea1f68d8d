/*
 * Nyx: digest of the IOMMU's state
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * SHA-256 of what the migration stream has of it.  A field that a later version
 * adds goes in a subsection, which is left out where it says nothing: so the
 * digests of different versions agree.
 *
 * Locking: BQL.
 */

#ifndef NYX_MIGRATION_DIGEST_H
#define NYX_MIGRATION_DIGEST_H

#include "nyx/hw/iommu-nyx/saved-state.h"

void nyx_digest_bytes(const void *bytes, size_t size, NyxDigest *digest);

void nyx_digest_iommu(NyxSavedIommu *saved, NyxDigest *digest);
void nyx_digest_functions(NyxSavedFunctions *saved, NyxDigest *digest);

/* Of both together, which is what is compared and shown. */
void nyx_digest_join(const NyxDigest *iommu, const NyxDigest *functions,
                     NyxDigest *joined);

/* In hexadecimal digits; g_free() it. */
char *nyx_digest_text(const NyxDigest *digest);

#endif
