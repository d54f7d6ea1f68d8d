/*
 * Nyx IOMMU: test of fingerprints of tables, and of sets of ranges
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "nyx/hw/iommu-nyx/page-ranges.h"
#include "nyx/hw/iommu-nyx/table-stamp.h"
#include "nyx-page-table-helpers.h"
#include "nyx-random.h"

static NyxTableSum sum_of(NyxPageTable *pt)
{
    return nyx_table_sum_of(pt, 0, NYX_IOVA_LAST);
}

static bool add_pages(uint64_t first, uint64_t last, uint64_t gpa,
                      IOMMUAccessFlags perm, void *opaque)
{
    for (uint64_t page = first; page < last; page += PAGE) {
        nyx_table_sum_add(opaque, page, page + PAGE - 1, gpa + (page - first),
                          perm);
    }
    return true;
}

/* A run is worth as much as its pages, each for itself. */
static void test_runs(void)
{
    NyxRandom r = nyx_random_start();

    for (unsigned i = 0; i < 300; i++) {
        uint64_t iova = nyx_random_below(&r, 1ULL << 35) * PAGE;
        uint64_t size = (1 + nyx_random_below(&r, 1000)) * PAGE;
        uint64_t gpa = nyx_random_below(&r, 1ULL << 39) * PAGE;
        IOMMUAccessFlags perm = 1 + nyx_random_below(&r, 3);
        NyxTableSum whole = {}, pages = {};

        nyx_table_sum_add(&whole, iova, iova + size - 1, gpa, perm);
        add_pages(iova, iova + size - 1, gpa, perm, &pages);
        g_assert_true(nyx_table_sum_equal(&whole, &pages));
        g_assert_cmpuint(whole.pages, ==, size / PAGE);
    }
}

/* In two parts, anywhere: also where numbers are the largest */
static void test_halves(void)
{
    NyxRandom r = nyx_random_start();

    for (unsigned i = 0; i < 1000; i++) {
        uint64_t at = (1 + nyx_random_below(&r, (1ULL << 36) - 1)) * PAGE;
        uint64_t gpa = nyx_random_below(&r, (1ULL << 40) - (1ULL << 36)) * PAGE;
        NyxTableSum whole = {}, halves = {};

        nyx_table_sum_add(&whole, 0, NYX_IOVA_LAST, gpa, IOMMU_RW);
        nyx_table_sum_add(&halves, at, NYX_IOVA_LAST, gpa + at, IOMMU_RW);
        nyx_table_sum_add(&halves, 0, at - 1, gpa, IOMMU_RW);
        g_assert_true(nyx_table_sum_equal(&whole, &halves));
        nyx_table_sum_subtract(&whole, &halves);
        g_assert_true(nyx_table_sum_equal(&whole, &(NyxTableSum) {}));
    }
}

/* What differs in anything, also by little and in two places, differs. */
static void test_differences(void)
{
    static const struct {
        uint64_t iova, gpa;
        IOMMUAccessFlags perm;
    } pairs[][2] = {
        { { 0x1000, 0x5000, 3 }, { 0x2000, 0x6000, 3 } },
        { { 0x1000, 0x6000, 3 }, { 0x2000, 0x5000, 3 } },
        { { 0x1000, 0x5000, 1 }, { 0x2000, 0x6000, 3 } },
        { { 0x1000, 0x5000, 3 }, { 0x2000, 0x6000, 1 } },
        { { 0x1000, 0x5000, 2 }, { 0x2000, 0x6000, 3 } },
        { { 0x1000, 0x5000, 3 }, { 0x3000, 0x6000, 3 } },
        { { 0x0000, 0x5000, 3 }, { 0x2000, 0x6000, 3 } },
        { { 0x0000, 0x0000, 1 }, { 0x1000, 0x0000, 1 } },
        { { 0x2000, 0x0000, 1 }, { 0x1000, 0x0000, 1 } },
    };
    NyxTableSum sum[ARRAY_SIZE(pairs)] = {};

    for (int i = 0; i < ARRAY_SIZE(pairs); i++) {
        for (int k = 0; k < 2; k++) {
            uint64_t iova = pairs[i][k].iova;

            nyx_table_sum_add(&sum[i], iova, iova + PAGE - 1, pairs[i][k].gpa,
                              pairs[i][k].perm);
        }
        for (int j = 0; j < i; j++) {
            for (int part = 0; part < NYX_TABLE_SUM_PARTS; part++) {
                g_assert_cmphex(sum[i].part[part], !=, sum[j].part[part]);
            }
        }
    }
}

/* A stamp follows its table through all that nyx-map and nyx-unmap do. */
static void change_at_random(NyxPageTable *pt, NyxTableStamp *stamp,
                             NyxRandom *r)
{
    uint64_t first = nyx_random_below(r, 2000) * PAGE;
    uint64_t last = first + (1 + nyx_random_below(r, 600)) * PAGE - 1;
    uint64_t gpa = nyx_random_below(r, 1ULL << 30) * PAGE;

    if (nyx_random_below(r, 2)) {
        if (!nyx_page_table_map(pt, first, last, gpa, IOMMU_RW)) {
            nyx_table_stamp_mapped(stamp, first, last, gpa, IOMMU_RW);
        }
    } else {
        NyxTableSum gone = nyx_table_sum_of(pt, first, last);

        if (gone.pages) {
            nyx_page_table_clear(pt, first, last);
            nyx_table_stamp_unmapped(stamp, first, last, &gone);
        }
    }
}

static void check_changed(NyxPageTable *pt, NyxPageTable *before,
                          const NyxPageRanges *changed)
{
    NyxTableSum sum = sum_of(before), wanted = sum_of(pt);

    for (guint i = 0; i < nyx_page_ranges_count(changed); i++) {
        NyxPageRange range = nyx_page_ranges_get(changed, i);
        NyxTableSum old = nyx_table_sum_of(before, range.first, range.last);

        nyx_table_sum_subtract(&sum, &old);
        nyx_page_table_foreach_in(pt, range.first, range.last, add_pages, &sum);
    }
    g_assert_true(nyx_table_sum_equal(&sum, &wanted));
}

static bool copy_run(uint64_t first, uint64_t last, uint64_t gpa,
                     IOMMUAccessFlags perm, void *opaque)
{
    map_ok(opaque, first, last - first + 1, gpa, perm);
    return true;
}

static void test_stamp(void)
{
    NyxRandom r = nyx_random_start();

    for (unsigned i = 0; i < 100; i++) {
        NyxPageTable *pt = nyx_page_table_new(i & 1);
        NyxPageTable *before = nyx_page_table_new(true);
        NyxTableStamp stamp = { .summed = true };

        for (unsigned n = nyx_random_below(&r, 30); n > 0; n--) {
            change_at_random(pt, &stamp, &r);
        }
        nyx_page_table_foreach(pt, copy_run, before);
        nyx_table_stamp_sent(&stamp, true);
        for (unsigned n = nyx_random_below(&r, 10); n > 0; n--) {
            NyxTableSum whole;

            change_at_random(pt, &stamp, &r);
            whole = sum_of(pt);
            g_assert_true(nyx_table_sum_equal(&stamp.sum, &whole));
        }
        check_changed(pt, before, &stamp.changed);
        nyx_table_stamp_void(&stamp);
        g_assert_cmpuint(nyx_page_ranges_count(&stamp.changed), ==, 0);
        nyx_page_table_free(before);
        free_and_check(pt);
    }
}

/* What a migration takes before it begins, if there are a million mappings */
static void test_time(void)
{
    NyxPageTable *pt = nyx_page_table_new(true);
    const uint64_t pages = 1000000;
    int64_t began;
    NyxTableSum sum;

    for (uint64_t i = 0; i < pages; i++) {
        map_ok(pt, i * PAGE, PAGE, (i ^ 1) * PAGE, IOMMU_RW);
    }
    began = g_get_monotonic_time();
    sum = sum_of(pt);
    g_test_message("a million pages in %" PRId64 " us",
                   g_get_monotonic_time() - began);
    g_assert_cmpuint(sum.pages, ==, pages);
    free_and_check(pt);
}

/* Ranges */

#define SPAN            4096    /* pages */

static void check_ranges(const NyxPageRanges *r, const bool *wanted, bool exact)
{
    bool named[SPAN] = {};

    for (guint i = 0; i < nyx_page_ranges_count(r); i++) {
        NyxPageRange range = nyx_page_ranges_get(r, i);

        g_assert_cmphex(range.first, <, range.last);
        if (i) {
            g_assert_cmphex(range.first, >,
                            nyx_page_ranges_get(r, i - 1).last + 1);
        }
        for (uint64_t at = range.first; at < range.last; at += PAGE) {
            named[at / PAGE] = true;
        }
    }
    for (unsigned i = 0; i < SPAN; i++) {
        g_assert_true(named[i] == wanted[i] ||
                      (!exact && named[i] && !wanted[i]));
    }
}

static void test_ranges(void)
{
    NyxRandom r = nyx_random_start();

    for (unsigned i = 0; i < 200; i++) {
        NyxPageRanges ranges = {}, copy = {};
        g_autoptr(GByteArray) bytes = NULL;
        bool wanted[SPAN] = {};

        for (unsigned n = nyx_random_below(&r, 100); n > 0; n--) {
            unsigned first = nyx_random_below(&r, SPAN);
            unsigned last = MIN(SPAN - 1, first + nyx_random_below(&r, 60));

            memset(wanted + first, true, last - first + 1);
            nyx_page_ranges_add(&ranges, first * PAGE,
                                (last + 1) * PAGE - 1);
        }
        check_ranges(&ranges, wanted, true);
        bytes = nyx_page_ranges_encode(&ranges);
        g_assert_true(nyx_page_ranges_decode(&copy, bytes->data, bytes->len));
        check_ranges(&copy, wanted, true);
        nyx_page_ranges_clear(&ranges);
        nyx_page_ranges_clear(&copy);
    }
}

/* However many there are, they stay few, and name all. */
static void test_ranges_bounded(void)
{
    NyxRandom r = nyx_random_start();
    NyxPageRanges ranges = {};
    g_autoptr(GArray) added = g_array_new(false, false, sizeof(uint64_t));

    for (unsigned n = 0; n < 100000; n++) {
        uint64_t at = nyx_random_below(&r, 1ULL << 36) * PAGE;

        g_array_append_val(added, at);
        nyx_page_ranges_add(&ranges, at, at + PAGE - 1);
        g_assert_cmpuint(nyx_page_ranges_count(&ranges), <=,
                         NYX_PAGE_RANGES_MAX);
    }
    for (guint i = 0; i < added->len; i++) {
        uint64_t at = g_array_index(added, uint64_t, i);
        guint low = 0, high = nyx_page_ranges_count(&ranges) - 1;

        while (low < high) {
            guint middle = (low + high) / 2;

            if (nyx_page_ranges_get(&ranges, middle).last < at) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        g_assert_cmphex(nyx_page_ranges_get(&ranges, low).first, <=, at);
        g_assert_cmphex(nyx_page_ranges_get(&ranges, low).last, >=, at);
    }
    g_assert_cmphex(nyx_page_ranges_get(
        &ranges, nyx_page_ranges_count(&ranges) - 1).last, <=, NYX_IOVA_LAST);
    nyx_page_ranges_clear(&ranges);
}

static void test_ranges_damaged(void)
{
    static const struct {
        uint8_t bytes[12];
        size_t size;
    } cases[] = {
        { { 0 }, 1 },
        { { 0x80 }, 1 },
        { { 0x80, 0x80, 0x80, 0x80, 0x80, 0x02, 0 }, 7 },
        { { 0, 0x80, 0x80, 0x80, 0x80, 0x80, 0x02 }, 7 },
        { { 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01 }, 7 },
        { { 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01, 0, 0 }, 9 },
    };

    for (int i = 0; i < ARRAY_SIZE(cases); i++) {
        NyxPageRanges ranges = {};

        g_assert_false(nyx_page_ranges_decode(&ranges, cases[i].bytes,
                                              cases[i].size));
        g_assert_cmpuint(nyx_page_ranges_count(&ranges), ==, 0);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/nyx/table-sum/runs", test_runs);
    g_test_add_func("/nyx/table-sum/halves", test_halves);
    g_test_add_func("/nyx/table-sum/differences", test_differences);
    g_test_add_func("/nyx/table-sum/stamp", test_stamp);
    g_test_add_func("/nyx/table-sum/time", test_time);
    g_test_add_func("/nyx/page-ranges/random", test_ranges);
    g_test_add_func("/nyx/page-ranges/bounded", test_ranges_bounded);
    g_test_add_func("/nyx/page-ranges/damaged", test_ranges_damaged);
    return g_test_run();
}
