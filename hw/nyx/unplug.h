/*
 * nyx-pc: unplugging that ends, whatever the guest does
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * device_del asks the guest to let go of a device.  A guest that is stuck never
 * does.  So a device that is not operational (quarantined, recovering, failed)
 * is taken out when the time is over, as if it had been pulled out of its slot;
 * one that is operational stays until the guest lets go of it, or until it is
 * contained and the time is over once more.
 *
 * Each step is an event NYX_DEVICE_UNPLUG.
 *
 * Locking: BQL.
 */

#ifndef HW_NYX_UNPLUG_H
#define HW_NYX_UNPLUG_H

#include "hw/pci/pci_device.h"
#include "nyx/include/hw/iommu-nyx/nyx-iommu.h"
#include "qemu/notify.h"

#define NYX_UNPLUG_TIMEOUT_MS   10000

typedef struct NyxUnplugRequest NyxUnplugRequest;

/* All requests of a machine */
typedef struct NyxUnplug {
    /* From a request on; 0: a device that is not operational goes at once. */
    uint32_t timeout_ms;
    bool forcing;               /* devices are being taken out by us */
    QTAILQ_HEAD(, NyxUnplugRequest) requests;
    Notifier state_notifier;
    DeviceListener listener;
} NyxUnplug;

void nyx_unplug_init(NyxUnplug *unplug);

/* @iommu is realized. */
void nyx_unplug_start(NyxUnplug *unplug, NyxIommu *iommu);

/*
 * The guest is about to be asked for @dev, and: it was, or (@accepted false)
 * that was refused.  The device may be gone by then; the caller holds a
 * reference.
 */
void nyx_unplug_request(NyxUnplug *unplug, PCIDevice *dev);
void nyx_unplug_requested(NyxUnplug *unplug, PCIDevice *dev, bool accepted);

/* @dev, which is realized, is about to be taken out. */
void nyx_unplug_let_go(NyxUnplug *unplug, PCIDevice *dev);

#endif
