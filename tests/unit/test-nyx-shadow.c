/*
 * Nyx IOMMU: test of the table of both stages' translations
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
#include "nyx/hw/iommu-nyx/shadow.h"
#include "nyx-page-table-helpers.h"
#include "nyx-random.h"

static bool find(NyxShadow *shadow, uint64_t iova, NyxTranslation *t)
{
    RCU_READ_LOCK_GUARD();
    return nyx_shadow_lookup(shadow, iova, t);
}

static void fill(NyxShadow *shadow, uint64_t iova, uint64_t gpa, uint64_t bytes,
                 IOMMUAccessFlags perm)
{
    NyxTranslation t = { .gpa = gpa, .mask = bytes - 1, .perm = perm };

    nyx_shadow_fill(shadow, nyx_shadow_generation(shadow), iova, &t);
}

static void test_fill(void)
{
    NyxShadow shadow;
    NyxTranslation t;

    nyx_shadow_init(&shadow);
    g_assert_false(find(&shadow, 0x5000, &t));
    fill(&shadow, 0x5123, 0x9000, PAGE, IOMMU_RO);
    g_assert_true(find(&shadow, 0x5fff, &t));
    g_assert_cmphex(t.gpa, ==, 0x9000);
    g_assert_cmphex(t.mask, ==, PAGE - 1);
    g_assert_cmpuint(t.perm, ==, IOMMU_RO);
    g_assert_false(find(&shadow, 0x6000, &t));
    nyx_shadow_destroy(&shadow);
}

/* Models that only say what they were asked for: the answers add up. */
static void test_permissions_add_up(void)
{
    NyxShadow shadow;
    NyxTranslation t;

    nyx_shadow_init(&shadow);
    fill(&shadow, 0x5000, 0x9000, PAGE, IOMMU_RO);
    fill(&shadow, 0x5000, 0x9000, PAGE, IOMMU_WO);
    g_assert_true(find(&shadow, 0x5000, &t));
    g_assert_cmpuint(t.perm, ==, IOMMU_RW);

    /* But not those of another translation */
    fill(&shadow, 0x5000, 0xa000, PAGE, IOMMU_WO);
    g_assert_true(find(&shadow, 0x5000, &t));
    g_assert_cmphex(t.gpa, ==, 0xa000);
    g_assert_cmpuint(t.perm, ==, IOMMU_WO);
    nyx_shadow_destroy(&shadow);
}

static void test_sizes(void)
{
    static const uint64_t sizes[] = {
        PAGE, 32 * KiB, 2 * MiB, 512 * MiB, GiB
    };

    for (int i = 0; i < ARRAY_SIZE(sizes); i++) {
        uint64_t iova = 7 * GiB, gpa = 3 * GiB;
        NyxShadow shadow;
        NyxTranslation t;

        nyx_shadow_init(&shadow);
        fill(&shadow, iova + sizes[i] / 2, gpa, sizes[i], IOMMU_RW);
        g_assert_true(find(&shadow, iova + sizes[i] - 1, &t));
        g_assert_cmphex(t.gpa + ((iova + sizes[i] - 1) & t.mask), ==,
                        gpa + sizes[i] - 1);
        g_assert_false(find(&shadow, iova + sizes[i], &t));
        g_assert_false(find(&shadow, iova - 1, &t));
        nyx_shadow_destroy(&shadow);
    }
}

static void test_forget(void)
{
    NyxShadow shadow;
    NyxTranslation t;
    uint64_t generation;

    nyx_shadow_init(&shadow);
    fill(&shadow, 4 * MiB, 8 * MiB, 2 * MiB, IOMMU_RW);
    fill(&shadow, GiB, 2 * GiB, PAGE, IOMMU_RW);
    generation = nyx_shadow_generation(&shadow);
    nyx_shadow_forget(&shadow, 5 * MiB, 5 * MiB + PAGE - 1);
    g_assert_cmpuint(nyx_shadow_generation(&shadow), !=, generation);
    g_assert_false(find(&shadow, 5 * MiB, &t));
    g_assert_true(find(&shadow, 5 * MiB + PAGE, &t));
    g_assert_true(find(&shadow, GiB, &t));

    /* As much as models take back at once */
    nyx_shadow_forget(&shadow, 0, UINT64_MAX);
    g_assert_false(find(&shadow, GiB, &t));
    fill(&shadow, GiB, 2 * GiB, PAGE, IOMMU_RW);
    nyx_shadow_forget_all(&shadow);
    g_assert_false(find(&shadow, GiB, &t));
    nyx_shadow_destroy(&shadow);
}

/* Nobody finds what is deferred, though the table still has it. */
static void test_defer(void)
{
    NyxShadow shadow;
    NyxTranslation t;
    uint64_t generation;

    nyx_shadow_init(&shadow);
    for (uint64_t iova = 0; iova < 8 * PAGE; iova += PAGE) {
        fill(&shadow, iova, GiB + iova, PAGE, IOMMU_RW);
    }
    generation = nyx_shadow_generation(&shadow);
    /* Neighbours are one range; another is one more. */
    nyx_shadow_defer(&shadow, 0, PAGE - 1);
    g_assert_cmpuint(nyx_shadow_generation(&shadow), !=, generation);
    nyx_shadow_defer(&shadow, PAGE, 3 * PAGE - 1);
    nyx_shadow_defer(&shadow, 6 * PAGE, 7 * PAGE - 1);
    g_assert_cmpuint(shadow.deferred, ==, 2);
    g_assert_cmpuint(nyx_page_table_leaves(shadow.table), ==, 8);
    g_assert_false(find(&shadow, 2 * PAGE, &t));
    g_assert_cmpuint(shadow.deferred, ==, 0);
    g_assert_cmpuint(nyx_page_table_leaves(shadow.table), ==, 4);
    g_assert_false(find(&shadow, 6 * PAGE, &t));
    g_assert_true(find(&shadow, 3 * PAGE, &t));
    g_assert_true(find(&shadow, 7 * PAGE, &t));

    /* What is filled now is not taken out with what was there before. */
    nyx_shadow_defer(&shadow, 3 * PAGE, 4 * PAGE - 1);
    fill(&shadow, 3 * PAGE, 2 * GiB, PAGE, IOMMU_RO);
    g_assert_true(find(&shadow, 3 * PAGE, &t));
    g_assert_cmphex(t.gpa, ==, 2 * GiB);
    g_assert_cmpuint(t.perm, ==, IOMMU_RO);

    /* Neither is what comes after all was forgotten. */
    nyx_shadow_defer(&shadow, 3 * PAGE, 4 * PAGE - 1);
    nyx_shadow_forget_all(&shadow);
    fill(&shadow, 3 * PAGE, 3 * GiB, PAGE, IOMMU_RW);
    g_assert_true(find(&shadow, 3 * PAGE, &t));
    nyx_shadow_defer(&shadow, 0, UINT64_MAX);
    g_assert_false(find(&shadow, 3 * PAGE, &t));
    nyx_shadow_destroy(&shadow);
}

/* More ranges than are deferred at once */
static void test_defer_many(void)
{
    NyxShadow shadow;
    NyxTranslation t;
    uint64_t pages = 5 * NYX_SHADOW_BATCH;

    nyx_shadow_init(&shadow);
    for (uint64_t i = 0; i < pages; i++) {
        fill(&shadow, i * PAGE, GiB + i * PAGE, PAGE, IOMMU_RW);
    }
    for (uint64_t i = 0; i < pages; i += 2) {
        nyx_shadow_defer(&shadow, i * PAGE, i * PAGE + PAGE - 1);
    }
    for (uint64_t i = 0; i < pages; i++) {
        g_assert_true(find(&shadow, i * PAGE, &t) == (i % 2));
    }
    nyx_shadow_destroy(&shadow);
}

/* A guest that uses an address again and again has its tables made once. */
static void test_tables_stay(void)
{
    NyxShadow shadow;
    uint64_t tables;

    nyx_shadow_init(&shadow);
    fill(&shadow, 0x5000, 0x9000, PAGE, IOMMU_RW);
    tables = nyx_page_table_table_bytes(shadow.table);
    nyx_shadow_forget(&shadow, 0x5000, 0x5fff);
    g_assert_cmpuint(nyx_page_table_mapped_bytes(shadow.table), ==, 0);
    g_assert_cmpuint(nyx_page_table_table_bytes(shadow.table), ==, tables);
    fill(&shadow, 0x5000, 0x9000, PAGE, IOMMU_RW);
    g_assert_cmpuint(nyx_page_table_table_bytes(shadow.table), ==, tables);
    nyx_shadow_forget_all(&shadow);
    g_assert_cmpuint(nyx_page_table_table_bytes(shadow.table), ==, 0);

    /* A leaf of 2 MiB takes the place of an empty table. */
    fill(&shadow, 0x5000, 0x9000, PAGE, IOMMU_RW);
    nyx_shadow_forget(&shadow, 0x5000, 0x5fff);
    fill(&shadow, 0x5000, GiB, 2 * MiB, IOMMU_RW);
    g_assert_cmpuint(nyx_page_table_leaves(shadow.table), ==, 1);
    nyx_shadow_destroy(&shadow);
}

/* What was asked before something was taken back is not kept. */
static void test_late_fill(void)
{
    NyxTranslation late = { .gpa = 0x9000, .mask = PAGE - 1, .perm = IOMMU_RW };
    NyxShadow shadow;
    NyxTranslation t;
    uint64_t generation;

    nyx_shadow_init(&shadow);
    generation = nyx_shadow_generation(&shadow);
    nyx_shadow_forget(&shadow, 0x5000, 0x5fff);
    nyx_shadow_fill(&shadow, generation, 0x5000, &late);
    g_assert_false(find(&shadow, 0x5000, &t));
    nyx_shadow_destroy(&shadow);
}

/* Nothing to keep: no access, or an address that no table has */
static void test_nothing(void)
{
    NyxShadow shadow;
    NyxTranslation t;

    nyx_shadow_init(&shadow);
    fill(&shadow, 0x5000, 0x9000, PAGE, IOMMU_NONE);
    fill(&shadow, 1ULL << 52, 0x9000, PAGE, IOMMU_RW);
    g_assert_false(find(&shadow, 0x5000, &t));
    g_assert_false(find(&shadow, 1ULL << 52, &t));
    nyx_shadow_destroy(&shadow);
}

/* A guest that spreads its pages does not take the host's memory. */
static void test_memory(void)
{
    NyxShadow shadow;

    nyx_shadow_init(&shadow);
    for (uint64_t i = 0; i < 40000; i++) {
        fill(&shadow, i * GiB % NYX_IOVA_LAST, 0x9000, PAGE, IOMMU_RW);
        g_assert_cmpuint(nyx_page_table_table_bytes(shadow.table), <=,
                         NYX_SHADOW_BYTES_MAX);
    }
    nyx_shadow_destroy(&shadow);
}

/*
 * Readers beside a writer that changes what a stage says, takes it back, and
 * announces that what the stage said before is gone.
 */
#define THREADS     3
#define PAGES       8
#define ROUNDS      100000
#define STRIDE      (512 * MiB)     /* four pages share an entry of the IOTLB */

typedef struct Stale {
    NyxShadow shadow;
    NyxIotlb tlb;
    uint64_t stage[PAGES];      /* the GPA of each page, ever higher */
    uint64_t lowest[PAGES];     /* what is below is gone */
    bool stop;
    uint64_t seed;
} Stale;

static uint64_t ask(Stale *s, unsigned page)
{
    uint64_t iova = page * STRIDE;
    uint64_t generation = nyx_shadow_generation(&s->shadow);
    NyxTranslation t;

    if (nyx_iotlb_lookup(&s->tlb, generation, iova, &t)) {
        return t.gpa;
    }
    if (nyx_shadow_lookup(&s->shadow, iova, &t)) {
        nyx_iotlb_fill(&s->tlb, generation, iova, &t);
        return t.gpa;
    }
    t = (NyxTranslation) {
        .gpa = qatomic_read(&s->stage[page]),
        .mask = PAGE - 1,
        .perm = IOMMU_RW,
    };
    nyx_shadow_fill(&s->shadow, generation, iova, &t);
    return t.gpa;
}

static void *reader(void *opaque)
{
    Stale *s = opaque;
    NyxRandom r = { qatomic_fetch_inc(&s->seed) };
    uint64_t looks = 0;

    rcu_register_thread();
    while (!qatomic_read(&s->stop) || looks < 10000) {
        unsigned page = nyx_random_below(&r, PAGES);
        uint64_t lowest = qatomic_load_acquire(&s->lowest[page]);

        WITH_RCU_READ_LOCK_GUARD() {
            g_assert_cmphex(ask(s, page), >=, lowest);
        }
        looks++;
    }
    rcu_unregister_thread();
    return NULL;
}

static void test_stale(void)
{
    NyxRandom r = nyx_random_start();
    Stale s = { .seed = nyx_random(&r) };
    QemuThread thread[THREADS];

    nyx_shadow_init(&s.shadow);
    nyx_iotlb_init(&s.tlb);
    for (int i = 0; i < THREADS; i++) {
        qemu_thread_create(&thread[i], "reader", reader, &s,
                           QEMU_THREAD_JOINABLE);
    }
    for (unsigned i = 0; i < ROUNDS; i++) {
        unsigned page = nyx_random_below(&r, PAGES);
        uint64_t gpa = s.stage[page] + PAGE;

        qatomic_set(&s.stage[page], gpa);
        switch (nyx_random_below(&r, 16)) {
        case 0:
            nyx_shadow_forget_all(&s.shadow);
            break;
        case 1 ... 7:
            nyx_shadow_defer(&s.shadow, page * STRIDE,
                             page * STRIDE + PAGE - 1);
            break;
        default:
            nyx_shadow_forget(&s.shadow, page * STRIDE,
                              page * STRIDE + PAGE - 1);
        }
        qatomic_store_release(&s.lowest[page], gpa);
    }
    qatomic_set(&s.stop, true);
    for (int i = 0; i < THREADS; i++) {
        qemu_thread_join(&thread[i]);
    }
    g_test_message("%" PRIu64 " hits, %" PRIu64 " misses of the IOTLB",
                   nyx_iotlb_hits(&s.tlb), nyx_iotlb_misses(&s.tlb));
    nyx_iotlb_destroy(&s.tlb);
    nyx_shadow_destroy(&s.shadow);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/nyx/shadow/fill", test_fill);
    g_test_add_func("/nyx/shadow/permissions-add-up", test_permissions_add_up);
    g_test_add_func("/nyx/shadow/sizes", test_sizes);
    g_test_add_func("/nyx/shadow/forget", test_forget);
    g_test_add_func("/nyx/shadow/defer", test_defer);
    g_test_add_func("/nyx/shadow/defer-many", test_defer_many);
    g_test_add_func("/nyx/shadow/tables-stay", test_tables_stay);
    g_test_add_func("/nyx/shadow/late-fill", test_late_fill);
    g_test_add_func("/nyx/shadow/nothing", test_nothing);
    g_test_add_func("/nyx/shadow/memory", test_memory);
    g_test_add_func("/nyx/shadow/stale", test_stale);
    return g_test_run();
}
