/*
 * Nyx IOMMU: VFIO devices that can migrate
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * VFIO learns from the host which pages a device has written, by the address
 * that the device used, and takes that for the VM's.  So such a device migrates
 * while its endpoint passes through or is cut off, not while it translates.
 *
 * Locking: BQL.
 */

#ifndef HW_IOMMU_NYX_VFIO_MIGRATION_H_
#define HW_IOMMU_NYX_VFIO_MIGRATION_H_

#include "endpoint.h"
#include "migration/misc.h"
#include "nyx/include/hw/iommu-nyx/vfio-migration.h"

/*
 * The view of @ep shows another mode than before.  During a migration what the
 * device has written is not known any more: the migration fails, or sends all
 * RAM once more if the device was cut off.
 */
void nyx_vfio_migration_view_changed(NyxEndpoint *ep);

/* Has it no device but such ones?  Then it has no use for the trap. */
bool nyx_vfio_migration_is_all(NyxEndpoint *ep);

/* Add blockers that could not be added while a migration was running. */
void nyx_vfio_migration_refresh(NyxIommu *iommu);

/* The device goes. */
void nyx_vfio_migration_forget(NyxFunction *fn);

/*
 * Refuse a table for @domain, which has none, while one of its devices is
 * migrating.
 */
bool nyx_vfio_migration_allows_table(NyxDomain *domain, Error **errp);

/* A MigrationNotifyFunc: refuse to start where no blocker could be added. */
int nyx_vfio_migration_starts(NotifierWithReturn *notifier, MigrationEvent *e,
                              Error **errp);

#endif
