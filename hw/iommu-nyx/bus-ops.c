/*
 * Nyx IOMMU: what it does for a PCI bus
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "bus-ops.h"
#include "hw/core/iommu.h"
#include "hw/pci/pci_bus.h"
#include "qapi/error.h"
#include "qemu/rcu.h"
#include "system/address-spaces.h"
#include "translate.h"

static const NyxStage1Model *stage1_model(void *opaque)
{
    return &NYX_IOMMU(opaque)->stage1_model;
}

static AddressSpace *nyx_bus_address_space(PCIBus *bus, void *opaque, int devfn)
{
    NyxEndpoint *ep = nyx_iommu_claim_endpoint(NYX_IOMMU(opaque), bus, devfn);
    NyxDomain *container = nyx_iommu_claim_container(NYX_IOMMU(opaque));

    if (!container) {
        return &ep->as;
    }
    /* QEMU lets a VFIO device migrate only with an address space of its own. */
    return container->isolation == NYX_ISOLATION_UNMANAGED
           ? &address_space_memory : &nyx_domain_common_endpoint(container)->as;
}

/* The host's IOMMU, for stage 1 to compare with what it promises the guest */

static bool nyx_bus_set_iommu_device(PCIBus *bus, void *opaque, int devfn,
                                     HostIOMMUDevice *dev, Error **errp)
{
    const NyxStage1Model *s = stage1_model(opaque);

    if (s->dev && s->first_stage) {
        error_setg(errp, "behind first-stage tables (stage1.fsts=on) VFIO "
                   "would need the host's IOMMU to walk the guest's tables, "
                   "past the windows of its domain: not supported; use "
                   "fsts=off");
        return false;
    }
    return !s->dev || !s->ops->set_iommu_device ||
           s->ops->set_iommu_device(bus, s->opaque, devfn, dev, errp);
}

static void nyx_bus_unset_iommu_device(PCIBus *bus, void *opaque, int devfn)
{
    const NyxStage1Model *s = stage1_model(opaque);

    if (s->dev && s->ops->unset_iommu_device) {
        s->ops->unset_iommu_device(bus, s->opaque, devfn);
    }
}

/* No nesting, as above. */
static uint64_t nyx_bus_get_viommu_flags(void *opaque)
{
    const NyxStage1Model *s = stage1_model(opaque);

    return s->dev && s->ops->get_viommu_flags
           ? s->ops->get_viommu_flags(s->opaque) &
             ~(VIOMMU_FLAG_WANT_NESTING_PARENT |
               VIOMMU_FLAG_WANT_NESTING_DIRTY_TRACKING |
               VIOMMU_FLAG_WANT_PASID_ATTACH) : 0;
}

/* PCIe Base 6.0, chapter 10: address translation services */

static void nyx_bus_get_iotlb_info(void *opaque, uint8_t *addr_width,
                                   uint32_t *min_page_size)
{
    const NyxStage1Model *s = stage1_model(opaque);

    *addr_width = NYX_IOVA_BITS;
    *min_page_size = NYX_PAGE_SIZE;
    if (s->dev && s->ops->get_iotlb_info) {
        s->ops->get_iotlb_info(s->opaque, addr_width, min_page_size);
    }
}

static void nyx_bus_init_iotlb_notifier(PCIBus *bus, void *opaque, int devfn,
                                        IOMMUNotifier *n, IOMMUNotify fn,
                                        void *user_opaque)
{
    const NyxStage1Model *s = stage1_model(opaque);

    if (s->dev && s->ops->init_iotlb_notifier) {
        s->ops->init_iotlb_notifier(bus, s->opaque, devfn, n, fn, user_opaque);
    }
}

static void nyx_bus_register_iotlb_notifier(PCIBus *bus, void *opaque,
                                            int devfn, uint32_t pasid,
                                            IOMMUNotifier *n)
{
    const NyxStage1Model *s = stage1_model(opaque);

    if (s->dev && s->ops->register_iotlb_notifier) {
        s->ops->register_iotlb_notifier(bus, s->opaque, devfn, pasid, n);
    }
}

static void nyx_bus_unregister_iotlb_notifier(PCIBus *bus, void *opaque,
                                              int devfn, uint32_t pasid,
                                              IOMMUNotifier *n)
{
    const NyxStage1Model *s = stage1_model(opaque);

    if (s->dev && s->ops->unregister_iotlb_notifier) {
        s->ops->unregister_iotlb_notifier(bus, s->opaque, devfn, pasid, n);
    }
}

/*
 * Cut one translation of stage 1 to the part around @addr that one mapping of
 * stage 2 continues.  The address stays stage 1's, so that a translated request
 * with it comes to stage 2 as any other does.
 */
static void cut_translation(NyxEndpoint *ep, hwaddr addr, IOMMUTLBEntry *entry)
{
    hwaddr address = (entry->translated_addr & ~entry->addr_mask) |
                     (addr & entry->addr_mask);
    NyxDomain *domain = ep->domain;
    NyxTranslation t = { .mask = NYX_PAGE_SIZE - 1 };

    if (domain && domain->isolation == NYX_ISOLATION_UNMANAGED) {
        return;
    }
    if (domain && !qatomic_read(&ep->blocked)) {
        RCU_READ_LOCK_GUARD();
        nyx_endpoint_stage2(ep, domain, address, &t);
    }
    entry->addr_mask = MIN(entry->addr_mask, t.mask);
    entry->iova = addr & ~entry->addr_mask;
    entry->translated_addr = address & ~entry->addr_mask;
    entry->perm &= t.perm | ~(IOMMUAccessFlags)IOMMU_RW;
    if (!(entry->perm & IOMMU_RW)) {
        entry->perm = IOMMU_NONE;
    }
}

/* One by one: stage 2 may have smaller pages than stage 1. */
static ssize_t nyx_bus_ats_request(PCIBus *bus, void *opaque, int devfn,
                                   uint32_t pasid, bool priv_req, bool exec_req,
                                   hwaddr addr, size_t length, bool no_write,
                                   IOMMUTLBEntry *result, size_t result_length,
                                   uint32_t *err_count)
{
    NyxEndpoint *ep = nyx_iommu_claim_endpoint(NYX_IOMMU(opaque), bus, devfn);
    const NyxStage1Model *s = stage1_model(opaque);
    IOMMUAccessFlags wanted = no_write ? IOMMU_RO : IOMMU_RW;
    hwaddr end = addr + length;
    ssize_t n;

    *err_count = 0;
    if (!s->dev || !s->ops->ats_request_translation) {
        return -ENODEV;
    }
    for (n = 0; addr < end; n++) {
        uint32_t errors;

        if (n == result_length) {
            return -ENOMEM;
        }
        if (s->ops->ats_request_translation(bus, s->opaque, devfn, pasid,
                                            priv_req, exec_req, addr, 1,
                                            no_write, &result[n], 1,
                                            &errors) < 0) {
            return -ENOMEM;
        }
        cut_translation(ep, addr, &result[n]);
        *err_count += errors || (result[n].perm & wanted) != wanted;
        if ((addr | result[n].addr_mask) == HWADDR_MAX) {
            return n + 1;
        }
        addr = (addr | result[n].addr_mask) + 1;
    }
    return n;
}

/* PCIe Base 6.0, section 10.4: page requests */

static void nyx_bus_pri_register(PCIBus *bus, void *opaque, int devfn,
                                 uint32_t pasid, IOMMUPRINotifier *notifier)
{
    const NyxStage1Model *s = stage1_model(opaque);

    if (s->dev && s->ops->pri_register_notifier) {
        s->ops->pri_register_notifier(bus, s->opaque, devfn, pasid, notifier);
    }
}

static void nyx_bus_pri_unregister(PCIBus *bus, void *opaque, int devfn,
                                   uint32_t pasid)
{
    const NyxStage1Model *s = stage1_model(opaque);

    if (s->dev && s->ops->pri_unregister_notifier) {
        s->ops->pri_unregister_notifier(bus, s->opaque, devfn, pasid);
    }
}

/* A device that is cut off asks for nothing. */
static int nyx_bus_pri_request(PCIBus *bus, void *opaque, int devfn,
                               uint32_t pasid, bool priv_req, bool exec_req,
                               hwaddr addr, bool lpig, uint16_t prgi,
                               bool is_read, bool is_write)
{
    NyxEndpoint *ep = nyx_iommu_claim_endpoint(NYX_IOMMU(opaque), bus, devfn);
    const NyxStage1Model *s = stage1_model(opaque);

    if (!s->dev || !s->ops->pri_request_page) {
        return -ENODEV;
    }
    if (qatomic_read(&ep->blocked)) {
        nyx_endpoint_fault(ep, NYX_FAULT_TYPE_BLOCKED,
                           is_write ? NYX_ACCESS_W : NYX_ACCESS_R, addr, 1,
                           false);
        return -EPERM;
    }
    return s->ops->pri_request_page(bus, s->opaque, devfn, pasid, priv_req,
                                    exec_req, addr, lpig, prgi, is_read,
                                    is_write);
}

static const PCIIOMMUOps nyx_bus_ops = {
    .get_address_space = nyx_bus_address_space,
    .set_iommu_device = nyx_bus_set_iommu_device,
    .unset_iommu_device = nyx_bus_unset_iommu_device,
    .get_viommu_flags = nyx_bus_get_viommu_flags,
    .get_iotlb_info = nyx_bus_get_iotlb_info,
    .init_iotlb_notifier = nyx_bus_init_iotlb_notifier,
    .register_iotlb_notifier = nyx_bus_register_iotlb_notifier,
    .unregister_iotlb_notifier = nyx_bus_unregister_iotlb_notifier,
    .ats_request_translation = nyx_bus_ats_request,
    .pri_register_notifier = nyx_bus_pri_register,
    .pri_unregister_notifier = nyx_bus_pri_unregister,
    .pri_request_page = nyx_bus_pri_request,
};

void nyx_bus_serve(NyxIommu *iommu)
{
    pci_setup_iommu(iommu->bus, &nyx_bus_ops, iommu);
}
