/*
 * Nyx IOMMU: a table as a string of bytes, for the migration stream
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "leb128.h"
#include "qapi/error.h"
#include "table-codec.h"

#define PERM_BITS       2
#define PERM_MASK       3
#define LONGER          (1 << 2)
#define GAP_SHIFT       3
#define RUNS_SHIFT      2

#define IOVA_PAGES      ((NYX_IOVA_LAST >> NYX_PAGE_BITS) + 1)
#define GPA_PAGES       ((NYX_GPA_LAST >> NYX_PAGE_BITS) + 1)
#define IOVA_PAGE_BITS  (NYX_IOVA_BITS - NYX_PAGE_BITS)
#define GPA_PAGE_BITS   (NYX_GPA_BITS - NYX_PAGE_BITS)

/* Where the last run ended, in pages: the first that it did not have */
typedef struct Position {
    uint64_t iova;
    uint64_t gpa;
} Position;

typedef struct Run {
    uint64_t iova;              /* all in pages */
    uint64_t gpa;
    uint64_t pages;
    IOMMUAccessFlags perm;      /* NONE: the end */
} Run;

static Position end_of(const Run *run)
{
    return (Position) {
        .iova = run->iova + run->pages,
        .gpa = run->gpa + run->pages,
    };
}

static Run make_run(uint64_t first, uint64_t last, uint64_t gpa,
                    IOMMUAccessFlags perm)
{
    return (Run) {
        .iova = first >> NYX_PAGE_BITS,
        .gpa = gpa >> NYX_PAGE_BITS,
        .pages = (last - first + 1) >> NYX_PAGE_BITS,
        .perm = perm,
    };
}

/* Encode, run by run */

typedef struct Encoder {
    GByteArray *out;
    Position at;
} Encoder;

static bool put_run(uint64_t first, uint64_t last, uint64_t gpa,
                    IOMMUAccessFlags perm, void *opaque)
{
    Encoder *e = opaque;
    Run run = make_run(first, last, gpa, perm);

    nyx_leb128_put(e->out, (run.iova - e->at.iova) << GAP_SHIFT |
                           (run.pages > 1 ? LONGER : 0) | perm);
    if (run.pages > 1) {
        nyx_leb128_put(e->out, run.pages - 2);
    }
    nyx_leb128_put(e->out, nyx_zigzag(run.gpa - e->at.gpa));
    e->at = end_of(&run);
    return true;
}

void nyx_table_encode(NyxPageTable *table, GByteArray *out)
{
    Encoder e = { .out = out };

    if (table) {
        nyx_page_table_foreach(table, put_run, &e);
    }
    nyx_leb128_put(out, 0);
}

/* Encode, packed */

typedef struct Bits {
    uint64_t pending;
    unsigned count;             /* below 8 between calls */
} Bits;

/* @width: at most 56 */
static uint8_t *put_bits(Bits *b, uint8_t *to, uint64_t value, unsigned width)
{
    b->pending |= value << b->count;
    b->count += width;
    while (b->count >= 8) {
        *to++ = b->pending;
        b->pending >>= 8;
        b->count -= 8;
    }
    return to;
}

/* How many bits each column of a block has */
typedef struct Widths {
    uint8_t perm;
    uint8_t gap;
    uint8_t pages;
    uint8_t gpa;
} Widths;

static unsigned width_of(uint64_t largest)
{
    return 64 - clz64(largest);
}

typedef struct Packer {
    GByteArray *out;
    Position at;
    unsigned runs;
    Run run[NYX_TABLE_BLOCK];
} Packer;

static uint64_t gap_before(const Packer *p, unsigned i)
{
    Position before = i ? end_of(&p->run[i - 1]) : p->at;

    return p->run[i].iova - before.iova;
}

static Widths measure(const Packer *p, uint64_t *base)
{
    uint64_t gap = 0, pages = 0, highest = 0;
    bool all_rw = true;

    *base = UINT64_MAX;
    for (unsigned i = 0; i < p->runs; i++) {
        const Run *run = &p->run[i];

        all_rw = all_rw && run->perm == IOMMU_RW;
        gap |= i ? gap_before(p, i) : 0;
        pages |= run->pages - 1;
        *base = MIN(*base, run->gpa);
        highest = MAX(highest, run->gpa);
    }
    return (Widths) {
        .perm = all_rw ? 0 : PERM_BITS,
        .gap = width_of(gap),
        .pages = width_of(pages),
        .gpa = width_of(highest - *base),
    };
}

static void put_columns(Packer *p, Widths w, uint64_t base)
{
    unsigned bits = p->runs * (w.perm + w.gap + w.pages + w.gpa);
    guint used = p->out->len;
    Bits b = {};
    uint8_t *to;

    g_byte_array_set_size(p->out, used + bits / 8 + 1);
    to = p->out->data + used;
    for (unsigned i = 0; i < p->runs; i++) {
        const Run *run = &p->run[i];

        if (w.perm) {
            to = put_bits(&b, to, run->perm, w.perm);
        }
        if (i) {
            to = put_bits(&b, to, gap_before(p, i), w.gap);
        }
        to = put_bits(&b, to, run->pages - 1, w.pages);
        to = put_bits(&b, to, run->gpa - base, w.gpa);
    }
    if (b.count) {
        *to++ = b.pending;
    }
    g_byte_array_set_size(p->out, to - p->out->data);
}

static void put_block(Packer *p)
{
    uint64_t base;
    Widths w;

    if (!p->runs) {
        return;
    }
    w = measure(p, &base);
    nyx_leb128_put(p->out, p->runs << RUNS_SHIFT);
    nyx_leb128_put(p->out, gap_before(p, 0));
    nyx_leb128_put(p->out, nyx_zigzag(base - p->at.gpa));
    g_byte_array_append(p->out, (const guint8 *)&w, sizeof(w));
    put_columns(p, w, base);
    p->at = end_of(&p->run[p->runs - 1]);
    p->runs = 0;
}

/* What would make the columns of its neighbours wide has a block of its own. */
#define WIDE_PAGES      512

static bool pack_run(uint64_t first, uint64_t last, uint64_t gpa,
                     IOMMUAccessFlags perm, void *opaque)
{
    Packer *p = opaque;
    Run run = make_run(first, last, gpa, perm);
    const Run *before = p->runs ? &p->run[p->runs - 1] : NULL;

    if (p->runs == NYX_TABLE_BLOCK ||
        (before && (run.pages > WIDE_PAGES || before->pages > WIDE_PAGES ||
                    run.iova - end_of(before).iova > WIDE_PAGES))) {
        put_block(p);
    }
    p->run[p->runs++] = run;
    return true;
}

void nyx_table_pack(NyxPageTable *table, const NyxPageRanges *ranges,
                    GByteArray *out)
{
    Packer p = { .out = out };

    if (ranges) {
        for (guint i = 0; i < nyx_page_ranges_count(ranges); i++) {
            NyxPageRange range = nyx_page_ranges_get(ranges, i);

            nyx_page_table_foreach_in(table, range.first, range.last, pack_run,
                                      &p);
        }
    } else {
        nyx_page_table_foreach(table, pack_run, &p);
    }
    put_block(&p);
    nyx_leb128_put(out, 0);
}

/* Decode */

typedef struct Decoder {
    NyxBytes in;
    Position at;
    NyxPageTable *table;
    NyxPageTableVisit admit;
    void *opaque;
} Decoder;

/*
 * Adds the run at @gap behind the last one.  None of this wraps: what is added
 * to is small, and @gpa may be anything.
 */
static bool add_run(Decoder *d, uint64_t gap, uint64_t pages, uint64_t gpa,
                    IOMMUAccessFlags perm)
{
    uint64_t first, last;

    if (gap >= IOVA_PAGES - d->at.iova ||
        pages > IOVA_PAGES - d->at.iova - gap ||
        gpa >= GPA_PAGES || pages > GPA_PAGES - gpa) {
        return false;
    }
    first = (d->at.iova + gap) << NYX_PAGE_BITS;
    last = first + ((pages << NYX_PAGE_BITS) - 1);
    gpa <<= NYX_PAGE_BITS;
    if ((d->admit && !d->admit(first, last, gpa, perm, d->opaque)) ||
        nyx_page_table_map(d->table, first, last, gpa, perm)) {
        return false;
    }
    d->at = (Position) {
        .iova = (last >> NYX_PAGE_BITS) + 1,
        .gpa = (gpa >> NYX_PAGE_BITS) + pages,
    };
    return true;
}

static bool get_run(Decoder *d, uint64_t head)
{
    uint64_t more = 0, step;

    if (((head & LONGER) && !nyx_leb128_get(&d->in, &more)) ||
        !nyx_leb128_get(&d->in, &step) || more >= IOVA_PAGES) {
        return false;
    }
    return add_run(d, head >> GAP_SHIFT, head & LONGER ? more + 2 : 1,
                   d->at.gpa + (uint64_t)nyx_unzigzag(step), head & PERM_MASK);
}

/* The caller has seen that there are as many bits. */
static uint64_t get_bits(Bits *b, NyxBytes *in, unsigned width)
{
    uint64_t value;

    while (b->count < width) {
        b->pending |= (uint64_t)in->bytes[in->next++] << b->count;
        b->count += 8;
    }
    value = b->pending & ((1ULL << width) - 1);
    b->pending >>= width;
    b->count -= width;
    return value;
}

static bool get_widths(NyxBytes *in, Widths *w)
{
    if (in->size - in->next < sizeof(*w)) {
        return false;
    }
    memcpy(w, in->bytes + in->next, sizeof(*w));
    in->next += sizeof(*w);
    return (!w->perm || w->perm == PERM_BITS) && w->gap <= IOVA_PAGE_BITS &&
           w->pages <= IOVA_PAGE_BITS && w->gpa <= GPA_PAGE_BITS;
}

static bool get_block(Decoder *d, uint64_t runs)
{
    NyxBytes *in = &d->in;
    uint64_t gap, step, base, bits;
    Bits b = {};
    Widths w;

    if (runs > NYX_TABLE_BLOCK || !nyx_leb128_get(in, &gap) ||
        !nyx_leb128_get(in, &step) || !get_widths(in, &w)) {
        return false;
    }
    base = d->at.gpa + (uint64_t)nyx_unzigzag(step);
    bits = runs * (w.perm + w.gap + w.pages + w.gpa) - w.gap;
    if (base >= GPA_PAGES || DIV_ROUND_UP(bits, 8) > in->size - in->next) {
        return false;
    }
    for (uint64_t i = 0; i < runs; i++) {
        IOMMUAccessFlags perm = w.perm ? get_bits(&b, in, w.perm) : IOMMU_RW;
        uint64_t pages;

        if (i) {
            gap = get_bits(&b, in, w.gap);
        }
        pages = get_bits(&b, in, w.pages) + 1;
        if (!perm ||
            !add_run(d, gap, pages, base + get_bits(&b, in, w.gpa), perm)) {
            return false;
        }
    }
    return b.pending == 0;
}

bool nyx_table_decode(NyxPageTable *table, const uint8_t *bytes, size_t size,
                      NyxPageTableVisit admit, void *opaque, Error **errp)
{
    Decoder d = {
        .in = { .bytes = bytes, .size = size },
        .table = table,
        .admit = admit,
        .opaque = opaque,
    };
    uint64_t head;

    while (nyx_leb128_get(&d.in, &head)) {
        if (!head) {
            if (d.in.next == size) {
                return true;
            }
            break;
        }
        if (!(head & PERM_MASK ? get_run(&d, head)
                               : get_block(&d, head >> RUNS_SHIFT))) {
            break;
        }
    }
    error_setg(errp, "the table of mappings is damaged at byte %zu of %zu",
               d.in.next, size);
    return false;
}
