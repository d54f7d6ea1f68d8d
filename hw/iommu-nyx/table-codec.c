/*
 * Nyx IOMMU: a table as a string of bytes, for the migration stream
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "table-codec.h"

#define PERM_MASK       3
#define LONGER          (1 << 2)
#define GAP_SHIFT       3

/* Where the last run ended, in pages: the first that it did not have */
typedef struct Position {
    uint64_t iova;
    uint64_t gpa;
} Position;

/* Encode */

typedef struct Encoder {
    GByteArray *out;
    Position at;
} Encoder;

static void put_number(GByteArray *out, uint64_t n)
{
    uint8_t bytes[10];
    unsigned used = 0;

    do {
        bytes[used++] = (n & 0x7f) | (n > 0x7f ? 0x80 : 0);
        n >>= 7;
    } while (n);
    g_byte_array_append(out, bytes, used);
}

static uint64_t zigzag(int64_t n)
{
    return ((uint64_t)n << 1) ^ (uint64_t)(n >> 63);
}

static bool put_run(uint64_t first, uint64_t last, uint64_t gpa,
                    IOMMUAccessFlags perm, void *opaque)
{
    Encoder *e = opaque;
    uint64_t from = first >> NYX_PAGE_BITS;
    uint64_t to = gpa >> NYX_PAGE_BITS;
    uint64_t pages = (last >> NYX_PAGE_BITS) - from + 1;

    put_number(e->out, (from - e->at.iova) << GAP_SHIFT |
                       (pages > 1 ? LONGER : 0) | perm);
    if (pages > 1) {
        put_number(e->out, pages - 2);
    }
    put_number(e->out, zigzag(to - e->at.gpa));
    e->at = (Position) { .iova = from + pages, .gpa = to + pages };
    return true;
}

void nyx_table_encode(NyxPageTable *table, GByteArray *out)
{
    Encoder e = { .out = out };

    if (table) {
        nyx_page_table_foreach(table, put_run, &e);
    }
    put_number(out, 0);
}

/* Decode */

typedef struct Decoder {
    const uint8_t *bytes;
    size_t size;
    size_t next;
    Position at;
} Decoder;

/* False: the bytes end, or the number has more than 64 bits. */
static bool get_number(Decoder *d, uint64_t *n)
{
    *n = 0;
    for (unsigned shift = 0; shift < 64 && d->next < d->size; shift += 7) {
        uint64_t byte = d->bytes[d->next++];
        uint64_t bits = byte & 0x7f;

        if (bits << shift >> shift != bits) {
            return false;
        }
        *n |= bits << shift;
        if (!(byte & 0x80)) {
            return true;
        }
    }
    return false;
}

static int64_t unzigzag(uint64_t n)
{
    return (int64_t)(n >> 1) ^ -(int64_t)(n & 1);
}

typedef struct Run {
    uint64_t iova;              /* all in pages */
    uint64_t gpa;
    uint64_t pages;
    IOMMUAccessFlags perm;      /* NONE: the end */
} Run;

#define IOVA_PAGES      ((NYX_IOVA_LAST >> NYX_PAGE_BITS) + 1)
#define GPA_PAGES       ((NYX_GPA_LAST >> NYX_PAGE_BITS) + 1)

static bool get_run(Decoder *d, Run *run)
{
    uint64_t head, longer = 0, step, gap;

    if (!get_number(d, &head)) {
        return false;
    }
    gap = head >> GAP_SHIFT;
    run->perm = head & PERM_MASK;
    if (run->perm == IOMMU_NONE) {
        return head == 0;
    }
    if (((head & LONGER) && !get_number(d, &longer)) ||
        !get_number(d, &step)) {
        return false;
    }
    /* None of these wraps: what is added to is small. */
    if (gap >= IOVA_PAGES - d->at.iova || longer >= IOVA_PAGES) {
        return false;
    }
    run->iova = d->at.iova + gap;
    run->pages = head & LONGER ? longer + 2 : 1;
    run->gpa = d->at.gpa + (uint64_t)unzigzag(step);
    return run->pages <= IOVA_PAGES - run->iova && run->gpa < GPA_PAGES &&
           run->pages <= GPA_PAGES - run->gpa;
}

static bool map_run(NyxPageTable *table, const Run *run)
{
    uint64_t first = run->iova << NYX_PAGE_BITS;
    uint64_t bytes = run->pages << NYX_PAGE_BITS;

    return !nyx_page_table_map(table, first, first + (bytes - 1),
                               run->gpa << NYX_PAGE_BITS, run->perm);
}

NyxPageTable *nyx_table_decode(const uint8_t *bytes, size_t size,
                               bool large_pages, Error **errp)
{
    NyxPageTable *table = nyx_page_table_new(large_pages);
    Decoder d = { .bytes = bytes, .size = size };
    Run run;

    while (get_run(&d, &run)) {
        if (run.perm == IOMMU_NONE) {
            if (d.next == d.size) {
                return table;
            }
            break;
        }
        if (!map_run(table, &run)) {
            break;
        }
        d.at = (Position) {
            .iova = run.iova + run.pages,
            .gpa = run.gpa + run.pages,
        };
    }
    error_setg(errp, "the table of mappings is damaged at byte %zu of %zu",
               d.next, d.size);
    nyx_page_table_free(table);
    return NULL;
}
