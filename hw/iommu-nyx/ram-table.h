/*
 * Nyx IOMMU: a table that allows all guest RAM at its own address
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * What pass-through allows, for where a table is needed.
 *
 * Locking: BQL.
 */

#ifndef HW_IOMMU_NYX_RAM_TABLE_H
#define HW_IOMMU_NYX_RAM_TABLE_H

#include "page-table.h"
#include "ram-map.h"

/* NULL: it would be too large (see NYX_TABLE_BYTES_MAX). */
NyxPageTable *nyx_ram_table_new(NyxRamMap *map, bool large_pages);

/* RAM was plugged: where something else is mapped, that stays. */
void nyx_ram_table_plugged(NyxPageTable *table, uint64_t first, uint64_t last);

/*
 * RAM is gone: so is, from any table, whatever leads there, as something else
 * may come to that address.
 */
void nyx_ram_table_unplugged(NyxPageTable *table, uint64_t first,
                             uint64_t last);

#endif
