/*
 * Nyx IOMMU: the queues of a vhost device whose translations have changed
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Locking: BQL.
 */

#ifndef HW_IOMMU_NYX_VHOST_QUEUES_H
#define HW_IOMMU_NYX_VHOST_QUEUES_H

typedef struct NyxEndpoint NyxEndpoint;

/*
 * A backend that was told to forget where its queues are may wait to be told
 * anew, as DPDK does, rather than ask.  Tells what is allowed of them.  Only
 * when it is us who made it forget: a guest that switches its IOMMU on may have
 * queues that its firmware left, and that it does not map.
 */
void nyx_vhost_tell_queues(NyxEndpoint *ep);

#endif
