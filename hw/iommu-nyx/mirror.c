/*
 * Nyx IOMMU: what a device's backend was told of its mappings
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "endpoint.h"
#include "interrupt.h"
#include "iommu.h"
#include "mirror.h"
#include "system/address-spaces.h"
#include "system/dma.h"
#include "trace.h"
#include "translate.h"

/* VFIO maps by page of the host's tables, so larger ones gain nothing. */
#define LARGEST_MAPPING     (1ULL << 30)

/* Bits of address that any device or stage 1 may use (5 levels) */
#define ADDRESS_BITS        57

IOMMUNotifierFlag nyx_mirror_flags(NyxEndpoint *ep)
{
    return ep->view.translate.iommu_notify_flags;
}

/* Tell */

static void notify(NyxEndpoint *ep, IOMMUNotifierFlag type,
                   const IOMMUTLBEntry *entry)
{
    IOMMUTLBEvent event = { .type = type, .entry = *entry };

    if (ep->mirror.only) {
        memory_region_notify_iommu_one(ep->mirror.only, &event);
    } else {
        memory_region_notify_iommu(&ep->view.translate, 0, event);
    }
}

/* In ranges that are powers of two, and aligned, as listeners expect. */
static void notify_unmap(NyxEndpoint *ep, uint64_t first, uint64_t last)
{
    last = MIN(last, MAKE_64BIT_MASK(0, ADDRESS_BITS));
    while (first <= last) {
        uint64_t mask = dma_aligned_pow2_mask(first, last, 64);
        IOMMUTLBEntry entry = {
            .target_as = &address_space_memory,
            .iova = first,
            .addr_mask = mask,
        };

        notify(ep, IOMMU_NOTIFIER_UNMAP, &entry);
        /* The guest may have let the device cache (ATS) what is no more. */
        notify(ep, IOMMU_NOTIFIER_DEVIOTLB_UNMAP, &entry);
        first += mask + 1;
    }
}

/* Withdraw what is told and overlaps; widens the range to what that was. */
static void withdraw(NyxEndpoint *ep, uint64_t *first, uint64_t *last)
{
    NyxMirror *mirror = &ep->mirror;
    DMAMap range = { .iova = *first, .size = *last - *first };
    const DMAMap *found;

    while ((found = iova_tree_find(mirror->told, &range))) {
        DMAMap map = *found;

        iova_tree_remove(mirror->told, map);
        *first = MIN(*first, map.iova);
        *last = MAX(*last, map.iova + map.size);
        trace_nyx_mirror_unmap(nyx_endpoint_requester_id(ep), map.iova,
                               map.iova + map.size);
        notify_unmap(ep, map.iova, map.iova + map.size);
    }
}

/* One mapping; the backend may know it already, if another listener does. */
static void tell(NyxEndpoint *ep, uint64_t iova, uint64_t mask, uint64_t gpa,
                 IOMMUAccessFlags perm)
{
    DMAMap map = {
        .iova = iova, .size = mask, .translated_addr = gpa, .perm = perm,
    };
    const DMAMap *found = iova_tree_find(ep->mirror.told, &map);
    IOMMUTLBEntry entry = {
        .target_as = &address_space_memory,
        .iova = iova,
        .translated_addr = gpa,
        .addr_mask = mask,
        .perm = perm,
    };

    if (found && memcmp(found, &map, sizeof(map))) {
        uint64_t first = iova, last = iova + mask;

        withdraw(ep, &first, &last);
        found = NULL;
    }
    if (!found) {
        iova_tree_insert(ep->mirror.told, &map);
    } else if (!ep->mirror.only) {
        return;
    }
    trace_nyx_mirror_map(nyx_endpoint_requester_id(ep), iova, iova + mask, gpa,
                         perm);
    notify(ep, IOMMU_NOTIFIER_MAP, &entry);
}

/* Aligned alike in both addresses; the range is all RAM in one piece. */
static void tell_in_parts(NyxEndpoint *ep, uint64_t iova, uint64_t last,
                          uint64_t gpa, IOMMUAccessFlags perm)
{
    while (iova <= last) {
        uint64_t mask = dma_aligned_pow2_mask(iova, last, 64);

        mask = MIN(mask, LARGEST_MAPPING - 1);
        if (gpa & mask) {
            mask = (gpa & -gpa) - 1;
        }
        tell(ep, iova, mask, gpa, perm);
        iova += mask + 1;
        gpa += mask + 1;
    }
}

/* Only RAM: a backend has no way to another device's memory. */
static void tell_ram(NyxEndpoint *ep, uint64_t iova, uint64_t last,
                     uint64_t gpa, IOMMUAccessFlags perm)
{
    uint64_t gpa_last = gpa + (last - iova);
    uint64_t first_ram, last_ram;

    while (nyx_ram_map_next(&ep->iommu->ram, gpa, &first_ram, &last_ram) &&
           first_ram <= gpa_last) {
        uint64_t from = ROUND_UP(MAX(gpa, first_ram), NYX_PAGE_SIZE);
        uint64_t end = ROUND_DOWN(MIN(gpa_last, last_ram) + 1, NYX_PAGE_SIZE);

        if (from < end) {
            tell_in_parts(ep, iova + (from - gpa), iova + (end - 1 - gpa),
                          from, perm);
        }
        if (last_ram >= gpa_last) {
            break;
        }
        iova += last_ram + 1 - gpa;
        gpa = last_ram + 1;
    }
}

/* Interrupts go another way: no mapping covers their window. */
static void tell_range(NyxEndpoint *ep, uint64_t first, uint64_t last,
                       uint64_t gpa, IOMMUAccessFlags perm)
{
    if (first < NYX_MSI_FIRST) {
        tell_ram(ep, first, MIN(last, NYX_MSI_FIRST - 1), gpa, perm);
    }
    if (last > NYX_MSI_LAST) {
        uint64_t from = MAX(first, NYX_MSI_LAST + 1);

        tell_ram(ep, from, last, gpa + (from - first), perm);
    }
}

/* Collect */

typedef struct Sync {
    NyxEndpoint *ep;
    uint64_t first;
    uint64_t last;
} Sync;

static bool tell_clipped(uint64_t first, uint64_t last, uint64_t gpa,
                         IOMMUAccessFlags perm, void *opaque)
{
    Sync *sync = opaque;
    uint64_t from = MAX(first, sync->first);
    uint64_t to = MIN(last, sync->last);

    if (from <= to) {
        tell_range(sync->ep, from, to, gpa + (from - first), perm);
    }
    return last < sync->last;
}

/* All that holds now within first..last; with stage 1, all that it maps. */
static void tell_all(NyxEndpoint *ep, uint64_t first, uint64_t last)
{
    Sync sync = { .ep = ep, .first = first, .last = last };
    NyxPageTable *table;

    if (nyx_endpoint_dma_mode(ep) != NYX_DMA_MODE_TRANSLATING) {
        return;
    }
    if (ep->stage1.mr) {
        nyx_stage1_replay(ep);
        return;
    }
    /* While the machine is being built there is no table of all RAM yet. */
    table = nyx_endpoint_table(ep, ep->domain);
    if (table) {
        nyx_page_table_foreach(table, tell_clipped, &sync);
    }
}

void nyx_mirror_sync(NyxEndpoint *ep, uint64_t first, uint64_t last)
{
    if (nyx_mirror_flags(ep) == IOMMU_NOTIFIER_NONE) {
        return;
    }
    if (!ep->mirror.told) {
        notify_unmap(ep, first, last);
        return;
    }
    if (ep->stage1.mr) {
        /* Which of its mappings lead there is for stage 1 to know. */
        first = 0;
        last = UINT64_MAX;
    }
    withdraw(ep, &first, &last);
    tell_all(ep, first, last);
}

void nyx_mirror_replay(NyxEndpoint *ep, IOMMUNotifier *n)
{
    if (ep->mirror.told) {
        ep->mirror.only = n;
        tell_all(ep, n->start, n->end);
        ep->mirror.only = NULL;
    }
}

/*
 * Piece by piece of stage 2, which may map each of them elsewhere or not at
 * all.  virtio-iommu's target need not be aligned to the size, as its iova is.
 */
void nyx_mirror_map(NyxEndpoint *ep, const IOMMUTLBEntry *entry)
{
    uint64_t iova = entry->iova;
    uint64_t last = iova + entry->addr_mask;
    uint64_t address = entry->translated_addr & ~(NYX_PAGE_SIZE - 1);

    if (!ep->mirror.told ||
        nyx_endpoint_dma_mode(ep) != NYX_DMA_MODE_TRANSLATING) {
        return;
    }
    RCU_READ_LOCK_GUARD();
    while (iova <= last) {
        NyxTranslation t;
        uint64_t bytes, end;

        nyx_endpoint_stage2(ep, ep->domain, address, &t);
        bytes = t.mask + 1 - (address & t.mask);
        end = last - iova < bytes ? last : iova + bytes - 1;
        if (t.perm & entry->perm & IOMMU_RW) {
            tell_range(ep, iova, end, t.gpa | (address & t.mask),
                       t.perm & entry->perm & IOMMU_RW);
        }
        if (end == UINT64_MAX) {
            break;
        }
        address += end + 1 - iova;
        iova = end + 1;
    }
}

void nyx_mirror_unmap(NyxEndpoint *ep, uint64_t first, uint64_t last)
{
    if (nyx_mirror_flags(ep) == IOMMU_NOTIFIER_NONE) {
        return;
    }
    if (ep->mirror.told) {
        withdraw(ep, &first, &last);
    } else {
        notify_unmap(ep, first, last);
    }
}

void nyx_mirror_destroy(NyxMirror *mirror)
{
    if (mirror->told) {
        iova_tree_destroy(mirror->told);
        mirror->told = NULL;
    }
}

bool nyx_mirror_set_flags(NyxEndpoint *ep, IOMMUNotifierFlag flags,
                          Error **errp)
{
    if (!nyx_stage1_listen(ep, flags, errp)) {
        return false;
    }
    if (!(flags & IOMMU_NOTIFIER_MAP)) {
        nyx_mirror_destroy(&ep->mirror);
    } else if (!ep->mirror.told) {
        ep->mirror.told = iova_tree_new();
    }
    return true;
}
