/*
 * Nyx IOMMU: a table that allows all guest RAM at its own address
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "ram-table.h"

/*
 * The PC's legacy BIOS area.  The chipset turns parts of it between ROM and RAM
 * while the firmware runs, and firmware drivers keep their queues there.
 */
#define LEGACY_BIOS_FIRST   0xc0000ULL
#define LEGACY_BIOS_LAST    0xfffffULL

static bool add_ram_mapping(uint64_t first, uint64_t last, void *opaque)
{
    NyxPageTable *table = opaque;
    int ret = 0;

    /* Outside of the legacy area ranges do not overlap. */
    if (first <= LEGACY_BIOS_LAST && last >= LEGACY_BIOS_FIRST) {
        if (first < LEGACY_BIOS_FIRST) {
            ret = nyx_page_table_map(table, first, LEGACY_BIOS_FIRST - 1,
                                     first, IOMMU_RW);
        }
        first = LEGACY_BIOS_LAST + 1;
    }
    if (!ret && first <= last) {
        ret = nyx_page_table_map(table, first, last, first, IOMMU_RW);
    }
    return !ret;
}

NyxPageTable *nyx_ram_table_new(NyxRamMap *map, bool large_pages)
{
    NyxPageTable *table = nyx_page_table_new(large_pages);

    if (!nyx_ram_map_foreach(map, add_ram_mapping, table) ||
        nyx_page_table_map(table, LEGACY_BIOS_FIRST, LEGACY_BIOS_LAST,
                           LEGACY_BIOS_FIRST, IOMMU_RW)) {
        nyx_page_table_free(table);
        return NULL;
    }
    return table;
}

void nyx_ram_table_plugged(NyxPageTable *table, uint64_t first, uint64_t last)
{
    if (nyx_page_table_map(table, first, last, first, IOMMU_RW) != -EEXIST) {
        return;
    }
    for (uint64_t page = first; page < last; page += NYX_PAGE_SIZE) {
        nyx_page_table_map(table, page, page + NYX_PAGE_SIZE - 1, page,
                           IOMMU_RW);
    }
}

typedef struct Unplugged {
    uint64_t first;             /* guest physical */
    uint64_t last;
    GArray *iova;               /* pairs of first, last */
} Unplugged;

static bool find_unplugged(uint64_t first, uint64_t last, uint64_t gpa,
                           IOMMUAccessFlags perm, void *opaque)
{
    Unplugged *u = opaque;
    uint64_t from = MAX(gpa, u->first);
    uint64_t to = MIN(gpa + (last - first), u->last);

    if (from <= to) {
        uint64_t range[] = { first + (from - gpa), first + (to - gpa) };

        g_array_append_vals(u->iova, range, ARRAY_SIZE(range));
    }
    return true;
}

void nyx_ram_table_unplugged(NyxPageTable *table, uint64_t first,
                             uint64_t last)
{
    g_autoptr(GArray) iova = g_array_new(false, false, sizeof(uint64_t));
    Unplugged u = { .first = first, .last = last, .iova = iova };

    nyx_page_table_foreach(table, find_unplugged, &u);
    for (guint i = 0; i < iova->len; i += 2) {
        nyx_page_table_clear(table, g_array_index(iova, uint64_t, i),
                             g_array_index(iova, uint64_t, i + 1));
    }
}
