/*
 * Composition tests of Nyx: a driver of AMD-Vi
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Version 1 tables of 4 levels, with leaves of every size that one level, or
 * several entries alike of one level, can map.
 */

#include "qemu/osdep.h"
#include "hw/i386/amd_iommu.h"
#include "compose-stage1.h"

#define DOMAIN_ID           9ULL
#define LEVELS              4
#define QUEUE_SHIFT         8       /* log2 of the number of commands */
#define LEAF_BY_LEVEL       0ULL
#define LEAF_BY_ADDRESS     7ULL
#define ALL_PAGES           0x7ffffffffffff000ULL
#define PAGES_SIZE          (1u << 0)
#define PAGES_DIRECTORIES   (1u << 1)
#define WAIT_STORE          (1u << 0)
#define WAIT_DATA           0x600dULL

typedef struct Amdvi {
    Stage1 s;
    Radix *radix;
    uint64_t devices;       /* guest physical addresses: device table, */
    uint64_t queue;
    uint64_t events;
    uint64_t wait;          /* of what COMPLETION_WAIT stores */
    unsigned tail;          /* bytes */
} Amdvi;

static void set64(Amdvi *a, unsigned reg, uint64_t value)
{
    qtest_writeq(a->s.t->qts, AMDVI_BASE_ADDR + reg, value);
}

/* Commands */

static void submit(Amdvi *a, uint64_t command, uint64_t low, uint64_t high)
{
    table_write(a->s.pages, a->queue + a->tail, command << 60 | low);
    table_write(a->s.pages, a->queue + a->tail + 8, high);
    a->tail = (a->tail + AMDVI_COMMAND_SIZE) %
              (AMDVI_COMMAND_SIZE << QUEUE_SHIFT);
    set64(a, AMDVI_MMIO_COMMAND_TAIL, a->tail);
}

/* Until everything that was submitted before has taken effect */
static void submit_wait(Amdvi *a)
{
    table_write(a->s.pages, a->wait, 0);
    submit(a, AMDVI_CMD_COMPLETION_WAIT, a->wait | WAIT_STORE, WAIT_DATA);
    g_assert_cmphex(*(uint64_t *)(a->s.pages->ram + a->wait), ==, WAIT_DATA);
}

static void submit_functions(Amdvi *a)
{
    guint i;

    for (i = 0; i < a->s.functions->len; i++) {
        submit(a, AMDVI_CMD_INVAL_DEVTAB_ENTRY,
               g_array_index(a->s.functions, uint16_t, i), 0);
    }
}

/* @range: from stage1_align() */
static void submit_pages(Amdvi *a, Span range)
{
    uint64_t flags = PAGES_DIRECTORIES;
    uint64_t address = range.first;

    if (span_size(&range) > PAGE) {
        flags |= PAGES_SIZE;
        address |= (span_size(&range) / 2 - 1) & ~(PAGE - 1);
    }
    submit(a, AMDVI_CMD_INVAL_AMDVI_PAGES, DOMAIN_ID << 32, address | flags);
}

static Span amdvi_invalidate(Stage1 *s, Stage1Scope scope, Span range,
                             unsigned variant)
{
    Amdvi *a = (Amdvi *)s;
    Span done = { .first = 0, .last = UINT64_MAX };

    if (scope == STAGE1_PAGES) {
        done = stage1_align(range);
        submit_pages(a, done);
    } else if (scope == STAGE1_GLOBAL) {
        submit(a, AMDVI_CMD_INVAL_AMDVI_ALL, 0, 0);
    } else {
        if (scope == STAGE1_DEVICE) {
            submit_functions(a);
        }
        submit(a, AMDVI_CMD_INVAL_AMDVI_PAGES, DOMAIN_ID << 32,
               ALL_PAGES | PAGES_SIZE | PAGES_DIRECTORIES);
    }
    submit_wait(a);
    return done;
}

/* Device table entries */

static void write_functions(Amdvi *a)
{
    uint64_t entry = AMDVI_DEV_VALID | AMDVI_DEV_TRANSLATION_VALID |
                     AMDVI_DEV_PERM_READ | AMDVI_DEV_PERM_WRITE;
    guint i;

    if (a->s.mode == STAGE1_ON) {
        entry |= radix_root(a->radix) |
                 (uint64_t)LEVELS << AMDVI_DEV_MODE_RSHIFT;
    }
    for (i = 0; i < a->s.functions->len; i++) {
        uint16_t rid = g_array_index(a->s.functions, uint16_t, i);
        uint64_t at = a->devices + rid * AMDVI_DEVTAB_ENTRY_SIZE;

        g_assert_cmphex(rid, <, PAGE / AMDVI_DEVTAB_ENTRY_SIZE);
        table_write(a->s.pages, at + 8, DOMAIN_ID);
        table_write(a->s.pages, at, entry);
    }
}

/* Modes */

static void turn_on(Amdvi *a)
{
    /* The size of the table of devices is in pages, less one. */
    set64(a, AMDVI_MMIO_DEVICE_TABLE, a->devices);
    set64(a, AMDVI_MMIO_COMMAND_BASE,
          a->queue | (uint64_t)QUEUE_SHIFT << 56);
    set64(a, AMDVI_MMIO_EVENT_BASE, a->events | (uint64_t)QUEUE_SHIFT << 56);
    set64(a, AMDVI_MMIO_COMMAND_HEAD, 0);
    set64(a, AMDVI_MMIO_COMMAND_TAIL, 0);
    set64(a, AMDVI_MMIO_EVENT_HEAD, 0);
    set64(a, AMDVI_MMIO_EVENT_TAIL, 0);
    a->tail = 0;
    set64(a, AMDVI_MMIO_CONTROL, AMDVI_MMIO_CONTROL_AMDVIEN |
          AMDVI_MMIO_CONTROL_EVENTLOGEN | AMDVI_MMIO_CONTROL_CMDBUFLEN);
}

static void amdvi_set_mode(Stage1 *s, Stage1Mode mode)
{
    Amdvi *a = (Amdvi *)s;
    Stage1Mode before = s->mode;

    s->mode = mode;
    if (mode == STAGE1_OFF) {
        set64(a, AMDVI_MMIO_CONTROL, 0);
        return;
    }
    write_functions(a);
    if (before == STAGE1_OFF) {
        turn_on(a);
    }
    submit_functions(a);
    submit(a, AMDVI_CMD_INVAL_AMDVI_ALL, 0, 0);
    submit_wait(a);
}

static void amdvi_forget(Stage1 *s)
{
    /* All registers are written when it is turned on. */
}

/* Leaves */

static uint64_t permissions(unsigned may)
{
    return (may & MAY_READ ? AMDVI_DEV_PERM_READ : 0) |
           (may & MAY_WRITE ? AMDVI_DEV_PERM_WRITE : 0);
}

static uint64_t next_level(uint64_t level)
{
    return level << 9;
}

static uint64_t leaf_entry(unsigned level, unsigned shift, const Span *span)
{
    uint64_t entry = AMDVI_PTE_PR | permissions(span->may) | span->to;

    if (shift == PT_LEVEL_SHIFT(level)) {
        return entry | next_level(LEAF_BY_LEVEL);
    }
    /* The lowest zero bit of the address tells the size. */
    return entry | next_level(LEAF_BY_ADDRESS) |
           ((1ULL << (shift - 1)) - PAGE);
}

static uint64_t directory_entry(unsigned level, uint64_t table)
{
    return table | AMDVI_PTE_PR | permissions(MAY_BOTH) |
           next_level(level - 1);
}

static const RadixFormat amdvi_format = {
    .levels = LEVELS, .leaf = leaf_entry, .directory = directory_entry,
};

static void amdvi_set_leaf(Stage1 *s, const Span *leaf)
{
    radix_set(((Amdvi *)s)->radix, leaf);
}

static Stage1 *amdvi_open(const Stage1Ops *ops, NyxTest *t, TablePages *pages)
{
    Amdvi *a = g_new0(Amdvi, 1);

    a->s = (Stage1) { .ops = ops, .t = t, .pages = pages };
    a->devices = table_pages_take(pages);
    a->queue = table_pages_take(pages);
    a->events = table_pages_take(pages);
    a->wait = table_pages_take(pages);
    a->radix = radix_new(pages, &amdvi_format);
    return &a->s;
}

static void amdvi_close(Stage1 *s)
{
    radix_free(((Amdvi *)s)->radix);
}

static const uint8_t amdvi_shifts[] = {
    12, 13, 14, 16, 20, 21, 22, 25, 29, 30, 31, 35, 39, 0
};

const Stage1Ops stage1_amdvi = {
    .name = "amd",
    .nyx = "stage1=amd",
    .q35 = "amd-iommu,dma-remap=on",
    .shifts = amdvi_shifts,
    .iova_bits = 48,
    .write_only = true,
    .caches = true,
    .caches_absence = true,
    .open = amdvi_open,
    .close = amdvi_close,
    .set_mode = amdvi_set_mode,
    .forget = amdvi_forget,
    .set_leaf = amdvi_set_leaf,
    .invalidate = amdvi_invalidate,
};
