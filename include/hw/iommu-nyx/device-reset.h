/*
 * Nyx IOMMU: devices that are being reset
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * QEMU's PCI code says when a reset of a function begins and ends, whoever
 * asked for it: the guest, the machine, a port, the operator.  Meanwhile its
 * accesses are refused.  Without a Nyx IOMMU none of this has any effect.
 *
 * Locking: BQL, unless it says otherwise.
 */

#ifndef HW_IOMMU_NYX_DEVICE_RESET_H
#define HW_IOMMU_NYX_DEVICE_RESET_H

#include "hw/core/resettable.h"
#include "hw/pci/pci_device.h"

/* Around a reset of @dev alone.  Pairs may be nested. */
void nyx_device_reset_begin(PCIDevice *dev);
void nyx_device_reset_end(PCIDevice *dev);

/* The same for the functions on a bus: its phases enter and exit. */
void nyx_bus_reset_enter(Object *bus, ResetType type);
void nyx_bus_reset_exit(Object *bus, ResetType type);

/*
 * Is @dev, or the PCI function that it is part of, being reset?  Any thread.
 * For who finds that the device cannot reach its memory.
 */
bool nyx_is_being_reset(DeviceState *dev);

#endif
