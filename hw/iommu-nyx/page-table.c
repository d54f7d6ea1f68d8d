/*
 * Nyx IOMMU: the table of what a domain may touch
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Invariants:
 * - An entry is one word and changes by one store, so a reader sees the old or
 *   the new one.  A table is complete before the store that publishes it.
 * - A published table holds at least one leaf below it, but for what
 *   nyx_page_table_wipe() leaves.
 * - The figures of a table are those of everything below it, itself included,
 *   so that a whole subtree is judged and dropped without looking into it.
 */

#include "qemu/osdep.h"
#include "qemu/atomic.h"
#include "qemu/rcu.h"
#include "page-table.h"

#define LEVELS          4
#define LEVEL_BITS      9
#define ENTRIES         (1U << LEVEL_BITS)
#define LARGEST_LEAF    3       /* level whose entries are the largest leaves */

QEMU_BUILD_BUG_ON(NYX_PAGE_BITS + LEVELS * LEVEL_BITS != NYX_IOVA_BITS);
QEMU_BUILD_BUG_ON(IOMMU_RW != 3);

/*
 * An entry: 0 (nothing), or a leaf (GPA | perm, perm not 0), or a pointer to
 * the table of the next lower level | ENTRY_TABLE.
 */
#define ENTRY_PERM      ((uint64_t)IOMMU_RW)
#define ENTRY_TABLE     4ULL
#define ENTRY_GPA       (NYX_GPA_LAST & ~(NYX_PAGE_SIZE - 1))

typedef struct NyxTable {
    struct rcu_head rcu;
    NyxFigures figures;
    unsigned level;             /* LEVELS: the root; 1: entries are pages */
    uint64_t entry[ENTRIES];
} NyxTable;

static uint64_t live_tables;

/* What one entry of a table of this level spans, in address bits. */
static unsigned level_shift(unsigned level)
{
    return NYX_PAGE_BITS + (level - 1) * LEVEL_BITS;
}

static uint64_t level_mask(unsigned level)
{
    return (1ULL << level_shift(level)) - 1;
}

static unsigned level_index(unsigned level, uint64_t iova)
{
    return (iova >> level_shift(level)) & (ENTRIES - 1);
}

static void figures_add(NyxFigures *to, const NyxFigures *f)
{
    to->pages += f->pages;
    to->leaves += f->leaves;
    to->tables += f->tables;
}

static void figures_sub(NyxFigures *from, const NyxFigures *f)
{
    from->pages -= f->pages;
    from->leaves -= f->leaves;
    from->tables -= f->tables;
}

static NyxTable *entry_table(uint64_t entry)
{
    return (NyxTable *)(uintptr_t)(entry - ENTRY_TABLE);
}

static uint64_t entry_of_table(NyxTable *table)
{
    return (uint64_t)(uintptr_t)table + ENTRY_TABLE;
}

/* Of an entry in a table of @level */
static NyxFigures entry_figures(uint64_t entry, unsigned level)
{
    if (!entry) {
        return (NyxFigures) {};
    }
    if (entry & ENTRY_TABLE) {
        return entry_table(entry)->figures;
    }
    return (NyxFigures) {
        .pages = 1ULL << (level_shift(level) - NYX_PAGE_BITS),
        .leaves = 1,
    };
}

static NyxTable *table_new(unsigned level)
{
    NyxTable *table = g_new0(NyxTable, 1);

    table->level = level;
    table->figures.tables = 1;
    qatomic_inc(&live_tables);
    return table;
}

/* Nobody else refers to the tree any more. */
static void table_free_tree(NyxTable *table)
{
    unsigned i;

    for (i = 0; i < ENTRIES && table->figures.tables > 1; i++) {
        if (table->entry[i] & ENTRY_TABLE) {
            table->figures.tables -=
                entry_table(table->entry[i])->figures.tables;
            table_free_tree(entry_table(table->entry[i]));
        }
    }
    g_free(table);
    qatomic_dec(&live_tables);
}

/* The entry, and all below it, is out of reach for readers that start now. */
static void entry_retire(uint64_t entry)
{
    if (entry & ENTRY_TABLE) {
        call_rcu(entry_table(entry), table_free_tree, rcu);
    }
}

NyxPageTable *nyx_page_table_new(bool large_pages)
{
    NyxPageTable *pt = g_new0(NyxPageTable, 1);

    pt->large_pages = large_pages;
    return pt;
}

void nyx_page_table_free(NyxPageTable *pt)
{
    if (!pt) {
        return;
    }
    entry_retire(pt->root);
    g_free_rcu(pt, rcu);
}

static void figures_publish(NyxPageTable *pt)
{
    NyxFigures f = entry_figures(pt->root, LEVELS + 1);

    qatomic_set(&pt->figures.pages, f.pages);
    qatomic_set(&pt->figures.leaves, f.leaves);
    qatomic_set(&pt->figures.tables, f.tables);
}

uint64_t nyx_page_table_mapped_bytes(NyxPageTable *pt)
{
    return qatomic_read(&pt->figures.pages) << NYX_PAGE_BITS;
}

uint64_t nyx_page_table_table_bytes(NyxPageTable *pt)
{
    return qatomic_read(&pt->figures.tables) * sizeof(NyxTable);
}

uint64_t nyx_page_table_leaves(NyxPageTable *pt)
{
    return qatomic_read(&pt->figures.leaves);
}

uint64_t nyx_page_table_live_tables(void)
{
    return qatomic_read(&live_tables);
}

/*
 * A walk over the entries that a range touches.  The range lies within what
 * the table spans, is aligned to pages and not empty.
 */
typedef struct NyxStep {
    uint64_t *entry;
    uint64_t first;             /* what the range takes of the entry's span */
    uint64_t last;
    bool whole;                 /* all of it */
} NyxStep;

static NyxStep step_at(NyxTable *table, uint64_t first, uint64_t last)
{
    uint64_t mask = level_mask(table->level);
    uint64_t end = first | mask;

    return (NyxStep) {
        .entry = &table->entry[level_index(table->level, first)],
        .first = first,
        .last = MIN(end, last),
        .whole = !(first & mask) && end <= last,
    };
}

#define FOR_EACH_STEP(step, table, first, last)                         \
    for (NyxStep step = step_at(table, first, last);                    \
         step.first <= (last);                                          \
         step = step_at(table, step.last + 1, last))

/* True if nothing in the range is mapped */
static bool table_is_clear(NyxTable *table, uint64_t first, uint64_t last)
{
    FOR_EACH_STEP(step, table, first, last) {
        uint64_t entry = *step.entry;

        if (!entry) {
            continue;
        }
        if (step.whole || !(entry & ENTRY_TABLE) ||
            !table_is_clear(entry_table(entry), step.first, step.last)) {
            return false;
        }
    }
    return true;
}

/* True if everything in the range is mapped */
static bool table_is_full(NyxTable *table, uint64_t first, uint64_t last)
{
    uint64_t span_pages = 1ULL << (level_shift(table->level) - NYX_PAGE_BITS);

    FOR_EACH_STEP(step, table, first, last) {
        uint64_t entry = *step.entry;

        if (!entry) {
            return false;
        }
        if (!(entry & ENTRY_TABLE)) {
            continue;
        }
        if (step.whole
            ? entry_table(entry)->figures.pages != span_pages
            : !table_is_full(entry_table(entry), step.first, step.last)) {
            return false;
        }
    }
    return true;
}

/* Leaves in a row, over entries that are empty; @leaf: the first of them */
static void table_set_leaves(NyxTable *table, unsigned index, unsigned n,
                             uint64_t leaf)
{
    uint64_t size = level_mask(table->level) + 1;
    unsigned i;

    for (i = 0; i < n; i++) {
        qatomic_set(&table->entry[index + i], leaf + i * size);
    }
    table->figures.pages += (n * size) >> NYX_PAGE_BITS;
    table->figures.leaves += n;
}

/* Nothing in the range is mapped.  @gpa: that of first */
static void table_map(NyxTable *table, uint64_t first, uint64_t last,
                      uint64_t gpa, IOMMUAccessFlags perm, unsigned leaf_level)
{
    unsigned shift = level_shift(table->level);
    bool leaves = table->level <= leaf_level;

    while (first <= last) {
        NyxStep step = step_at(table, first, last);
        uint64_t length = step.last + 1 - first;

        if (leaves && step.whole) {
            unsigned n = (last + 1 - first) >> shift;

            table_set_leaves(table, level_index(table->level, first), n,
                             gpa | perm);
            length = (uint64_t)n << shift;
        } else {
            uint64_t entry = *step.entry;
            NyxFigures before = entry_figures(entry, table->level);
            NyxTable *child = entry ? entry_table(entry)
                                    : table_new(table->level - 1);

            table_map(child, first, step.last, gpa, perm, leaf_level);
            figures_sub(&table->figures, &before);
            figures_add(&table->figures, &child->figures);
            if (!entry) {
                qatomic_store_release(step.entry, entry_of_table(child));
            }
        }
        first += length;
        gpa += length;
    }
}

/* The largest leaves that can take such a mapping, as the level of tables */
static unsigned largest_leaf(NyxPageTable *pt, uint64_t first, uint64_t gpa)
{
    unsigned level = pt->large_pages ? LARGEST_LEAF : 1;

    while ((first ^ gpa) & level_mask(level)) {
        level--;
    }
    return level;
}

static bool range_is_valid(uint64_t first, uint64_t last)
{
    uint64_t mask = NYX_PAGE_SIZE - 1;

    return first <= last && last <= NYX_IOVA_LAST &&
           !(first & mask) && (last & mask) == mask;
}

/*
 * A run of tables below one that holds leaves, and one path to it at either
 * end: not exact, but never too few.
 */
static bool tables_fit(NyxPageTable *pt, uint64_t first, uint64_t last,
                       unsigned leaf_level)
{
    uint64_t tables = pt->figures.tables + 2 * LEVELS;
    unsigned level;

    for (level = leaf_level + 1; level <= LEVELS; level++) {
        tables += (last - first) >> level_shift(level);
    }
    return tables <= NYX_TABLE_BYTES_MAX / sizeof(NyxTable);
}

/*
 * Most changes are of a few pages, in a table that is there and stays: one walk
 * leads to it, and the figures are brought up to date on the way back.
 */
typedef struct NyxPath {
    NyxTable *table[LEVELS];    /* [0]: whose entries are pages; then upwards */
    uint64_t *entry;            /* of the first page */
    unsigned n;                 /* pages */
} NyxPath;

/* False: the range is all of a table or more, or there is no such table. */
static bool path_find(NyxPageTable *pt, uint64_t first, uint64_t last,
                      NyxPath *path)
{
    uint64_t entry = pt->root;

    path->n = (last + 1 - first) >> NYX_PAGE_BITS;
    if ((first ^ last) & ~level_mask(2) || path->n == ENTRIES) {
        return false;
    }
    for (unsigned level = LEVELS; level >= 1; level--) {
        if (!(entry & ENTRY_TABLE)) {
            return false;
        }
        path->table[level - 1] = entry_table(entry);
        path->entry = &entry_table(entry)->entry[level_index(level, first)];
        entry = *path->entry;
    }
    return true;
}

static void path_changed(NyxPageTable *pt, const NyxPath *path, int64_t pages)
{
    for (unsigned i = 0; i < LEVELS; i++) {
        path->table[i]->figures.pages += pages;
        path->table[i]->figures.leaves += pages;
    }
    qatomic_set(&pt->figures.pages, pt->figures.pages + pages);
    qatomic_set(&pt->figures.leaves, pt->figures.leaves + pages);
}

static int path_map(NyxPageTable *pt, const NyxPath *path, uint64_t leaf)
{
    for (unsigned i = 0; i < path->n; i++) {
        if (path->entry[i]) {
            return -EEXIST;
        }
    }
    for (unsigned i = 0; i < path->n; i++) {
        qatomic_set(&path->entry[i], leaf + i * NYX_PAGE_SIZE);
    }
    path_changed(pt, path, path->n);
    return 0;
}

static int path_unmap(NyxPageTable *pt, const NyxPath *path)
{
    for (unsigned i = 0; i < path->n; i++) {
        if (!path->entry[i]) {
            return -ENOENT;
        }
    }
    for (unsigned i = 0; i < path->n; i++) {
        qatomic_set(&path->entry[i], 0);
    }
    path_changed(pt, path, -(int64_t)path->n);
    return 0;
}

int nyx_page_table_map(NyxPageTable *pt, uint64_t first, uint64_t last,
                       uint64_t gpa, IOMMUAccessFlags perm)
{
    NyxPath path;
    NyxTable *root;
    unsigned leaf_level;

    if (!range_is_valid(first, last) || !(perm & IOMMU_RW) ||
        (perm & ~IOMMU_RW) || (gpa & (NYX_PAGE_SIZE - 1)) ||
        gpa > NYX_GPA_LAST || last - first > NYX_GPA_LAST - gpa) {
        return -EINVAL;
    }
    if (path_find(pt, first, last, &path)) {
        return path_map(pt, &path, gpa | perm);
    }
    if (pt->root && !table_is_clear(entry_table(pt->root), first, last)) {
        return -EEXIST;
    }
    leaf_level = largest_leaf(pt, first, gpa);
    if (!tables_fit(pt, first, last, leaf_level)) {
        return -ENOSPC;
    }
    root = pt->root ? entry_table(pt->root) : table_new(LEVELS);
    table_map(root, first, last, gpa, perm, leaf_level);
    if (!pt->root) {
        qatomic_store_release(&pt->root, entry_of_table(root));
    }
    figures_publish(pt);
    return 0;
}

/* Make a table of the same meaning out of a large leaf. */
static uint64_t leaf_split(uint64_t leaf, unsigned level)
{
    NyxTable *child = table_new(level - 1);

    table_set_leaves(child, 0, ENTRIES, leaf);
    return entry_of_table(child);
}

static void table_clear(NyxTable *table, uint64_t first, uint64_t last,
                        bool keep);

/* What the entry becomes when part of what it spans goes; it does so already */
static uint64_t entry_clear_part(NyxStep *step, unsigned level, bool keep)
{
    uint64_t entry = *step->entry;

    if (!(entry & ENTRY_TABLE)) {
        entry = leaf_split(entry, level);
        qatomic_store_release(step->entry, entry);
    }
    table_clear(entry_table(entry), step->first, step->last, keep);
    return keep || entry_table(entry)->figures.pages ? entry : 0;
}

/* @keep: tables that are partly in the range, though they are empty now */
static void table_clear(NyxTable *table, uint64_t first, uint64_t last,
                        bool keep)
{
    FOR_EACH_STEP(step, table, first, last) {
        NyxFigures before = entry_figures(*step.entry, table->level);
        NyxFigures after;
        uint64_t entry;

        if (!*step.entry) {
            continue;
        }
        entry = step.whole ? 0 : entry_clear_part(&step, table->level, keep);
        after = entry_figures(entry, table->level);
        figures_sub(&table->figures, &before);
        figures_add(&table->figures, &after);
        if (!entry) {
            uint64_t old = *step.entry;

            qatomic_set(step.entry, 0);
            entry_retire(old);
        }
    }
}

static void root_clear(NyxPageTable *pt, uint64_t first, uint64_t last,
                       bool keep)
{
    uint64_t root = pt->root;

    table_clear(entry_table(root), first, last, keep);
    if (!keep && !entry_table(root)->figures.pages) {
        qatomic_set(&pt->root, 0);
        entry_retire(root);
    }
    figures_publish(pt);
}

int nyx_page_table_unmap(NyxPageTable *pt, uint64_t first, uint64_t last)
{
    NyxPath path;

    if (!range_is_valid(first, last)) {
        return -EINVAL;
    }
    /* A table goes with its last leaf. */
    if (path_find(pt, first, last, &path) &&
        path.table[0]->figures.pages > path.n) {
        return path_unmap(pt, &path);
    }
    if (!pt->root || !table_is_full(entry_table(pt->root), first, last)) {
        return -ENOENT;
    }
    root_clear(pt, first, last, false);
    return 0;
}

void nyx_page_table_clear(NyxPageTable *pt, uint64_t first, uint64_t last)
{
    if (first > last || first > NYX_IOVA_LAST || !pt->root) {
        return;
    }
    root_clear(pt, first & ~(NYX_PAGE_SIZE - 1),
               MIN(last, NYX_IOVA_LAST) | (NYX_PAGE_SIZE - 1), false);
}

static void path_wipe(NyxPageTable *pt, const NyxPath *path)
{
    int64_t gone = 0;

    for (unsigned i = 0; i < path->n; i++) {
        if (path->entry[i]) {
            qatomic_set(&path->entry[i], 0);
            gone++;
        }
    }
    path_changed(pt, path, -gone);
}

void nyx_page_table_wipe(NyxPageTable *pt, uint64_t first, uint64_t last)
{
    NyxPath path;

    if (first > last || first > NYX_IOVA_LAST || !pt->root) {
        return;
    }
    first &= ~(NYX_PAGE_SIZE - 1);
    last = MIN(last, NYX_IOVA_LAST) | (NYX_PAGE_SIZE - 1);
    if (path_find(pt, first, last, &path)) {
        path_wipe(pt, &path);
    } else {
        root_clear(pt, first, last, true);
    }
}

bool nyx_page_table_lookup(NyxPageTable *pt, uint64_t iova,
                           NyxTranslation *t)
{
    uint64_t entry = qatomic_rcu_read(&pt->root);
    unsigned shift = NYX_IOVA_BITS;

    if (iova > NYX_IOVA_LAST) {
        entry = 0;
    }
    while (entry & ENTRY_TABLE) {
        shift -= LEVEL_BITS;
        entry = qatomic_rcu_read(
            &entry_table(entry)->entry[(iova >> shift) & (ENTRIES - 1)]);
    }
    if (!entry) {
        shift = NYX_PAGE_BITS;
    }
    t->gpa = entry & ENTRY_GPA;
    t->mask = (1ULL << shift) - 1;
    t->perm = entry & ENTRY_PERM;
    return entry != 0;
}

/* A run of leaves that goes on growing until a leaf does not continue it */
typedef struct NyxRun {
    uint64_t first;
    uint64_t last;
    uint64_t gpa;
    IOMMUAccessFlags perm;      /* IOMMU_NONE: no run yet */
    NyxPageTableVisit fn;
    void *opaque;
} NyxRun;

static bool run_end(NyxRun *run)
{
    return run->perm == IOMMU_NONE ||
           run->fn(run->first, run->last, run->gpa, run->perm, run->opaque);
}

static bool run_add(NyxRun *run, uint64_t first, uint64_t last, uint64_t gpa,
                    IOMMUAccessFlags perm)
{
    if (run->perm == perm && run->last + 1 == first &&
        run->gpa + (first - run->first) == gpa) {
        run->last = last;
        return true;
    }
    if (!run_end(run)) {
        return false;
    }
    run->first = first;
    run->last = last;
    run->gpa = gpa;
    run->perm = perm;
    return true;
}

static bool table_visit(NyxTable *table, uint64_t first, uint64_t last,
                        NyxRun *run)
{
    FOR_EACH_STEP(step, table, first, last) {
        uint64_t entry = qatomic_rcu_read(step.entry);
        uint64_t skipped = step.first & level_mask(table->level);

        if (!entry) {
            continue;
        }
        if (entry & ENTRY_TABLE
            ? !table_visit(entry_table(entry), step.first, step.last, run)
            : !run_add(run, step.first, step.last,
                       (entry & ENTRY_GPA) + skipped, entry & ENTRY_PERM)) {
            return false;
        }
    }
    return true;
}

bool nyx_page_table_foreach_in(NyxPageTable *pt, uint64_t first, uint64_t last,
                               NyxPageTableVisit fn, void *opaque)
{
    uint64_t root = qatomic_rcu_read(&pt->root);
    NyxRun run = { .fn = fn, .opaque = opaque };

    return (!root || table_visit(entry_table(root), first, last, &run)) &&
           run_end(&run);
}

bool nyx_page_table_foreach(NyxPageTable *pt, NyxPageTableVisit fn,
                            void *opaque)
{
    return nyx_page_table_foreach_in(pt, 0, NYX_IOVA_LAST, fn, opaque);
}
