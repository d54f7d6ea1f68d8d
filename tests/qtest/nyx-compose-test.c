/*
 * Nyx IOMMU: stage 1 and stage 2 together do what a simple model says
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Random tables of the guest, random windows of the operator, random
 * invalidations and states, and DMA in between.  The order is that of GLib's
 * random numbers for tests: --seed repeats what went wrong.
 */

#include "qemu/osdep.h"
#include "compose-walk.h"

#define STEPS           8000
#define STEPS_Q35       4000
#define CHECK_EVERY     500
#define STALE_MAX       20

#define MSI_LAST        (NYX_MSI_BASE + MIB(1) - 1)

/* Numbers below @end */
static uint32_t below(uint32_t end)
{
    return g_test_rand_int_range(0, end);
}

static bool percent(unsigned chance)
{
    return below(100) < chance;
}

/*
 * Addresses are few, so that they meet: some of 1 GiB, and near them.
 */
static uint64_t near(uint64_t base)
{
    static const uint16_t blocks[] = { 0, 1, 255, 511 };
    static const uint16_t pages[] = { 0, 1, 2, 255, 510, 511 };

    return base + blocks[below(ARRAY_SIZE(blocks))] * MIB(2) +
           pages[below(ARRAY_SIZE(pages))] * PAGE;
}

static uint64_t random_iova(Walk *w)
{
    static const uint64_t bases[] = {
        0, GIB(1), GIB(4), GIB(5), GIB(511), 1ULL << 46, GIB((1 << 18) - 1),
    };
    uint64_t base;

    do {
        base = bases[below(ARRAY_SIZE(bases))];
    } while (base >> w->ops->iova_bits);
    return near(base);
}

/* An address in RAM that is the device's */
static uint64_t random_gpa(void)
{
    static const uint64_t bases[] = { 0, GIB(1) };

    return MAX(near(bases[below(ARRAY_SIZE(bases))]), WALK_OWN_LAST + 1);
}

/* Where stage 1 may lead to and the operator may have put a window */
static uint64_t random_middle(Walk *w)
{
    static const uint64_t bases[] = { GIB(4), GIB(8), 1ULL << 40 };

    if (!w->confined || percent(50)) {
        return random_gpa();
    }
    return near(bases[below(ARRAY_SIZE(bases))]);
}

static uint64_t random_target(Walk *w, uint64_t iova)
{
    static const uint64_t nowhere[] = {
        GIB(3), 0xfed00000, NYX_MSI_BASE, NYX_MSI_BASE + PAGE, MSI_LAST,
        GIB(40),
    };

    if (percent(10)) {
        return iova;
    }
    if (percent(90)) {
        return random_middle(w);
    }
    /* Without stage 2 that would be devices. */
    return w->confined ? nowhere[below(ARRAY_SIZE(nowhere))] : GIB(40);
}

static unsigned random_permission(bool write_only)
{
    unsigned may = below(4);

    return may && (may != MAY_WRITE || write_only) ? may : MAY_BOTH;
}

/* Small ones more often */
static uint64_t random_leaf_size(Walk *w)
{
    unsigned n = 0;

    if (!w->ops->shifts) {
        return PAGE * (percent(80) ? 1 + below(20) : 1 + below(0x50000));
    }
    while (w->ops->shifts[n]) {
        n++;
    }
    return 1ULL << w->ops->shifts[MIN(below(n), below(n))];
}

static void set_random_leaf(Walk *w)
{
    uint64_t size = random_leaf_size(w);
    uint64_t align = w->ops->shifts ? size : PAGE;
    Span leaf = { .first = QEMU_ALIGN_DOWN(random_iova(w), align) };

    leaf.last = leaf.first + size - 1;
    leaf.to = QEMU_ALIGN_DOWN(random_target(w, leaf.first), align);
    leaf.may = random_permission(w->ops->write_only);
    if (leaf.to >> w->ops->iova_bits || leaf.last >> w->ops->iova_bits) {
        return;
    }
    walk_set_leaf(w, leaf);
}

static void clear_random_leaf(Walk *w)
{
    if (w->oracle.leaves->len) {
        walk_clear_leaf(w, below(w->oracle.leaves->len));
    }
}

/* Mostly of what was changed, all of it or a part */
static void invalidate_something(Walk *w)
{
    uint64_t iova = random_iova(w);
    Span range = { .first = iova, .last = iova + PAGE - 1 };
    Stage1Scope scope = percent(80) ? STAGE1_PAGES : below(STAGE1_SCOPES);

    if (w->oracle.stale->len && percent(90)) {
        range = *span_at(w->oracle.stale, below(w->oracle.stale->len));
        if (percent(20)) {
            range.last = MIN(range.last,
                             range.first + PAGE * (1 + below(600)) - 1);
        }
    }
    if (w->oracle.stale->len > STALE_MAX) {
        scope = below(STAGE1_SCOPES - STAGE1_DOMAIN) + STAGE1_DOMAIN;
    }
    walk_invalidate(w, scope, range, below(2));
}

static uint64_t random_page_in(const Span *span)
{
    if (span_size(span) <= MIB(4)) {
        return span->first + below(span_size(span) / PAGE) * PAGE;
    }
    return span->first + near(0) % span_size(span);
}

static uint64_t address_to_try(Walk *w)
{
    const GArray *spans = percent(75) ? w->oracle.leaves : w->oracle.stale;

    /* What was possible once may still be known. */
    if (w->allowed && percent(30)) {
        return w->known[below(MIN(w->allowed, ARRAY_SIZE(w->known)))];
    }
    if (!w->oracle.translates) {
        return percent(90) ? random_middle(w) : random_iova(w);
    }
    if (!spans->len || percent(25)) {
        return random_iova(w);
    }
    return random_page_in(span_at(spans, below(spans->len)));
}

static void try_something(Walk *w)
{
    static const uint16_t lengths[] = { 1, 2, 3, 4, 8, 16, 64, 500, PAGE };
    uint32_t length = lengths[below(ARRAY_SIZE(lengths))];
    uint64_t address = address_to_try(w);

    if (percent(50) && address % PAGE == 0) {
        address += below(PAGE);
    }
    /* What comes next is no memory of anybody, or interrupts. */
    if ((address + length) >> w->ops->iova_bits) {
        return;
    }
    walk_access(w, address, length, percent(50) ? MAY_READ : MAY_WRITE);
}

/* The operator */

/* Mostly where the guest's tables lead to */
static uint64_t window_address(Walk *w)
{
    const Span *leaf;

    if (!w->oracle.leaves->len || percent(30)) {
        return random_middle(w);
    }
    leaf = span_at(w->oracle.leaves, below(w->oracle.leaves->len));
    return span_target(leaf, random_page_in(leaf));
}

/* Can a domain have it? */
static bool is_window(const GArray *windows, const Span *window)
{
    return window->last >> 48 == 0 && window->to > WALK_OWN_LAST &&
           span_target(window, window->last) < WALK_RAM_SIZE &&
           (window->first > MSI_LAST || window->last < NYX_MSI_BASE) &&
           !spans_overlap(windows, window->first, window->last);
}

static void map_random_window(Walk *w, WalkDomain domain)
{
    static const uint32_t pages[] = { 1, 2, 16, 512, 512, 1024, 0x40000 };
    Span window = { .first = window_address(w), .to = random_gpa() };
    uint64_t size = pages[below(ARRAY_SIZE(pages))] * PAGE;

    if (percent(50)) {
        window.first = QEMU_ALIGN_DOWN(window.first, MIN(size, GIB(1)));
        window.to = QEMU_ALIGN_DOWN(window.to, MIN(size, GIB(1)));
    }
    window.last = window.first + size - 1;
    window.may = random_permission(true);
    if (is_window(w->windows[domain], &window)) {
        walk_map(w, domain, window);
    }
}

static void unmap_something(Walk *w, WalkDomain domain)
{
    GArray *windows = w->windows[domain];
    const Span *span;
    uint64_t first, last;

    if (!windows->len) {
        return;
    }
    span = span_at(windows, below(windows->len));
    first = percent(50) ? span->first : random_page_in(span);
    last = percent(20) ? span->last
                       : MIN(span->last, first + (1 + below(600)) * PAGE - 1);
    if (span_target(span, first) > WALK_OWN_LAST) {
        walk_unmap(w, domain, first, last);
    }
}

static void change_windows(Walk *w)
{
    WalkDomain domain = percent(80) && w->domain != DOMAIN_RAM
                        ? w->domain : DOMAIN_WINDOWS;

    if (percent(domain == DOMAIN_WINDOWS ? 75 : 50)) {
        map_random_window(w, domain);
    } else {
        unmap_something(w, domain);
    }
}

static void change_state(Walk *w)
{
    unsigned what = below(40);

    if (w->confined && what == 0) {
        walk_quarantine_and_recover(w);
    } else if (what == 1) {
        walk_reset_machine(w);
    } else if (w->confined && what < 20) {
        walk_assign(w, below(DOMAINS));
    } else {
        walk_set_mode(w, below(STAGE1_ON + 1));
    }
    /* Most of the time is for both stages together. */
    if (w->stage1->mode != STAGE1_ON && percent(60)) {
        walk_set_mode(w, STAGE1_ON);
    }
}

static void step(Walk *w)
{
    unsigned what = below(100);

    if (what < 55) {
        try_something(w);
    } else if (what < 70) {
        set_random_leaf(w);
    } else if (what < 76) {
        clear_random_leaf(w);
    } else if (what < 88) {
        invalidate_something(w);
    } else if (what < 97) {
        if (w->confined) {
            change_windows(w);
        }
    } else {
        change_state(w);
    }
}

static void walk(const Stage1Ops *ops, bool confined, unsigned steps)
{
    Walk *w = walk_start(ops, confined);
    unsigned i;

    walk_set_mode(w, STAGE1_ON);
    for (i = 1; i <= steps; i++) {
        step(w);
        if (i % CHECK_EVERY == 0) {
            ram_model_check(&w->ram);
        }
    }
    g_test_message("%u DMAs done, %u refused; %u could have been either",
                   w->allowed, w->refused, w->uncertain);
    g_assert_cmpuint(w->allowed, >, steps / 20);
    g_assert_cmpuint(w->refused, >, steps / 20);
    walk_quit(w);
}

static void test_q35(const void *data)
{
    walk(data, false, STEPS_Q35);
}

static void test_nyx(const void *data)
{
    walk(data, true, STEPS);
}

static void add(const char *machine, const Stage1Ops *ops, GTestDataFunc fn)
{
    g_autofree char *path = g_strdup_printf("/nyx/compose/%s/%s", machine,
                                            ops->name);

    qtest_add_data_func(path, ops, fn);
}

int main(int argc, char **argv)
{
    const Stage1Ops *const *ops;

    g_test_init(&argc, &argv, NULL);
    for (ops = stage1_drivers; *ops; ops++) {
        /* What QEMU's own models do is what the oracle expects of them. */
        add("q35", *ops, test_q35);
        add("nyx-pc", *ops, test_nyx);
    }
    return g_test_run();
}
