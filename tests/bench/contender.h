/*
 * Nyx benchmarks: VMs that do the same DMA with different IOMMUs
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Each has two nyx-testdev and no guest.  Where an IOMMU translates, addresses
 * lead to themselves.
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

/* RAM from here on is for DMA. */
#define CONTENDER_DMA   MIB(64)

/* @ram_size: bytes, a multiple of 1 MiB above CONTENDER_DMA; it is sparse. */
Contender *contender_start(const ContenderKind *kind, size_t ram_size);
void contender_quit(Contender *c);

/*
 * Have [@first, @first + @size) mapped, by leaves of 1 << @shift bytes (12 or
 * 21), where anything is to be mapped.
 */
void contender_map(Contender *c, uint64_t first, uint64_t size,
                   unsigned shift);
void contender_unmap(Contender *c, uint64_t first, uint64_t size,
                     unsigned shift);

typedef struct ContenderRun {
    uint64_t first;             /* address of slot 0 */
    uint32_t slots;
    uint64_t stride;            /* bytes from slot to slot */
    uint32_t length;            /* bytes */
    uint32_t count;             /* DMAs */
    uint32_t flags;             /* NTD_FLAG_* */
} ContenderRun;

/* Nanoseconds that a DMA took; all must succeed. */
double contender_run(Contender *c, const ContenderRun *run);

/* Start on device @n; the result later.  @errors: how many must be refused. */
void contender_begin(Contender *c, unsigned n, const ContenderRun *run);
double contender_end(Contender *c, unsigned n, uint64_t errors);

#endif
