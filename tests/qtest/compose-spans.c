/*
 * Composition tests of Nyx: what ranges of addresses lead to
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "compose-spans.h"

GArray *spans_new(void)
{
    return g_array_new(false, false, sizeof(Span));
}

static bool overlaps(const Span *span, uint64_t first, uint64_t last)
{
    return span->first <= last && first <= span->last;
}

const Span *spans_find(const GArray *spans, uint64_t address)
{
    guint i;

    for (i = 0; i < spans->len; i++) {
        if (overlaps(span_at(spans, i), address, address)) {
            return span_at(spans, i);
        }
    }
    return NULL;
}

bool spans_overlap(const GArray *spans, uint64_t first, uint64_t last)
{
    guint i;

    for (i = 0; i < spans->len; i++) {
        if (overlaps(span_at(spans, i), first, last)) {
            return true;
        }
    }
    return false;
}

void spans_cut(GArray *spans, uint64_t first, uint64_t last)
{
    guint i = spans->len;

    while (i--) {
        Span whole = *span_at(spans, i);
        Span left = whole, right = whole;

        if (!overlaps(&whole, first, last)) {
            continue;
        }
        /* The last one, which comes here, has been looked at. */
        g_array_remove_index_fast(spans, i);
        if (whole.first < first) {
            left.last = first - 1;
            g_array_append_val(spans, left);
        }
        if (whole.last > last) {
            right.first = last + 1;
            right.to = span_target(&whole, right.first);
            g_array_append_val(spans, right);
        }
    }
}
