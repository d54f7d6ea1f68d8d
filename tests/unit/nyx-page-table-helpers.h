/*
 * Nyx IOMMU: what the tests of the page table share
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef TESTS_UNIT_NYX_PAGE_TABLE_HELPERS_H
#define TESTS_UNIT_NYX_PAGE_TABLE_HELPERS_H

#include "qemu/rcu.h"
#include "nyx/hw/iommu-nyx/page-table.h"

#define PAGE            NYX_PAGE_SIZE

/*
 * TSan knows nothing of grace periods (QEMU's RCU waits with membarriers), so
 * it takes the end of a table for a race with its readers.  ASan sees whether a
 * table goes too early.
 */
#ifdef QEMU_SANITIZE_THREAD
const char *__tsan_default_suppressions(void);
const char *__tsan_default_suppressions(void)
{
    return "race:table_free_tree\n";
}
#endif

/* Leaks and figures: what every test ends with */
static inline void free_and_check(NyxPageTable *pt)
{
    nyx_page_table_clear(pt, 0, UINT64_MAX);
    g_assert_cmpuint(nyx_page_table_mapped_bytes(pt), ==, 0);
    g_assert_cmpuint(nyx_page_table_leaves(pt), ==, 0);
    g_assert_cmpuint(nyx_page_table_table_bytes(pt), ==, 0);
    nyx_page_table_free(pt);
    drain_call_rcu();
    g_assert_cmpuint(nyx_page_table_live_tables(), ==, 0);
}

static inline void map_ok(NyxPageTable *pt, uint64_t first, uint64_t size,
                          uint64_t gpa, IOMMUAccessFlags perm)
{
    g_assert_cmpint(nyx_page_table_map(pt, first, first + size - 1, gpa, perm),
                    ==, 0);
}

static inline void check_unmapped(NyxPageTable *pt, uint64_t iova)
{
    NyxTranslation t = { .gpa = 1, .mask = 1, .perm = IOMMU_RW };

    g_assert_false(nyx_page_table_lookup(pt, iova, &t));
    g_assert_cmphex(t.gpa, ==, 0);
    g_assert_cmphex(t.mask, ==, PAGE - 1);
    g_assert_cmpuint(t.perm, ==, IOMMU_NONE);
}

#endif
