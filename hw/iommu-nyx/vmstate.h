/*
 * Nyx IOMMU: taking its state along
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_IOMMU_NYX_VMSTATE_H
#define HW_IOMMU_NYX_VMSTATE_H

#include "hw/pci/pci_device.h"
#include "migration/vmstate.h"

typedef struct NyxIommu NyxIommu;

/* Of the class nyx-iommu */
extern const VMStateDescription nyx_vmstate_iommu;

/* When the IOMMU is realized. */
void nyx_vmstate_init(NyxIommu *iommu);

/* When a device has been realized: it may migrate whatever befell it. */
void nyx_vmstate_prepare(PCIDevice *dev);

#endif
