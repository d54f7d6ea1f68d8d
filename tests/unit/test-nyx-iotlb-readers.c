/*
 * Nyx IOMMU: test of the IOTLB with many threads
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/rcu.h"
#include "qemu/thread.h"
#include "qemu/units.h"
#include "nyx/hw/iommu-nyx/iotlb.h"
#include "nyx-page-table-helpers.h"
#include "nyx-random.h"

#define THREADS         3

/*
 * Threads that fill one and the same place at once, each with many pages.  What
 * a page translates to is known, so a torn entry shows.
 */
#define FILLS           1500000
#define FILL_PAGES      4
#define FILL_STRIDE     GiB

static uint64_t fill_gpa(uint64_t iova, uint64_t generation)
{
    return iova + 3 * GiB + (generation & 1 ? 64 * GiB : 0);
}

typedef struct Fill {
    NyxIotlb tlb;
    uint64_t seed;
    uint64_t hits;
} Fill;

static void *fill_thread(void *opaque)
{
    Fill *fill = opaque;
    NyxRandom r = { qatomic_fetch_inc(&fill->seed) };
    uint64_t hits = 0;

    for (unsigned i = 0; i < FILLS; i++) {
        uint64_t generation = nyx_random_below(&r, 2);
        uint64_t iova = nyx_random_below(&r, FILL_PAGES) * FILL_STRIDE;
        uint64_t gpa = fill_gpa(iova, generation);
        NyxTranslation t;

        if (nyx_iotlb_lookup(&fill->tlb, generation, iova, &t)) {
            g_assert_cmphex(t.gpa, ==, gpa);
            g_assert_cmphex(t.mask, ==, PAGE - 1);
            g_assert_cmpuint(t.perm, ==, 1 + (iova / FILL_STRIDE) % 3);
            hits++;
        }
        t.gpa = gpa;
        t.mask = PAGE - 1;
        t.perm = 1 + (iova / FILL_STRIDE) % 3;
        nyx_iotlb_fill(&fill->tlb, generation, iova, &t);
    }
    qatomic_add(&fill->hits, hits);
    return NULL;
}

static void test_fill(void)
{
    NyxRandom random = nyx_random_start();
    Fill fill = { .seed = nyx_random(&random) };
    QemuThread thread[THREADS];

    g_assert_cmpuint(nyx_iotlb_index(0), ==, nyx_iotlb_index(FILL_STRIDE));
    nyx_iotlb_init(&fill.tlb);
    for (int i = 0; i < THREADS; i++) {
        qemu_thread_create(&thread[i], "fill", fill_thread, &fill,
                           QEMU_THREAD_JOINABLE);
    }
    for (int i = 0; i < THREADS; i++) {
        qemu_thread_join(&thread[i]);
    }
    g_test_message("%" PRIu64 " hits of %u lookups", fill.hits,
                   THREADS * FILLS);
    g_assert_cmpuint(fill.hits, >, 0);
    nyx_iotlb_destroy(&fill.tlb);
}

/*
 * Readers beside a writer that unmaps.  The writer maps each page to one GPA
 * after the other, ever higher; after unmap and increment it says for each
 * page that its GPAs so far are gone.  A lookup that starts after that must not
 * show one of these, be it from the IOTLB or from the table.
 */
#define PAGES           8
#define ROUNDS          150000
#define STRIDE          (512 * MiB)     /* four pages share an entry */

typedef struct Stale {
    NyxPageTable *pt;
    NyxIotlb tlb;
    uint64_t generation;
    uint64_t lowest[PAGES];     /* GPAs below it are gone */
    bool stop;
    uint64_t seed;
} Stale;

static bool translate(Stale *s, uint64_t iova, NyxTranslation *t)
{
    uint64_t generation = qatomic_load_acquire(&s->generation);

    if (nyx_iotlb_lookup(&s->tlb, generation, iova, t)) {
        return true;
    }
    if (!nyx_page_table_lookup(s->pt, iova, t)) {
        return false;
    }
    nyx_iotlb_fill(&s->tlb, generation, iova, t);
    return true;
}

static void *stale_reader(void *opaque)
{
    Stale *s = opaque;
    NyxRandom r = { qatomic_fetch_inc(&s->seed) };
    uint64_t looks = 0;

    rcu_register_thread();
    while (!qatomic_read(&s->stop) || looks < 10000) {
        unsigned page = nyx_random_below(&r, PAGES);
        uint64_t lowest = qatomic_load_acquire(&s->lowest[page]);
        NyxTranslation t;

        WITH_RCU_READ_LOCK_GUARD() {
            if (translate(s, page * STRIDE, &t)) {
                g_assert_cmphex(t.gpa, >=, lowest);
                g_assert_cmpuint(t.perm, ==, IOMMU_RW);
            }
        }
        looks++;
    }
    rcu_unregister_thread();
    return NULL;
}

/* A few looks of the writer's own: what is gone is gone at once. */
static void stale_change(Stale *s, NyxRandom *r, uint64_t gpa)
{
    unsigned page = nyx_random_below(r, PAGES);
    uint64_t iova = page * STRIDE;
    NyxTranslation t;

    RCU_READ_LOCK_GUARD();
    if (translate(s, iova, &t)) {
        g_assert_cmpint(nyx_page_table_unmap(s->pt, iova, iova + PAGE - 1), ==,
                        0);
        qatomic_store_release(&s->generation, s->generation + 1);
        qatomic_store_release(&s->lowest[page], gpa);
        g_assert_false(translate(s, iova, &t));
    }
    map_ok(s->pt, iova, PAGE, gpa, IOMMU_RW);
}

static void test_stale(void)
{
    NyxRandom random = nyx_random_start();
    Stale s = {
        .pt = nyx_page_table_new(true),
        .seed = nyx_random(&random),
    };
    QemuThread reader[THREADS - 1];

    nyx_iotlb_init(&s.tlb);
    for (int i = 0; i < ARRAY_SIZE(reader); i++) {
        qemu_thread_create(&reader[i], "reader", stale_reader, &s,
                           QEMU_THREAD_JOINABLE);
    }
    for (unsigned i = 0; i < ROUNDS; i++) {
        stale_change(&s, &random, i * PAGE);
    }
    qatomic_set(&s.stop, true);
    for (int i = 0; i < ARRAY_SIZE(reader); i++) {
        qemu_thread_join(&reader[i]);
    }
    g_test_message("%" PRIu64 " hits, %" PRIu64 " misses, %" PRIu64
                   " increments", nyx_iotlb_hits(&s.tlb),
                   nyx_iotlb_misses(&s.tlb), s.generation);
    g_assert_cmpuint(nyx_iotlb_hits(&s.tlb), >, 0);
    nyx_iotlb_destroy(&s.tlb);
    free_and_check(s.pt);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/nyx/iotlb/fill-by-many", test_fill);
    g_test_add_func("/nyx/iotlb/unmap-beside-readers", test_stale);
    return g_test_run();
}
