/*
 * Nyx IOMMU: a set of ranges of pages
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "leb128.h"
#include "page-ranges.h"

/* The first range that ends at @first or later, or touches it */
static guint find(const NyxPageRanges *r, uint64_t first)
{
    guint low = 0, high = r->array->len;

    while (low < high) {
        guint middle = low + (high - low) / 2;

        if (nyx_page_ranges_get(r, middle).last + 1 < first) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

/* Whatever it overlaps or touches becomes one with it. */
static void insert(NyxPageRanges *r, NyxPageRange new)
{
    guint at = find(r, new.first), end = at;

    while (end < r->array->len &&
           nyx_page_ranges_get(r, end).first <= new.last + 1) {
        NyxPageRange old = nyx_page_ranges_get(r, end++);

        new.first = MIN(new.first, old.first);
        new.last = MAX(new.last, old.last);
    }
    if (at == end) {
        g_array_insert_val(r->array, at, new);
    } else {
        g_array_index(r->array, NyxPageRange, at) = new;
        g_array_remove_range(r->array, at + 1, end - at - 1);
    }
}

static NyxPageRange grown(const NyxPageRanges *r, NyxPageRange range)
{
    uint64_t mask = (1ULL << r->granule_bits) - 1;

    return (NyxPageRange) { range.first & ~mask, range.last | mask };
}

/* In place: a range that has grown is the one before, or comes after it. */
static void coarsen(NyxPageRanges *r)
{
    guint used = 0;

    r->granule_bits++;
    for (guint i = 0; i < r->array->len; i++) {
        NyxPageRange range = grown(r, nyx_page_ranges_get(r, i));
        NyxPageRange *last = used
            ? &g_array_index(r->array, NyxPageRange, used - 1) : NULL;

        if (last && range.first <= last->last + 1) {
            last->last = range.last;
        } else {
            g_array_index(r->array, NyxPageRange, used++) = range;
        }
    }
    g_array_set_size(r->array, used);
}

void nyx_page_ranges_add(NyxPageRanges *r, uint64_t first, uint64_t last)
{
    if (!r->array) {
        r->array = g_array_new(false, false, sizeof(NyxPageRange));
        r->granule_bits = NYX_PAGE_BITS;
    }
    insert(r, grown(r, (NyxPageRange) { first, last }));
    while (r->array->len > NYX_PAGE_RANGES_MAX) {
        coarsen(r);
    }
}

void nyx_page_ranges_clear(NyxPageRanges *r)
{
    g_clear_pointer(&r->array, g_array_unref);
}

GByteArray *nyx_page_ranges_encode(const NyxPageRanges *r)
{
    GByteArray *out = g_byte_array_new();
    uint64_t at = 0;

    for (guint i = 0; i < nyx_page_ranges_count(r); i++) {
        NyxPageRange range = nyx_page_ranges_get(r, i);

        nyx_leb128_put(out, (range.first - at) >> NYX_PAGE_BITS);
        nyx_leb128_put(out, (range.last - range.first) >> NYX_PAGE_BITS);
        at = range.last + 1;
    }
    return out;
}

bool nyx_page_ranges_decode(NyxPageRanges *r, const uint8_t *bytes, size_t size)
{
    const uint64_t pages = (NYX_IOVA_LAST >> NYX_PAGE_BITS) + 1;
    NyxBytes in = { .bytes = bytes, .size = size };
    uint64_t at = 0, gap, more;

    while (in.next < size) {
        if (!nyx_leb128_get(&in, &gap) || !nyx_leb128_get(&in, &more) ||
            gap >= pages - at || more >= pages - at - gap) {
            nyx_page_ranges_clear(r);
            return false;
        }
        nyx_page_ranges_add(r, (at + gap) << NYX_PAGE_BITS,
                            ((at + gap + more + 1) << NYX_PAGE_BITS) - 1);
        at += gap + more + 1;
    }
    return true;
}
