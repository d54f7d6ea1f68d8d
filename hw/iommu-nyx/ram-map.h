/*
 * Nyx IOMMU: what is guest RAM
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Follows the system address space and keeps a memory region that shows guest
 * RAM at its guest physical addresses and nothing else: no device memory, no
 * ROM, and no RAM that the chipset hides (SMRAM, TSEG, write-protected shadow).
 *
 * Locking: BQL.
 */

#ifndef HW_IOMMU_NYX_RAM_MAP_H
#define HW_IOMMU_NYX_RAM_MAP_H

#include "system/memory.h"

typedef struct NyxRamMap NyxRamMap;

/* RAM was plugged (or is gone) at a page-aligned range above 4 GiB. */
typedef void NyxRamHotplugFn(void *opaque, uint64_t first, uint64_t last,
                             bool plugged);

typedef struct NyxRamWindow {
    uint64_t first;
    uint64_t bytes;
} NyxRamWindow;

#define NYX_RAM_WINDOWS 3       /* below 4 GiB, above, hot-plugged */

struct NyxRamMap {
    MemoryListener listener;
    NyxRamWindow window[NYX_RAM_WINDOWS];   /* fixed once there is RAM */
    Object *owner;
    MemoryRegion view;          /* container, size 2^64 */
    GArray *ranges;             /* of NyxRamRange, in no order */
    bool dirty;                 /* ranges changed since the view was built */
    NyxRamHotplugFn *hotplug;
    void *opaque;
};

/* For the life of the machine. */
void nyx_ram_map_init(NyxRamMap *map, Object *owner, NyxRamHotplugFn *hotplug,
                      void *opaque);

/*
 * Is that where a PC puts RAM, and nothing but RAM and what the chipset lays
 * over it?  The first for any thread, the second: does the range touch it?
 */
bool nyx_ram_map_in_window(const NyxRamMap *map, uint64_t address);
bool nyx_ram_map_overlaps_window(const NyxRamMap *map, uint64_t first,
                                 uint64_t last);

/* Does all of the range lie there? */
bool nyx_ram_map_windows_cover(const NyxRamMap *map, uint64_t first,
                               uint64_t last);

/* Is every byte of the range RAM?  Holds for this moment. */
bool nyx_ram_map_contains(NyxRamMap *map, uint64_t first, uint64_t last);

/* The range that contains @address, or the next one above.  False: none. */
bool nyx_ram_map_next(NyxRamMap *map, uint64_t address, uint64_t *first,
                      uint64_t *last);

/* Visit page-aligned runs of RAM, ascending; ends, false, when @fn says so. */
typedef bool NyxRamVisit(uint64_t first, uint64_t last, void *opaque);
bool nyx_ram_map_foreach(NyxRamMap *map, NyxRamVisit *fn, void *opaque);

#endif
