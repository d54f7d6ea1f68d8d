/*
 * Nyx: the pre-flight check in a QEMU whose target has no Nyx IOMMU
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qapi/qapi-commands-nyx.h"

NyxMigrationInfo *
qmp_query_nyx_migration(NyxMigrationConfiguration *destination, Error **errp)
{
    error_setg(errp, "not supported: this target has no Nyx IOMMU");
    return NULL;
}
