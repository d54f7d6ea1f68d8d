/*
 * Nyx IOMMU: what is guest RAM
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/units.h"
#include "hw/core/boards.h"
#include "hw/i386/x86.h"
#include "page-table.h"
#include "ram-map.h"
#include "system/address-spaces.h"
#include "system/hostmem.h"
#include "trace.h"

/*
 * The view is rebuilt when all other listeners have finished with the change
 * that caused it: after MEMORY_LISTENER_PRIORITY_DEV_BACKEND, the last of them.
 */
#define NYX_RAM_MAP_PRIORITY    (MEMORY_LISTENER_PRIORITY_DEV_BACKEND + 1)

typedef struct NyxRamRange {
    uint64_t first;
    uint64_t last;
    MemoryRegion *mr;
    hwaddr offset;              /* of first in mr */
    MemoryRegion *alias;        /* in the view */
} NyxRamRange;

static void learn_windows(NyxRamMap *map)
{
    MachineState *machine = MACHINE(qdev_get_machine());
    X86MachineState *x86ms = X86_MACHINE(machine);
    DeviceMemoryState *hotplug = machine->device_memory;

    map->window[0] = (NyxRamWindow) { 0, x86ms->below_4g_mem_size };
    map->window[1] = (NyxRamWindow) { x86ms->above_4g_mem_start,
                                      x86ms->above_4g_mem_size };
    if (hotplug) {
        map->window[2] = (NyxRamWindow) { hotplug->base,
                                          memory_region_size(&hotplug->mr) };
    }
}

bool nyx_ram_map_in_window(const NyxRamMap *map, uint64_t address)
{
    for (int i = 0; i < NYX_RAM_WINDOWS; i++) {
        if (address - map->window[i].first < map->window[i].bytes) {
            return true;
        }
    }
    return false;
}

bool nyx_ram_map_overlaps_window(const NyxRamMap *map, uint64_t first,
                                 uint64_t last)
{
    for (int i = 0; i < NYX_RAM_WINDOWS; i++) {
        const NyxRamWindow *w = &map->window[i];

        if (w->bytes && last >= w->first &&
            first <= w->first + (w->bytes - 1)) {
            return true;
        }
    }
    return false;
}

bool nyx_ram_map_windows_cover(const NyxRamMap *map, uint64_t first,
                               uint64_t last)
{
    for (int i = 0; i < NYX_RAM_WINDOWS; i++) {
        const NyxRamWindow *w = &map->window[i];

        if (first - w->first < w->bytes) {
            uint64_t end = w->first + w->bytes;

            return last < end || nyx_ram_map_windows_cover(map, end, last);
        }
    }
    return false;
}

/* A BAR that is backed by memory lies elsewhere. */
static bool is_guest_ram(const NyxRamMap *map,
                         const MemoryRegionSection *section, uint64_t first)
{
    return memory_region_is_ram(section->mr) && !section->readonly &&
           object_dynamic_cast(memory_region_owner(section->mr),
                               TYPE_MEMORY_BACKEND) &&
           nyx_ram_map_in_window(map, first);
}

static uint64_t section_first(const MemoryRegionSection *section)
{
    return section->offset_within_address_space;
}

static uint64_t section_last(const MemoryRegionSection *section)
{
    return section_first(section) + int128_get64(section->size) - 1;
}

/* Hot-plugged RAM; what comes and goes below is the chipset's doing. */
static void notify_hotplug(NyxRamMap *map, uint64_t first, uint64_t last,
                           bool plugged)
{
    DeviceMemoryState *hotplug = MACHINE(qdev_get_machine())->device_memory;

    if (map->hotplug && hotplug && first >= hotplug->base) {
        map->hotplug(map->opaque, first, last, plugged);
    }
}

static void nyx_ram_map_region_add(MemoryListener *listener,
                                   MemoryRegionSection *section)
{
    NyxRamMap *map = container_of(listener, NyxRamMap, listener);
    NyxRamRange range;

    if (int128_gethi(section->size)) {
        return;
    }
    range = (NyxRamRange) {
        .first = section_first(section),
        .last = section_last(section),
        .mr = section->mr,
        .offset = section->offset_within_region,
    };
    learn_windows(map);
    if (!is_guest_ram(map, section, range.first)) {
        return;
    }
    memory_region_ref(range.mr);
    g_array_append_val(map->ranges, range);
    map->dirty = true;
}

static void drop_alias(NyxRamMap *map, NyxRamRange *range)
{
    if (range->alias) {
        memory_region_del_subregion(&map->view, range->alias);
        object_unparent(OBJECT(range->alias));
        g_free(range->alias);
        range->alias = NULL;
    }
}

static void nyx_ram_map_region_del(MemoryListener *listener,
                                   MemoryRegionSection *section)
{
    NyxRamMap *map = container_of(listener, NyxRamMap, listener);

    for (guint i = 0; i < map->ranges->len; i++) {
        NyxRamRange *range = &g_array_index(map->ranges, NyxRamRange, i);

        if (range->mr == section->mr &&
            range->first == section_first(section)) {
            notify_hotplug(map, range->first, range->last, false);
            /* The alias goes at commit: no changes while listeners run. */
            range->last = range->first;
            range->mr = NULL;
            memory_region_unref(section->mr);
            map->dirty = true;
            return;
        }
    }
}

static void show_range(NyxRamMap *map, NyxRamRange *range)
{
    range->alias = g_new0(MemoryRegion, 1);
    memory_region_init_alias(range->alias, map->owner, "nyx-ram", range->mr,
                             range->offset, range->last - range->first + 1);
    memory_region_add_subregion(&map->view, range->first, range->alias);
    trace_nyx_ram_range(range->first, range->last);
}

/*
 * Called after all other listeners, outside of a transaction; the one below
 * makes QEMU call the listeners anew, for address spaces that show the view.
 * The system address space does not, so this ends after one round.
 *
 * Only now is new RAM told of: who maps it looks it up in system memory, which
 * does not show it yet while regions are being added.
 */
static void nyx_ram_map_commit(MemoryListener *listener)
{
    NyxRamMap *map = container_of(listener, NyxRamMap, listener);
    g_autoptr(GArray) plugged = NULL;

    if (!map->dirty) {
        return;
    }
    map->dirty = false;
    plugged = g_array_new(false, false, sizeof(NyxRamRange));

    memory_region_transaction_begin();
    for (guint i = map->ranges->len; i-- > 0; ) {
        NyxRamRange *range = &g_array_index(map->ranges, NyxRamRange, i);

        if (!range->mr) {
            drop_alias(map, range);
            g_array_remove_index_fast(map->ranges, i);
        } else if (!range->alias) {
            show_range(map, range);
            g_array_append_val(plugged, *range);
        }
    }
    memory_region_transaction_commit();
    for (guint i = 0; i < plugged->len; i++) {
        const NyxRamRange *range = &g_array_index(plugged, NyxRamRange, i);

        notify_hotplug(map, range->first, range->last, true);
    }
}

void nyx_ram_map_init(NyxRamMap *map, Object *owner, NyxRamHotplugFn *hotplug,
                      void *opaque)
{
    map->owner = owner;
    map->hotplug = hotplug;
    map->opaque = opaque;
    map->ranges = g_array_new(false, false, sizeof(NyxRamRange));
    memory_region_init(&map->view, owner, "nyx-ram-view", UINT64_MAX);
    map->listener = (MemoryListener) {
        .name = "nyx-ram-map",
        .priority = NYX_RAM_MAP_PRIORITY,
        .region_add = nyx_ram_map_region_add,
        .region_del = nyx_ram_map_region_del,
        .commit = nyx_ram_map_commit,
    };
    memory_listener_register(&map->listener, &address_space_memory);
}

static const NyxRamRange *find_range(NyxRamMap *map, uint64_t address)
{
    for (guint i = 0; i < map->ranges->len; i++) {
        const NyxRamRange *range = &g_array_index(map->ranges, NyxRamRange, i);

        if (range->mr && address >= range->first && address <= range->last) {
            return range;
        }
    }
    return NULL;
}

bool nyx_ram_map_contains(NyxRamMap *map, uint64_t first, uint64_t last)
{
    for (;;) {
        const NyxRamRange *range = find_range(map, first);

        if (!range) {
            return false;
        }
        if (range->last >= last) {
            return true;
        }
        first = range->last + 1;
    }
}

bool nyx_ram_map_next(NyxRamMap *map, uint64_t address, uint64_t *first,
                      uint64_t *last)
{
    const NyxRamRange *next = NULL;

    for (guint i = 0; i < map->ranges->len; i++) {
        const NyxRamRange *range = &g_array_index(map->ranges, NyxRamRange, i);

        if (range->mr && range->last >= address &&
            (!next || range->first < next->first)) {
            next = range;
        }
    }
    if (next) {
        *first = next->first;
        *last = next->last;
    }
    return next;
}

static gint compare_ranges(gconstpointer a, gconstpointer b)
{
    const NyxRamRange *ra = a, *rb = b;

    return ra->first < rb->first ? -1 : ra->first > rb->first;
}

bool nyx_ram_map_foreach(NyxRamMap *map, NyxRamVisit *fn, void *opaque)
{
    g_autoptr(GArray) sorted = g_array_copy(map->ranges);

    g_array_sort(sorted, compare_ranges);
    for (guint i = 0; i < sorted->len; i++) {
        const NyxRamRange *range = &g_array_index(sorted, NyxRamRange, i);
        uint64_t first = ROUND_UP(range->first, NYX_PAGE_SIZE);
        uint64_t end = ROUND_DOWN(range->last + 1, NYX_PAGE_SIZE);

        if (range->mr && first < end && !fn(first, end - 1, opaque)) {
            return false;
        }
    }
    return true;
}
