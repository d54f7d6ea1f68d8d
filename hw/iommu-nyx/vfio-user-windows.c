/*
 * Nyx IOMMU: the windows that a vfio-user server was given
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * QEMU takes back what is in a range, whatever that is, as the kernel lets it;
 * a server can only be told to give up a window as it was given.
 */

#include "qemu/osdep.h"
#include <linux/vfio.h>
#include "vfio-user-guard.h"

void nyx_vu_window_added(VuGuard *g, const VFIOUserDMAMap *map)
{
    DMAMap window = {
        .iova = map->iova, .size = map->size - 1, .perm = IOMMU_RW,
    };

    if (map->size) {
        iova_tree_insert(g->windows, &window);
    }
}

void nyx_vu_window_failed(VuGuard *g, uint64_t iova, uint64_t size)
{
    DMAMap window = { .iova = iova, .size = size - 1 };

    if (size && iova_tree_find(g->windows, &window)) {
        iova_tree_remove(g->windows, window);
    }
}

GArray *nyx_vu_windows_removed(VuGuard *g, const VFIOUserDMAUnmap *unmap)
{
    GArray *removed = g_array_new(false, false, sizeof(DMAMap));
    DMAMap range = { .iova = unmap->iova, .size = unmap->size - 1 };
    const DMAMap *found;

    if (unmap->flags & VFIO_DMA_UNMAP_FLAG_ALL) {
        range = (DMAMap) { .iova = 0, .size = UINT64_MAX };
    } else if (!unmap->size) {
        return removed;
    }
    while ((found = iova_tree_find(g->windows, &range))) {
        DMAMap window = *found;

        g_array_append_val(removed, window);
        iova_tree_remove(g->windows, window);
    }
    return removed;
}
