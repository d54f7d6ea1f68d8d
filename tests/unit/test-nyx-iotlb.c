/*
 * Nyx IOMMU: test of the IOTLB, case by case and against an oracle
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/units.h"
#include "nyx/hw/iommu-nyx/iotlb.h"
#include "nyx-random.h"

#define PAGE            NYX_PAGE_SIZE
#define OPERATIONS      1000000

static NyxTranslation leaf(uint64_t gpa, uint64_t size, IOMMUAccessFlags perm)
{
    return (NyxTranslation) { .gpa = gpa, .mask = size - 1, .perm = perm };
}

static void check_hit(NyxIotlb *tlb, uint64_t generation, uint64_t iova,
                      NyxTranslation expected)
{
    NyxTranslation t = { 0 };

    g_assert_true(nyx_iotlb_lookup(tlb, generation, iova, &t));
    g_assert_cmphex(t.gpa, ==, expected.gpa);
    g_assert_cmphex(t.mask, ==, expected.mask);
    g_assert_cmpuint(t.perm, ==, expected.perm);
}

static void check_miss(NyxIotlb *tlb, uint64_t generation, uint64_t iova)
{
    NyxTranslation t = leaf(1, 2, IOMMU_RW);

    g_assert_false(nyx_iotlb_lookup(tlb, generation, iova, &t));
    nyx_iotlb_missed(tlb, generation);
    /* Untouched */
    g_assert_cmphex(t.gpa, ==, 1);
    g_assert_cmphex(t.mask, ==, 1);
    g_assert_cmpuint(t.perm, ==, IOMMU_RW);
}

/* Misses out of a number of them that are to be filled */
static unsigned count_fills(NyxIotlb *tlb, uint64_t generation, unsigned misses)
{
    unsigned fills = 0;

    while (misses--) {
        fills += nyx_iotlb_missed(tlb, generation);
    }
    return fills;
}

/* All while it is empty, then a few; and anew under the next generation. */
static void test_fills(void)
{
    unsigned many = NYX_IOTLB_MISSES_PER_FILL * NYX_IOTLB_ENTRIES;
    NyxIotlb tlb;

    nyx_iotlb_init(&tlb);
    for (uint64_t generation = 1; generation < 4; generation++) {
        g_assert_cmpuint(count_fills(&tlb, generation, NYX_IOTLB_ENTRIES), ==,
                         NYX_IOTLB_ENTRIES);
        g_assert_cmpuint(count_fills(&tlb, generation, many), ==,
                         NYX_IOTLB_ENTRIES);
    }
    g_assert_cmpuint(nyx_iotlb_misses(&tlb), ==,
                     3 * (many + NYX_IOTLB_ENTRIES));
    nyx_iotlb_destroy(&tlb);
}

static void test_empty(void)
{
    NyxIotlb tlb;
    NyxTranslation none = leaf(0, PAGE, IOMMU_NONE);

    nyx_iotlb_init(&tlb);
    check_miss(&tlb, 0, 0);
    check_miss(&tlb, UINT64_MAX, UINT64_MAX);
    /* What maps nothing is not remembered, and costs no memory. */
    nyx_iotlb_fill(&tlb, 0, 0, &none);
    check_miss(&tlb, 0, 0);
    g_assert_null(tlb.entries);
    g_assert_cmpuint(sizeof(tlb), <=, 64);
    g_assert_cmpuint(NYX_IOTLB_ENTRIES * sizeof(*tlb.entries), <=, 16 * KiB);
    g_assert_cmpuint(nyx_iotlb_hits(&tlb), ==, 0);
    g_assert_cmpuint(nyx_iotlb_misses(&tlb), ==, 3);
    nyx_iotlb_destroy(&tlb);
}

/* Entries that were never filled are not entries of page 0, generation 0. */
static void test_page_zero(void)
{
    NyxIotlb tlb;
    NyxTranslation t = leaf(GiB, PAGE, IOMMU_RO);

    nyx_iotlb_init(&tlb);
    nyx_iotlb_fill(&tlb, 0, PAGE, &t);
    check_miss(&tlb, 0, 0);
    check_hit(&tlb, 0, PAGE, t);
    nyx_iotlb_destroy(&tlb);
}

static void test_leaves(void)
{
    static const uint64_t sizes[] = { PAGE, 2 * MiB, GiB };
    static const uint64_t bases[] = {
        0, NYX_IOVA_LAST + 1 - GiB, 1ULL << 63, 0 - GiB
    };
    static const IOMMUAccessFlags perms[] = { IOMMU_RO, IOMMU_WO, IOMMU_RW };
    NyxIotlb tlb;

    nyx_iotlb_init(&tlb);
    for (size_t s = 0; s < ARRAY_SIZE(sizes); s++) {
        for (size_t b = 0; b < ARRAY_SIZE(bases); b++) {
            for (size_t p = 0; p < ARRAY_SIZE(perms); p++) {
                uint64_t last = bases[b] + sizes[s] - 1;
                NyxTranslation t = leaf(NYX_GPA_LAST + 1 - sizes[s], sizes[s],
                                        perms[p]);

                nyx_iotlb_fill(&tlb, 7, last - 5, &t);
                /* The whole leaf, for any byte of the page; no other page */
                check_hit(&tlb, 7, last, t);
                check_hit(&tlb, 7, last & ~(PAGE - 1), t);
                check_miss(&tlb, 7, last + 1);
                check_miss(&tlb, 7, last - PAGE);
                check_miss(&tlb, 7, last ^ (1ULL << 62));
            }
        }
    }
    nyx_iotlb_destroy(&tlb);
}

/* Masks of stage 1 need not be those of our leaves. */
static void test_all_masks(void)
{
    NyxIotlb tlb;

    nyx_iotlb_init(&tlb);
    for (unsigned bits = NYX_PAGE_BITS; bits <= 64; bits++) {
        NyxTranslation t = {
            .gpa = 0,
            .mask = UINT64_MAX >> (64 - bits),
            .perm = IOMMU_RW,
        };

        nyx_iotlb_fill(&tlb, bits, 0x123456789000, &t);
        check_hit(&tlb, bits, 0x123456789fff, t);
    }
    nyx_iotlb_destroy(&tlb);
}

static void test_generations(void)
{
    static const uint64_t generations[] = {
        0, 1, 2, 1ULL << 27, 1ULL << 32, 1ULL << 53, 1ULL << 63, UINT64_MAX
    };
    NyxTranslation old = leaf(GiB, PAGE, IOMMU_RW);
    NyxTranslation new = leaf(2 * GiB, PAGE, IOMMU_RO);
    NyxIotlb tlb;

    nyx_iotlb_init(&tlb);
    for (size_t i = 0; i < ARRAY_SIZE(generations); i++) {
        nyx_iotlb_fill(&tlb, generations[i], PAGE, &old);
        for (size_t j = 0; j < ARRAY_SIZE(generations); j++) {
            if (i == j) {
                check_hit(&tlb, generations[j], PAGE, old);
            } else {
                check_miss(&tlb, generations[j], PAGE);
            }
        }
    }

    /* A walk of before the increment, filled after it, harms nobody. */
    nyx_iotlb_fill(&tlb, 11, PAGE, &new);
    check_hit(&tlb, 11, PAGE, new);
    nyx_iotlb_fill(&tlb, 10, PAGE, &old);
    check_miss(&tlb, 11, PAGE);
    nyx_iotlb_destroy(&tlb);
}

/* Each of so many pages, one stride apart, must find a place of its own. */
static void check_reach(uint64_t stride)
{
    NyxIotlb tlb;

    nyx_iotlb_init(&tlb);
    for (unsigned i = 0; i < NYX_IOTLB_ENTRIES; i++) {
        NyxTranslation t = leaf(GiB + i * PAGE, PAGE, IOMMU_RW);

        nyx_iotlb_fill(&tlb, 1, 5 * GiB + i * stride, &t);
    }
    for (unsigned i = 0; i < NYX_IOTLB_ENTRIES; i++) {
        check_hit(&tlb, 1, 5 * GiB + i * stride,
                  leaf(GiB + i * PAGE, PAGE, IOMMU_RW));
    }
    g_assert_cmpuint(nyx_iotlb_hits(&tlb), ==, NYX_IOTLB_ENTRIES);
    nyx_iotlb_destroy(&tlb);
}

static void test_reach(void)
{
    check_reach(PAGE);
    check_reach(2 * MiB);
}

static void test_counters(void)
{
    NyxTranslation t = leaf(GiB, PAGE, IOMMU_RW);
    NyxIotlb tlb;

    nyx_iotlb_init(&tlb);
    check_miss(&tlb, 1, PAGE);
    nyx_iotlb_fill(&tlb, 1, PAGE, &t);
    check_hit(&tlb, 1, PAGE, t);
    check_hit(&tlb, 1, PAGE, t);
    check_miss(&tlb, 2, PAGE);
    check_miss(&tlb, 1, 2 * PAGE);
    g_assert_cmpuint(nyx_iotlb_hits(&tlb), ==, 2);
    g_assert_cmpuint(nyx_iotlb_misses(&tlb), ==, 3);
    nyx_iotlb_destroy(&tlb);
    /* As new */
    check_miss(&tlb, 1, PAGE);
    g_assert_cmpuint(nyx_iotlb_misses(&tlb), ==, 1);
}

/*
 * The oracle: of each place, what was filled there last.  A lookup must hit
 * exactly when that is the same page in the same generation.
 */
typedef struct Filled {
    bool valid;
    uint64_t page;
    uint64_t generation;
    NyxTranslation t;
} Filled;

static uint64_t random_page(NyxRandom *r)
{
    static const uint64_t places[] = {
        0, 2 * MiB, GiB, NYX_IOVA_LAST + 1 - 256 * PAGE, 0 - 256 * PAGE
    };

    return places[nyx_random_below(r, ARRAY_SIZE(places))] / PAGE +
           nyx_random_below(r, 256);
}

static NyxTranslation random_leaf(NyxRandom *r)
{
    static const uint64_t sizes[] = { PAGE, 2 * MiB, GiB };
    uint64_t size = sizes[nyx_random_below(r, ARRAY_SIZE(sizes))];

    return leaf(nyx_random(r) & NYX_GPA_LAST & ~(size - 1), size,
                nyx_random_below(r, 4));
}

static void test_random(void)
{
    NyxRandom r = nyx_random_start();
    g_autofree Filled *oracle = g_new0(Filled, NYX_IOTLB_ENTRIES);
    uint64_t generation = nyx_random(&r);
    NyxIotlb tlb;

    nyx_iotlb_init(&tlb);
    for (unsigned i = 0; i < OPERATIONS; i++) {
        uint64_t page = random_page(&r);
        uint64_t iova = page * PAGE + nyx_random_below(&r, PAGE);
        /* Late walkers still use the previous one. */
        uint64_t used = generation - (nyx_random_below(&r, 8) == 0);
        Filled *f = &oracle[nyx_iotlb_index(iova)];

        if (nyx_random_below(&r, 1000) == 0) {
            generation++;
        }
        if (nyx_random_below(&r, 3) == 0) {
            NyxTranslation t = random_leaf(&r);

            nyx_iotlb_fill(&tlb, used, iova, &t);
            if (t.perm) {
                *f = (Filled) { true, page, used, t };
            }
        } else if (f->valid && f->page == page && f->generation == used) {
            check_hit(&tlb, used, iova, f->t);
        } else {
            check_miss(&tlb, used, iova);
        }
    }
    g_test_message("%" PRIu64 " hits, %" PRIu64 " misses",
                   nyx_iotlb_hits(&tlb), nyx_iotlb_misses(&tlb));
    /* Else the sequence tests little */
    g_assert_cmpuint(nyx_iotlb_hits(&tlb), >, OPERATIONS / 50);
    g_assert_cmpuint(nyx_iotlb_misses(&tlb), >, OPERATIONS / 50);
    nyx_iotlb_destroy(&tlb);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/nyx/iotlb/empty", test_empty);
    g_test_add_func("/nyx/iotlb/page-zero", test_page_zero);
    g_test_add_func("/nyx/iotlb/leaves", test_leaves);
    g_test_add_func("/nyx/iotlb/all-masks", test_all_masks);
    g_test_add_func("/nyx/iotlb/generations", test_generations);
    g_test_add_func("/nyx/iotlb/reach", test_reach);
    g_test_add_func("/nyx/iotlb/counters", test_counters);
    g_test_add_func("/nyx/iotlb/fills", test_fills);
    g_test_add_func("/nyx/iotlb/random", test_random);
    return g_test_run();
}
