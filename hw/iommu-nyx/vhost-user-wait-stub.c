/*
 * Nyx IOMMU: vhost-user in a QEMU whose target has no Nyx IOMMU
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "nyx/include/hw/iommu-nyx/vhost-user-wait.h"

void nyx_vhost_user_await(CharFrontend *fe, size_t size)
{
}

void nyx_vhost_user_await_channel(QIOChannel *ioc, size_t size)
{
}
