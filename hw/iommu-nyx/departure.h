/*
 * Nyx IOMMU: state that leaves, as the stream has it
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Copies of the live state, in an order that does not depend on how it came
 * about: what is alike is the same bytes.
 *
 * Locking: BQL.
 */

#ifndef HW_IOMMU_NYX_DEPARTURE_H
#define HW_IOMMU_NYX_DEPARTURE_H

#include "iommu.h"

/* What a table is named by */
typedef enum NyxTableProof {
    NYX_TABLES_BY_DIGEST,       /* the first versions; digests that we show */
    NYX_TABLES_BY_SUM,          /* which costs no time */
} NyxTableProof;

/* Both replace what is in @saved, which is to be cleared after use. */
void nyx_departure_iommu(NyxIommu *iommu, NyxSavedIommu *saved,
                         NyxTableProof proof);
void nyx_departure_functions(NyxIommu *iommu, NyxSavedFunctions *saved);

/*
 * The endpoint that is between two states that could travel, or NULL.  Only
 * device models that let the main loop run while they are reset show one.
 */
NyxEndpoint *nyx_departure_recovering(NyxIommu *iommu);

#endif
