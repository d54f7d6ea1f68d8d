/*
 * Nyx IOMMU: its state as QAPI types
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "backend.h"
#include "qapi/error.h"
#include "query.h"
#include "vfio-user-guard.h"

NyxIommuInfo *nyx_query_iommu(NyxIommu *iommu)
{
    NyxIommuInfo *info = g_new0(NyxIommuInfo, 1);
    NyxDomain *domain;
    NyxEndpoint *ep;
    NyxFunction *fn;

    info->interrupts = g_new0(NyxInterruptInfo, 1);
    info->iotlb = g_new0(NyxIotlbInfo, 1);
    if (!iommu) {
        return info;
    }
    info->enabled = true;
    info->stage1 = iommu->stage1;
    info->recovery_snapshot = g_strdup(iommu->restore.snapshot);
    info->restores = nyx_restore_count(&iommu->restore);
    info->fault_events = iommu->past_faults;
    info->interrupts->delivered = iommu->past_msi_delivered;
    info->interrupts->refused = iommu->past_msi_refused;
    info->iotlb->hits = iommu->past_iotlb_hits;
    info->iotlb->misses = iommu->past_iotlb_misses;
    info->iotlb->invalidations = iommu->past_invalidations;
    QTAILQ_FOREACH(domain, &iommu->domains, link) {
        info->domains++;
        info->iotlb->invalidations += domain->invalidations;
    }
    QTAILQ_FOREACH(ep, &iommu->endpoints, link) {
        QTAILQ_FOREACH(fn, &ep->functions, link) {
            info->devices++;
            info->quarantined += ep->state != NYX_DEVICE_STATE_OPERATIONAL;
        }
        WITH_QEMU_LOCK_GUARD(&ep->lock) {
            info->fault_events += nyx_fault_log_total(&ep->log);
        }
        info->interrupts->delivered += qatomic_read(&ep->msi_delivered);
        info->interrupts->refused += qatomic_read(&ep->msi_refused);
        info->iotlb->hits += nyx_iotlb_hits(&ep->iotlb);
        info->iotlb->misses += nyx_iotlb_misses(&ep->iotlb);
    }
    return info;
}

typedef struct MappingFigures {
    uint64_t bytes;
    uint64_t ranges;
} MappingFigures;

static bool add_figures(uint64_t first, uint64_t last, uint64_t gpa,
                        IOMMUAccessFlags perm, void *opaque)
{
    MappingFigures *figures = opaque;

    figures->bytes += last - first + 1;
    figures->ranges++;
    return true;
}

static NyxDomainInfo *query_domain(NyxDomain *domain)
{
    NyxDomainInfo *info = g_new0(NyxDomainInfo, 1);
    NyxPolicy policy = nyx_domain_policy(domain);
    strList **tail = &info->devices;
    MappingFigures figures = {};
    NyxEndpoint *ep;
    NyxFunction *fn;

    info->id = g_strdup(domain->id);
    info->isolation = domain->isolation;
    info->automatic = domain->automatic;
    QTAILQ_FOREACH(ep, &domain->endpoints, domain_link) {
        QTAILQ_FOREACH(fn, &ep->functions, link) {
            QAPI_LIST_APPEND(tail, nyx_function_name(fn));
        }
    }
    nyx_domain_foreach_mapping(domain, add_figures, &figures);
    info->mapped_bytes = figures.bytes;
    info->mappings = figures.ranges;
    if (domain->table) {
        info->table_bytes = nyx_page_table_table_bytes(domain->table);
    }
    info->policy = g_memdup2(&policy, sizeof(policy));
    return info;
}

NyxDomainInfoList *nyx_query_domains(NyxIommu *iommu)
{
    NyxDomainInfoList *list = NULL, **tail = &list;
    NyxDomain *domain;

    QTAILQ_FOREACH(domain, &iommu->domains, link) {
        QAPI_LIST_APPEND(tail, query_domain(domain));
    }
    return list;
}

static NyxServerInfo *query_server(PCIDevice *dev)
{
    VuGuard *g = nyx_vu_guard_of(dev);
    NyxServerInfo *info = g ? g_new0(NyxServerInfo, 1) : NULL;

    if (g) {
        info->connected = !qatomic_read(&g->broken);
        info->shares_ram = !g->contained;
        info->dma_messages = qatomic_read(&g->dma_messages);
        info->dma_message_bytes = qatomic_read(&g->dma_bytes);
    }
    return info;
}

/* With the lock of the log held */
static NyxFaultCounts *query_fault_counts(const NyxFaultLog *log)
{
    NyxFaultCounts *c = g_new0(NyxFaultCounts, 1);

    c->unmapped = nyx_fault_log_total_of(log, NYX_FAULT_TYPE_UNMAPPED);
    c->permission = nyx_fault_log_total_of(log, NYX_FAULT_TYPE_PERMISSION);
    c->blocked = nyx_fault_log_total_of(log, NYX_FAULT_TYPE_BLOCKED);
    c->address_width =
        nyx_fault_log_total_of(log, NYX_FAULT_TYPE_ADDRESS_WIDTH);
    c->interrupt = nyx_fault_log_total_of(log, NYX_FAULT_TYPE_INTERRUPT);
    c->stage1 = nyx_fault_log_total_of(log, NYX_FAULT_TYPE_STAGE1);
    return c;
}

static NyxDeviceInfo *query_device(NyxFunction *fn)
{
    NyxDeviceInfo *info = g_new0(NyxDeviceInfo, 1);
    NyxEndpoint *ep = fn->endpoint;
    NyxBackendDma backend_dma = nyx_backend_dma(fn->dev);
    int64_t now = nyx_endpoint_now();

    info->device = nyx_function_name(fn);
    info->driver = g_strdup(object_get_typename(OBJECT(fn->dev)));
    info->bdf = nyx_function_bdf(fn);
    info->domain = g_strdup(ep->domain->id);
    info->state = ep->state;
    WITH_QEMU_LOCK_GUARD(&ep->lock) {
        info->fault_count = nyx_fault_log_in_window(&ep->log, now);
        info->total_faults = nyx_fault_log_total(&ep->log);
        info->faults_by_type = query_fault_counts(&ep->log);
        info->last_fault_ns = nyx_fault_log_last_ns(&ep->log);
        info->has_last_fault_ns = info->last_fault_ns >= 0;
    }
    info->recoveries = nyx_recovery_budget_used(&ep->budget, now);
    info->policy = g_memdup2(&ep->policy, sizeof(ep->policy));
    info->dma = nyx_device_bypasses(fn->dev) ? NYX_DMA_MODE_UNMANAGED
                                                   : nyx_endpoint_dma_mode(ep);
    info->has_stage1_translates = ep->stage1.as;
    info->stage1_translates = ep->stage1.mr;
    info->io_under_way = nyx_endpoint_io_under_way(ep);
    info->interrupts = g_new0(NyxInterruptInfo, 1);
    info->interrupts->delivered = qatomic_read(&ep->msi_delivered);
    info->interrupts->refused = qatomic_read(&ep->msi_refused);
    info->interrupts->merged = ep->coalescer.merged;
    info->interrupts->has_merged = info->interrupts->merged;
    info->backend = nyx_device_backend(fn->dev);
    /* What an unmanaged device does is nobody's business, hence not seen. */
    info->faults_observable = info->dma != NYX_DMA_MODE_UNMANAGED &&
                              (backend_dma == NYX_BACKEND_DMA_LOCAL ||
                               backend_dma == NYX_BACKEND_DMA_CACHES);
    info->server = query_server(fn->dev);
    /* Nothing but messages comes from it, and they are performed here. */
    if (info->server && !info->server->shares_ram) {
        info->faults_observable = true;
    }
    return info;
}

NyxDeviceInfoList *nyx_query_devices(NyxIommu *iommu, NyxFunction *only)
{
    NyxDeviceInfoList *list = NULL, **tail = &list;
    NyxEndpoint *ep;
    NyxFunction *fn;

    QTAILQ_FOREACH(ep, &iommu->endpoints, link) {
        QTAILQ_FOREACH(fn, &ep->functions, link) {
            if (!only || fn == only) {
                QAPI_LIST_APPEND(tail, query_device(fn));
            }
        }
    }
    return list;
}

static NyxFaultInfo *query_fault(NyxEndpoint *ep, const NyxFault *fault)
{
    NyxFaultInfo *info = g_new0(NyxFaultInfo, 1);

    info->device = nyx_endpoint_name(ep);
    info->domain = g_strdup(fault->domain);
    info->type = fault->type;
    info->address = fault->address;
    info->access = fault->access;
    info->time_ns = fault->time_ns;
    info->count = fault->count;
    info->injected = fault->injected;
    return info;
}

static void collect_faults(NyxEndpoint *ep, GPtrArray *faults)
{
    const NyxFault *fault;

    QEMU_LOCK_GUARD(&ep->lock);
    for (unsigned n = 0; (fault = nyx_fault_log_get(&ep->log, n)); n++) {
        g_ptr_array_add(faults, query_fault(ep, fault));
    }
}

static gint newer_first(gconstpointer a, gconstpointer b)
{
    const NyxFaultInfo *fa = *(NyxFaultInfo **)a, *fb = *(NyxFaultInfo **)b;

    return fa->time_ns > fb->time_ns ? -1 : fa->time_ns < fb->time_ns;
}

NyxFaultInfoList *nyx_query_faults(NyxIommu *iommu, NyxFunction *only,
                                   uint32_t limit)
{
    g_autoptr(GPtrArray) faults = g_ptr_array_new_with_free_func(
        (GDestroyNotify)qapi_free_NyxFaultInfo);
    NyxFaultInfoList *list = NULL, **tail = &list;
    NyxEndpoint *ep;

    QTAILQ_FOREACH(ep, &iommu->endpoints, link) {
        if (nyx_endpoint_leader(ep) && (!only || only->endpoint == ep)) {
            collect_faults(ep, faults);
        }
    }
    /* Stable: records of one device and time stay in their order. */
    g_ptr_array_sort(faults, newer_first);
    for (guint i = 0; i < MIN(faults->len, limit); i++) {
        QAPI_LIST_APPEND(tail, g_steal_pointer(&faults->pdata[i]));
    }
    return list;
}

static bool add_mapping(uint64_t first, uint64_t last, uint64_t gpa,
                        IOMMUAccessFlags perm, void *opaque)
{
    NyxMappingInfoList ***tail = opaque;
    NyxMappingInfo *info = g_new0(NyxMappingInfo, 1);

    info->iova = first;
    info->gpa = gpa;
    info->size = last - first + 1;
    info->access = perm == IOMMU_RO ? NYX_ACCESS_R :
                   perm == IOMMU_WO ? NYX_ACCESS_W : NYX_ACCESS_RW;
    QAPI_LIST_APPEND(*tail, info);
    return true;
}

NyxTableInfoList *nyx_query_tables(NyxIommu *iommu)
{
    NyxTableInfoList *list = NULL, **tail = &list;
    NyxDomain *domain;

    QTAILQ_FOREACH(domain, &iommu->domains, link) {
        NyxTableInfo *info = g_new0(NyxTableInfo, 1);
        NyxMappingInfoList **mappings = &info->mappings;

        info->domain = g_strdup(domain->id);
        nyx_domain_foreach_mapping(domain, add_mapping, &mappings);
        QAPI_LIST_APPEND(tail, info);
    }
    return list;
}
