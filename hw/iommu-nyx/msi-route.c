/*
 * Nyx IOMMU: what it has to say on KVM's routes for interrupt messages
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "hw/pci/pci.h"
#include "interrupt.h"
#include "interrupt-window.h"
#include "iommu.h"
#include "msi-route.h"
#include "nyx/include/hw/iommu-nyx/msi-route.h"
#include "system/kvm.h"
#include "target/i386/kvm/kvm_i386.h"
#include "trace.h"

/* NULL if there is no Nyx IOMMU or it does not know the device (yet). */
static NyxEndpoint *endpoint_of(PCIDevice *dev)
{
    return nyx_iommu_get() ? nyx_function_of(dev)->endpoint : NULL;
}

static NyxMsiVerdict judge_route(NyxEndpoint *ep, const MSIMessage *msg)
{
    bool unmanaged = nyx_endpoint_dma_mode(ep) == NYX_DMA_MODE_UNMANAGED;
    NyxMsiVerdict verdict;
    MSIMessage to;

    if (qatomic_read(&ep->blocked)) {
        return NYX_MSI_REFUSED;
    }
    if (msg->address < NYX_MSI_FIRST || msg->address > NYX_MSI_LAST) {
        verdict = NYX_MSI_REFUSED;
    } else {
        verdict = nyx_msi_judge(ep->iommu->stage1,
                                nyx_endpoint_requester_id(ep), msg, &to);
    }
    /* The filter is not for unmanaged devices; the guest's tables are. */
    return verdict == NYX_MSI_REFUSED && unmanaged ? NYX_MSI_DELIVER : verdict;
}

bool nyx_iommu_allows_msi(PCIDevice *dev, uint64_t address, uint32_t data)
{
    NyxEndpoint *ep = endpoint_of(dev);
    MSIMessage msg = { .address = address, .data = data };

    if (!ep || judge_route(ep, &msg) == NYX_MSI_DELIVER) {
        return true;
    }
    /*
     * A route is no interrupt yet, so this is no fault; and no refusal of a
     * message if the guest has not put one into the vector yet.
     */
    if (address) {
        qatomic_inc(&ep->msi_refused);
        trace_nyx_msi_route_refuse(nyx_endpoint_requester_id(ep), address,
                                   data);
    }
    return false;
}

void nyx_msi_routes_refresh(void)
{
#ifdef CONFIG_KVM
    if (kvm_irqchip_in_kernel() && kvm_gsi_routing_enabled()) {
        kvm_update_msi_routes_all(NULL, true, 0, 0);
    }
#endif
}
