/*
 * Nyx IOMMU: a guard between QEMU and a vfio-user server
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_IOMMU_NYX_VFIO_USER_H
#define HW_IOMMU_NYX_VFIO_USER_H

#include "hw/pci/pci_device.h"
#include "io/channel.h"

/*
 * @ioc: connected to the server of @dev, nothing said yet.  On a machine with a
 * Nyx IOMMU it is replaced by a channel whose other end is the guard: only
 * what the vfio-user protocol and the device's domain allow passes, and every
 * request is answered in time, whatever the server does.  BQL held.
 */
bool nyx_vfio_user_guard(PCIDevice *dev, QIOChannel **ioc, Error **errp);

/* False with @errp: the guard does not listen to the server any more. */
bool nyx_vfio_user_is_sound(PCIDevice *dev, Error **errp);

/* @errp is set: if the guard knows a deeper reason, put it in front. */
void nyx_vfio_user_explain(PCIDevice *dev, Error **errp);

#endif
