/*
 * Nyx IOMMU: may a VFIO device behind it migrate?
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_IOMMU_NYX_VFIO_MIGRATION_H
#define HW_IOMMU_NYX_VFIO_MIGRATION_H

#include "hw/core/qdev.h"
#include "system/memory.h"

/*
 * QEMU can tell what a VFIO device writes where that has all RAM at the VM's
 * own addresses.  True if @as, in which @dev does DMA, belongs to a Nyx IOMMU:
 * that blocks migration from now on whenever this does not hold.  @dev is being
 * realized.  BQL held.
 */
bool nyx_iommu_watches_migration(DeviceState *dev, const AddressSpace *as);

#endif
