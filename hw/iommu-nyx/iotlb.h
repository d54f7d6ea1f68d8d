/*
 * Nyx IOMMU: per-endpoint cache of translations
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Direct mapped, one entry per 4 KiB page, lockless: any number of threads
 * look up and fill at once.  A larger leaf takes one entry per page of it that
 * is used (its walk is short, so that a miss is cheap), but a hit returns the
 * whole leaf.
 *
 * An entry is valid only for the generation under which it was filled, so
 * invalidating everything is one increment (O(1)).  The generation belongs to
 * the owner of the page table:
 *   reader: generation = qatomic_load_acquire(&g); look up; on a miss walk
 *           the table and fill with that same generation.
 *   writer: change the table; then qatomic_store_release(&g, g + 1).
 * A walk that began with the new generation sees the change, so what was
 * walked before the change can never be found after the increment.  Accesses
 * that looked up before the increment may still be on their way: who needs
 * them ended waits for an RCU grace period, as for the tables.
 *
 * Generations have 64 bits and are compared in full: they do not wrap within
 * the life of any process (584 years at one increment per nanosecond), so an
 * entry never becomes valid again.  The same holds for the entries' sequence.
 */

#ifndef HW_IOMMU_NYX_IOTLB_H
#define HW_IOMMU_NYX_IOTLB_H

#include "qemu/atomic.h"
#include "qemu/host-utils.h"
#include "page-table.h"

#define NYX_IOTLB_BITS      9
#define NYX_IOTLB_ENTRIES   (1U << NYX_IOTLB_BITS)

/*
 * A sequence lock per entry makes a torn read impossible.  Words that check
 * each other (one XORed with the other) only make it unlikely, and regular
 * mappings, whose IOVAs and GPAs differ in the same bits, less so.
 */
typedef struct NyxIotlbEntry {
    uint64_t sequence;          /* odd: somebody fills */
    uint64_t generation;
    uint64_t key;               /* page's IOVA | KEY_VALID */
    uint64_t value;             /* leaf's GPA | leading zeros of mask | perm */
} NyxIotlbEntry;

typedef struct NyxIotlb {
    NyxIotlbEntry *entries;     /* 16 KiB, allocated by the first fill */
    uint64_t hits;
    uint64_t misses;
    uint64_t missed_generation; /* of the latest miss */
    uint64_t eager_until;       /* this many misses */
} NyxIotlb;

/* A value that no other generation has or had.  Any thread. */
uint64_t nyx_iotlb_next_generation(void);

/* Allocates nothing. */
void nyx_iotlb_init(NyxIotlb *tlb);

/* No lookup or fill may run any more.  Afterwards as after init. */
void nyx_iotlb_destroy(NyxIotlb *tlb);

/* For statistics, any thread.  Counts may get lost when threads race. */
static inline uint64_t nyx_iotlb_hits(NyxIotlb *tlb)
{
    return qatomic_read(&tlb->hits);
}

static inline uint64_t nyx_iotlb_misses(NyxIotlb *tlb)
{
    return qatomic_read(&tlb->misses);
}

#define NYX_IOTLB_KEY_VALID     1ULL
#define NYX_IOTLB_PERM_MASK     3ULL    /* IOMMU_RW */
#define NYX_IOTLB_ZEROS_SHIFT   2
#define NYX_IOTLB_ZEROS_MASK    63ULL

static inline uint64_t nyx_iotlb_key(uint64_t iova)
{
    return (iova & ~(NYX_PAGE_SIZE - 1)) | NYX_IOTLB_KEY_VALID;
}

/*
 * Buffers that start at multiples of the cache's reach (2 MiB) must not share
 * entries, hence the second term; neighbouring pages never do.
 */
static inline unsigned nyx_iotlb_index(uint64_t iova)
{
    uint64_t page = iova >> NYX_PAGE_BITS;

    return (page ^ (page >> NYX_IOTLB_BITS)) & (NYX_IOTLB_ENTRIES - 1);
}

static inline void nyx_iotlb_count(uint64_t *counter)
{
    qatomic_set(counter, qatomic_read(counter) + 1);
}

static inline QEMU_ALWAYS_INLINE bool
nyx_iotlb_entry_get(NyxIotlbEntry *e, uint64_t generation, uint64_t key,
                    uint64_t *value)
{
    uint64_t sequence = qatomic_load_acquire(&e->sequence);
    bool valid = qatomic_read(&e->key) == key &&
                 qatomic_read(&e->generation) == generation;

    *value = qatomic_read(&e->value);
    /* The words before the second look at the sequence */
    smp_rmb();
    return valid && !(sequence & 1) && qatomic_read(&e->sequence) == sequence;
}

/*
 * RCU read side, any thread.  True: *t as it was filled for this page of @iova
 * under this @generation.  False: *t untouched; walk the table, and say so with
 * nyx_iotlb_missed().
 */
static inline QEMU_ALWAYS_INLINE bool
nyx_iotlb_lookup(NyxIotlb *tlb, uint64_t generation, uint64_t iova,
                 NyxTranslation *t)
{
    NyxIotlbEntry *entries = qatomic_rcu_read(&tlb->entries);
    uint64_t value;

    if (!entries ||
        !nyx_iotlb_entry_get(&entries[nyx_iotlb_index(iova)], generation,
                             nyx_iotlb_key(iova), &value)) {
        return false;
    }
    nyx_iotlb_count(&tlb->hits);
    t->gpa = value & ~(NYX_PAGE_SIZE - 1);
    t->mask = UINT64_MAX >>
              ((value >> NYX_IOTLB_ZEROS_SHIFT) & NYX_IOTLB_ZEROS_MASK);
    t->perm = value & NYX_IOTLB_PERM_MASK;
    return true;
}

/*
 * Count a miss, and say whether to fill what was missed under @generation.  A
 * fill costs more than a walk.  In a cache that is empty each is worth it; when
 * there were as many as it has entries, and it still misses, it is too small:
 * then one in so many keeps what is used most, and costs little more than none.
 */
#define NYX_IOTLB_MISSES_PER_FILL   8

static inline bool nyx_iotlb_missed(NyxIotlb *tlb, uint64_t generation)
{
    uint64_t misses = qatomic_read(&tlb->misses) + 1;

    qatomic_set(&tlb->misses, misses);
    if (qatomic_read(&tlb->missed_generation) != generation) {
        qatomic_set(&tlb->missed_generation, generation);
        qatomic_set(&tlb->eager_until, misses + NYX_IOTLB_ENTRIES);
    }
    return misses < qatomic_read(&tlb->eager_until) ||
           misses % NYX_IOTLB_MISSES_PER_FILL == 0;
}

/*
 * RCU read side, any thread.  @generation: as read before the walk that found
 * @t, the leaf that holds @iova.  Remembers nothing when @t maps nothing, or
 * when another thread fills the same entry at this moment.
 */
void nyx_iotlb_fill(NyxIotlb *tlb, uint64_t generation, uint64_t iova,
                    const NyxTranslation *t);

#endif
