/*
 * Nyx IOMMU: test of page table readers beside a writer
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * In each of SLOTS spans of 1 GiB the writer maps, splits, unmaps and remaps
 * pages, but for one page that it names to the readers first: that one they
 * must see all along.  Any other page they must see as it was, as it will be,
 * or not mapped.
 */

#include "qemu/osdep.h"
#include "qemu/thread.h"
#include "qemu/units.h"
#include "nyx-page-table-helpers.h"
#include "nyx-random.h"

#define SLOTS           4
#define ROUNDS          60
#define OLD_GPA         (64 * GiB)
/* Allows leaves of 4 KiB only */
#define NEW_GPA         (1024 * GiB + PAGE)

typedef struct Race {
    NyxPageTable *pt;
    uint64_t stable[SLOTS];     /* IOVA of the page, 0: none at this time */
    bool stop;
    uint64_t seed;
} Race;

static void race_look(Race *race, NyxRandom *r)
{
    unsigned slot = nyx_random_below(r, SLOTS);
    uint64_t stable, iova = slot * GiB + nyx_random_below(r, GiB);
    NyxTranslation t;

    RCU_READ_LOCK_GUARD();
    stable = qatomic_load_acquire(&race->stable[slot]);
    if (stable) {
        g_assert_true(nyx_page_table_lookup(race->pt, stable, &t));
        g_assert_cmphex(t.gpa + (stable & t.mask), ==, OLD_GPA + stable);
        g_assert_cmpuint(t.perm, ==, IOMMU_RW);
        /* Its neighbours change most. */
        iova = nyx_random_below(r, 2) ? iova : stable ^ PAGE;
    }
    if (!nyx_page_table_lookup(race->pt, iova, &t)) {
        g_assert_cmpuint(t.perm, ==, IOMMU_NONE);
    } else if (t.perm == IOMMU_RW) {
        g_assert_cmphex(t.gpa + (iova & t.mask), ==, OLD_GPA + iova);
    } else {
        g_assert_cmpuint(t.perm, ==, IOMMU_RO);
        g_assert_cmphex(t.gpa + (iova & t.mask), ==, NEW_GPA + iova);
    }
}

static void *race_reader(void *opaque)
{
    Race *race = opaque;
    NyxRandom random = { qatomic_fetch_inc(&race->seed) };
    uint64_t looks = 0;

    rcu_register_thread();
    /* At least some, also where the writer was quicker */
    while (!qatomic_read(&race->stop) || looks < 10000) {
        race_look(race, &random);
        looks++;
    }
    rcu_unregister_thread();
    return (void *)(uintptr_t)looks;
}

/* Replace a range that leaves out the stable page. */
static void race_replace(Race *race, NyxRandom *r, uint64_t first,
                         uint64_t size, uint64_t stable)
{
    if (stable - first < size) {
        return;
    }
    nyx_page_table_clear(race->pt, first, first + size - 1);
    if (nyx_random_below(r, 4)) {
        bool renew = nyx_random_below(r, 2);

        map_ok(race->pt, first, size, first + (renew ? NEW_GPA : OLD_GPA),
               renew ? IOMMU_RO : IOMMU_RW);
    }
}

static void race_slot(Race *race, NyxRandom *r, unsigned slot)
{
    uint64_t base = slot * GiB;
    uint64_t stable = base + (1 + nyx_random_below(r, GiB / PAGE - 1)) * PAGE;

    map_ok(race->pt, base, GiB, OLD_GPA + base, IOMMU_RW);
    qatomic_store_release(&race->stable[slot], stable);
    for (int i = 0; i < 100; i++) {
        /* The neighbouring page, table, or any */
        race_replace(race, r, stable ^ PAGE, PAGE, stable);
        race_replace(race, r, (stable ^ 2 * MiB) & ~(2 * MiB - 1), 2 * MiB,
                     stable);
        race_replace(race, r, base + nyx_random_below(r, GiB / PAGE) * PAGE,
                     PAGE, stable);
    }
}

static void test_readers(void)
{
    NyxRandom random = nyx_random_start();
    Race race = { .pt = nyx_page_table_new(true), .seed = nyx_random(&random) };
    QemuThread reader[2];

    for (int i = 0; i < ARRAY_SIZE(reader); i++) {
        qemu_thread_create(&reader[i], "reader", race_reader, &race,
                           QEMU_THREAD_JOINABLE);
    }
    for (int round = 0; round < ROUNDS; round++) {
        for (unsigned slot = 0; slot < SLOTS; slot++) {
            race_slot(&race, &random, slot);
        }
        for (unsigned slot = 0; slot < SLOTS; slot++) {
            qatomic_set(&race.stable[slot], 0);
        }
        /* Who read the name of a stable page is done with it. */
        synchronize_rcu();
        nyx_page_table_clear(race.pt, 0, SLOTS * GiB - 1);
    }
    qatomic_set(&race.stop, true);
    for (int i = 0; i < ARRAY_SIZE(reader); i++) {
        uint64_t looks = (uintptr_t)qemu_thread_join(&reader[i]);

        g_test_message("reader %d: %" PRIu64 " lookups", i, looks);
    }
    free_and_check(race.pt);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/nyx/page-table/readers", test_readers);
    return g_test_run();
}
