/*
 * Nyx IOMMU: state that has arrived, and what this side makes of it
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Locking: BQL.
 */

#ifndef HW_IOMMU_NYX_ARRIVAL_H
#define HW_IOMMU_NYX_ARRIVAL_H

#include "iommu.h"

/* A domain of the stream beside that of this side, with what will be its own */
typedef struct Arrival {
    const NyxSavedDomain *saved;
    NyxDomain *domain;          /* NULL: automatic, yet to be made */
    const char *id;
    NyxPageTable *table;        /* decoded; NULL: none */
    NyxPolicyOverride policy;
} Arrival;

/* Both sides name a device by where it is plugged in. */
char *nyx_arrival_path(NyxFunction *fn);
NyxFunction *nyx_arrival_find_device(NyxIommu *iommu, const char *path);

Arrival *nyx_arrival_find(GPtrArray *arrivals, const char *id);

/*
 * Is all of @iommu->saved as it can be, and fit for this side?  The domains (of
 * Arrival) that it brings, or NULL with @errp naming what is wrong.  Changes
 * nothing.
 */
GPtrArray *nyx_arrival_check(NyxIommu *iommu, Error **errp);

#endif
