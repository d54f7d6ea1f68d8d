/*
 * Composition tests of Nyx: radix tables in guest memory
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef TESTS_QTEST_COMPOSE_TABLES_H
#define TESTS_QTEST_COMPOSE_TABLES_H

#include "compose-spans.h"

/* Guest pages for tables and queues */
typedef struct TablePages {
    uint8_t *ram;           /* all of guest RAM */
    GArray *free;           /* guest physical addresses */
} TablePages;

void table_pages_init(TablePages *pages, uint8_t *ram, uint64_t first,
                      uint64_t last);
void table_pages_destroy(TablePages *pages);
/* A page of zeroes, by its guest physical address */
uint64_t table_pages_take(TablePages *pages);
void table_pages_give(TablePages *pages, uint64_t page);

/* Write one little-endian entry as a CPU does, whole. */
void table_write(TablePages *pages, uint64_t address, uint64_t entry);

/* Tables of 512 entries of 8 bytes; level 1 is that of 4 KiB pages. */
typedef struct RadixFormat {
    unsigned levels;
    /* An entry that maps 1 << @shift bytes, of which @span->first is part */
    uint64_t (*leaf)(unsigned level, unsigned shift, const Span *span);
    /* An entry of level @level that leads to a table of the level below */
    uint64_t (*directory)(unsigned level, uint64_t table);
} RadixFormat;

typedef struct Radix Radix;

Radix *radix_new(TablePages *pages, const RadixFormat *format);
void radix_free(Radix *radix);
uint64_t radix_root(const Radix *radix);

/*
 * Write the entry, or the entries, of a leaf whose size is a power of two; with
 * span->may 0, zero them.  No other leaf overlaps it.  A table that it replaces
 * goes back to the pages.
 */
void radix_set(Radix *radix, const Span *span);

#endif
