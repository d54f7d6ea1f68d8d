/*
 * Nyx IOMMU: whether the host can reset a device that it passes through
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_IOMMU_NYX_HOST_RESET_H
#define HW_IOMMU_NYX_HOST_RESET_H

/*
 * Can the host reset the realized @dev by itself, and no other device with it?
 * The reset of vfio-pci does not tell when it could not.  True for what is not
 * VFIO.  BQL.
 */
bool nyx_host_can_reset(PCIDevice *dev, Error **errp);

#endif
