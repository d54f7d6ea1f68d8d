/*
 * Nyx IOMMU: queues of vhost devices in a QEMU without vhost
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "vhost-queues.h"

void nyx_vhost_tell_queues(NyxEndpoint *ep)
{
}
