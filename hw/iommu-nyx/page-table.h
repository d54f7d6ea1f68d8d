/*
 * Nyx IOMMU: the table of what a domain may touch
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * A radix tree of 4 levels with 512 entries each: 48 bits of I/O virtual
 * address (IOVA), leaves of 4 KiB, 2 MiB and 1 GiB.  It knows nothing of
 * devices.  Ranges are inclusive (first, last), so that the end of the
 * address space can be named without overflow.
 *
 * Locking: one writer at a time (the caller's lock; in QEMU the BQL).  Any
 * number of readers call nyx_page_table_lookup() inside an RCU read-side
 * critical section; they see each leaf either before or after a change,
 * never in between, and what a change does not name they see unchanged all
 * along.  Of a range of several leaves they may see a part changed.  Tables
 * that go are freed after a grace period.
 */

#ifndef HW_IOMMU_NYX_PAGE_TABLE_H
#define HW_IOMMU_NYX_PAGE_TABLE_H

#include "qemu/rcu.h"
#include "system/memory.h"

#define NYX_PAGE_BITS   12
#define NYX_PAGE_SIZE   (1ULL << NYX_PAGE_BITS)
#define NYX_IOVA_BITS   48
#define NYX_IOVA_LAST   ((1ULL << NYX_IOVA_BITS) - 1)
/* Output addresses: what x86 can name, 52 bits */
#define NYX_GPA_BITS    52
#define NYX_GPA_LAST    ((1ULL << NYX_GPA_BITS) - 1)

/*
 * Memory that the tables of one page table may take.  Enough for 2 TiB in
 * leaves of 4 KiB, or for any range in larger leaves; it keeps a slip (256 TiB
 * in leaves of 4 KiB) from taking the host's memory.
 */
#define NYX_TABLE_BYTES_MAX     (4ULL << 30)

typedef struct NyxFigures {
    uint64_t pages;             /* of NYX_PAGE_SIZE, mapped */
    uint64_t leaves;
    uint64_t tables;
} NyxFigures;

/* Private; complete because RCU's macros want it so. */
typedef struct NyxPageTable {
    struct rcu_head rcu;
    uint64_t root;              /* an entry: 0 or a table of level LEVELS */
    bool large_pages;
    NyxFigures figures;         /* the root's, for readers */
} NyxPageTable;

/* What a lookup found: the leaf that holds the address. */
typedef struct NyxTranslation {
    uint64_t gpa;               /* of the leaf's first byte */
    uint64_t mask;              /* leaf size - 1 */
    IOMMUAccessFlags perm;      /* IOMMU_NONE: not mapped */
} NyxTranslation;

/*
 * Costs no table before the first mapping.  Without @large_pages all leaves
 * are of 4 KiB.
 */
NyxPageTable *nyx_page_table_new(bool large_pages);

/*
 * Readers that are inside may finish; the memory goes after a grace period.
 * NULL is fine.
 */
void nyx_page_table_free(NyxPageTable *pt);

/*
 * Map first..last to gpa and up, with the largest leaves that alignment and
 * length allow.  @perm: IOMMU_RO, IOMMU_WO or IOMMU_RW.
 * 0; -EINVAL unaligned, empty, other perm, beyond IOVA or GPA width;
 * -EEXIST something in the range is mapped; -ENOSPC the tables would take more
 * than NYX_TABLE_BYTES_MAX.  On error nothing changes.
 */
int nyx_page_table_map(NyxPageTable *pt, uint64_t first, uint64_t last,
                       uint64_t gpa, IOMMUAccessFlags perm);

/*
 * 0; -EINVAL as above; -ENOENT some page of the range is not mapped.
 * Larger leaves are split at the range's ends.  On error nothing changes.
 */
int nyx_page_table_unmap(NyxPageTable *pt, uint64_t first, uint64_t last);

/*
 * Take away whatever is mapped in the range, holes or not.  Bytes beyond
 * NYX_IOVA_LAST are ignored, and a page that is only partly in the range goes
 * as a whole.  first <= last, or nothing happens.
 */
void nyx_page_table_clear(NyxPageTable *pt, uint64_t first, uint64_t last);

/*
 * The same, for ranges that are soon mapped again: tables stay that the range
 * holds a part of, though nothing is left in them, and the root.  They go when
 * a range holds all that they span.  Until then nyx_page_table_map() takes them
 * for mapped where a larger leaf would go: wipe a range before it is mapped.
 */
void nyx_page_table_wipe(NyxPageTable *pt, uint64_t first, uint64_t last);

/*
 * RCU read side, any thread.  @iova: any 64-bit address, aligned or not.
 * False (gpa 0, perm NONE, mask = NYX_PAGE_SIZE - 1) if not mapped.
 */
bool nyx_page_table_lookup(NyxPageTable *pt, uint64_t iova,
                           NyxTranslation *t);

/*
 * Figures; constant time, any thread.  Each is right in itself; read beside a
 * writer, they may be of different moments.
 */
uint64_t nyx_page_table_mapped_bytes(NyxPageTable *pt);
uint64_t nyx_page_table_table_bytes(NyxPageTable *pt);
uint64_t nyx_page_table_leaves(NyxPageTable *pt);

/*
 * Visit maximal runs that are contiguous in IOVA, GPA and equal in perm, in
 * ascending order.  Stops early, and returns false, when fn returns false.
 * Needs the writer's lock, or the RCU read side (then it may see a part of a
 * change).  @fn must not change the table.
 */
typedef bool (*NyxPageTableVisit)(uint64_t first, uint64_t last, uint64_t gpa,
                                  IOMMUAccessFlags perm, void *opaque);
bool nyx_page_table_foreach(NyxPageTable *pt, NyxPageTableVisit fn,
                            void *opaque);

/*
 * The same for what of it lies in first..last, which are aligned to pages:
 * runs end where the range does.
 */
bool nyx_page_table_foreach_in(NyxPageTable *pt, uint64_t first, uint64_t last,
                               NyxPageTableVisit fn, void *opaque);

/*
 * Tables that exist in the process, those that wait for a grace period
 * included: for tests to find leaks.
 */
uint64_t nyx_page_table_live_tables(void);

#endif
