/*
 * Composition tests of Nyx: the guest's driver of a stage-1 model
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Each one confines the functions that it is told of to one stage-1 domain, the
 * tables of which the test writes leaf by leaf.
 */

#ifndef TESTS_QTEST_COMPOSE_STAGE1_H
#define TESTS_QTEST_COMPOSE_STAGE1_H

#include "compose-tables.h"
#include "libnyx.h"

typedef enum Stage1Mode {
    STAGE1_OFF,             /* the guest does not use the IOMMU */
    STAGE1_BYPASS,          /* it does, but lets the functions pass */
    STAGE1_ON,
} Stage1Mode;

typedef enum Stage1Scope {
    STAGE1_PAGES,
    STAGE1_DOMAIN,
    STAGE1_DEVICE,          /* what it knows of the function, and all pages */
    STAGE1_GLOBAL,
    STAGE1_SCOPES,
} Stage1Scope;

typedef struct Stage1Ops Stage1Ops;

/* What is common to the drivers; each has its own state behind it. */
typedef struct Stage1 {
    const Stage1Ops *ops;
    NyxTest *t;
    TablePages *pages;
    GArray *functions;      /* uint16_t requester IDs */
    Stage1Mode mode;
} Stage1;

struct Stage1Ops {
    const char *name;
    const char *nyx;        /* options of nyx-pc that make it */
    const char *q35;        /* what makes it with -M q35 */
    /* Base-2 logarithms of the sizes of leaves; NULL: any number of pages */
    const uint8_t *shifts;
    unsigned iova_bits;     /* IOVAs below 1 << iova_bits can be mapped */
    bool write_only;        /* leaves can be for writing only */
    /* Changes count when they are invalidated; before, they may. */
    bool caches;
    bool caches_absence;    /* also where nothing was before */
    bool refuses_msi;       /* a leaf may not lead to interrupt messages */

    /* The driver with its state, g_new0(), and its pages */
    Stage1 *(*open)(const Stage1Ops *ops, NyxTest *t, TablePages *pages);
    /* What the driver allocated but for Stage1 itself */
    void (*close)(Stage1 *s);
    /* From any mode to any other, with every invalidation that it takes */
    void (*set_mode)(Stage1 *s, Stage1Mode mode);
    /* The VM was reset: mode is STAGE1_OFF, and registers are as at start. */
    void (*forget)(Stage1 *s);
    /* Write the leaf, or with may 0 remove it; no invalidation */
    void (*set_leaf)(Stage1 *s, const Span *leaf);
    /*
     * Invalidate at least @range, of which only first and last count; returns
     * what was asked for in effect.  @variant selects among ways to do so.
     */
    Span (*invalidate)(Stage1 *s, Stage1Scope scope, Span range,
                       unsigned variant);
};

/* The table of all drivers ends with NULL. */
extern const Stage1Ops *const stage1_drivers[];

/* @functions: requester IDs, ended by 0; stage 1 is off at first. */
Stage1 *stage1_open(const Stage1Ops *ops, NyxTest *t, TablePages *pages,
                    const uint16_t *functions);
void stage1_close(Stage1 *s);

/* Called by tests, instead of the operations */
void stage1_set_mode(Stage1 *s, Stage1Mode mode);
void stage1_forget(Stage1 *s);

/* The smallest aligned power of two of bytes that has all of @range */
Span stage1_align(Span range);

/* Of each model, in its own file */
extern const Stage1Ops stage1_vtd_legacy;
extern const Stage1Ops stage1_vtd_legacy_39;
extern const Stage1Ops stage1_vtd_second;
extern const Stage1Ops stage1_vtd_first;
extern const Stage1Ops stage1_amdvi;
extern const Stage1Ops stage1_viommu;

#endif
