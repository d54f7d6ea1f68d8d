/*
 * Nyx IOMMU: what page table and IOTLB cost
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Writes a line of JSON for each point, with the nanoseconds per page, or per
 * lookup, of each round.  The tree is what QEMU's virtio-iommu keeps mappings
 * in: GLib's, ordered by ranges that compare as equal where they overlap.
 */

#include "qemu/osdep.h"
#include "qemu/rcu.h"
#include "qemu/units.h"
#include "nyx/hw/iommu-nyx/iotlb.h"
#include "nyx/hw/iommu-nyx/page-table.h"
#include "nyx/hw/iommu-nyx/shadow.h"

#define PAGE        NYX_PAGE_SIZE
#define ROUNDS      5
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

static void print_point(const char *op, const char *what, uint64_t pages,
                        const double *ns)
{
    printf("{\"suite\": \"page-table\", \"contender\": \"%s\", "
           "\"op\": \"%s\", \"pages\": %" PRIu64 ", \"ns\": [", what, op,
           pages);
    for (int i = 0; i < ROUNDS; i++) {
        printf("%s%.3f", i ? ", " : "", ns[i]);
    }
    printf("]}\n");
    fflush(stdout);
}

/* 1 GiB in leaves of 4 KiB, by ranges of this many bytes */
static void bench_map_unmap(const char *what, uint64_t chunk)
{
    double map_ns[ROUNDS], unmap_ns[ROUNDS], bytes[ROUNDS];
    double pages = SPAN / PAGE;

    for (int i = 0; i < ROUNDS; i++) {
        NyxPageTable *pt = nyx_page_table_new(true);
        int64_t start = now_ns(), middle;

        map_pages(pt, chunk);
        middle = now_ns();
        bytes[i] = nyx_page_table_table_bytes(pt) / pages;
        unmap_pages(pt, chunk);
        map_ns[i] = (middle - start) / pages;
        unmap_ns[i] = (now_ns() - middle) / pages;
        nyx_page_table_free(pt);
        drain_call_rcu();
    }
    print_point("map", what, SPAN / PAGE, map_ns);
    print_point("unmap", what, SPAN / PAGE, unmap_ns);
    print_point("bytes per page", what, SPAN / PAGE, bytes);
}

/* Page by page, beside virtio-iommu's tree */

typedef struct Store {
    const char *name;
    void *(*create)(void);
    void (*map)(void *store, uint64_t iova);
    void (*unmap)(void *store, uint64_t iova);
    void (*destroy)(void *store);
} Store;

static void *table_create(void)
{
    return nyx_page_table_new(true);
}

static void table_map(void *store, uint64_t iova)
{
    g_assert(!nyx_page_table_map(store, iova, iova + PAGE - 1, PAGE + iova,
                                 IOMMU_RW));
}

static void table_unmap(void *store, uint64_t iova)
{
    g_assert(!nyx_page_table_unmap(store, iova, iova + PAGE - 1));
}

static void table_destroy(void *store)
{
    nyx_page_table_free(store);
    drain_call_rcu();
}

typedef struct TreeRange {
    uint64_t first;
    uint64_t last;
} TreeRange;

static gint compare_ranges(gconstpointer a, gconstpointer b, gpointer opaque)
{
    const TreeRange *x = a, *y = b;

    return x->last < y->first ? -1 : x->first > y->last;
}

static void *tree_create(void)
{
    return g_tree_new_full(compare_ranges, NULL, g_free, g_free);
}

static void tree_map(void *store, uint64_t iova)
{
    TreeRange range = { iova, iova + PAGE - 1 };
    uint64_t to[2] = { PAGE + iova, IOMMU_RW };

    g_assert(!g_tree_lookup(store, &range));
    g_tree_insert(store, g_memdup2(&range, sizeof(range)),
                  g_memdup2(to, sizeof(to)));
}

static void tree_unmap(void *store, uint64_t iova)
{
    TreeRange range = { iova, iova + PAGE - 1 };

    g_assert(g_tree_remove(store, &range));
}

static void tree_destroy(void *store)
{
    g_tree_unref(store);
}

static const Store stores[] = {
    { "nyx, one by one", table_create, table_map, table_unmap, table_destroy },
    { "virtio-iommu's tree", tree_create, tree_map, tree_unmap, tree_destroy },
};

static void bench_store(const Store *store, uint64_t pages)
{
    double map_ns[ROUNDS], unmap_ns[ROUNDS];

    for (int i = 0; i < ROUNDS; i++) {
        void *it = store->create();
        int64_t start = now_ns(), middle;

        for (uint64_t n = 0; n < pages; n++) {
            store->map(it, n * PAGE);
        }
        middle = now_ns();
        for (uint64_t n = 0; n < pages; n++) {
            store->unmap(it, n * PAGE);
        }
        map_ns[i] = (double)(middle - start) / pages;
        unmap_ns[i] = (double)(now_ns() - middle) / pages;
        store->destroy(it);
    }
    print_point("map", store->name, pages, map_ns);
    print_point("unmap", store->name, pages, unmap_ns);
}

/* A stride that is odd in pages visits all of a power of two. */
static uint64_t next_iova(uint64_t iova, uint64_t working_set)
{
    return (iova + 12345 * PAGE) & (working_set - 1);
}

static void measure_lookup(NyxPageTable *pt, uint64_t working_set, double *ns)
{
    for (int i = 0; i < ROUNDS; i++) {
        int64_t start = now_ns();
        uint64_t iova = 0;

        for (int n = 0; n < LOOKUPS; n++) {
            NyxTranslation t;

            g_assert(nyx_page_table_lookup(pt, iova, &t));
            iova = next_iova(iova, working_set);
        }
        ns[i] = (double)(now_ns() - start) / LOOKUPS;
    }
}

static void measure_cached(NyxPageTable *pt, uint64_t working_set, double *ns)
{
    NyxIotlb tlb;

    nyx_iotlb_init(&tlb);
    for (int i = 0; i < ROUNDS; i++) {
        int64_t start = now_ns();
        uint64_t iova = 0;

        for (int n = 0; n < LOOKUPS; n++) {
            NyxTranslation t;

            if (!nyx_iotlb_lookup(&tlb, 1, iova, &t)) {
                g_assert(nyx_page_table_lookup(pt, iova, &t));
                if (nyx_iotlb_missed(&tlb, 1)) {
                    nyx_iotlb_fill(&tlb, 1, iova, &t);
                }
            }
            iova = next_iova(iova, working_set);
        }
        ns[i] = (double)(now_ns() - start) / LOOKUPS;
    }
    nyx_iotlb_destroy(&tlb);
}

static void bench_lookup(const char *leaf, uint64_t gpa)
{
    static const uint64_t pages[] = { 1, 512, 4096, 262144 };
    NyxPageTable *pt = nyx_page_table_new(true);
    double ns[ROUNDS];

    g_assert(!nyx_page_table_map(pt, 0, SPAN - 1, gpa, IOMMU_RW));
    for (size_t i = 0; i < ARRAY_SIZE(pages); i++) {
        measure_lookup(pt, pages[i] * PAGE, ns);
        print_point("lookup", leaf, pages[i], ns);
        measure_cached(pt, pages[i] * PAGE, ns);
        print_point("lookup, cached", leaf, pages[i], ns);
    }
    nyx_page_table_free(pt);
    drain_call_rcu();
}

/* Invalidations by stage 1: what is known of both stages together goes. */

static void fill_shadow(NyxShadow *shadow, uint64_t pages)
{
    for (uint64_t iova = 0; iova < pages * PAGE; iova += PAGE) {
        NyxTranslation t = {
            .gpa = PAGE + iova, .mask = PAGE - 1, .perm = IOMMU_RW,
        };

        nyx_shadow_fill(shadow, nyx_shadow_generation(shadow), iova, &t);
    }
}

typedef void Forget(NyxShadow *shadow, uint64_t first, uint64_t last);

/* One page after the other, and what is deferred thereby */
static double forget_pages(NyxShadow *shadow, uint64_t first, uint64_t pages,
                           Forget *forget)
{
    int64_t start = now_ns();
    NyxTranslation t;

    for (uint64_t n = first; n < first + pages; n++) {
        forget(shadow, n * PAGE, n * PAGE + PAGE - 1);
    }
    rcu_read_lock();
    g_assert(!nyx_shadow_lookup(shadow, first * PAGE, &t));
    rcu_read_unlock();
    return (double)(now_ns() - start) / pages;
}

static void bench_invalidate(uint64_t pages)
{
    double page_ns[ROUNDS], batch_ns[ROUNDS], all_ns[ROUNDS];

    for (int i = 0; i < ROUNDS; i++) {
        NyxShadow shadow;
        int64_t start;

        nyx_shadow_init(&shadow);
        fill_shadow(&shadow, pages);
        page_ns[i] = forget_pages(&shadow, 0, pages / 4, nyx_shadow_forget);
        batch_ns[i] = forget_pages(&shadow, pages / 4, pages / 4,
                                   nyx_shadow_defer);
        start = now_ns();
        nyx_shadow_forget_all(&shadow);
        all_ns[i] = now_ns() - start;
        nyx_shadow_destroy(&shadow);
        drain_call_rcu();
    }
    print_point("invalidate a page", "nyx, both stages", pages, page_ns);
    print_point("invalidate a page", "nyx, batch-invalidation=on", pages,
                batch_ns);
    print_point("invalidate all", "nyx, both stages", pages, all_ns);
}

int main(void)
{
    static const uint64_t pages[] = { 512, 4096, 32768, 262144 };

    bench_map_unmap("nyx, all at once", SPAN);
    bench_map_unmap("nyx, 2 MiB at a time", 2 * MiB);
    for (size_t i = 0; i < ARRAY_SIZE(pages); i++) {
        for (size_t j = 0; j < ARRAY_SIZE(stores); j++) {
            bench_store(&stores[j], pages[i]);
        }
    }
    for (size_t i = 0; i < ARRAY_SIZE(pages); i++) {
        bench_invalidate(pages[i]);
    }
    bench_lookup("leaves of 4 KiB", PAGE);
    bench_lookup("leaves of 2 MiB", 2 * MiB);
    bench_lookup("leaves of 1 GiB", 0);
    return 0;
}
