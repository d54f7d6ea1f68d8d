/*
 * Nyx: what both sides of a migration must have alike
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Locking: BQL.
 */

#ifndef NYX_MIGRATION_CONFIGURATION_H
#define NYX_MIGRATION_CONFIGURATION_H

#include "nyx/hw/iommu-nyx/iommu.h"

NyxMigrationConfiguration *nyx_configuration_of(NyxIommu *iommu);

/* One reason; the sentence says which side has what. */
typedef void NyxConfigurationDiffers(char *reason, void *opaque);

/* @fn owns each reason. */
void nyx_configuration_compare(const NyxMigrationConfiguration *source,
                               const NyxMigrationConfiguration *destination,
                               NyxConfigurationDiffers *fn, void *opaque);

#endif
