/*
 * nyx-pc: taking out a PCI device without asking the guest
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_NYX_SURPRISE_REMOVAL_H
#define HW_NYX_SURPRISE_REMOVAL_H

#include "hw/pci/pci_device.h"

/*
 * Take out all functions of the slot that @dev is in, and tell the guest as
 * far as the slot's hotplug controller can.  The bus allows hotplug; the caller
 * holds a reference to @dev.  BQL held; may wait for the devices' I/O.
 *
 * What stays: functions that QEMU does not unplug either when the guest lets
 * go of the slot (those of a failover pair, bridges that ACPI has described).
 */
void nyx_surprise_removal(PCIDevice *dev);

/*
 * @dev has just been plugged in: a request to eject what was taken out of its
 * slot before is not meant for it.
 */
void nyx_surprise_removal_forget(PCIDevice *dev);

#endif
