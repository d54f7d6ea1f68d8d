/*
 * Nyx IOMMU: KVM's routes for interrupt messages, as its parts know them
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_IOMMU_NYX_LOCAL_MSI_ROUTE_H
#define HW_IOMMU_NYX_LOCAL_MSI_ROUTE_H

/*
 * A device has been set to work, or moved: judge all routes anew.  When it
 * returns KVM delivers nothing by an old route.  Nothing to do without KVM or
 * without interrupts in the kernel.  BQL held.
 */
void nyx_msi_routes_refresh(void);

#endif
