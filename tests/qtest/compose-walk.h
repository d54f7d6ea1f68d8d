/*
 * Composition tests of Nyx: a VM, its guest, its operator and a device
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Whatever is done to the VM is done to the oracle, too; and whatever comes of
 * a DMA must be what the oracle allows.  The device is never quarantined for
 * its faults.
 */

#ifndef TESTS_QTEST_COMPOSE_WALK_H
#define TESTS_QTEST_COMPOSE_WALK_H

#include "compose-oracle.h"
#include "compose-ram.h"
#include "compose-stage1.h"

#define GIB(n)          ((n) * 1024ULL * 1024 * 1024)
#define WALK_RAM_SIZE   GIB(2)
#define WALK_OWN_LAST   (MIB(16) - 1)   /* firmware's, tables and queues */

typedef enum WalkDomain {
    DOMAIN_WINDOWS,         /* maps nothing but windows */
    DOMAIN_HOLES,           /* maps RAM but for holes */
    DOMAIN_RAM,             /* maps RAM; without a table */
    DOMAINS,
} WalkDomain;

typedef struct Walk {
    const Stage1Ops *ops;
    bool confined;          /* by nyx-iommu; else it is QEMU's own machine */
    NyxTest *t;
    NyxTestdev *dev;
    TablePages pages;
    Stage1 *stage1;
    Oracle oracle;
    RamModel ram;
    GArray *windows[DOMAINS];
    WalkDomain domain;
    uint64_t faults;        /* of the device so far */
    uint64_t known[64];     /* IOVAs of DMAs that were done */
    unsigned refused;       /* DMAs */
    unsigned allowed;
    unsigned uncertain;     /* those with more than one possible outcome */
} Walk;

/* With -M nyx-pc, or with -M q35 and nobody but stage 1 to refuse anything */
Walk *walk_start(const Stage1Ops *ops, bool confined);
void walk_quit(Walk *w);

/*
 * DMA of at most a page's length.  Nothing is done if it might reach what is
 * not the device's, or what is no RAM.
 */
void walk_access(Walk *w, uint64_t iova, uint32_t length, unsigned access);

/* The guest */

/* The leaves that it overlaps go first. */
void walk_set_leaf(Walk *w, Span leaf);
void walk_clear_leaf(Walk *w, guint index);
void walk_invalidate(Walk *w, Stage1Scope scope, Span range,
                     unsigned variant);
void walk_set_mode(Walk *w, Stage1Mode mode);
void walk_reset_machine(Walk *w);

/* The operator, of a domain that has windows */

void walk_map(Walk *w, WalkDomain domain, Span window);
void walk_unmap(Walk *w, WalkDomain domain, uint64_t first, uint64_t last);
void walk_assign(Walk *w, WalkDomain domain);
void walk_quarantine_and_recover(Walk *w);

#endif
