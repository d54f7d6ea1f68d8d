/*
 * Nyx IOMMU: device models that hold on to mapped guest memory
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_IOMMU_NYX_HELD_MAPS_H
#define HW_IOMMU_NYX_HELD_MAPS_H

#include "hw/pci/pci_device.h"

/*
 * Most models map guest memory for one request and translate anew for the next.
 * AHCI maps the command list and the receive area of a port when the port is
 * started; have it do so anew, by today's translation.  No request of the
 * device is under way.  BQL held.
 */
void nyx_device_renew_maps(PCIDevice *dev);

#endif
