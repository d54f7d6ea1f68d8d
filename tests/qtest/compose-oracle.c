/*
 * Composition tests of Nyx: what must come of an access
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "compose-oracle.h"

void oracle_init(Oracle *o, bool caches_absence)
{
    *o = (Oracle) {
        .caches_absence = caches_absence,
        .leaves = spans_new(),
        .stale = spans_new(),
    };
}

void oracle_destroy(Oracle *o)
{
    g_array_unref(o->leaves);
    g_array_unref(o->stale);
}

void oracle_set_leaf(Oracle *o, const Span *leaf)
{
    Span absent = { .first = leaf->first, .last = leaf->last };

    g_assert_false(spans_overlap(o->leaves, leaf->first, leaf->last));
    g_array_append_val(o->leaves, *leaf);
    if (o->caches_absence) {
        g_array_append_val(o->stale, absent);
    }
}

void oracle_clear_leaf(Oracle *o, guint index)
{
    g_array_append_val(o->stale, *span_at(o->leaves, index));
    g_array_remove_index_fast(o->leaves, index);
}

void oracle_invalidate(Oracle *o, uint64_t first, uint64_t last)
{
    spans_cut(o->stale, first, last);
}

static Outcome stage2(const Oracle *o, uint64_t address, unsigned access)
{
    const Span *window = spans_find(o->windows, address);
    Outcome outcome = { .address = address, .middle = address };

    if (!window) {
        outcome.kind = OUTCOME_UNMAPPED;
    } else if (access & ~window->may) {
        outcome.kind = OUTCOME_PERMISSION;
    } else {
        outcome.kind = OUTCOME_OK;
        outcome.address = span_target(window, address);
    }
    return outcome;
}

/* @leaf: NULL where stage 1 has none */
static Outcome both_stages(const Oracle *o, const Span *leaf, uint64_t iova,
                           unsigned access)
{
    if (!leaf || access & ~leaf->may) {
        return (Outcome) { .kind = OUTCOME_STAGE1, .address = iova };
    }
    return stage2(o, span_target(leaf, iova), access);
}

static unsigned add_outcome(Outcome *outcomes, unsigned n, Outcome outcome)
{
    unsigned i;

    for (i = 0; i < n; i++) {
        if (outcomes[i].kind == outcome.kind &&
            outcomes[i].address == outcome.address) {
            return n;
        }
    }
    g_assert_cmpuint(n, <, OUTCOMES_MAX);
    outcomes[n] = outcome;
    return n + 1;
}

unsigned oracle_outcomes(const Oracle *o, uint64_t iova, unsigned access,
                         Outcome outcomes[OUTCOMES_MAX])
{
    unsigned n = 0;
    guint i;

    if (!o->translates) {
        outcomes[0] = stage2(o, iova, access);
        return 1;
    }
    n = add_outcome(outcomes, n, both_stages(o, spans_find(o->leaves, iova),
                                             iova, access));
    for (i = 0; i < o->stale->len; i++) {
        const Span *old = span_at(o->stale, i);

        if (old->first <= iova && iova <= old->last) {
            n = add_outcome(outcomes, n, both_stages(o, old, iova, access));
        }
    }
    return n;
}
