/*
 * Work that needs the BQL, for callers that may have it or not
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * A DMA of an iothread that the guest's IOMMU refuses makes that tell the
 * guest: by an interrupt, or by a message in a virtqueue.  Both need the BQL,
 * which the thread must not wait for: who has it may be waiting for the thread.
 */

#ifndef HW_IOMMU_NYX_WITH_BQL_H
#define HW_IOMMU_NYX_WITH_BQL_H

/*
 * Call @work with @data: at once if the caller holds the BQL; else soon, from
 * the main loop, with a copy of its @size bytes.  If too much is waiting then,
 * it is left out, as what waits is about events that are older.  Any thread.
 */
void nyx_with_bql(void (*work)(void *data), void *data, size_t size);

#endif
