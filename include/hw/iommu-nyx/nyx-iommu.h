/*
 * Nyx IOMMU: what it offers to a machine
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_IOMMU_NYX_NYX_IOMMU_H
#define HW_IOMMU_NYX_NYX_IOMMU_H

#include "hw/pci/pci_device.h"
#include "qapi/qapi-types-nyx.h"
#include "qemu/notify.h"

#define TYPE_NYX_IOMMU "nyx-iommu"
OBJECT_DECLARE_SIMPLE_TYPE(NyxIommu, NYX_IOMMU)

/*
 * The IOMMU of this VM, or NULL.  To be realized before the first PCI device
 * is: it takes over the DMA of all devices at and below that one's root bus.
 */
NyxIommu *nyx_iommu_get(void);

/*
 * May this device be realized?  Refuses, with the remedy, a device that would
 * bypass the IOMMU, that names a domain which it cannot join, or whose backend
 * cannot be confined.  BQL held.
 */
bool nyx_iommu_pre_plug(NyxIommu *iommu, DeviceState *dev, Error **errp);

/*
 * Put @model, an IOMMU that is realized and that the guest sees, in front of
 * @iommu.  Once, before any device of the user is realized.  BQL held.
 */
bool nyx_iommu_attach_stage1(NyxIommu *iommu, DeviceState *model, Error **errp);

/*
 * The guest has let go of a port that had contained an error: recover what is
 * quarantined below it, as far as policy and budget allow.  BQL held.
 */
void nyx_iommu_port_released(PCIDevice *port);

/*
 * How a realized device stands: its name (qdev id, or QOM path; g_free() it),
 * the id of its domain (valid while it is there), its state.  BQL held.
 */
char *nyx_iommu_device_name(PCIDevice *dev);
const char *nyx_iommu_device_domain(PCIDevice *dev);
NyxDeviceState nyx_iommu_device_state(PCIDevice *dev);

/*
 * Call @notifier, with the PCIDevice as data, after the state of a device has
 * changed; it must not take devices out.  BQL held, also when it is called.
 */
void nyx_iommu_add_state_notifier(NyxIommu *iommu, Notifier *notifier);

/*
 * A realized device that is operational has failed: cut it off, or reset it
 * within its budget of recoveries.  Errors name the device.  BQL held, in the
 * main loop.
 */
bool nyx_iommu_isolate_device(PCIDevice *dev, const char *reason,
                              Error **errp);
bool nyx_iommu_reset_device(PCIDevice *dev, const char *reason, Error **errp);

/*
 * Back to the snapshot that the machine option recovery-snapshot names, within
 * the budget of max-restores; a VM that ran runs on.  On error the VM is as it
 * was, or stopped.  BQL held, in a bottom half of the main loop.
 */
bool nyx_iommu_restore_snapshot(NyxIommu *iommu, Error **errp);

/* Such restores less than one hour ago.  BQL held. */
uint32_t nyx_iommu_restores(NyxIommu *iommu);

/* What nyx-dump writes.  BQL held. */
QObject *nyx_iommu_dump(NyxIommu *iommu);

/* Give every PCI device the property "nyx-domain".  Once per process. */
void nyx_iommu_add_device_property(void);

#endif
