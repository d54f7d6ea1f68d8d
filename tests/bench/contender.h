/*
 * Nyx benchmarks: VMs that do the same DMA with different IOMMUs
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Each has two nyx-testdev and no guest.  Where something translates, any
 * number of pages lead to the same CONTENDER_FRAMES of memory, again and again:
 * so what is measured is translation, not how much the processor's caches hold.
 */

#ifndef TESTS_BENCH_CONTENDER_H
#define TESTS_BENCH_CONTENDER_H

#include "nyx/tests/qtest/compose-stage1.h"

#define CONTENDER_DEVICES   2

typedef struct ContenderKind {
    const char *name;           /* as in the tables of results */
    const Stage1Ops *stage1;    /* NULL: the guest has no IOMMU */
    bool nyx;                   /* on nyx-pc, else on q35 */
    bool window;                /* a domain that allows what is mapped only */
    bool split;                 /* with large-pages=off, whatever is mapped */
    bool extra;                 /* only where it is asked for by name */
} ContenderKind;

/* Ends with an entry without a name.  The first has no IOMMU. */
extern const ContenderKind contender_kinds[];

typedef struct Contender {
    const ContenderKind *kind;
    NyxTest *t;
    NyxTestdev *dev[CONTENDER_DEVICES];
    TablePages pages;
    Stage1 *stage1;
} Contender;

#define CONTENDER_FRAMES    8

Contender *contender_start(const ContenderKind *kind);
void contender_quit(Contender *c);

/*
 * Have pages @first to @first + @count - 1 mapped, each 1 << @shift bytes (12
 * or 21), where anything is to be mapped.
 */
void contender_map(Contender *c, uint64_t first, uint64_t count,
                   unsigned shift);
void contender_unmap(Contender *c, uint64_t first, uint64_t count,
                     unsigned shift);

typedef struct ContenderRun {
    uint64_t pages;             /* from page 0 on, mapped */
    unsigned shift;             /* their size, as above */
    uint32_t length;            /* bytes of a DMA */
    bool refused;               /* to other pages instead, all of them */
    uint32_t count;             /* DMAs */
    uint32_t flags;             /* NTD_FLAG_* */
} ContenderRun;

/* Nanoseconds that a DMA took.  They must succeed, unless run.refused. */
double contender_run(Contender *c, const ContenderRun *run);

/* Start on device @n; the result later. */
void contender_begin(Contender *c, unsigned n, const ContenderRun *run);
double contender_end(Contender *c, unsigned n, const ContenderRun *run);

#endif
