/*
 * Nyx IOMMU: IOMMU groups of the host
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The host's IOMMU cannot tell the functions of one of its groups apart, or
 * cannot keep them from reaching each other.  So what one of them may touch
 * all of them may.
 */

#ifndef HW_IOMMU_NYX_HOST_GROUP_H
#define HW_IOMMU_NYX_HOST_GROUP_H

#include "domain.h"

/*
 * May @dev, realized or not, be in @domain (NULL: in one of its own) without
 * splitting an IOMMU group of the host across domains?  True for all that is
 * not VFIO, and where the group is not known: with fd=, where VFIO itself
 * refuses it.  The error names the group and the other device.  BQL.
 */
bool nyx_host_group_check(NyxIommu *iommu, PCIDevice *dev, NyxDomain *domain,
                          Error **errp);

#endif
