/*
 * Composition tests of Nyx: what ranges of addresses lead to
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef TESTS_QTEST_COMPOSE_SPANS_H
#define TESTS_QTEST_COMPOSE_SPANS_H

#include <glib.h>

/* Bits of Span.may */
#define MAY_READ    1u
#define MAY_WRITE   2u
#define MAY_BOTH    (MAY_READ | MAY_WRITE)

/*
 * Addresses @first to @last, inclusive, lead to @to and what follows it, for
 * accesses that are in @may.  0 there: they lead nowhere.
 */
typedef struct Span {
    uint64_t first;
    uint64_t last;
    uint64_t to;
    unsigned may;
} Span;

/* A set of spans in no order; they may overlap.  g_array_unref() it. */
GArray *spans_new(void);

#define span_at(spans, i)   (&g_array_index(spans, Span, i))

static inline uint64_t span_size(const Span *span)
{
    return span->last - span->first + 1;
}

/* @address is in the span. */
static inline uint64_t span_target(const Span *span, uint64_t address)
{
    return span->to + (address - span->first);
}

/* One that has the address, or NULL; it is valid until the set changes. */
const Span *spans_find(const GArray *spans, uint64_t address);
bool spans_overlap(const GArray *spans, uint64_t first, uint64_t last);

/* Take the range out of all of them; what is left and right of it stays. */
void spans_cut(GArray *spans, uint64_t first, uint64_t last);

#endif
