/*
 * Nyx IOMMU: what access a translation allows
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * address_space_get_iotlb_entry() says whether one kind of access is allowed,
 * but not what else is.  A backend that caches the answer has to know.
 */

#ifndef HW_IOMMU_NYX_PERMISSION_H
#define HW_IOMMU_NYX_PERMISSION_H

#include "system/memory.h"

/*
 * For @iova in @as, which has just been translated to @gpa for a read or a
 * write.  No more than that if it leads elsewhere by now.
 * IOMMU_RW if @as is not confined by a Nyx IOMMU: as QEMU has it.  BQL held,
 * inside an RCU read-side critical section.
 */
IOMMUAccessFlags nyx_iommu_permission(AddressSpace *as, hwaddr iova,
                                      bool write, hwaddr gpa);

#endif
