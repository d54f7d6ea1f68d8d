/*
 * Nyx IOMMU: what the machine does with a device, or with the VM, on an error
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "containment.h"
#include "iommu.h"
#include "qapi/error.h"

/* What can be cut off, or NULL */
static NyxEndpoint *confined_endpoint(PCIDevice *dev, Error **errp)
{
    g_autofree char *name = nyx_iommu_device_name(dev);
    NyxFunction *fn = nyx_iommu_find_function(nyx_iommu_get(), name, errp);

    if (!fn || nyx_endpoint_bypassed(fn->endpoint, errp)) {
        return NULL;
    }
    if (nyx_is_bridge(dev)) {
        error_setg(errp, "device '%s' is a bridge or part of the chipset",
                   name);
        return NULL;
    }
    return fn->endpoint;
}

bool nyx_iommu_isolate_device(PCIDevice *dev, const char *reason,
                              Error **errp)
{
    NyxEndpoint *ep = confined_endpoint(dev, errp);

    if (!ep) {
        return false;
    }
    nyx_containment_quarantine(ep, reason);
    return true;
}

bool nyx_iommu_reset_device(PCIDevice *dev, const char *reason, Error **errp)
{
    NyxEndpoint *ep = confined_endpoint(dev, errp);

    return ep && nyx_containment_reset(ep, reason, errp);
}

bool nyx_iommu_restore_snapshot(NyxIommu *iommu, Error **errp)
{
    return nyx_restore_run(&iommu->restore, errp);
}

uint32_t nyx_iommu_restores(NyxIommu *iommu)
{
    return nyx_restore_count(&iommu->restore);
}
