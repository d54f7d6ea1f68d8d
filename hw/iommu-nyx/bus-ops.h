/*
 * Nyx IOMMU: what it does for a PCI bus
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * A device's address space is its endpoint's.  What devices ask beside that
 * (ATS, PASID, PRI, properties of a host IOMMU) is stage 1's to answer, and
 * stage 2's to cut.
 *
 * Locking: BQL.
 */

#ifndef HW_IOMMU_NYX_BUS_OPS_H
#define HW_IOMMU_NYX_BUS_OPS_H

#include "iommu.h"

/* Take the DMA of the root bus, from whatever serves it now. */
void nyx_bus_serve(NyxIommu *iommu);

#endif
