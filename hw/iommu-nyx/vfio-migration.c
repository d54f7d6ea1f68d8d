/*
 * Nyx IOMMU: VFIO devices that can migrate
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "hw/pci/pci_device.h"
#include "iommu.h"
#include "migration/blocker.h"
#include "qapi/error.h"
#include "system/address-spaces.h"
#include "vfio-migration.h"

/* Where the device does DMA: its endpoint, or that of its domain's container */
static NyxEndpoint *view_of(NyxFunction *fn)
{
    if (fn->container && fn->container->isolation != NYX_ISOLATION_UNMANAGED) {
        return fn->container->common;
    }
    return fn->endpoint ?: fn->claimed;
}

static bool can_follow(NyxEndpoint *ep)
{
    return ep->shown == NYX_DMA_MODE_PASS_THROUGH ||
           ep->shown == NYX_DMA_MODE_BLOCKED;
}

static void say_why(NyxFunction *fn, NyxEndpoint *ep, Error **errp)
{
    NyxDomain *domain = fn->container ?: ep->domain;
    g_autofree char *name = nyx_function_name(fn);

    if (domain && nyx_domain_translates(domain)) {
        error_setg(errp, "VFIO device '%s' cannot migrate from domain '%s', "
                   "which does not have all RAM at its own addresses; move it "
                   "to one with default-map=ram and no nyx-map or nyx-unmap, "
                   "or unplug it", name, domain->id);
    } else {
        error_setg(errp, "VFIO device '%s' cannot migrate while the guest's "
                   "IOMMU translates for it; boot the guest with iommu=pt, or "
                   "unplug the device", name);
    }
}

/*
 * False if it has to be blocked, and cannot: a migration runs, or QEMU was
 * started with -only-migratable.
 */
static bool update_blocker(NyxFunction *fn, NyxEndpoint *ep)
{
    if (can_follow(ep)) {
        migrate_del_blocker(&fn->migration_blocker);
        return true;
    }
    if (fn->migration_blocker) {
        return true;
    }
    say_why(fn, ep, &fn->migration_blocker);
    return !migrate_add_blocker_normal(&fn->migration_blocker, NULL);
}

static bool set_dirty(uint64_t first, uint64_t last, void *opaque)
{
    while (first <= last) {
        MemoryRegionSection s = memory_region_find(get_system_memory(), first,
                                                   last - first + 1);
        uint64_t bytes = int128_get64(s.size);

        if (!s.mr) {
            break;
        }
        memory_region_set_dirty(s.mr, s.offset_within_region, bytes);
        memory_region_unref(s.mr);
        first += bytes;
    }
    return true;
}

static void disturb_migration(NyxFunction *fn, NyxEndpoint *ep)
{
    g_autofree char *name = nyx_function_name(fn);
    Error *err = NULL;

    if (ep->shown == NYX_DMA_MODE_BLOCKED) {
        /* What it had written so far went with its mappings. */
        nyx_ram_map_foreach(&ep->iommu->ram, set_dirty, NULL);
        return;
    }
    error_setg(&err, "what VFIO device '%s' may access has changed during the "
               "migration, so that it is not known what it has written; try "
               "again", name);
    migration_file_set_error(-EBUSY, err);
}

void nyx_vfio_migration_view_changed(NyxEndpoint *ep)
{
    NyxEndpoint *other;
    NyxFunction *fn;

    QTAILQ_FOREACH(other, &ep->iommu->endpoints, link) {
        QTAILQ_FOREACH(fn, &other->functions, link) {
            if (!fn->migratable || view_of(fn) != ep) {
                continue;
            }
            update_blocker(fn, ep);
            if (migration_is_running()) {
                disturb_migration(fn, ep);
            }
        }
    }
}

void nyx_vfio_migration_refresh(NyxIommu *iommu)
{
    NyxEndpoint *ep;
    NyxFunction *fn;

    QTAILQ_FOREACH(ep, &iommu->endpoints, link) {
        QTAILQ_FOREACH(fn, &ep->functions, link) {
            if (fn->migratable) {
                update_blocker(fn, view_of(fn));
            }
        }
    }
}

bool nyx_vfio_migration_is_all(NyxEndpoint *ep)
{
    NyxFunction *fn;

    QTAILQ_FOREACH(fn, &ep->functions, link) {
        if (!fn->migratable) {
            return false;
        }
    }
    return !ep->bus || !QTAILQ_EMPTY(&ep->functions);
}

void nyx_vfio_migration_forget(NyxFunction *fn)
{
    fn->migratable = false;
    migrate_del_blocker(&fn->migration_blocker);
}

bool nyx_vfio_migration_allows_table(NyxDomain *domain, Error **errp)
{
    NyxEndpoint *ep;
    NyxFunction *fn;

    QTAILQ_FOREACH(ep, &domain->endpoints, domain_link) {
        QTAILQ_FOREACH(fn, &ep->functions, link) {
            if (fn->migratable && migration_is_running()) {
                g_autofree char *name = nyx_function_name(fn);

                error_setg(errp, "domain '%s' must keep allowing all RAM while "
                           "VFIO device '%s' is migrating; try again when the "
                           "migration has ended, or cancel it", domain->id,
                           name);
                return false;
            }
        }
    }
    return true;
}

int nyx_vfio_migration_starts(NotifierWithReturn *notifier, MigrationEvent *e,
                              Error **errp)
{
    NyxIommu *iommu = container_of(notifier, NyxIommu, migration_starts);
    NyxEndpoint *ep;
    NyxFunction *fn;

    if (e->type != MIG_EVENT_SETUP) {
        return 0;
    }
    QTAILQ_FOREACH(ep, &iommu->endpoints, link) {
        QTAILQ_FOREACH(fn, &ep->functions, link) {
            if (fn->migratable && !can_follow(view_of(fn))) {
                say_why(fn, view_of(fn), errp);
                return -EBUSY;
            }
        }
    }
    return 0;
}

bool nyx_iommu_watches_migration(DeviceState *dev, const AddressSpace *as)
{
    NyxFunction *fn;
    NyxEndpoint *ep;

    if (!nyx_iommu_get() || !object_dynamic_cast(OBJECT(dev),
                                                 TYPE_PCI_DEVICE)) {
        return false;
    }
    fn = nyx_function_of(PCI_DEVICE(dev));
    ep = view_of(fn);
    if (!ep || as != &ep->as || !update_blocker(fn, ep)) {
        return false;
    }
    fn->migratable = true;
    return true;
}
