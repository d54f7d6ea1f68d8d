/*
 * Nyx IOMMU: what a device's backend was told of its mappings
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Some backends translate by themselves: vhost asks on a miss and caches, VFIO
 * and vfio-user must be told of each mapping.  They listen to the endpoint's
 * translating region; what they were told is recorded here, as they can only
 * take back what they were given: a mapping as a whole.
 *
 * Locking: BQL.  When these functions return, the backend has heard of it.
 */

#ifndef HW_IOMMU_NYX_MIRROR_H
#define HW_IOMMU_NYX_MIRROR_H

#include "page-table.h"
#include "qemu/iova-tree.h"

typedef struct NyxEndpoint NyxEndpoint;

typedef struct NyxMirror {
    IOVATree *told;             /* NULL while nobody wants to know */
    IOMMUNotifier *only;        /* replay: tell this one, or (NULL) all */
} NyxMirror;

/* What the listeners of the endpoint's translating region want to hear of. */
IOMMUNotifierFlag nyx_mirror_flags(NyxEndpoint *ep);

/* That has changed.  Errors are stage 1's. */
bool nyx_mirror_set_flags(NyxEndpoint *ep, IOMMUNotifierFlag flags,
                          Error **errp);

/* Tell the new listener @n of all that holds. */
void nyx_mirror_replay(NyxEndpoint *ep, IOMMUNotifier *n);

/*
 * Something between first and last may have changed on our side: withdraw what
 * was told of it, and tell what holds now.  What a mapping has outside of the
 * range is away for a moment if the mapping reaches into it.
 */
void nyx_mirror_sync(NyxEndpoint *ep, uint64_t first, uint64_t last);

/* Stage 1 maps: pass on what stage 2 allows of it. */
void nyx_mirror_map(NyxEndpoint *ep, const IOMMUTLBEntry *entry);

/* Stage 1 takes back. */
void nyx_mirror_unmap(NyxEndpoint *ep, uint64_t first, uint64_t last);

void nyx_mirror_destroy(NyxMirror *mirror);

#endif
