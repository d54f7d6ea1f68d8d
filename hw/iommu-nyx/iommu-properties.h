/*
 * Nyx IOMMU: properties of the IOMMU
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Locking: BQL.
 */

#ifndef HW_IOMMU_NYX_IOMMU_PROPERTIES_H
#define HW_IOMMU_NYX_IOMMU_PROPERTIES_H

#include "qom/object.h"

/* The machine offers them as its options: see hw/nyx/nyx-pc.c. */
void nyx_iommu_add_class_properties(ObjectClass *oc);

#endif
