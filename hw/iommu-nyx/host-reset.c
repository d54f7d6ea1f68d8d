/*
 * Nyx IOMMU: whether the host can reset a device that it passes through
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <linux/vfio.h>
#include <sys/ioctl.h>
#include "hw/pci/pci_device.h"
#include "hw/vfio/vfio-device.h"
#include "host-reset.h"
#include "qapi/error.h"

/* A reset of its bus or slot, if there is nothing else on it */
static bool bus_reset_works(VFIODevice *vfio)
{
    struct {
        struct vfio_pci_hot_reset_info info;
        struct vfio_pci_dependent_device self;
    } reset = { .info.argsz = sizeof(reset) };

    /* ENOSPC: there are other devices. */
    return !ioctl(vfio->fd, VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, &reset) &&
           reset.info.count == 1;
}

bool nyx_host_can_reset(PCIDevice *dev, Error **errp)
{
    VFIODevice *vfio = vfio_get_vfio_device(OBJECT(dev));

    if (!vfio || vfio->reset_works || bus_reset_works(vfio)) {
        return true;
    }
    error_setg(errp, "the host cannot reset the device by itself (it has no "
               "function level reset, and is not alone on its bus); unplug it, "
               "and plug it in again after a reset by the host");
    return false;
}
