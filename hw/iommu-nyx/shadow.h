/*
 * Nyx IOMMU: translations of both stages together, as they were found
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * A table of final translations, filled lazily by DMA and emptied by whoever
 * changes a stage.  It knows nothing of devices and of stages.
 *
 * The generation makes that safe without a lock around both: a DMA reads it
 * before it asks the stages, and what it found is only kept if nothing has
 * been taken back since.  It is also what the IOTLB in front is valid for.
 *
 * Locking: any thread; readers inside an RCU read-side critical section.
 */

#ifndef HW_IOMMU_NYX_SHADOW_H
#define HW_IOMMU_NYX_SHADOW_H

#include "page-table.h"
#include "qemu/thread.h"

/*
 * Memory for tables; then it starts anew.  Enough for 32 GiB in 4 KiB pages, if
 * they lie close; it keeps a guest from taking the host's memory.
 */
#define NYX_SHADOW_BYTES_MAX    (64ULL << 20)

/* Ranges that are taken out of the table together; neighbours count as one. */
#define NYX_SHADOW_BATCH        64

typedef struct NyxShadowRange {
    uint64_t first;
    uint64_t last;
} NyxShadowRange;

typedef struct NyxShadow {
    QemuMutex lock;             /* of writers */
    NyxPageTable *table;        /* RCU; replaced when all goes */
    uint64_t generation;        /* atomic; no two shadows share a value */
    unsigned deferred;          /* atomic; ranges still in the table */
    NyxShadowRange range[NYX_SHADOW_BATCH];
} NyxShadow;

void nyx_shadow_init(NyxShadow *shadow);
void nyx_shadow_destroy(NyxShadow *shadow);

/* To be read before the stages are asked. */
static inline uint64_t nyx_shadow_generation(NyxShadow *shadow)
{
    return qatomic_load_acquire(&shadow->generation);
}

/* False: not known.  Takes the lock if anything is deferred. */
bool nyx_shadow_lookup(NyxShadow *shadow, uint64_t iova, NyxTranslation *t);

/*
 * Remember that @t holds for the naturally aligned range of @t->mask + 1 bytes
 * around @iova; mask + 1 is a power of two, at least a page.  If the range was
 * known for other kinds of access, it is from now on for both.  Does nothing
 * when something was taken back after @generation was read.
 */
void nyx_shadow_fill(NyxShadow *shadow, uint64_t generation, uint64_t iova,
                     const NyxTranslation *t);

/* Forget first..last; afterwards nobody finds what was there. */
void nyx_shadow_forget(NyxShadow *shadow, uint64_t first, uint64_t last);

/*
 * The same, but the range is taken out of the table by whoever looks into it
 * next, along with what else is forgotten until then.
 */
void nyx_shadow_defer(NyxShadow *shadow, uint64_t first, uint64_t last);

/* Forget everything, in constant time. */
void nyx_shadow_forget_all(NyxShadow *shadow);

#endif
