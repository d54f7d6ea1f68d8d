/*
 * Nyx IOMMU: test of the page table, case by case
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/units.h"
#include "nyx-page-table-helpers.h"

static void unmap_ok(NyxPageTable *pt, uint64_t first, uint64_t size)
{
    g_assert_cmpint(nyx_page_table_unmap(pt, first, first + size - 1), ==, 0);
}

static void check_mapped(NyxPageTable *pt, uint64_t iova, uint64_t gpa,
                         uint64_t leaf_size, IOMMUAccessFlags perm)
{
    NyxTranslation t;

    g_assert_true(nyx_page_table_lookup(pt, iova, &t));
    g_assert_cmphex(t.mask, ==, leaf_size - 1);
    g_assert_cmphex(t.gpa & t.mask, ==, 0);
    g_assert_cmphex(t.gpa + (iova & t.mask), ==, gpa);
    g_assert_cmpuint(t.perm, ==, perm);
}

static uint64_t tables(NyxPageTable *pt)
{
    NyxPageTable *one = nyx_page_table_new(true);
    uint64_t four;

    map_ok(one, 0, PAGE, 0, IOMMU_RO);
    four = nyx_page_table_table_bytes(one);
    nyx_page_table_free(one);
    g_assert_cmpuint(nyx_page_table_table_bytes(pt) % (four / 4), ==, 0);
    return nyx_page_table_table_bytes(pt) / (four / 4);
}

static bool visit_never(uint64_t first, uint64_t last, uint64_t gpa,
                        IOMMUAccessFlags perm, void *opaque)
{
    g_assert_not_reached();
}

static void test_empty(void)
{
    NyxPageTable *pt = nyx_page_table_new(true);

    g_assert_cmpuint(nyx_page_table_live_tables(), ==, 0);
    check_unmapped(pt, 0);
    check_unmapped(pt, NYX_IOVA_LAST);
    g_assert_true(nyx_page_table_foreach(pt, visit_never, NULL));
    g_assert_cmpint(nyx_page_table_unmap(pt, 0, NYX_IOVA_LAST), ==, -ENOENT);
    nyx_page_table_clear(pt, 0, NYX_IOVA_LAST);
    free_and_check(pt);
    nyx_page_table_free(NULL);
}

static void test_leaf_sizes(void)
{
    NyxPageTable *pt = nyx_page_table_new(true);

    /* 4 KiB + 2 MiB + 1 GiB + 2 MiB + 4 KiB, one range */
    map_ok(pt, GiB - 2 * MiB - PAGE, GiB + 4 * MiB + 2 * PAGE,
           5 * GiB - 2 * MiB - PAGE, IOMMU_RW);
    g_assert_cmpuint(nyx_page_table_leaves(pt), ==, 5);
    g_assert_cmpuint(tables(pt), ==, 2 + 2 * 2);
    check_unmapped(pt, GiB - 2 * MiB - PAGE - 1);
    check_mapped(pt, GiB - 2 * MiB - 1, 5 * GiB - 2 * MiB - 1, PAGE, IOMMU_RW);
    check_mapped(pt, GiB - 1, 5 * GiB - 1, 2 * MiB, IOMMU_RW);
    check_mapped(pt, GiB + 12345, 5 * GiB + 12345, GiB, IOMMU_RW);
    check_mapped(pt, 2 * GiB, 6 * GiB, 2 * MiB, IOMMU_RW);
    check_mapped(pt, 2 * GiB + 2 * MiB, 6 * GiB + 2 * MiB, PAGE, IOMMU_RW);
    check_unmapped(pt, 2 * GiB + 2 * MiB + PAGE);

    /* The output address limits the leaf, too. */
    map_ok(pt, 8 * GiB, GiB, 2 * MiB, IOMMU_RO);
    g_assert_cmpuint(nyx_page_table_leaves(pt), ==, 5 + 512);
    check_mapped(pt, 8 * GiB, 2 * MiB, 2 * MiB, IOMMU_RO);
    map_ok(pt, 9 * GiB, 2 * MiB, PAGE, IOMMU_WO);
    g_assert_cmpuint(nyx_page_table_leaves(pt), ==, 5 + 2 * 512);
    check_mapped(pt, 9 * GiB + 2 * MiB - 1, 2 * MiB + PAGE - 1, PAGE, IOMMU_WO);
    g_assert_cmpuint(nyx_page_table_mapped_bytes(pt), ==,
                     2 * GiB + 6 * MiB + 2 * PAGE);
    free_and_check(pt);
}

static void test_small_leaves_only(void)
{
    NyxPageTable *pt = nyx_page_table_new(false);
    uint64_t pages = GiB / PAGE;

    map_ok(pt, 0, GiB, 0, IOMMU_RW);
    g_assert_cmpuint(nyx_page_table_leaves(pt), ==, pages);
    g_assert_cmpuint(tables(pt), ==, 3 + 512);
    check_mapped(pt, 2 * MiB, 2 * MiB, PAGE, IOMMU_RW);
    /* "Close to 8 bytes per page" */
    g_assert_cmpuint(nyx_page_table_table_bytes(pt) * 100 / pages, <, 820);
    unmap_ok(pt, 0, GiB);
    g_assert_cmpuint(nyx_page_table_table_bytes(pt), ==, 0);
    free_and_check(pt);
}

static void test_split(void)
{
    NyxPageTable *pt = nyx_page_table_new(true);
    uint64_t hole = GiB + 3 * MiB;

    map_ok(pt, 0, 3 * GiB, 16 * GiB, IOMMU_RW);
    g_assert_cmpuint(nyx_page_table_leaves(pt), ==, 3);
    unmap_ok(pt, hole, PAGE);
    g_assert_cmpuint(nyx_page_table_leaves(pt), ==, 2 + 511 + 511);
    g_assert_cmpuint(tables(pt), ==, 2 + 2);
    check_unmapped(pt, hole);
    check_unmapped(pt, hole + PAGE - 1);
    check_mapped(pt, hole - 1, 16 * GiB + hole - 1, PAGE, IOMMU_RW);
    check_mapped(pt, hole + PAGE, 16 * GiB + hole + PAGE, PAGE, IOMMU_RW);
    check_mapped(pt, GiB, 17 * GiB, 2 * MiB, IOMMU_RW);
    check_mapped(pt, 2 * GiB - 1, 18 * GiB - 1, 2 * MiB, IOMMU_RW);
    check_mapped(pt, GiB - 1, 17 * GiB - 1, GiB, IOMMU_RW);
    check_mapped(pt, 2 * GiB, 18 * GiB, GiB, IOMMU_RW);

    /* Both ends within large leaves, and a hole that must be noticed */
    g_assert_cmpint(nyx_page_table_unmap(pt, PAGE, 3 * GiB - PAGE - 1), ==,
                    -ENOENT);
    g_assert_cmpuint(nyx_page_table_leaves(pt), ==, 2 + 511 + 511);
    map_ok(pt, hole, PAGE, 0, IOMMU_RO);
    unmap_ok(pt, PAGE, 3 * GiB - 2 * PAGE);
    g_assert_cmpuint(nyx_page_table_leaves(pt), ==, 2);
    g_assert_cmpuint(tables(pt), ==, 2 + 2 * 2);
    check_mapped(pt, PAGE - 1, 16 * GiB + PAGE - 1, PAGE, IOMMU_RW);
    check_mapped(pt, 3 * GiB - 1, 19 * GiB - 1, PAGE, IOMMU_RW);
    free_and_check(pt);
}

static void test_ends(void)
{
    NyxPageTable *pt = nyx_page_table_new(true);
    uint64_t last_page = NYX_IOVA_LAST + 1 - PAGE;

    map_ok(pt, last_page, PAGE, NYX_GPA_LAST + 1 - PAGE, IOMMU_WO);
    map_ok(pt, 0, PAGE, 0, IOMMU_RO);
    check_mapped(pt, NYX_IOVA_LAST, NYX_GPA_LAST, PAGE, IOMMU_WO);
    check_mapped(pt, 0, 0, PAGE, IOMMU_RO);
    check_unmapped(pt, PAGE);
    check_unmapped(pt, last_page - 1);
    /* Bits beyond the width must not be cut off. */
    check_unmapped(pt, NYX_IOVA_LAST + 1);
    check_unmapped(pt, NYX_IOVA_LAST + 1 + last_page);
    check_unmapped(pt, 1ULL << 63);
    check_unmapped(pt, UINT64_MAX);
    unmap_ok(pt, last_page, PAGE);
    nyx_page_table_clear(pt, NYX_IOVA_LAST + 1, UINT64_MAX);
    nyx_page_table_clear(pt, PAGE, 0);
    check_mapped(pt, 0, 0, PAGE, IOMMU_RO);
    nyx_page_table_clear(pt, PAGE - 1, UINT64_MAX);
    check_unmapped(pt, 0);
    g_assert_cmpuint(nyx_page_table_table_bytes(pt), ==, 0);

    /* Everything, at the far end of the output addresses */
    map_ok(pt, 0, NYX_IOVA_LAST + 1, NYX_GPA_LAST - NYX_IOVA_LAST, IOMMU_RW);
    g_assert_cmpuint(nyx_page_table_leaves(pt), ==,
                     (NYX_IOVA_LAST + 1) / GiB);
    g_assert_cmpuint(nyx_page_table_mapped_bytes(pt), ==, NYX_IOVA_LAST + 1);
    check_mapped(pt, NYX_IOVA_LAST, NYX_GPA_LAST, GiB, IOMMU_RW);
    unmap_ok(pt, 0, NYX_IOVA_LAST + 1);
    g_assert_cmpuint(nyx_page_table_table_bytes(pt), ==, 0);
    free_and_check(pt);
}

typedef struct Digest {
    uint64_t runs;
    uint64_t sum;
} Digest;

static bool visit_digest(uint64_t first, uint64_t last, uint64_t gpa,
                         IOMMUAccessFlags perm, void *opaque)
{
    Digest *d = opaque;
    const uint64_t words[] = { first, last, gpa, perm };

    for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
        d->sum = (d->sum ^ words[i]) * 0x9e3779b97f4a7c15ULL;
    }
    d->runs++;
    return true;
}

static Digest digest(NyxPageTable *pt)
{
    Digest d = {};

    g_assert_true(nyx_page_table_foreach(pt, visit_digest, &d));
    return d;
}

static void check_same(NyxPageTable *pt, Digest before, uint64_t leaves,
                       uint64_t table_bytes)
{
    Digest now = digest(pt);

    g_assert_cmpuint(now.runs, ==, before.runs);
    g_assert_cmphex(now.sum, ==, before.sum);
    g_assert_cmpuint(nyx_page_table_leaves(pt), ==, leaves);
    g_assert_cmpuint(nyx_page_table_table_bytes(pt), ==, table_bytes);
}

static void check_errors(NyxPageTable *pt)
{
    static const struct {
        uint64_t first, last, gpa;
        IOMMUAccessFlags perm;
        int map, unmap;
    } cases[] = {
        /* unaligned */
        { 1, PAGE - 1, 0, IOMMU_RW, -EINVAL, -EINVAL },
        { 0, PAGE, 0, IOMMU_RW, -EINVAL, -EINVAL },
        { 0, PAGE - 2, 0, IOMMU_RW, -EINVAL, -EINVAL },
        { 0, 0, 0, IOMMU_RW, -EINVAL, -EINVAL },
        { 0, PAGE - 1, 1, IOMMU_RW, -EINVAL, -ENOENT },
        { 0, PAGE - 1, PAGE / 2, IOMMU_RW, -EINVAL, -ENOENT },
        /* empty or upside down */
        { PAGE, PAGE - 1, 0, IOMMU_RW, -EINVAL, -EINVAL },
        { PAGE, 0, 0, IOMMU_RW, -EINVAL, -EINVAL },
        { UINT64_MAX, 0, 0, IOMMU_RW, -EINVAL, -EINVAL },
        /* no permission, or one that the table does not know */
        { 0, PAGE - 1, 0, IOMMU_NONE, -EINVAL, -ENOENT },
        { 0, PAGE - 1, 0, IOMMU_EXEC, -EINVAL, -ENOENT },
        { 0, PAGE - 1, 0, IOMMU_RW | IOMMU_PRIV, -EINVAL, -ENOENT },
        /* beyond the input width */
        { NYX_IOVA_LAST + 1, NYX_IOVA_LAST + PAGE, 0, IOMMU_RW, -EINVAL,
          -EINVAL },
        { 0, NYX_IOVA_LAST + PAGE, 0, IOMMU_RW, -EINVAL, -EINVAL },
        { 0, UINT64_MAX, 0, IOMMU_RW, -EINVAL, -EINVAL },
        { UINT64_MAX - PAGE + 1, UINT64_MAX, 0, IOMMU_RW, -EINVAL, -EINVAL },
        /* beyond the output width, also by overflow */
        { 0, PAGE - 1, NYX_GPA_LAST + 1, IOMMU_RW, -EINVAL, -ENOENT },
        { 0, 2 * PAGE - 1, NYX_GPA_LAST + 1 - PAGE, IOMMU_RW, -EINVAL,
          -ENOENT },
        { 0, 2 * PAGE - 1, UINT64_MAX - PAGE + 1, IOMMU_RW, -EINVAL, -ENOENT },
        { 0, PAGE - 1, 1ULL << 63, IOMMU_RW, -EINVAL, -ENOENT },
        /* overlap and holes: first, last, between, around, inside */
        { GiB, GiB + PAGE - 1, 0, IOMMU_RW, -EEXIST, 1 },
        { GiB - PAGE, GiB + PAGE - 1, 0, IOMMU_RW, -EEXIST, -ENOENT },
        { 2 * GiB - PAGE, 2 * GiB + PAGE - 1, 0, IOMMU_RW, -EEXIST, -ENOENT },
        { 0, NYX_IOVA_LAST, 0, IOMMU_RW, -EEXIST, -ENOENT },
        { GiB, 4 * GiB - 1, 0, IOMMU_RW, -EEXIST, -ENOENT },
        { 3 * GiB + MiB, 3 * GiB + 4 * MiB - 1, 0, IOMMU_RW, -EEXIST, -ENOENT },
        { 3 * GiB, 3 * GiB + 2 * MiB - 1, 0, IOMMU_RW, 1, -ENOENT },
        /* one free page, then a mapped one; and the other way round */
        { 4 * GiB - PAGE, 4 * GiB + PAGE - 1, 0, IOMMU_RW, -EEXIST, -ENOENT },
        { 4 * GiB, 4 * GiB + 2 * PAGE - 1, 0, IOMMU_RW, -EEXIST, -ENOENT },
    };
    Digest before = digest(pt);
    uint64_t leaves = nyx_page_table_leaves(pt);
    uint64_t bytes = nyx_page_table_table_bytes(pt);

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        if (cases[i].map <= 0) {
            g_assert_cmpint(nyx_page_table_map(pt, cases[i].first,
                                               cases[i].last, cases[i].gpa,
                                               cases[i].perm),
                            ==, cases[i].map);
        }
        if (cases[i].unmap <= 0) {
            g_assert_cmpint(nyx_page_table_unmap(pt, cases[i].first,
                                                 cases[i].last),
                            ==, cases[i].unmap);
        }
        check_same(pt, before, leaves, bytes);
    }
}

static void test_errors(void)
{
    for (int large = 0; large < 2; large++) {
        NyxPageTable *pt = nyx_page_table_new(large);

        map_ok(pt, GiB, GiB, 0, IOMMU_RW);
        map_ok(pt, 3 * GiB + 2 * MiB, 2 * MiB, GiB, IOMMU_RO);
        map_ok(pt, 4 * GiB, PAGE, 2 * GiB, IOMMU_WO);
        check_errors(pt);
        free_and_check(pt);
    }
}

static void test_table_limit(void)
{
    NyxPageTable *pt = nyx_page_table_new(true);

    /* Not even 2 MiB aligned to each other: leaves of 4 KiB only */
    g_assert_cmpint(nyx_page_table_map(pt, 0, NYX_IOVA_LAST, PAGE, IOMMU_RW),
                    ==, -ENOSPC);
    g_assert_cmpint(nyx_page_table_map(pt, 0, (4ULL << 40) - 1, PAGE, IOMMU_RW),
                    ==, -ENOSPC);
    g_assert_cmpuint(nyx_page_table_table_bytes(pt), ==, 0);
    g_assert_cmpuint(nyx_page_table_live_tables(), ==, 0);
    /* The same in leaves of 2 MiB is within reason. */
    map_ok(pt, 0, 4ULL << 40, 2 * MiB, IOMMU_RW);
    free_and_check(pt);

    pt = nyx_page_table_new(false);
    g_assert_cmpint(nyx_page_table_map(pt, 0, NYX_IOVA_LAST, 0, IOMMU_RW),
                    ==, -ENOSPC);
    free_and_check(pt);
}

/* Tables outlive their leaves, until a range holds all that they span. */
static void test_wipe(void)
{
    NyxPageTable *pt = nyx_page_table_new(true);

    nyx_page_table_wipe(pt, 0, UINT64_MAX);
    map_ok(pt, 2 * MiB, PAGE, 0, IOMMU_RW);
    map_ok(pt, 2 * MiB + 8 * PAGE, 2 * PAGE, 0, IOMMU_RW);
    nyx_page_table_wipe(pt, 2 * MiB, 3 * MiB - 1);
    check_unmapped(pt, 2 * MiB);
    check_unmapped(pt, 2 * MiB + 9 * PAGE);
    g_assert_cmpuint(nyx_page_table_mapped_bytes(pt), ==, 0);
    g_assert_cmpuint(nyx_page_table_leaves(pt), ==, 0);
    g_assert_cmpuint(tables(pt), ==, 4);
    g_assert_true(nyx_page_table_foreach(pt, visit_never, NULL));
    map_ok(pt, 2 * MiB + PAGE, PAGE, 0, IOMMU_RO);
    g_assert_cmpuint(tables(pt), ==, 4);

    /* In the way of a larger leaf, empty or not */
    nyx_page_table_wipe(pt, 2 * MiB, 4 * MiB - PAGE - 1);
    g_assert_cmpint(nyx_page_table_map(pt, 2 * MiB, 4 * MiB - 1, 0, IOMMU_RW),
                    ==, -EEXIST);
    nyx_page_table_wipe(pt, 2 * MiB, 4 * MiB - 1);
    g_assert_cmpuint(tables(pt), ==, 3);
    map_ok(pt, 2 * MiB, 2 * MiB, 0, IOMMU_RW);
    /* A part of a leaf */
    nyx_page_table_wipe(pt, 3 * MiB, UINT64_MAX);
    check_mapped(pt, 3 * MiB - 1, MiB - 1, PAGE, IOMMU_RW);
    check_unmapped(pt, 3 * MiB);
    nyx_page_table_wipe(pt, 3 * MiB - 1, 2 * MiB);
    check_mapped(pt, 2 * MiB, 0, PAGE, IOMMU_RW);
    nyx_page_table_wipe(pt, NYX_IOVA_LAST + 1, UINT64_MAX);
    free_and_check(pt);
}

static bool visit_count_to(uint64_t first, uint64_t last, uint64_t gpa,
                           IOMMUAccessFlags perm, void *opaque)
{
    int *left = opaque;

    g_assert_cmpint(*left, >, 0);
    return --*left > 0;
}

static void test_foreach(void)
{
    NyxPageTable *pt = nyx_page_table_new(true);
    int left;

    /* One run, though of leaves of all sizes and mapped in pieces */
    map_ok(pt, GiB, GiB, 9 * GiB, IOMMU_RW);
    map_ok(pt, GiB - PAGE, PAGE, 9 * GiB - PAGE, IOMMU_RW);
    map_ok(pt, 2 * GiB, 2 * MiB, 10 * GiB, IOMMU_RW);
    g_assert_cmpuint(digest(pt).runs, ==, 1);
    /* Other permission; GPA not next; IOVA not next */
    map_ok(pt, 2 * GiB + 2 * MiB, PAGE, 10 * GiB + 2 * MiB, IOMMU_RO);
    map_ok(pt, GiB - 2 * PAGE, PAGE, 9 * GiB - PAGE, IOMMU_RW);
    map_ok(pt, 4 * GiB, PAGE, 10 * GiB + 2 * MiB + PAGE, IOMMU_RO);
    g_assert_cmpuint(digest(pt).runs, ==, 4);
    for (int stop = 1; stop <= 4; stop++) {
        left = stop;
        g_assert_false(nyx_page_table_foreach(pt, visit_count_to, &left));
        g_assert_cmpint(left, ==, 0);
    }
    left = 5;
    g_assert_true(nyx_page_table_foreach(pt, visit_count_to, &left));
    g_assert_cmpint(left, ==, 1);
    free_and_check(pt);
}

/* Freed with everything mapped */
static void test_free_full(void)
{
    NyxPageTable *pt = nyx_page_table_new(false);

    map_ok(pt, 0, 64 * MiB, 0, IOMMU_RW);
    map_ok(pt, NYX_IOVA_LAST + 1 - MiB, MiB, 0, IOMMU_RW);
    nyx_page_table_free(pt);
    drain_call_rcu();
    g_assert_cmpuint(nyx_page_table_live_tables(), ==, 0);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/nyx/page-table/empty", test_empty);
    g_test_add_func("/nyx/page-table/leaf-sizes", test_leaf_sizes);
    g_test_add_func("/nyx/page-table/small-leaves-only",
                    test_small_leaves_only);
    g_test_add_func("/nyx/page-table/split", test_split);
    g_test_add_func("/nyx/page-table/ends", test_ends);
    g_test_add_func("/nyx/page-table/errors", test_errors);
    g_test_add_func("/nyx/page-table/table-limit", test_table_limit);
    g_test_add_func("/nyx/page-table/wipe", test_wipe);
    g_test_add_func("/nyx/page-table/foreach", test_foreach);
    g_test_add_func("/nyx/page-table/free-full", test_free_full);
    return g_test_run();
}
