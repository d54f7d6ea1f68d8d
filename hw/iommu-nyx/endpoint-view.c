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
#include "mirror.h"
#include "system/address-spaces.h"
#include "trace.h"
#include "translate.h"
#include "vfio-migration.h"

/* Priorities inside the view's root */
enum {
    VIEW_UNMAPPED = -2,
    VIEW_DEVICES = -1,
    VIEW_CONTENT = 0,
    VIEW_MSI = 1,
    VIEW_BLOCK = 2,
};

/* The trap: where every refused access ends. */

/* What stage 1 refuses is the guest's doing, and recorded as such. */
static MemTxResult record(const MemoryRegion *trap, hwaddr addr,
                          NyxAccess access, unsigned size)
{
    NyxEndpoint *ep = (NyxEndpoint *)trap->owner;
    NyxFaultType type = NYX_FAULT_TYPE_STAGE1;

    if (trap != &ep->stage1_trap) {
        type = nyx_endpoint_refusal(ep, addr, access == NYX_ACCESS_R
                                              ? IOMMU_RO : IOMMU_WO);
    }
    nyx_endpoint_fault(ep, type, access, addr, size, false);
    return MEMTX_ACCESS_ERROR;
}

static MemTxResult nyx_trap_read(void *opaque, hwaddr addr, uint64_t *data,
                                 unsigned size, MemTxAttrs attrs)
{
    *data = UINT64_MAX;
    return record(opaque, addr, NYX_ACCESS_R, size);
}

static MemTxResult nyx_trap_write(void *opaque, hwaddr addr, uint64_t data,
                                  unsigned size, MemTxAttrs attrs)
{
    return record(opaque, addr, NYX_ACCESS_W, size);
}

static const MemoryRegionOps nyx_trap_ops = {
    .read_with_attrs = nyx_trap_read,
    .write_with_attrs = nyx_trap_write,
    .endianness = DEVICE_LITTLE_ENDIAN,
    .valid = { .min_access_size = 1, .max_access_size = 8, .unaligned = true },
    .impl = { .min_access_size = 1, .max_access_size = 8, .unaligned = true },
};

/* A fault takes no lock but the endpoint's own. */
static void init_trap(MemoryRegion *trap, AddressSpace *as, Object *owner,
                      const char *name)
{
    memory_region_init_io(trap, owner, &nyx_trap_ops, trap, name, UINT64_MAX);
    memory_region_enable_lockless_io(trap);
    address_space_init(as, trap, name);
}

/* The view */

static NyxDmaMode dma_mode_in(NyxEndpoint *ep, NyxDomain *domain)
{
    if (!domain || nyx_endpoint_is_contained(ep)) {
        return NYX_DMA_MODE_BLOCKED;
    }
    if (domain->isolation == NYX_ISOLATION_UNMANAGED) {
        return NYX_DMA_MODE_UNMANAGED;
    }
    return nyx_endpoint_needs_translation(ep, domain)
           ? NYX_DMA_MODE_TRANSLATING : NYX_DMA_MODE_PASS_THROUGH;
}

NyxDmaMode nyx_endpoint_dma_mode(NyxEndpoint *ep)
{
    return dma_mode_in(ep, ep->domain);
}

/*
 * During a reset, a view without translation has to be closed.  Not where a
 * backend maps: VFIO would take all of RAM out of the host's tables, to put it
 * there again.  Nor for a bridge, which has only interrupts to write, and their
 * window looks by itself.
 */
static bool closed_for_reset(NyxEndpoint *ep, NyxDmaMode mode)
{
    return (qatomic_read(&ep->blocked) & NYX_BLOCKED_RESET) &&
           (mode == NYX_DMA_MODE_PASS_THROUGH ||
            mode == NYX_DMA_MODE_UNMANAGED) &&
           ep->backend_dma == NYX_BACKEND_DMA_LOCAL &&
           !nyx_endpoint_is_bridge(ep);
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
    NyxDmaMode old = ep->shown;
    bool unmanaged = mode == NYX_DMA_MODE_UNMANAGED;
    bool closed = closed_for_reset(ep, mode);

    /* A backend that maps finds errors while its device is being realized. */
    if (!ep->iommu->ready && ep->backend_dma != NYX_BACKEND_DMA_MAPS) {
        return;
    }
    if (!translate) {
        /* Who leaves the region hears no more of it. */
        nyx_mirror_unmap(ep, 0, UINT64_MAX);
    }
    memory_region_transaction_begin();
    memory_region_set_enabled(&v->block,
                              mode == NYX_DMA_MODE_BLOCKED || closed);
    memory_region_set_enabled(&v->ram, pass);
    memory_region_set_enabled(&v->devices, pass && domain->peer_to_peer);
    memory_region_set_enabled(&v->system, unmanaged && !ep->stage1.as);
    if (ep->stage1.as) {
        memory_region_set_enabled(&v->stage1, unmanaged);
    }
    memory_region_set_enabled(MEMORY_REGION(&v->translate), translate);
    memory_region_set_enabled(&v->msi, pass || translate);
    /* QEMU cannot show one region of 2^64 bytes below another. */
    memory_region_set_enabled(&v->unmapped,
                              pass && !closed &&
                              !nyx_vfio_migration_is_all(ep));
    if (translate) {
        nyx_endpoint_need_peers(ep, domain);
    }
    memory_region_transaction_commit();
    ep->shown = mode;
    if (mode != old) {
        nyx_vfio_migration_view_changed(ep);
    }
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

    init_trap(&ep->trap, &ep->trap_as, owner, "nyx-trap");
    memory_region_init_iommu(&ep->gate, sizeof(ep->gate), TYPE_NYX_GATE, owner,
                             "nyx-gate", UINT64_MAX);
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

void nyx_endpoint_init_stage1_regions(NyxEndpoint *ep)
{
    NyxEndpointView *v = &ep->view;
    Object *owner = OBJECT(ep);

    init_trap(&ep->stage1_trap, &ep->stage1_trap_as, owner,
              "nyx-stage1-trap");
    memory_region_init_alias(&v->stage1, owner, "nyx-unmanaged",
                             ep->stage1.as->root, 0, UINT64_MAX);
    add_to_view(v, &v->stage1, VIEW_CONTENT, 0);
}

void nyx_endpoint_init_regions(NyxEndpoint *ep)
{
    nyx_endpoint_init_trap(ep);
    nyx_endpoint_init_view(ep);
    nyx_endpoint_init_peers(ep);
    address_space_init(&ep->as, &ep->view.root, "nyx-endpoint");
}
