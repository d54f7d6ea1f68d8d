/*
 * Nyx IOMMU: what it has to say on KVM's routes for interrupt messages
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * An irqfd makes KVM deliver the message of a route; it never comes to the
 * interrupt window of the device.  So the message is judged when the route is
 * made or updated.
 *
 * Quarantine needs no update: whoever uses routes (virtio, VFIO, ivshmem) gives
 * them up when MSI-X or bus mastering goes off.  Recovery does, as a device
 * that is reset may make its routes before it is set to work.
 */

#ifndef HW_IOMMU_NYX_MSI_ROUTE_H
#define HW_IOMMU_NYX_MSI_ROUTE_H

#include "hw/pci/pci_device.h"

/*
 * Address of a message to nobody, with data 0: no processor has the logical
 * destination 0 (Intel SDM volume 3, "Logical Destination Mode").  KVM's callers
 * do not expect that a route can be refused: MSI-X asserts that it cannot.
 */
#define NYX_MSI_TO_NOBODY   0xfee00004

/*
 * May @dev raise this message?  If not it is counted, and the route is to lead
 * nowhere.  True for every device of a machine without a Nyx IOMMU.  BQL held.
 */
bool nyx_iommu_allows_msi(PCIDevice *dev, uint64_t address, uint32_t data);

#endif
