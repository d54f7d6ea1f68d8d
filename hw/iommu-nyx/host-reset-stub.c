/*
 * Nyx IOMMU: devices that the host passes through, in a QEMU without VFIO
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "host-reset.h"

bool nyx_host_can_reset(PCIDevice *dev, Error **errp)
{
    return true;
}
