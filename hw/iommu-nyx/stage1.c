/*
 * Nyx IOMMU: the IOMMU that the guest sees, in front of ours
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "hw/pci/pci_bridge.h"
#include "hw/pci/pci_bus.h"
#include "bus-ops.h"
#include "endpoint.h"
#include "iommu.h"
#include "mirror.h"
#include "qapi/error.h"
#include "qemu/error-report.h"
#include "qemu/main-loop.h"
#include "stage1.h"
#include "trace.h"

/* What stage 1 tells us */

static void stage1_notify(IOMMUNotifier *n, IOMMUTLBEntry *entry)
{
    NyxEndpoint *ep = container_of(n, NyxEndpoint, stage1.unmapped);
    uint64_t first = entry->iova;
    uint64_t last = entry->iova + entry->addr_mask;

    if ((entry->perm & IOMMU_RW) != IOMMU_NONE) {
        nyx_mirror_map(ep, entry);
        return;
    }
    /* Not from a model that walks its tables to tell of what is gone. */
    if (ep->iommu->stage1_model.first_stage &&
        !(n->notifier_flags & IOMMU_NOTIFIER_MAP)) {
        first = 0;
        last = UINT64_MAX;
    }
    trace_nyx_stage1_unmap(nyx_endpoint_requester_id(ep), first, last);
    if (ep->domain && ep->domain->batch_invalidation) {
        nyx_shadow_defer(&ep->stage1.shadow, first, last);
    } else {
        nyx_shadow_forget(&ep->stage1.shadow, first, last);
    }
    nyx_mirror_unmap(ep, first, last);
}

/* A device's own cache (ATS) is to forget: that is for backends to know. */
static void stage1_notify_device_iotlb(IOMMUNotifier *n, IOMMUTLBEntry *entry)
{
    NyxEndpoint *ep = container_of(n, NyxEndpoint, stage1.device_iotlb);

    nyx_mirror_unmap(ep, entry->iova, entry->iova + entry->addr_mask);
}

static void stop_listening(NyxStage1Link *s)
{
    if (s->notifies) {
        memory_region_unregister_iommu_notifier(MEMORY_REGION(s->mr),
                                                &s->unmapped);
        qatomic_set(&s->notifies, false);
    }
    if (s->notifies_device_iotlb) {
        memory_region_unregister_iommu_notifier(MEMORY_REGION(s->mr),
                                                &s->device_iotlb);
        s->notifies_device_iotlb = false;
    }
}

/*
 * AMD-Vi counts the pages of a notifier's range in 64 bits, so it must neither
 * be all of them nor end within one.
 */
#define LAST_ADDRESS    ((HWADDR_MAX & ~(NYX_PAGE_SIZE - 1)) - 1)

static bool start_listening(NyxStage1Link *s, IOMMUMemoryRegion *mr,
                            IOMMUNotifierFlag flags, Error **errp)
{
    iommu_notifier_init(&s->unmapped, stage1_notify,
                        IOMMU_NOTIFIER_UNMAP | (flags & IOMMU_NOTIFIER_MAP),
                        0, LAST_ADDRESS, 0);
    if (memory_region_register_iommu_notifier(MEMORY_REGION(mr), &s->unmapped,
                                              errp)) {
        return false;
    }
    /* What DMA found before may have gone without a word: it is not kept. */
    nyx_shadow_forget_all(&s->shadow);
    qatomic_store_release(&s->notifies, true);
    if (flags & IOMMU_NOTIFIER_DEVIOTLB_UNMAP) {
        /* If there is none, its plain invalidations have to do. */
        iommu_notifier_init(&s->device_iotlb, stage1_notify_device_iotlb,
                            IOMMU_NOTIFIER_DEVIOTLB_UNMAP, 0, LAST_ADDRESS, 0);
        s->notifies_device_iotlb =
            !memory_region_register_iommu_notifier(MEMORY_REGION(mr),
                                                   &s->device_iotlb, NULL);
    }
    return true;
}

/*
 * The first DMA that asks stage 1 has the endpoint listen from then on: to tell
 * an endpoint of each invalidation costs VT-d some 70 ns, as it looks for its
 * domain in the guest's tables, and ports and most of the chipset never do DMA.
 */
static void listen_bh(void *opaque)
{
    NyxEndpoint *ep = opaque;
    NyxStage1Link *s = &ep->stage1;

    if (s->mr && !s->notifies) {
        start_listening(s, s->mr, IOMMU_NOTIFIER_NONE, NULL);
    }
    object_unref(ep);
}

void nyx_stage1_keep(NyxEndpoint *ep, uint64_t generation, hwaddr iova,
                     const NyxTranslation *t)
{
    NyxStage1Link *s = &ep->stage1;

    if (likely(qatomic_load_acquire(&s->notifies))) {
        nyx_shadow_fill(&s->shadow, generation, iova, t);
    } else if (!qatomic_read(&s->asked) && !qatomic_xchg(&s->asked, true)) {
        aio_bh_schedule_oneshot(qemu_get_aio_context(), listen_bh,
                                object_ref(ep));
    }
}

bool nyx_stage1_listen(NyxEndpoint *ep, IOMMUNotifierFlag flags, Error **errp)
{
    NyxStage1Link *s = &ep->stage1;
    ERRP_GUARD();

    if (!s->mr) {
        return true;
    }
    stop_listening(s);
    if (start_listening(s, s->mr, flags, errp)) {
        return true;
    }
    /* As before: without what it cannot tell of. */
    start_listening(s, s->mr, IOMMU_NOTIFIER_NONE, NULL);
    return false;
}

void nyx_stage1_replay(NyxEndpoint *ep)
{
    NyxStage1Link *s = &ep->stage1;

    if (s->notifies && (s->unmapped.notifier_flags & IOMMU_NOTIFIER_MAP)) {
        memory_region_iommu_replay(s->mr, &s->unmapped);
    }
}

/* On and off */

static void begin_translation(NyxEndpoint *ep, IOMMUMemoryRegion *mr)
{
    NyxStage1Link *s = &ep->stage1;
    IOMMUNotifierFlag wanted = nyx_mirror_flags(ep);
    Error *local_err = NULL;

    assert(!memory_region_iommu_attrs_to_index(mr, MEMTXATTRS_UNSPECIFIED));
    if (wanted && !start_listening(s, mr, wanted, &local_err)) {
        error_reportf_err(local_err, "nyx-iommu: stage 1 cannot tell the "
                          "device's backend of its mappings: ");
    }
    nyx_shadow_forget_all(&s->shadow);
    qatomic_set(&s->asked, false);
    qatomic_rcu_set(&s->mr, mr);
    nyx_endpoint_update_cached(ep);
    nyx_endpoint_update_view(ep);
}

static void end_translation(NyxEndpoint *ep)
{
    NyxStage1Link *s = &ep->stage1;

    stop_listening(s);
    qatomic_rcu_set(&s->mr, NULL);
    nyx_endpoint_update_cached(ep);
    nyx_shadow_forget_all(&s->shadow);
    nyx_endpoint_update_view(ep);
}

static void stage1_region_add(MemoryListener *listener,
                              MemoryRegionSection *section)
{
    NyxStage1Link *s = container_of(listener, NyxStage1Link, listener);

    if (memory_region_is_iommu(section->mr)) {
        s->seen = IOMMU_MEMORY_REGION(section->mr);
    }
}

/* The region is split by others of the model; all parts come and go at once. */
static void stage1_region_del(MemoryListener *listener,
                              MemoryRegionSection *section)
{
    NyxStage1Link *s = container_of(listener, NyxStage1Link, listener);

    if (memory_region_is_iommu(section->mr)) {
        s->seen = NULL;
    }
}

/*
 * After all other listeners: what follows changes the memory map once more, and
 * so calls them anew.
 */
static void stage1_commit(MemoryListener *listener)
{
    NyxEndpoint *ep = container_of(listener, NyxEndpoint, stage1.listener);
    NyxStage1Link *s = &ep->stage1;

    if (s->seen == s->mr) {
        return;
    }
    trace_nyx_stage1_switch(nyx_endpoint_requester_id(ep), !!s->seen);
    if (s->mr) {
        end_translation(ep);
    }
    /* The change of the view has called us anew. */
    if (s->seen != s->mr) {
        begin_translation(ep, s->seen);
    }
    nyx_mirror_sync(ep, 0, UINT64_MAX);
}

/* Endpoints */

static bool is_model(NyxEndpoint *ep, DeviceState *dev)
{
    return object_dynamic_cast(OBJECT(dev), TYPE_PCI_DEVICE) &&
           pci_get_bus(PCI_DEVICE(dev)) == ep->bus &&
           PCI_DEVICE(dev)->devfn == ep->devfn;
}

void nyx_stage1_link(NyxEndpoint *ep)
{
    const NyxStage1Model *model = &ep->iommu->stage1_model;
    NyxStage1Link *s = &ep->stage1;

    if (!model->dev || !ep->bus || is_model(ep, model->dev)) {
        return;
    }
    s->as = model->ops->get_address_space(ep->bus, model->opaque, ep->devfn);
    nyx_shadow_init(&s->shadow);
    nyx_endpoint_init_stage1_regions(ep);
    s->listener = (MemoryListener) {
        .name = "nyx-stage1",
        .priority = MEMORY_LISTENER_PRIORITY_DEV_BACKEND + 1,
        .region_add = stage1_region_add,
        .region_del = stage1_region_del,
        .commit = stage1_commit,
    };
    memory_listener_register(&s->listener, s->as);
    nyx_endpoint_update_view(ep);
}

void nyx_stage1_unlink(NyxEndpoint *ep)
{
    NyxStage1Link *s = &ep->stage1;

    if (s->as) {
        memory_listener_unregister(&s->listener);
        stop_listening(s);
        qatomic_rcu_set(&s->mr, NULL);
    }
}

/* Bridges that go */

/* Of buses that are gone: numbers are given from the other end. */
#define GONE_BUS_NUMBER     0xff

void nyx_stage1_bridge_gone(NyxIommu *iommu, PCIDevice *dev)
{
    static uint8_t config[PCI_CONFIG_HEADER_SIZE] = {
        [PCI_SECONDARY_BUS] = GONE_BUS_NUMBER,
    };
    static PCIDevice gone = { .config = config };
    static GSList *kept;        /* so that leak checkers find them */

    if (iommu->stage1_model.dev &&
        object_dynamic_cast(OBJECT(dev), TYPE_PCI_BRIDGE)) {
        pci_bridge_get_sec_bus(PCI_BRIDGE(dev))->parent_dev = &gone;
        OBJECT(dev)->free = NULL;
        kept = g_slist_prepend(kept, dev);
    }
}

bool nyx_iommu_attach_stage1(NyxIommu *iommu, DeviceState *model, Error **errp)
{
    NyxEndpoint *ep;

    if (!iommu->bus || iommu->bus->iommu_opaque == iommu) {
        error_setg(errp, "%s does not serve the root bus of nyx-pc",
                   object_get_typename(OBJECT(model)));
        return false;
    }
    iommu->stage1_model = (NyxStage1Model) {
        .dev = model,
        .ops = iommu->bus->iommu_ops,
        .opaque = iommu->bus->iommu_opaque,
        .first_stage = object_property_find(OBJECT(model), "fsts") &&
                      object_property_get_bool(OBJECT(model), "fsts", NULL),
    };
    nyx_bus_serve(iommu);
    QTAILQ_FOREACH(ep, &iommu->endpoints, link) {
        nyx_stage1_link(ep);
    }
    return true;
}
