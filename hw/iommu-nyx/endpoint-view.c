/*
 * Nyx IOMMU: the address space of an endpoint
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Where DMA goes: to RAM, through the table, to the interrupt filter, or into
 * the trap, which records it.
 */

#include "qemu/osdep.h"
#include "endpoint.h"
#include "interrupt.h"
#include "iommu.h"
#include "qemu/module.h"
#include "qemu/rcu.h"
#include "system/address-spaces.h"
#include "trace.h"

/* Priorities inside the view's root */
enum {
    VIEW_UNMAPPED = -2,
    VIEW_DEVICES = -1,
    VIEW_CONTENT = 0,
    VIEW_MSI = 1,
    VIEW_BLOCK = 2,
};

/* The trap: where every refused access ends. */

static NyxFaultType refusal(NyxEndpoint *ep, uint64_t address,
                            IOMMUAccessFlags flag)
{
    NyxDomain *domain = qatomic_rcu_read(&ep->domain);
    NyxPageTable *table = domain ? qatomic_rcu_read(&domain->table) : NULL;
    NyxTranslation t;

    if (qatomic_read(&ep->blocked) || !domain) {
        return NYX_FAULT_TYPE_BLOCKED;
    }
    if (address > NYX_IOVA_LAST) {
        return NYX_FAULT_TYPE_ADDRESS_WIDTH;
    }
    if (table && nyx_page_table_lookup(table, address, &t) &&
        !(t.perm & flag)) {
        return NYX_FAULT_TYPE_PERMISSION;
    }
    return NYX_FAULT_TYPE_UNMAPPED;
}

static MemTxResult nyx_trap_read(void *opaque, hwaddr addr, uint64_t *data,
                                 unsigned size, MemTxAttrs attrs)
{
    NyxEndpoint *ep = opaque;

    nyx_endpoint_fault(ep, refusal(ep, addr, IOMMU_RO), NYX_ACCESS_R, addr,
                       size, false);
    *data = UINT64_MAX;
    return MEMTX_ACCESS_ERROR;
}

static MemTxResult nyx_trap_write(void *opaque, hwaddr addr, uint64_t data,
                                  unsigned size, MemTxAttrs attrs)
{
    NyxEndpoint *ep = opaque;

    nyx_endpoint_fault(ep, refusal(ep, addr, IOMMU_WO), NYX_ACCESS_W, addr,
                       size, false);
    return MEMTX_ACCESS_ERROR;
}

static const MemoryRegionOps nyx_trap_ops = {
    .read_with_attrs = nyx_trap_read,
    .write_with_attrs = nyx_trap_write,
    .endianness = DEVICE_LITTLE_ENDIAN,
    .valid = { .min_access_size = 1, .max_access_size = 8, .unaligned = true },
    .impl = { .min_access_size = 1, .max_access_size = 8, .unaligned = true },
};

/*
 * QEMU itself refuses an access with MemTxAttrs.memory that hits no memory, so
 * it never comes to the trap.  It is translated once, though: an IOMMU index
 * of its own tells it, and the translation records it.
 */
enum {
    INDEX_ANY,
    INDEX_MEMORY_ONLY,
    INDEX__MAX,
};

static int nyx_attrs_to_index(IOMMUMemoryRegion *mr, MemTxAttrs attrs)
{
    return attrs.memory ? INDEX_MEMORY_ONLY : INDEX_ANY;
}

static int nyx_num_indexes(IOMMUMemoryRegion *mr)
{
    return INDEX__MAX;
}

/* The trap records an access when, and if, it really happens. */
static IOMMUTLBEntry lead_to_trap(NyxEndpoint *ep, hwaddr iova,
                                  IOMMUAccessFlags flag, int index)
{
    IOMMUTLBEntry entry = {
        .target_as = &ep->trap_as,
        .iova = iova & ~(hwaddr)(NYX_PAGE_SIZE - 1),
        .translated_addr = iova & ~(hwaddr)(NYX_PAGE_SIZE - 1),
        .addr_mask = NYX_PAGE_SIZE - 1,
        .perm = flag,
    };

    if (index == INDEX_MEMORY_ONLY && flag != IOMMU_NONE) {
        nyx_endpoint_fault(ep, refusal(ep, iova, flag),
                           flag == IOMMU_RO ? NYX_ACCESS_R : NYX_ACCESS_W,
                           iova, 1, false);
        entry.perm = IOMMU_NONE;
    }
    return entry;
}

/* The gate of the trap, for DMA that is not translated otherwise */

#define TYPE_NYX_GATE "nyx-gate-memory-region"

static IOMMUTLBEntry nyx_gate_translate(IOMMUMemoryRegion *mr, hwaddr iova,
                                        IOMMUAccessFlags flag, int index)
{
    return lead_to_trap(container_of(mr, NyxEndpoint, gate), iova, flag, index);
}

static void nyx_gate_class_init(ObjectClass *oc, const void *data)
{
    IOMMUMemoryRegionClass *imrc = IOMMU_MEMORY_REGION_CLASS(oc);

    imrc->translate = nyx_gate_translate;
    imrc->attrs_to_index = nyx_attrs_to_index;
    imrc->num_indexes = nyx_num_indexes;
}

/* Translation */

#define TYPE_NYX_TRANSLATE "nyx-translate-memory-region"

/*
 * Look up @iova for @domain.  The generation is read before the table: what is
 * cached under it cannot be older than it.
 */
static void nyx_endpoint_lookup(NyxEndpoint *ep, NyxDomain *domain,
                                hwaddr iova, NyxTranslation *t)
{
    uint64_t generation = qatomic_load_acquire(&domain->generation);
    NyxPageTable *table;

    if (nyx_iotlb_lookup(&ep->iotlb, generation, iova, t)) {
        return;
    }
    table = qatomic_rcu_read(&domain->table);
    if (!table) {
        *t = (NyxTranslation) { .mask = NYX_PAGE_SIZE - 1 };
    } else if (nyx_page_table_lookup(table, iova, t)) {
        nyx_iotlb_fill(&ep->iotlb, generation, iova, t);
    }
}

static IOMMUTLBEntry nyx_translate(IOMMUMemoryRegion *mr, hwaddr iova,
                                   IOMMUAccessFlags flag, int index)
{
    NyxEndpoint *ep = container_of(mr, NyxEndpoint, view.translate);
    NyxDomain *domain = qatomic_rcu_read(&ep->domain);
    NyxTranslation t = { .mask = NYX_PAGE_SIZE - 1 };

    if (unlikely(domain && !nyx_domain_translates(domain) &&
                 !qatomic_read(&ep->blocked))) {
        /* The endpoint has just left a table: ask the view that it has now. */
        return (IOMMUTLBEntry) {
            .target_as = &ep->as,
            .iova = iova & ~t.mask,
            .translated_addr = iova & ~t.mask,
            .addr_mask = t.mask,
            .perm = IOMMU_RW,
        };
    }
    if (likely(domain && iova <= NYX_IOVA_LAST &&
               !qatomic_read(&ep->blocked))) {
        nyx_endpoint_lookup(ep, domain, iova, &t);
    }
    if (likely((t.perm & flag) == flag)) {
        return (IOMMUTLBEntry) {
            .target_as = likely(!domain->peer_to_peer) ||
                         nyx_ram_map_in_window(&ep->iommu->ram, t.gpa)
                         ? &address_space_memory : &ep->peers_as,
            .iova = iova & ~t.mask,
            .translated_addr = t.gpa,
            .addr_mask = t.mask,
            .perm = t.perm,
        };
    }
    return lead_to_trap(ep, iova, flag, index);
}

static void nyx_translate_class_init(ObjectClass *oc, const void *data)
{
    IOMMUMemoryRegionClass *imrc = IOMMU_MEMORY_REGION_CLASS(oc);

    imrc->translate = nyx_translate;
    imrc->attrs_to_index = nyx_attrs_to_index;
    imrc->num_indexes = nyx_num_indexes;
}

/* The view */

static NyxDmaMode dma_mode_in(NyxEndpoint *ep, NyxDomain *domain)
{
    if (!domain || qatomic_read(&ep->blocked)) {
        return NYX_DMA_MODE_BLOCKED;
    }
    if (domain->isolation == NYX_ISOLATION_UNMANAGED) {
        return NYX_DMA_MODE_UNMANAGED;
    }
    return nyx_domain_translates(domain) ? NYX_DMA_MODE_TRANSLATING
                                         : NYX_DMA_MODE_PASS_THROUGH;
}

NyxDmaMode nyx_endpoint_dma_mode(NyxEndpoint *ep)
{
    return dma_mode_in(ep, ep->domain);
}

void nyx_endpoint_need_peers(NyxEndpoint *ep, NyxDomain *domain)
{
    if (domain->peer_to_peer && !ep->peers_as.root) {
        address_space_init(&ep->peers_as, &ep->peers, "nyx-peers");
    }
}

void nyx_endpoint_show(NyxEndpoint *ep, NyxDomain *domain)
{
    NyxDmaMode mode = dma_mode_in(ep, domain);
    bool pass = mode == NYX_DMA_MODE_PASS_THROUGH;
    bool translate = mode == NYX_DMA_MODE_TRANSLATING;
    NyxEndpointView *v = &ep->view;

    if (!ep->iommu->ready) {
        return;
    }
    memory_region_transaction_begin();
    memory_region_set_enabled(&v->block, mode == NYX_DMA_MODE_BLOCKED);
    memory_region_set_enabled(&v->ram, pass);
    memory_region_set_enabled(&v->devices, pass && domain->peer_to_peer);
    memory_region_set_enabled(&v->system, mode == NYX_DMA_MODE_UNMANAGED);
    memory_region_set_enabled(MEMORY_REGION(&v->translate), translate);
    memory_region_set_enabled(&v->msi, pass || translate);
    /* QEMU cannot show one region of 2^64 bytes below another. */
    memory_region_set_enabled(&v->unmapped, pass);
    if (translate) {
        nyx_endpoint_need_peers(ep, domain);
    }
    memory_region_transaction_commit();
    trace_nyx_endpoint_view(nyx_endpoint_requester_id(ep),
                            NyxDmaMode_str(mode));
}

void nyx_endpoint_update_view(NyxEndpoint *ep)
{
    nyx_endpoint_show(ep, ep->domain);
}

static void add_to_view(NyxEndpointView *v, MemoryRegion *mr, int priority,
                        hwaddr offset)
{
    memory_region_set_enabled(mr, false);
    memory_region_add_subregion_overlap(&v->root, offset, mr, priority);
}

static void nyx_endpoint_init_trap(NyxEndpoint *ep)
{
    Object *owner = OBJECT(ep);

    memory_region_init_io(&ep->trap, owner, &nyx_trap_ops, ep, "nyx-trap",
                          UINT64_MAX);
    /* A fault takes no lock but the endpoint's own. */
    memory_region_enable_lockless_io(&ep->trap);
    memory_region_init_iommu(&ep->gate, sizeof(ep->gate), TYPE_NYX_GATE, owner,
                             "nyx-gate", UINT64_MAX);
    address_space_init(&ep->trap_as, &ep->trap, "nyx-trap");
}

static void nyx_endpoint_init_view(NyxEndpoint *ep)
{
    NyxEndpointView *v = &ep->view;
    MemoryRegion *gate = MEMORY_REGION(&ep->gate);
    Object *owner = OBJECT(ep);

    memory_region_init(&v->root, owner, "nyx-endpoint", UINT64_MAX);
    memory_region_init_alias(&v->ram, owner, "nyx-pass-through",
                             &ep->iommu->ram.view, 0, UINT64_MAX);
    add_to_view(v, &v->ram, VIEW_CONTENT, 0);
    memory_region_init_alias(&v->devices, owner, "nyx-peers",
                             &ep->iommu->peers, 0, UINT64_MAX);
    add_to_view(v, &v->devices, VIEW_DEVICES, 0);
    memory_region_init_alias(&v->system, owner, "nyx-unmanaged",
                             get_system_memory(), 0, UINT64_MAX);
    add_to_view(v, &v->system, VIEW_CONTENT, 0);
    memory_region_init_iommu(&v->translate, sizeof(v->translate),
                             TYPE_NYX_TRANSLATE, owner, "nyx-translate",
                             UINT64_MAX);
    add_to_view(v, MEMORY_REGION(&v->translate), VIEW_CONTENT, 0);
    nyx_endpoint_init_msi_window(ep);
    add_to_view(v, &v->msi, VIEW_MSI, NYX_MSI_FIRST);
    memory_region_init_alias(&v->unmapped, owner, "nyx-unmapped", gate, 0,
                             UINT64_MAX);
    add_to_view(v, &v->unmapped, VIEW_UNMAPPED, 0);
    memory_region_init_alias(&v->block, owner, "nyx-block", gate, 0,
                             UINT64_MAX);
    add_to_view(v, &v->block, VIEW_BLOCK, 0);
}

/* Where translations lead but for RAM: to a device's memory, or the trap */
static void nyx_endpoint_init_peers(NyxEndpoint *ep)
{
    Object *owner = OBJECT(ep);

    memory_region_init(&ep->peers, owner, "nyx-peer-target", UINT64_MAX);
    memory_region_init_alias(&ep->peers_memory, owner, "nyx-peers",
                             &ep->iommu->peers, 0, UINT64_MAX);
    memory_region_add_subregion_overlap(&ep->peers, 0, &ep->peers_memory, 1);
    memory_region_init_alias(&ep->peers_trap, owner, "nyx-no-peer",
                             MEMORY_REGION(&ep->gate), 0, UINT64_MAX);
    memory_region_add_subregion_overlap(&ep->peers, 0, &ep->peers_trap, 0);
}

void nyx_endpoint_init_regions(NyxEndpoint *ep)
{
    nyx_endpoint_init_trap(ep);
    nyx_endpoint_init_view(ep);
    nyx_endpoint_init_peers(ep);
    address_space_init(&ep->as, &ep->view.root, "nyx-endpoint");
}

static const TypeInfo nyx_endpoint_view_types[] = {
    {
        .name = TYPE_NYX_TRANSLATE,
        .parent = TYPE_IOMMU_MEMORY_REGION,
        .class_init = nyx_translate_class_init,
    }, {
        .name = TYPE_NYX_GATE,
        .parent = TYPE_IOMMU_MEMORY_REGION,
        .class_init = nyx_gate_class_init,
    },
};

DEFINE_TYPES(nyx_endpoint_view_types)
