/*
 * Nyx IOMMU: test of the page table against an oracle
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/units.h"
#include "nyx-page-table-helpers.h"
#include "nyx-random.h"

#define OPERATIONS      1000000 /* a quarter of it in small leaves: slow */
#define LOW_BITS(bits)  ((1ULL << (bits)) - 1)

/*
 * The oracle: disjoint runs in ascending order, in one array.  Neighbours that
 * continue each other are one run, as nyx_page_table_foreach() has it.
 */
typedef struct Run {
    uint64_t first, last, gpa;
    IOMMUAccessFlags perm;
} Run;

typedef struct Model {
    NyxRandom random;
    NyxPageTable *pt;
    bool large_pages;
    bool wipe;                  /* as nyx_page_table_wipe() is meant */
    GArray *runs;
    uint64_t bytes;             /* mapped */
    guint visited;
    uint64_t done[5];           /* operations, by result */
} Model;

static Run *run_at(Model *m, guint i)
{
    return &g_array_index(m->runs, Run, i);
}

/* The first run that ends at iova or later, or their number */
static guint run_find(Model *m, uint64_t iova)
{
    guint low = 0, high = m->runs->len;

    while (low < high) {
        guint middle = (low + high) / 2;

        if (run_at(m, middle)->last < iova) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static bool oracle_is_clear(Model *m, uint64_t first, uint64_t last)
{
    guint i = run_find(m, first);

    return i == m->runs->len || run_at(m, i)->first > last;
}

static bool oracle_is_full(Model *m, uint64_t first, uint64_t last)
{
    for (guint i = run_find(m, first); i < m->runs->len; i++) {
        if (run_at(m, i)->first > first) {
            return false;
        }
        if (run_at(m, i)->last >= last) {
            return true;
        }
        first = run_at(m, i)->last + 1;
    }
    return false;
}

static bool run_continues(const Run *a, const Run *b)
{
    return a->last + 1 == b->first && a->perm == b->perm &&
           a->gpa + (b->first - a->first) == b->gpa;
}

static void oracle_merge(Model *m, guint i)
{
    if (i + 1 < m->runs->len && run_continues(run_at(m, i), run_at(m, i + 1))) {
        run_at(m, i)->last = run_at(m, i + 1)->last;
        g_array_remove_index(m->runs, i + 1);
    }
}

static void oracle_map(Model *m, Run run)
{
    guint i = run_find(m, run.first);

    g_array_insert_val(m->runs, i, run);
    m->bytes += run.last + 1 - run.first;
    oracle_merge(m, i);
    if (i > 0) {
        oracle_merge(m, i - 1);
    }
}

static void oracle_clear(Model *m, uint64_t first, uint64_t last)
{
    guint i = run_find(m, first);

    while (i < m->runs->len && run_at(m, i)->first <= last) {
        Run run = *run_at(m, i);
        uint64_t from = MAX(run.first, first), to = MIN(run.last, last);

        m->bytes -= to + 1 - from;
        g_array_remove_index(m->runs, i);
        if (run.last > to) {
            Run rest = { to + 1, run.last, run.gpa + (to + 1 - run.first),
                         run.perm };

            g_array_insert_val(m->runs, i, rest);
        }
        if (run.first < from) {
            run.last = from - 1;
            g_array_insert_val(m->runs, i, run);
            i++;
        }
    }
}

static bool visit_compare(uint64_t first, uint64_t last, uint64_t gpa,
                          IOMMUAccessFlags perm, void *opaque)
{
    Model *m = opaque;
    Run *run;

    g_assert_cmpuint(m->visited, <, m->runs->len);
    run = run_at(m, m->visited++);
    g_assert_cmphex(first, ==, run->first);
    g_assert_cmphex(last, ==, run->last);
    g_assert_cmphex(gpa, ==, run->gpa);
    g_assert_cmpuint(perm, ==, run->perm);
    return true;
}

/* Every run, and the number of leaves as lookups show them */
static void compare_all(Model *m)
{
    uint64_t leaves = 0;

    m->visited = 0;
    g_assert_true(nyx_page_table_foreach(m->pt, visit_compare, m));
    g_assert_cmpuint(m->visited, ==, m->runs->len);
    for (guint i = 0; i < m->runs->len; i++) {
        uint64_t iova = run_at(m, i)->first;

        while (iova <= run_at(m, i)->last) {
            NyxTranslation t;

            g_assert_true(nyx_page_table_lookup(m->pt, iova, &t));
            iova = (iova | t.mask) + 1;
            leaves++;
        }
    }
    g_assert_cmpuint(nyx_page_table_leaves(m->pt), ==, leaves);
}

static void compare_lookup(Model *m, uint64_t iova)
{
    guint i = run_find(m, iova);
    NyxTranslation t;
    Run *run;

    if (i == m->runs->len || run_at(m, i)->first > iova) {
        check_unmapped(m->pt, iova);
        return;
    }
    run = run_at(m, i);
    g_assert_true(nyx_page_table_lookup(m->pt, iova, &t));
    g_assert_true(t.mask == PAGE - 1 ||
                  (m->large_pages &&
                   (t.mask == 2 * MiB - 1 || t.mask == GiB - 1)));
    g_assert_cmphex(iova & ~t.mask, >=, run->first);
    g_assert_cmphex(iova | t.mask, <=, run->last);
    g_assert_cmphex(t.gpa, ==, run->gpa + ((iova & ~t.mask) - run->first));
    g_assert_cmpuint(t.perm, ==, run->perm);
}

/* Near places where something can go wrong, so that ranges meet often */
static uint64_t random_iova(Model *m)
{
    static const uint64_t places[] = {
        0, GiB, 512 * GiB - GiB, 512 * GiB, 1ULL << 47,
        NYX_IOVA_LAST + 1 - 4 * GiB, NYX_IOVA_LAST + 1 - 2 * MiB,
    };
    static const unsigned spread_bits[] = { 14, 22, 31 };
    NyxRandom *r = &m->random;
    uint64_t place = places[nyx_random_below(r, ARRAY_SIZE(places))];
    unsigned bits = spread_bits[nyx_random_below(r, ARRAY_SIZE(spread_bits))];

    return (place + (nyx_random(r) & LOW_BITS(bits))) & NYX_IOVA_LAST;
}

/* Bytes: mostly few pages, at times many, seldom several GiB */
static uint64_t random_size(Model *m)
{
    NyxRandom *r = &m->random;
    uint64_t kind = nyx_random_below(r, 1000);

    if (kind < 700) {
        return PAGE * (1 + nyx_random_below(r, 8));
    }
    if (kind < 850) {
        return PAGE * (1 + nyx_random_below(r, 1600));
    }
    if (kind < 970 || (!m->large_pages && kind < 999)) {
        return 2 * MiB * (1 + nyx_random_below(r, 4));
    }
    if (kind < 999) {
        return GiB * (1 + nyx_random_below(r, 3));
    }
    return GiB + (nyx_random_below(r, GiB) & ~(PAGE - 1));
}

/* Aligned as its size suggests; pieces of existing runs now and then */
static void random_range(Model *m, uint64_t *first, uint64_t *last)
{
    NyxRandom *r = &m->random;
    uint64_t size = random_size(m);
    uint64_t align = size % GiB == 0 ? GiB : size % (2 * MiB) == 0 ? 2 * MiB
                                                                   : PAGE;

    *first = random_iova(m) & ~(align - 1);
    if (m->runs->len && nyx_random_below(r, 3) == 0) {
        Run *run = run_at(m, nyx_random_below(r, m->runs->len));
        uint64_t pages = (run->last + 1 - run->first) / PAGE;

        *first = run->first + nyx_random_below(r, pages) * PAGE;
        size = MIN(size, run->last + 1 - *first);
    }
    *last = MIN(*first + size - 1, NYX_IOVA_LAST);
}

static uint64_t random_gpa(Model *m, uint64_t first, uint64_t last)
{
    NyxRandom *r = &m->random;
    uint64_t size = last + 1 - first;
    uint64_t offset = first & (GiB - 1);
    uint64_t top = (NYX_GPA_LAST + 1 - size) & ~(PAGE - 1);
    guint i = run_find(m, first);

    switch (nyx_random_below(r, 8)) {
    case 0:                     /* leaves of 4 KiB, unless that is slow */
        return size < 16 * MiB ? nyx_random_below(r, GiB) & ~(PAGE - 1)
                               : offset;
    case 1:                     /* at most of 2 MiB */
        return (first & (2 * MiB - 1)) + nyx_random_below(r, GiB) / MiB * 2
               * MiB;
    case 2:
        return size < 16 * MiB ? top : offset;
    case 3:
    case 4:                     /* continues the run before it */
        if (i > 0 && run_at(m, i - 1)->last + 1 == first) {
            return run_at(m, i - 1)->gpa + (first - run_at(m, i - 1)->first);
        }
        /* fall through */
    default:
        return offset + nyx_random_below(r, 64) * GiB;
    }
}

static void random_map(Model *m)
{
    Run run = { .perm = 1 + nyx_random_below(&m->random, 3) };
    int expected = 0, result;

    random_range(m, &run.first, &run.last);
    if (m->wipe) {
        nyx_page_table_wipe(m->pt, run.first, run.last);
        oracle_clear(m, run.first, run.last);
    }
    run.gpa = random_gpa(m, run.first, run.last);
    if (nyx_random_below(&m->random, 100) == 0) {
        run.gpa |= PAGE / 2;
        expected = -EINVAL;
    } else if (run.gpa > NYX_GPA_LAST ||
               run.last - run.first > NYX_GPA_LAST - run.gpa) {
        expected = -EINVAL;
    } else if (!oracle_is_clear(m, run.first, run.last)) {
        expected = -EEXIST;
    }
    result = nyx_page_table_map(m->pt, run.first, run.last, run.gpa, run.perm);
    g_assert_cmpint(result, ==, expected);
    if (!result) {
        oracle_map(m, run);
    }
    m->done[!result]++;
    compare_lookup(m, run.first);
    compare_lookup(m, run.last);
    compare_lookup(m, (run.last + 1) & NYX_IOVA_LAST);
}

static void random_take_away(Model *m, bool clear)
{
    uint64_t first, last;
    int expected = 0, result = 0;

    random_range(m, &first, &last);
    if (clear) {
        uint64_t from = first + nyx_random_below(&m->random, PAGE / 2);
        uint64_t to = last - nyx_random_below(&m->random, PAGE / 2);

        if (m->wipe) {
            nyx_page_table_wipe(m->pt, from, to);
        } else {
            nyx_page_table_clear(m->pt, from, to);
        }
    } else {
        expected = oracle_is_full(m, first, last) ? 0 : -ENOENT;
        result = nyx_page_table_unmap(m->pt, first, last);
    }
    g_assert_cmpint(result, ==, expected);
    if (!result) {
        oracle_clear(m, first, last);
    }
    m->done[2 + !result]++;
    compare_lookup(m, first);
    compare_lookup(m, last);
    compare_lookup(m, (first - 1) & NYX_IOVA_LAST);
}

static void random_operation(Model *m)
{
    uint64_t kind = nyx_random_below(&m->random, 10000);

    if (kind < 4500) {
        random_map(m);
    } else if (kind < 7500) {
        random_take_away(m, false);
    } else if (kind < 8500) {
        random_take_away(m, true);
    } else if (kind < 9998) {
        compare_lookup(m, random_iova(m));
    } else {
        compare_all(m);
    }
    g_assert_cmpuint(nyx_page_table_mapped_bytes(m->pt), ==, m->bytes);
    g_assert_true(m->wipe ||
                  !m->bytes == !nyx_page_table_table_bytes(m->pt));
}

#define SMALL_LEAVES    1
#define WIPE            2

static void test_random(gconstpointer data)
{
    int variant = GPOINTER_TO_INT(data);
    Model m = {
        .random = nyx_random_start(),
        .large_pages = !(variant & SMALL_LEAVES),
        .wipe = variant & WIPE,
        .runs = g_array_new(false, false, sizeof(Run)),
    };
    unsigned operations = variant ? OPERATIONS / 4 : OPERATIONS;

    m.pt = nyx_page_table_new(m.large_pages);
    for (unsigned i = 0; i < operations; i++) {
        random_operation(&m);
    }
    compare_all(&m);
    g_test_message("%u operations: maps %" PRIu64 " done, %" PRIu64 " refused; "
                   "unmaps and clears %" PRIu64 " done, %" PRIu64 " refused; "
                   "%u runs, %" PRIu64 " leaves at the end", operations,
                   m.done[1], m.done[0], m.done[3], m.done[2], m.runs->len,
                   nyx_page_table_leaves(m.pt));
    /* Else the sequence tests little; nothing is in the way of what wipes. */
    for (int i = m.wipe; i < 4; i++) {
        g_assert_cmpuint(m.done[i], >, operations / 50);
    }
    while (m.runs->len) {
        Run run = *run_at(&m, nyx_random_below(&m.random, m.runs->len));

        g_assert_cmpint(nyx_page_table_unmap(m.pt, run.first, run.last), ==, 0);
        oracle_clear(&m, run.first, run.last);
    }
    g_assert_cmpuint(nyx_page_table_mapped_bytes(m.pt), ==, 0);
    g_assert_true(m.wipe || !nyx_page_table_table_bytes(m.pt));
    free_and_check(m.pt);
    g_array_free(m.runs, true);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_data_func("/nyx/page-table/random", NULL, test_random);
    g_test_add_data_func("/nyx/page-table/random-small-leaves",
                         GINT_TO_POINTER(SMALL_LEAVES), test_random);
    g_test_add_data_func("/nyx/page-table/random-wipe", GINT_TO_POINTER(WIPE),
                         test_random);
    return g_test_run();
}
