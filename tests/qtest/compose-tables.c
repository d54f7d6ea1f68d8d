/*
 * Composition tests of Nyx: radix tables in guest memory
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "compose-tables.h"
#include "qemu/atomic.h"
#include "qemu/bswap.h"
#include "qemu/host-utils.h"

#define PAGE_SHIFT  12
#define PAGE_BYTES  (1ULL << PAGE_SHIFT)
#define LEVEL_BITS  9
#define ENTRIES     (1u << LEVEL_BITS)

void table_pages_init(TablePages *pages, uint8_t *ram, uint64_t first,
                      uint64_t last)
{
    uint64_t page;

    pages->ram = ram;
    pages->free = g_array_new(false, false, sizeof(page));
    for (page = first; page < last; page += PAGE_BYTES) {
        g_array_append_val(pages->free, page);
    }
}

void table_pages_destroy(TablePages *pages)
{
    g_array_unref(pages->free);
}

uint64_t table_pages_take(TablePages *pages)
{
    uint64_t page;

    g_assert_cmpuint(pages->free->len, >, 0);
    page = g_array_index(pages->free, uint64_t, pages->free->len - 1);
    g_array_set_size(pages->free, pages->free->len - 1);
    memset(pages->ram + page, 0, PAGE_BYTES);
    return page;
}

void table_pages_give(TablePages *pages, uint64_t page)
{
    g_array_append_val(pages->free, page);
}

void table_write(TablePages *pages, uint64_t address, uint64_t entry)
{
    qatomic_set((uint64_t *)(pages->ram + address), cpu_to_le64(entry));
}

typedef struct RadixNode {
    uint64_t table;
    struct RadixNode *child[ENTRIES];
} RadixNode;

struct Radix {
    TablePages *pages;
    const RadixFormat *format;
    RadixNode *root;
};

static RadixNode *node_new(Radix *radix)
{
    RadixNode *node = g_new0(RadixNode, 1);

    node->table = table_pages_take(radix->pages);
    return node;
}

static void node_free(Radix *radix, RadixNode *node)
{
    unsigned i;

    if (!node) {
        return;
    }
    for (i = 0; i < ENTRIES; i++) {
        node_free(radix, node->child[i]);
    }
    table_pages_give(radix->pages, node->table);
    g_free(node);
}

Radix *radix_new(TablePages *pages, const RadixFormat *format)
{
    Radix *radix = g_new(Radix, 1);

    *radix = (Radix) { .pages = pages, .format = format };
    radix->root = node_new(radix);
    return radix;
}

void radix_free(Radix *radix)
{
    node_free(radix, radix->root);
    g_free(radix);
}

uint64_t radix_root(const Radix *radix)
{
    return radix->root->table;
}

static unsigned level_shift(unsigned level)
{
    return PAGE_SHIFT + (level - 1) * LEVEL_BITS;
}

static unsigned entry_index(uint64_t address, unsigned level)
{
    return (address >> level_shift(level)) % ENTRIES;
}

/* The table of @level that has @address */
static RadixNode *find_table(Radix *radix, uint64_t address, unsigned level)
{
    RadixNode *node = radix->root;
    unsigned at = radix->format->levels;

    for (; at > level; at--) {
        unsigned i = entry_index(address, at);

        if (!node->child[i]) {
            node->child[i] = node_new(radix);
            table_write(radix->pages, node->table + i * sizeof(uint64_t),
                        radix->format->directory(at, node->child[i]->table));
        }
        node = node->child[i];
    }
    return node;
}

void radix_set(Radix *radix, const Span *span)
{
    unsigned shift = ctz64(span_size(span));
    unsigned level = (shift - PAGE_SHIFT) / LEVEL_BITS + 1;
    unsigned count = 1u << (shift - level_shift(level));
    RadixNode *node = find_table(radix, span->first, level);
    unsigned first = entry_index(span->first, level);
    uint64_t entry = 0;
    unsigned i;

    g_assert(is_power_of_2(span_size(span)));
    g_assert_cmphex(span->first & (span_size(span) - 1), ==, 0);
    if (span->may) {
        entry = radix->format->leaf(level, shift, span);
    }
    for (i = first; i < first + count; i++) {
        table_write(radix->pages, node->table + i * sizeof(uint64_t), entry);
        node_free(radix, node->child[i]);
        node->child[i] = NULL;
    }
}
