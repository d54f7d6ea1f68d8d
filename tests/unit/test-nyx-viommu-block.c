/*
 * Nyx unit tests: how large a page virtio-iommu may say, against trying all
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/range.h"
#include "system/memory.h"
#include "nyx/include/hw/iommu-nyx/viommu-block.h"

#define ADDRESSES   64          /* in the small world of random mappings */
#define TRIES       20000

typedef struct Mapping {
    hwaddr low, high, phys;
    ReservedRegion reserved[2];
    GList *list;                /* of those that are used */
} Mapping;

static bool is_reserved(const Mapping *m, hwaddr addr)
{
    for (GList *l = m->list; l; l = l->next) {
        ReservedRegion *region = l->data;

        if (range_contains(&region->range, addr)) {
            return true;
        }
    }
    return false;
}

/* All of the block is mapped, and its place there begins at a multiple, too. */
static bool is_block(const Mapping *m, hwaddr addr, hwaddr mask)
{
    hwaddr first = addr & ~mask;

    if ((first - m->low + m->phys) & mask) {
        return false;
    }
    for (hwaddr a = first; a <= (addr | mask); a++) {
        if (a < m->low || a > m->high || is_reserved(m, a)) {
            return false;
        }
    }
    return true;
}

static hwaddr oracle(const Mapping *m, hwaddr addr)
{
    hwaddr mask = 0;

    for (hwaddr next = 1; next < ADDRESSES && is_block(m, addr, next);
         next = next << 1 | 1) {
        mask = next;
    }
    return mask;
}

static void make_random(Mapping *m)
{
    unsigned count = g_test_rand_int_range(0, ARRAY_SIZE(m->reserved) + 1);

    *m = (Mapping) { .low = g_test_rand_int_range(0, ADDRESSES) };
    m->high = g_test_rand_int_range(m->low, ADDRESSES);
    /* Often aligned: else all blocks would be small. */
    m->phys = m->low + ((hwaddr)g_test_rand_int_range(0, 8) <<
                        g_test_rand_int_range(0, 7));
    for (unsigned i = 0; i < count; i++) {
        hwaddr first = g_test_rand_int_range(0, ADDRESSES);

        range_set_bounds(&m->reserved[i].range, first,
                         g_test_rand_int_range(first, ADDRESSES));
        m->list = g_list_prepend(m->list, &m->reserved[i]);
    }
}

static void test_random(void)
{
    unsigned large = 0;

    for (unsigned i = 0; i < TRIES; i++) {
        Mapping m;

        make_random(&m);
        for (hwaddr addr = m.low; addr <= m.high; addr++) {
            if (!is_reserved(&m, addr)) {
                hwaddr mask = nyx_viommu_block(m.list, addr, m.low, m.high,
                                               m.phys);

                g_assert_cmphex(mask, ==, oracle(&m, addr));
                large += mask > 7;
            }
        }
        g_list_free(m.list);
    }
    g_assert_cmpuint(large, >, TRIES);
}

static void test_all_addresses(void)
{
    g_assert_cmphex(nyx_viommu_block(NULL, 0x1234, 0, UINT64_MAX, 0), ==,
                    INT64_MAX);
    g_assert_cmphex(nyx_viommu_block(NULL, UINT64_MAX, UINT64_MAX - 0xfff,
                                     UINT64_MAX, 0x5000), ==, 0xfff);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/nyx/viommu-block/random", test_random);
    g_test_add_func("/nyx/viommu-block/all-addresses", test_all_addresses);
    return g_test_run();
}
