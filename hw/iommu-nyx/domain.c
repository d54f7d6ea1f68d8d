/*
 * Nyx IOMMU: an isolation domain
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "backend.h"
#include "domain-properties.h"
#include "domain.h"
#include "endpoint.h"
#include "interrupt.h"
#include "iommu.h"
#include "mirror.h"
#include "qapi/error.h"
#include "qemu/module.h"
#include "qemu/rcu.h"
#include "qemu/units.h"
#include "qom/object_interfaces.h"
#include "ram-table.h"
#include "trace.h"
#include "vfio-migration.h"
#include "vhost-queues.h"

/*
 * Cached translations of the old content die.  The table has been changed
 * before; an endpoint reads the generation before it reads the table.
 */
static void nyx_domain_invalidate(NyxDomain *domain)
{
    NyxEndpoint *ep;

    qatomic_store_release(&domain->generation, nyx_iotlb_next_generation());
    QTAILQ_FOREACH(ep, &domain->endpoints, domain_link) {
        nyx_endpoint_forget_translations(ep);
    }
    domain->invalidations++;
    trace_nyx_domain_invalidate(domain->id, domain->generation);
}

/* first..last of the table has changed: backends that keep it hear of it. */
static void nyx_domain_sync_mirrors(NyxDomain *domain, uint64_t first,
                                    uint64_t last)
{
    NyxEndpoint *ep;

    QTAILQ_FOREACH(ep, &domain->endpoints, domain_link) {
        nyx_mirror_sync(ep, first, last);
        nyx_vhost_tell_queues(ep);
    }
    if (domain->common) {
        nyx_mirror_sync(domain->common, first, last);
    }
}

static bool overlaps(uint64_t first, uint64_t last, uint64_t other_first,
                     uint64_t other_last)
{
    return first <= other_last && last >= other_first;
}

static void table_too_large(NyxDomain *domain, Error **errp)
{
    error_setg(errp, "the table of domain '%s' would exceed %llu MiB; align "
               "iova and gpa alike to 2 MiB, with large-pages=on", domain->id,
               NYX_TABLE_BYTES_MAX / MiB);
}

static bool add_device_windows(NyxDomain *domain, NyxPageTable *table)
{
    NyxDeviceWindows windows = nyx_iommu_device_windows(domain->iommu);

    for (int i = 0; i < ARRAY_SIZE(windows.range); i++) {
        const NyxDeviceWindow *w = &windows.range[i];

        if (w->last && nyx_page_table_map(table, w->first, w->last, w->first,
                                          IOMMU_RW)) {
            return false;
        }
    }
    return true;
}

/* Write down, as a table, what pass-through allows.  NULL: it is too large. */
static NyxPageTable *nyx_domain_new_table(NyxDomain *domain, Error **errp)
{
    NyxPageTable *table;

    if (domain->default_map == NYX_DEFAULT_MAP_NONE) {
        return nyx_page_table_new(domain->large_pages);
    }
    if (!nyx_vfio_migration_allows_table(domain, errp)) {
        return NULL;
    }
    table = nyx_ram_table_new(&domain->iommu->ram, domain->large_pages);
    if (!table ||
        (domain->peer_to_peer && !add_device_windows(domain, table))) {
        nyx_page_table_free(table);
        table_too_large(domain, errp);
        return NULL;
    }
    return table;
}

void nyx_domain_replace_table(NyxDomain *domain, NyxPageTable *table)
{
    NyxPageTable *old = domain->table;
    NyxEndpoint *ep;

    qatomic_rcu_set(&domain->table, table);
    nyx_table_stamp_void(&domain->stamp);
    if (table && !nyx_page_table_mapped_bytes(table)) {
        /* From here on it is known, and never has to be summed up. */
        domain->stamp.summed = true;
    }
    nyx_domain_invalidate(domain);
    /* Before views come that tell their backends by themselves. */
    nyx_domain_sync_mirrors(domain, 0, UINT64_MAX);

    memory_region_transaction_begin();
    QTAILQ_FOREACH(ep, &domain->endpoints, domain_link) {
        nyx_endpoint_update_view(ep);
    }
    if (domain->common) {
        nyx_endpoint_update_view(domain->common);
    }
    memory_region_transaction_commit();
    nyx_page_table_free(old);
    trace_nyx_domain_translate(domain->id);
}

void nyx_domain_bind(NyxDomain *domain, NyxIommu *iommu)
{
    if (domain->iommu) {
        return;
    }
    domain->iommu = iommu;
    nyx_iommu_add_domain(iommu, domain);
    if (domain->isolation != NYX_ISOLATION_UNMANAGED &&
        domain->default_map == NYX_DEFAULT_MAP_NONE) {
        /* It is empty, so it cannot be too large. */
        nyx_domain_replace_table(domain, nyx_domain_new_table(domain, NULL));
    }
}

NyxEndpoint *nyx_domain_common_endpoint(NyxDomain *domain)
{
    if (!domain->common) {
        domain->common = nyx_endpoint_new(domain->iommu, NULL, -1);
        nyx_endpoint_expect_backend(domain->common, NYX_BACKEND_DMA_MAPS);
        nyx_endpoint_show_domain(domain->common, domain);
    }
    return domain->common;
}

void nyx_domain_unbind(NyxDomain *domain)
{
    assert(QTAILQ_EMPTY(&domain->endpoints));
    if (domain->common) {
        nyx_endpoint_show_domain(domain->common, NULL);
        nyx_endpoint_free(domain->common);
        domain->common = NULL;
    }
    if (domain->iommu) {
        nyx_iommu_remove_domain(domain->iommu, domain);
        domain->iommu = NULL;
    }
}

static void unref_domain(struct rcu_head *head)
{
    object_unref(OBJECT(container_of(head, NyxDomain, rcu)));
}

void nyx_domain_unref_later(NyxDomain *domain)
{
    call_rcu1(&domain->rcu, unref_domain);
}

bool nyx_domain_admits(NyxDomain *domain, NyxEndpoint *joining, Error **errp)
{
    NyxEndpoint *other;

    if (domain->isolation != NYX_ISOLATION_STRICT) {
        return true;
    }
    QTAILQ_FOREACH(other, &domain->endpoints, domain_link) {
        if (other != joining) {
            g_autofree char *name = nyx_endpoint_name(other);

            error_setg(errp, "domain '%s' is strict and has device '%s'; use a "
                       "domain of its own, or one with isolation=shared",
                       domain->id, name);
            return false;
        }
    }
    return true;
}

/* @last: of the range; sizes and ends are the QMP client's, so unchecked. */
static bool check_range(const char *what, uint64_t first, uint64_t size,
                        uint64_t limit, uint64_t *last, Error **errp)
{
    if (!size) {
        error_setg(errp, "size must not be 0");
        return false;
    }
    if (!QEMU_IS_ALIGNED(first, NYX_PAGE_SIZE) ||
        !QEMU_IS_ALIGNED(size, NYX_PAGE_SIZE)) {
        error_setg(errp, "%s and size must be multiples of %llu", what,
                   NYX_PAGE_SIZE);
        return false;
    }
    if (first > limit || size - 1 > limit - first) {
        error_setg(errp, "%s range 0x%" PRIx64 " + 0x%" PRIx64
                   " ends beyond 0x%" PRIx64, what, first, size, limit);
        return false;
    }
    *last = first + size - 1;
    return true;
}

static bool check_target(NyxDomain *domain, uint64_t first, uint64_t last,
                         Error **errp)
{
    if (nyx_ram_map_contains(&domain->iommu->ram, first, last)) {
        return true;
    }
    if (!domain->peer_to_peer) {
        error_setg(errp, "guest physical range 0x%" PRIx64 "..0x%" PRIx64
                   " is not all RAM, and device memory can only be mapped in "
                   "a domain with peer-to-peer=on", first, last);
        return false;
    }
    if (nyx_ram_map_overlaps_window(&domain->iommu->ram, first,
                                    last)) {
        error_setg(errp, "guest physical range 0x%" PRIx64 "..0x%" PRIx64
                   " is neither all RAM nor all device memory", first, last);
        return false;
    }
    return true;
}

static bool check_managed(NyxDomain *domain, Error **errp)
{
    if (domain->isolation == NYX_ISOLATION_UNMANAGED) {
        error_setg(errp, "domain '%s' is unmanaged: it has no mappings",
                   domain->id);
        return false;
    }
    return domain->table || nyx_backend_allows_table(domain, errp);
}

bool nyx_domain_map(NyxDomain *domain, uint64_t iova, uint64_t gpa,
                    uint64_t size, IOMMUAccessFlags perm, Error **errp)
{
    uint64_t iova_last, gpa_last;
    NyxPageTable *table;
    int ret;

    if (!check_managed(domain, errp) ||
        !check_range("iova", iova, size, NYX_IOVA_LAST, &iova_last, errp) ||
        !check_range("gpa", gpa, size, NYX_GPA_LAST, &gpa_last, errp)) {
        return false;
    }
    if (overlaps(iova, iova_last, NYX_MSI_FIRST, NYX_MSI_LAST)) {
        error_setg(errp, "iova range 0x%" PRIx64 "..0x%" PRIx64 " overlaps the "
                   "interrupt window 0x%llx..0x%llx", iova, iova_last,
                   NYX_MSI_FIRST, NYX_MSI_LAST);
        return false;
    }
    if (!check_target(domain, gpa, gpa_last, errp)) {
        return false;
    }

    /* A table that is new is only put to use once the range fits into it. */
    table = domain->table ?: nyx_domain_new_table(domain, errp);
    if (!table) {
        return false;
    }
    ret = nyx_page_table_map(table, iova, iova_last, gpa, perm);
    if (ret < 0) {
        if (ret == -EEXIST) {
            error_setg(errp, "iova range 0x%" PRIx64 "..0x%" PRIx64 " overlaps "
                       "a mapping of domain '%s'; unmap it first",
                       iova, iova_last, domain->id);
        } else if (ret == -ENOSPC) {
            table_too_large(domain, errp);
        } else {
            error_setg_errno(errp, -ret, "cannot map into domain '%s'",
                             domain->id);
        }
        if (table != domain->table) {
            nyx_page_table_free(table);
        }
        return false;
    }
    if (table != domain->table) {
        nyx_domain_replace_table(domain, table);
    } else {
        nyx_table_stamp_mapped(&domain->stamp, iova, iova_last, gpa, perm);
        /* What was cached stays true; a miss is never cached. */
        nyx_domain_sync_mirrors(domain, iova, iova_last);
        trace_nyx_domain_map(domain->id, iova, iova_last, gpa, perm);
    }
    return true;
}

bool nyx_domain_unmap(NyxDomain *domain, uint64_t iova, uint64_t size,
                      Error **errp)
{
    uint64_t last;
    NyxPageTable *table;
    NyxTableSum gone = {};
    int ret;

    if (!check_managed(domain, errp) ||
        !check_range("iova", iova, size, NYX_IOVA_LAST, &last, errp)) {
        return false;
    }
    table = domain->table ?: nyx_domain_new_table(domain, errp);
    if (!table) {
        return false;
    }
    if (domain->stamp.summed) {
        gone = nyx_table_sum_of(table, iova, last);
    }
    ret = nyx_page_table_unmap(table, iova, last);
    if (ret < 0) {
        if (ret == -ENOENT) {
            error_setg(errp, "iova range 0x%" PRIx64 "..0x%" PRIx64
                       " is not all mapped in domain '%s'", iova, last,
                       domain->id);
        } else {
            error_setg_errno(errp, -ret, "cannot unmap from domain '%s'",
                             domain->id);
        }
        if (table != domain->table) {
            nyx_page_table_free(table);
        }
        return false;
    }
    if (table != domain->table) {
        nyx_domain_replace_table(domain, table);
    } else {
        nyx_table_stamp_unmapped(&domain->stamp, iova, last, &gone);
        nyx_domain_invalidate(domain);
        nyx_domain_sync_mirrors(domain, iova, last);
    }
    trace_nyx_domain_unmap(domain->id, iova, last);
    return true;
}

void nyx_domain_quiesce(NyxDomain *domain)
{
    NyxEndpoint *ep;

    QTAILQ_FOREACH(ep, &domain->endpoints, domain_link) {
        nyx_endpoint_renew(ep);
    }
    /* Accesses run inside RCU read-side critical sections. */
    drain_call_rcu();
}

void nyx_domain_ram_changed(NyxDomain *domain, uint64_t first, uint64_t last,
                            bool plugged)
{
    if (!domain->table) {
        /* The table of all RAM stands for its own. */
        nyx_domain_invalidate(domain);
    } else if (!plugged) {
        nyx_ram_table_unplugged(domain->table, first, last);
        nyx_domain_invalidate(domain);
    } else if (domain->default_map == NYX_DEFAULT_MAP_RAM) {
        nyx_ram_table_plugged(domain->table, first, last);
    }
    nyx_table_stamp_void(&domain->stamp);
    nyx_domain_sync_mirrors(domain, 0, UINT64_MAX);
}

typedef struct RamVisit {
    NyxPageTableVisit fn;
    void *opaque;
} RamVisit;

static bool visit_ram(uint64_t first, uint64_t last, void *opaque)
{
    RamVisit *visit = opaque;

    return visit->fn(first, last, first, IOMMU_RW, visit->opaque);
}

void nyx_domain_foreach_mapping(NyxDomain *domain, NyxPageTableVisit fn,
                                void *opaque)
{
    RamVisit visit = { .fn = fn, .opaque = opaque };

    if (domain->table) {
        nyx_page_table_foreach(domain->table, fn, opaque);
    } else if (domain->iommu) {
        nyx_ram_map_foreach(&domain->iommu->ram, visit_ram, &visit);
    }
}

NyxPolicy nyx_domain_policy(NyxDomain *domain)
{
    NyxIommu *iommu = domain->iommu ?: nyx_iommu_get();
    NyxPolicy policy = iommu ? nyx_iommu_policy(iommu) : nyx_policy_default;

    nyx_policy_apply(&policy, &domain->policy);
    return policy;
}

void nyx_domain_policy_changed(NyxDomain *domain)
{
    NyxEndpoint *ep;

    QTAILQ_FOREACH(ep, &domain->endpoints, domain_link) {
        nyx_endpoint_update_policy(ep);
    }
}

NyxDomain *nyx_domain_new_automatic(NyxIommu *iommu, const char *id,
                                    NyxIsolation isolation)
{
    NyxDomain *domain = NYX_DOMAIN(object_new(TYPE_NYX_DOMAIN));

    domain->id = g_strdup(id);
    domain->automatic = true;
    domain->isolation = isolation;
    nyx_domain_bind(domain, iommu);
    return domain;
}

static void nyx_domain_complete(UserCreatable *uc, Error **errp)
{
    NyxDomain *domain = NYX_DOMAIN(uc);

    domain->id = g_strdup(object_get_canonical_path_component(OBJECT(uc)));
    if (domain->isolation == NYX_ISOLATION_UNMANAGED &&
        domain->default_map == NYX_DEFAULT_MAP_NONE) {
        error_setg(errp, "isolation=unmanaged and default-map=none exclude "
                   "each other: an unmanaged domain has no table");
        return;
    }
    if (domain->isolation == NYX_ISOLATION_UNMANAGED && domain->contained) {
        error_setg(errp, "isolation=unmanaged and contained=on exclude each "
                   "other: use isolation=strict or shared");
        return;
    }
    /* On the command line the machine comes later. */
    if (nyx_iommu_get()) {
        nyx_domain_bind(domain, nyx_iommu_get());
    }
}

static bool nyx_domain_prepare_delete(UserCreatable *uc, Error **errp)
{
    NyxDomain *domain = NYX_DOMAIN(uc);
    g_autofree char *name = NULL;

    if (QTAILQ_EMPTY(&domain->endpoints)) {
        return true;
    }
    name = nyx_endpoint_name(QTAILQ_FIRST(&domain->endpoints));
    error_setg(errp, "domain '%s' is in use by device '%s'; move its devices "
               "with nyx-assign-device first", domain->id, name);
    return false;
}

static void nyx_domain_instance_init(Object *obj)
{
    NyxDomain *domain = NYX_DOMAIN(obj);

    domain->large_pages = true;
    domain->generation = nyx_iotlb_next_generation();
    QTAILQ_INIT(&domain->endpoints);
}

static void nyx_domain_unparent(Object *obj)
{
    NyxDomain *domain = NYX_DOMAIN(obj);
    NyxEndpoint *ep, *next;

    /* Only when QEMU ends; see nyx_domain_prepare_delete(). */
    QTAILQ_FOREACH_SAFE(ep, &domain->endpoints, domain_link, next) {
        nyx_endpoint_set_domain(ep, NULL);
    }
    nyx_domain_unbind(domain);
    object_ref(obj);
    nyx_domain_unref_later(domain);
}

static void nyx_domain_finalize(Object *obj)
{
    NyxDomain *domain = NYX_DOMAIN(obj);

    nyx_table_stamp_void(&domain->stamp);
    nyx_page_table_free(domain->table);
    g_free(domain->id);
}

static void nyx_domain_class_init(ObjectClass *oc, const void *data)
{
    UserCreatableClass *ucc = USER_CREATABLE_CLASS(oc);

    oc->unparent = nyx_domain_unparent;
    ucc->complete = nyx_domain_complete;
    ucc->prepare_delete = nyx_domain_prepare_delete;

    nyx_domain_add_class_properties(oc);
}

static const TypeInfo nyx_domain_info = {
    .name = TYPE_NYX_DOMAIN,
    .parent = TYPE_OBJECT,
    .instance_size = sizeof(NyxDomain),
    .instance_init = nyx_domain_instance_init,
    .instance_finalize = nyx_domain_finalize,
    .class_init = nyx_domain_class_init,
    .interfaces = (const InterfaceInfo[]) {
        { TYPE_USER_CREATABLE },
        { }
    },
};

static void nyx_domain_register_types(void)
{
    type_register_static(&nyx_domain_info);
}

type_init(nyx_domain_register_types)
