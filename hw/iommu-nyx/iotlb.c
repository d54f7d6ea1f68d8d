/*
 * Nyx IOMMU: per-endpoint cache of translations
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/memalign.h"
#include "iotlb.h"

/* Entries must not straddle cache lines. */
QEMU_BUILD_BUG_ON(sizeof(NyxIotlbEntry) != 32);
QEMU_BUILD_BUG_ON(IOMMU_RW != NYX_IOTLB_PERM_MASK);

uint64_t nyx_iotlb_next_generation(void)
{
    static uint64_t generation;

    return qatomic_add_fetch(&generation, 1);
}

void nyx_iotlb_init(NyxIotlb *tlb)
{
    *tlb = (NyxIotlb) {};
}

void nyx_iotlb_destroy(NyxIotlb *tlb)
{
    qemu_vfree(tlb->entries);
    nyx_iotlb_init(tlb);
}

static NyxIotlbEntry *iotlb_allocate(NyxIotlb *tlb)
{
    size_t bytes = NYX_IOTLB_ENTRIES * sizeof(NyxIotlbEntry);
    NyxIotlbEntry *entries = qemu_memalign(64, bytes);
    NyxIotlbEntry *other;

    memset(entries, 0, bytes);
    other = qatomic_cmpxchg(&tlb->entries, NULL, entries);
    if (other) {
        qemu_vfree(entries);
        return other;
    }
    return entries;
}

/* False: another thread fills this entry.  It is as good as ours. */
static bool entry_lock(NyxIotlbEntry *e, uint64_t *sequence)
{
    *sequence = qatomic_read(&e->sequence);

    return !(*sequence & 1) &&
           qatomic_cmpxchg(&e->sequence, *sequence, *sequence + 1) == *sequence;
}

void nyx_iotlb_fill(NyxIotlb *tlb, uint64_t generation, uint64_t iova,
                    const NyxTranslation *t)
{
    NyxIotlbEntry *e;
    uint64_t sequence;
    uint64_t zeros = clz64(t->mask);

    if (!(t->perm & IOMMU_RW)) {
        return;
    }
    g_assert(t->mask >= NYX_PAGE_SIZE - 1 && t->mask == UINT64_MAX >> zeros);
    g_assert(!(t->gpa & (NYX_PAGE_SIZE - 1)));

    e = qatomic_rcu_read(&tlb->entries);
    if (!e) {
        e = iotlb_allocate(tlb);
    }
    e += nyx_iotlb_index(iova);
    if (!entry_lock(e, &sequence)) {
        return;
    }
    /* The odd sequence before the words, the words before the even one. */
    smp_wmb();
    qatomic_set(&e->key, nyx_iotlb_key(iova));
    qatomic_set(&e->generation, generation);
    qatomic_set(&e->value, t->gpa | zeros << NYX_IOTLB_ZEROS_SHIFT |
                           (t->perm & IOMMU_RW));
    qatomic_store_release(&e->sequence, sequence + 2);
}
