/*
 * Nyx IOMMU: test of the page table after each of its stores
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * What a reader on another processor can see lies between two stores of the
 * writer.  Here the page table's own source is built so that each of its stores
 * is followed by lookups: addresses that an operation does not name must read
 * the same after every store, the others as before the operation or as after
 * it, and never as before again.  The store is where the order of publication
 * is decided, so this finds what a race would find only with luck.
 */

#include "qemu/osdep.h"
#include "qemu/atomic.h"
#include "qemu/rcu.h"
#include "qemu/units.h"
#include "system/memory.h"
#include "nyx-random.h"

static void stored(void);
static void retired(void *tree);

#undef qatomic_set
#define qatomic_set(ptr, value) do {                            \
    __atomic_store_n(ptr, value, __ATOMIC_RELAXED);             \
    stored();                                                   \
} while (0)
#undef qatomic_store_release
#define qatomic_store_release(ptr, value) do {                  \
    __atomic_store_n(ptr, value, __ATOMIC_RELEASE);             \
    stored();                                                   \
} while (0)
/* No grace period: who still reaches what is freed reads freed memory. */
#undef call_rcu
#define call_rcu(head, func, field) do {                        \
    retired(head);                                              \
    func(head);                                                 \
} while (0)

#include "nyx/hw/iommu-nyx/page-table.c"

#define PAGE        NYX_PAGE_SIZE
#define ARENA       (510 * GiB)     /* around a border of all levels */
#define ARENA_SIZE  (4 * GiB)
#define OPERATIONS  10000
#define SAMPLES     32

typedef struct Seen {
    bool mapped;
    uint64_t gpa;
    IOMMUAccessFlags perm;
} Seen;

typedef struct Sample {
    uint64_t iova;
    Seen before;
    Seen after;
    bool changed;
} Sample;

/* One for all, as stored() has no argument */
static struct {
    NyxPageTable *pt;
    NyxRandom random;
    Sample sample[SAMPLES];
    unsigned samples;
    uint64_t stores;            /* of this operation */
    uint64_t all_stores;
    uint64_t between;           /* samples seen after their change, early */
} test;

static Seen see(uint64_t iova)
{
    NyxTranslation t;
    bool mapped = nyx_page_table_lookup(test.pt, iova, &t);

    if (mapped) {
        return (Seen) { true, t.gpa + (iova & t.mask), t.perm };
    }
    return (Seen) {};
}

static bool same(Seen a, Seen b)
{
    return a.mapped == b.mapped && a.gpa == b.gpa && a.perm == b.perm;
}

static void stored(void)
{
    test.stores++;
    for (unsigned i = 0; i < test.samples; i++) {
        Sample *s = &test.sample[i];
        Seen now = see(s->iova);

        if (!s->changed && same(now, s->before)) {
            continue;
        }
        g_assert_true(same(now, s->after));
        test.between += !s->changed;
        s->changed = true;
    }
}

static void collect(NyxTable *table, GHashTable *set)
{
    g_hash_table_add(set, table);
    for (unsigned i = 0; i < ENTRIES; i++) {
        if (table->entry[i] & ENTRY_TABLE) {
            collect(entry_table(table->entry[i]), set);
        }
    }
}

static void retired(void *tree)
{
    g_autoptr(GHashTable) gone = g_hash_table_new(NULL, NULL);
    g_autoptr(GHashTable) there = g_hash_table_new(NULL, NULL);
    GHashTableIter iter;
    gpointer table;

    collect(tree, gone);
    if (test.pt->root) {
        collect(entry_table(test.pt->root), there);
    }
    g_hash_table_iter_init(&iter, gone);
    while (g_hash_table_iter_next(&iter, &table, NULL)) {
        g_assert_false(g_hash_table_contains(there, table));
    }
}

static void take_sample(uint64_t iova)
{
    Sample *s = &test.sample[test.samples++];

    g_assert_cmpuint(test.samples, <=, SAMPLES);
    iova &= NYX_IOVA_LAST;
    s->iova = iova;
    s->before = see(iova);
    s->after = s->before;
    s->changed = false;
}

/* The range's ends, their neighbours in all sizes, and some inside and out */
static void take_samples(uint64_t first, uint64_t last)
{
    static const uint64_t distance[] = { 1, 2 * MiB, GiB };

    test.samples = 0;
    take_sample(first);
    take_sample(last);
    for (size_t i = 0; i < ARRAY_SIZE(distance); i++) {
        take_sample(first - distance[i]);
        take_sample(last + distance[i]);
    }
    for (int i = 0; i < 8; i++) {
        take_sample(first + nyx_random_below(&test.random, last + 1 - first));
        take_sample((first & ~(2 * MiB - 1)) +
                    nyx_random_below(&test.random, 4 * MiB));
        take_sample(ARENA + nyx_random_below(&test.random, ARENA_SIZE));
    }
    test.stores = 0;
}

static void check_after(int result)
{
    for (unsigned i = 0; i < test.samples; i++) {
        g_assert_true(same(see(test.sample[i].iova), test.sample[i].after));
    }
    if (result) {
        g_assert_cmpuint(test.stores, ==, 0);
    }
    test.samples = 0;
    test.all_stores += test.stores;
}

static void do_map(uint64_t first, uint64_t last, uint64_t gpa,
                   IOMMUAccessFlags perm)
{
    bool vacant = !test.pt->root ||
                  table_is_clear(entry_table(test.pt->root), first, last);
    int result;

    take_samples(first, last);
    for (unsigned i = 0; i < test.samples && vacant; i++) {
        Sample *s = &test.sample[i];

        if (s->iova >= first && s->iova <= last) {
            s->after = (Seen) { true, gpa + (s->iova - first), perm };
        }
    }
    result = nyx_page_table_map(test.pt, first, last, gpa, perm);
    g_assert_cmpint(result, ==, vacant ? 0 : -EEXIST);
    check_after(result);
}

static void do_clear(uint64_t first, uint64_t last, bool unmap)
{
    bool full = test.pt->root &&
                table_is_full(entry_table(test.pt->root), first, last);
    int result = 0;

    take_samples(first, last);
    for (unsigned i = 0; i < test.samples && (full || !unmap); i++) {
        Sample *s = &test.sample[i];

        if (s->iova >= first && s->iova <= last) {
            s->after = (Seen) {};
        }
    }
    if (unmap) {
        result = nyx_page_table_unmap(test.pt, first, last);
        g_assert_cmpint(result, ==, full ? 0 : -ENOENT);
    } else {
        nyx_page_table_clear(test.pt, first, last);
    }
    check_after(result);
}

static void start(bool large_pages)
{
    test.random = nyx_random_start();
    test.pt = nyx_page_table_new(large_pages);
    test.all_stores = 0;
    test.between = 0;
}

static void finish(void)
{
    do_clear(0, NYX_IOVA_LAST, false);
    g_assert_cmpuint(nyx_page_table_live_tables(), ==, 0);
    g_test_message("%" PRIu64 " stores, %" PRIu64 " changes seen",
                   test.all_stores, test.between);
    g_assert_cmpuint(test.between, >, 0);
    nyx_page_table_free(test.pt);
    drain_call_rcu();
}

/* Each level's leaf split by a hole at its start, end and inside */
static void test_splits(void)
{
    static const uint64_t sizes[] = { GiB, 2 * MiB };

    start(true);
    for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
        uint64_t size = sizes[i], gpa = 7 * GiB;
        const uint64_t holes[] = { 0, size / 2, size - PAGE, size / 2 - PAGE };

        for (size_t h = 0; h < ARRAY_SIZE(holes); h++) {
            uint64_t hole = ARENA + holes[h];

            do_map(ARENA, ARENA + size - 1, gpa, IOMMU_RW);
            do_clear(hole, hole + PAGE - 1, true);
            do_map(hole, hole + PAGE - 1, gpa + PAGE, IOMMU_RO);
            do_clear(ARENA, ARENA + size - 1, true);
        }
    }
    finish();
}

static void random_operation(void)
{
    static const uint64_t sizes[] = { PAGE, 16 * PAGE, 2 * MiB, GiB };
    NyxRandom *r = &test.random;
    unsigned kind = nyx_random_below(r, ARRAY_SIZE(sizes));
    uint64_t unit = sizes[test.pt->large_pages ? kind : kind % 3];
    uint64_t align = nyx_random_below(r, 4) ? unit : PAGE;
    uint64_t first = ARENA + nyx_random_below(r, ARENA_SIZE / align) * align;
    uint64_t last = first + unit * (1 + nyx_random_below(r, 2)) - 1;

    switch (nyx_random_below(r, 4)) {
    case 0:
        do_clear(first, last, true);
        break;
    case 1:
        do_clear(first, last, false);
        break;
    default:
        /* Same offset in 1 GiB; large ranges at other offsets would be slow */
        do_map(first, last, first + nyx_random_below(r, 16) * GiB +
               (unit < GiB ? nyx_random_below(r, 3) * PAGE : 0),
               1 + nyx_random_below(r, 3));
    }
}

static void test_random(gconstpointer large_pages)
{
    start(GPOINTER_TO_INT(large_pages));
    for (unsigned i = 0; i < OPERATIONS; i++) {
        random_operation();
    }
    finish();
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/nyx/page-table-stores/splits", test_splits);
    g_test_add_data_func("/nyx/page-table-stores/random",
                         GINT_TO_POINTER(true), test_random);
    g_test_add_data_func("/nyx/page-table-stores/random-small-leaves",
                         GINT_TO_POINTER(false), test_random);
    return g_test_run();
}
