/*
 * Nyx IOMMU: what stands behind a device, and what follows for its domain
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Locking: BQL.
 */

#ifndef HW_IOMMU_NYX_BACKEND_H
#define HW_IOMMU_NYX_BACKEND_H

#include "domain.h"
#include "qapi/qapi-types-nyx.h"

/* How the accesses of a device learn what its domain allows */
typedef enum NyxBackendDma {
    /* QEMU performs each of them, through the endpoint's address space. */
    NYX_BACKEND_DMA_LOCAL,
    /* It asks on a miss and caches the answer: it must hear of each UNMAP. */
    NYX_BACKEND_DMA_CACHES,
    /* It never asks: it must be told of each MAP and UNMAP. */
    NYX_BACKEND_DMA_MAPS,
    /* It has all RAM and cannot be told of anything; it can be stopped. */
    NYX_BACKEND_DMA_ALL_RAM,
} NyxBackendDma;

/* All of these are valid before the device is realized, too. */

NyxBackend nyx_device_backend(PCIDevice *dev);
NyxBackendDma nyx_backend_dma(PCIDevice *dev);

/* Does the device reach memory past any IOMMU?  Why, or NULL if not. */
const char *nyx_device_bypasses(PCIDevice *dev);

/*
 * Can DMA of the device be confined as @domain (NULL: an automatic one, yet to
 * be made) demands?  True if that is unmanaged.
 */
bool nyx_backend_can_join(PCIDevice *dev, NyxDomain *domain, Error **errp);

/*
 * Would all devices of the domain, which allows all RAM without a table, obey
 * one?  @errp names the device that would not.
 */
bool nyx_backend_allows_table(NyxDomain *domain, Error **errp);

#endif
