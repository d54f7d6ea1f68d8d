/*
 * Nyx IOMMU: what page table and IOTLB cost
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Prints one figure per line.  Each is the best of REPEATS runs, which is the
 * one least disturbed by what else the machine does.
 */

#include "qemu/osdep.h"
#include "qemu/rcu.h"
#include "qemu/units.h"
#include "nyx/hw/iommu-nyx/iotlb.h"
#include "nyx/hw/iommu-nyx/page-table.h"

#define PAGE        NYX_PAGE_SIZE
#define REPEATS     5
#define LOOKUPS     (4 * 1000 * 1000)
#define SPAN        GiB         /* what is mapped and unmapped */

static int64_t now_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return ts.tv_sec * 1000000000LL + ts.tv_nsec;
}

static void map_pages(NyxPageTable *pt, uint64_t chunk)
{
    for (uint64_t iova = 0; iova < SPAN; iova += chunk) {
        g_assert(!nyx_page_table_map(pt, iova, iova + chunk - 1,
                                     PAGE + iova, IOMMU_RW));
    }
}

static void unmap_pages(NyxPageTable *pt, uint64_t chunk)
{
    for (uint64_t iova = 0; iova < SPAN; iova += chunk) {
        g_assert(!nyx_page_table_unmap(pt, iova, iova + chunk - 1));
    }
}

/* 1 GiB in leaves of 4 KiB, by ranges of this many bytes */
static void bench_map_unmap(uint64_t chunk)
{
    int64_t map_ns = INT64_MAX, unmap_ns = INT64_MAX;
    double pages = SPAN / PAGE;

    for (int i = 0; i < REPEATS; i++) {
        NyxPageTable *pt = nyx_page_table_new(true);
        int64_t start = now_ns(), middle;

        map_pages(pt, chunk);
        middle = now_ns();
        unmap_pages(pt, chunk);
        map_ns = MIN(map_ns, middle - start);
        unmap_ns = MIN(unmap_ns, now_ns() - middle);
        nyx_page_table_free(pt);
        drain_call_rcu();
    }
    printf("map of 4 KiB pages, %7" PRIu64 " KiB at a time: "
           "%6.1f ns/page, %6.1f M pages/s\n",
           chunk / KiB, map_ns / pages, pages * 1000 / map_ns);
    printf("unmap of the same:                       "
           "%6.1f ns/page, %.3f ms for 1 GiB\n",
           unmap_ns / pages, unmap_ns / 1e6);
}

/* A stride that is odd in pages visits all of a power of two. */
static uint64_t next_iova(uint64_t iova, uint64_t working_set)
{
    return (iova + 12345 * PAGE) & (working_set - 1);
}

static double lookup_ns(NyxPageTable *pt, uint64_t working_set)
{
    int64_t best = INT64_MAX;

    for (int i = 0; i < REPEATS; i++) {
        int64_t start = now_ns();
        uint64_t iova = 0;

        for (int n = 0; n < LOOKUPS; n++) {
            NyxTranslation t;

            g_assert(nyx_page_table_lookup(pt, iova, &t));
            iova = next_iova(iova, working_set);
        }
        best = MIN(best, now_ns() - start);
    }
    return (double)best / LOOKUPS;
}

static double cached_ns(NyxPageTable *pt, uint64_t working_set)
{
    int64_t best = INT64_MAX;
    NyxIotlb tlb;

    nyx_iotlb_init(&tlb);
    for (int i = 0; i < REPEATS; i++) {
        int64_t start = now_ns();
        uint64_t iova = 0;

        for (int n = 0; n < LOOKUPS; n++) {
            NyxTranslation t;

            if (!nyx_iotlb_lookup(&tlb, 1, iova, &t)) {
                g_assert(nyx_page_table_lookup(pt, iova, &t));
                nyx_iotlb_fill(&tlb, 1, iova, &t);
            }
            iova = next_iova(iova, working_set);
        }
        best = MIN(best, now_ns() - start);
    }
    nyx_iotlb_destroy(&tlb);
    return (double)best / LOOKUPS;
}

static void bench_lookup(const char *leaf, uint64_t gpa)
{
    static const uint64_t pages[] = { 1, 512, 4096, 262144 };
    NyxPageTable *pt = nyx_page_table_new(true);

    g_assert(!nyx_page_table_map(pt, 0, SPAN - 1, gpa, IOMMU_RW));
    for (size_t i = 0; i < ARRAY_SIZE(pages); i++) {
        printf("lookup, leaves of %s, %6" PRIu64 " pages: table %5.1f ns, "
               "with IOTLB %5.1f ns\n", leaf, pages[i],
               lookup_ns(pt, pages[i] * PAGE), cached_ns(pt, pages[i] * PAGE));
    }
    nyx_page_table_free(pt);
    drain_call_rcu();
}

int main(void)
{
    bench_map_unmap(SPAN);
    bench_map_unmap(2 * MiB);
    bench_map_unmap(64 * KiB);
    bench_map_unmap(PAGE);
    bench_lookup("4 KiB", PAGE);
    bench_lookup("2 MiB", 2 * MiB);
    bench_lookup("1 GiB", 0);
    return 0;
}
