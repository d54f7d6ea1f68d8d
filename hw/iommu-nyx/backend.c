/*
 * Nyx IOMMU: what stands behind a device, and what follows for its domain
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "backend.h"
#include "endpoint.h"
#include "host-group.h"
#include "hw/pci/pci.h"
#include "hw/pci/pci_bus.h"
#include "hw/virtio/virtio-pci.h"
#include "iommu.h"
#include "net/net.h"
#include "net/vhost_net.h"
#include "qapi/error.h"
#include "vfio-user-guard.h"

/* Other models do not use the vhost that a netdev may have. */
static NyxBackend netdev_backend(PCIDevice *dev)
{
    g_autofree char *id = NULL;
    NetClientState *nc;

    if (!object_dynamic_cast(OBJECT(dev), TYPE_VIRTIO_PCI) ||
        !object_property_find(OBJECT(dev), "netdev")) {
        return NYX_BACKEND_EMULATED;
    }
    id = object_property_get_str(OBJECT(dev), "netdev", NULL);
    nc = id && *id ? qemu_find_netdev(id) : NULL;
    if (!nc) {
        return NYX_BACKEND_EMULATED;
    }
    if (nc->info->type == NET_CLIENT_DRIVER_VHOST_USER) {
        return NYX_BACKEND_VHOST_USER;
    }
    if (!get_vhost_net(nc)) {
        return NYX_BACKEND_EMULATED;
    }
    /* In passt's case it is passt that is on the other side. */
    return nc->info->type == NET_CLIENT_DRIVER_TAP ||
           nc->info->type == NET_CLIENT_DRIVER_VHOST_VDPA
           ? NYX_BACKEND_VHOST : NYX_BACKEND_VHOST_USER;
}

static NyxBackend cryptodev_backend(PCIDevice *dev)
{
    Object *backend;

    if (!object_property_find(OBJECT(dev), "cryptodev")) {
        return NYX_BACKEND_EMULATED;
    }
    backend = object_property_get_link(OBJECT(dev), "cryptodev", NULL);
    return backend && g_str_equal(object_get_typename(backend),
                                  "cryptodev-vhost-user")
           ? NYX_BACKEND_VHOST_USER : NYX_BACKEND_EMULATED;
}

/* By type, as QEMU builds without the one or the other. */
static NyxBackend type_backend(PCIDevice *dev)
{
    static const struct {
        const char *prefix;
        NyxBackend backend;
    } types[] = {
        { "vfio-user-", NYX_BACKEND_VFIO_USER },
        { "vfio-", NYX_BACKEND_VFIO },
        { "x-pci-proxy-", NYX_BACKEND_PROXY },
        { "vhost-user-", NYX_BACKEND_VHOST_USER },
        { "vhost-", NYX_BACKEND_VHOST },
    };
    const char *type = object_get_typename(OBJECT(dev));

    for (int i = 0; i < ARRAY_SIZE(types); i++) {
        if (g_str_has_prefix(type, types[i].prefix)) {
            return types[i].backend;
        }
    }
    return NYX_BACKEND_EMULATED;
}

NyxBackend nyx_device_backend(PCIDevice *dev)
{
    NyxBackend backend = type_backend(dev);

    if (backend == NYX_BACKEND_EMULATED) {
        backend = netdev_backend(dev);
    }
    if (backend == NYX_BACKEND_EMULATED) {
        backend = cryptodev_backend(dev);
    }
    return backend;
}

/* It maps all RAM into its hardware when it is realized, whatever comes. */
static bool is_vdpa(PCIDevice *dev)
{
    g_autofree char *id = NULL;
    NetClientState *nc;

    if (g_str_has_prefix(object_get_typename(OBJECT(dev)), "vhost-vdpa-")) {
        return true;
    }
    if (!object_property_find(OBJECT(dev), "netdev")) {
        return false;
    }
    id = object_property_get_str(OBJECT(dev), "netdev", NULL);
    nc = id && *id ? qemu_find_netdev(id) : NULL;
    return nc && nc->info->type == NET_CLIENT_DRIVER_VHOST_VDPA;
}

/* Virtio: does it have its memory from the IOMMU, or directly? */
static bool iommu_platform(PCIDevice *dev)
{
    return !object_dynamic_cast(OBJECT(dev), TYPE_VIRTIO_PCI) ||
           object_property_get_bool(OBJECT(dev), "iommu_platform", NULL);
}

/*
 * Is it the backend that works on all queues of the device?  Not with a netdev
 * or a cryptodev: there QEMU serves the control queue.
 */
static bool backend_owns_queues(PCIDevice *dev)
{
    NyxBackend backend = type_backend(dev);

    return (backend == NYX_BACKEND_VHOST_USER ||
            backend == NYX_BACKEND_VHOST) && !is_vdpa(dev);
}

NyxBackendDma nyx_backend_dma(PCIDevice *dev)
{
    switch (nyx_device_backend(dev)) {
    case NYX_BACKEND_VHOST:
    case NYX_BACKEND_VHOST_USER:
        if (is_vdpa(dev)) {
            return NYX_BACKEND_DMA_MAPS;
        }
        return iommu_platform(dev) ? NYX_BACKEND_DMA_CACHES
                                   : NYX_BACKEND_DMA_ALL_RAM;
    case NYX_BACKEND_VFIO:
    case NYX_BACKEND_VFIO_USER:
        return NYX_BACKEND_DMA_MAPS;
    case NYX_BACKEND_PROXY:
        return NYX_BACKEND_DMA_ALL_RAM;
    default:
        return NYX_BACKEND_DMA_LOCAL;
    }
}

const char *nyx_device_bypasses(PCIDevice *dev)
{
    if (pci_bus_bypass_iommu(pci_get_bus(dev))) {
        return "its bus has bypass_iommu=on";
    }
    if (nyx_device_backend(dev) == NYX_BACKEND_PROXY) {
        return "the process behind x-pci-proxy-dev maps all guest memory by "
               "itself";
    }
    if (is_vdpa(dev)) {
        return "a vhost-vdpa backend maps all guest memory when it starts";
    }
    if (!iommu_platform(dev) && !backend_owns_queues(dev)) {
        return "a virtio device with iommu_platform=off accesses memory "
               "directly";
    }
    return NULL;
}

/* A backend that has all RAM: it is confined if it may have just that. */
static bool all_ram_can_join(PCIDevice *dev, NyxDomain *domain, Error **errp)
{
    const char *backend = NyxBackend_str(nyx_device_backend(dev));
    NyxStage1 stage1 = nyx_iommu_get()->stage1;

    if (domain && nyx_domain_translates(domain)) {
        error_setg(errp, "with iommu_platform=off its %s backend has all guest "
                   "RAM, and domain '%s' does not allow that; use "
                   "iommu_platform=on with a backend that can translate, or "
                   "a domain with default-map=ram without nyx-map and "
                   "nyx-unmap", backend, domain->id);
        return false;
    }
    if (stage1 != NYX_STAGE1_NONE) {
        error_setg(errp, "with iommu_platform=off its %s backend does not see "
                   "the guest's IOMMU (stage1=%s); use iommu_platform=on with "
                   "a backend that can translate, stage1=none, or a domain "
                   "with isolation=unmanaged", backend, NyxStage1_str(stage1));
        return false;
    }
    return true;
}

/* contained=on: no process but QEMU's own gets at guest RAM by itself. */
static bool contained_can_join(PCIDevice *dev, NyxDomain *domain, Error **errp)
{
    NyxBackend backend = nyx_device_backend(dev);

    switch (backend) {
    case NYX_BACKEND_EMULATED:
    case NYX_BACKEND_VFIO:
        return true;
    case NYX_BACKEND_VFIO_USER:
        if (nyx_vfio_user_shares_ram(dev)) {
            error_setg(errp, "domain '%s' is contained, and its vfio-user "
                       "server has got descriptors of guest RAM already; "
                       "remove the device and add it anew to that domain",
                       domain->id);
            return false;
        }
        return true;
    default:
        error_setg(errp, "domain '%s' is contained, and its %s backend cannot "
                   "work without guest RAM of its own; use an emulated or a "
                   "vfio-user device, or a domain with contained=off",
                   domain->id, NyxBackend_str(backend));
        return false;
    }
}

/* VT-d tells of what the guest maps only if the guest has to tell VT-d. */
static bool hears_of_mappings(PCIDevice *dev, Error **errp)
{
    DeviceState *model = nyx_iommu_get()->stage1_model.dev;

    if (nyx_backend_dma(dev) != NYX_BACKEND_DMA_MAPS || !model ||
        !object_property_find(OBJECT(model), "caching-mode") ||
        object_property_get_bool(OBJECT(model), "caching-mode", NULL)) {
        return true;
    }
    error_setg(errp, "its %s backend has to hear of what the guest maps; leave "
               "out stage1.caching-mode=off",
               NyxBackend_str(nyx_device_backend(dev)));
    return false;
}

bool nyx_backend_can_join(PCIDevice *dev, NyxDomain *domain, Error **errp)
{
    NyxIsolation isolation = domain ? domain->isolation
                                    : nyx_iommu_get()->default_isolation;
    const char *why;

    if (!nyx_host_group_check(nyx_iommu_get(), dev, domain, errp)) {
        return false;
    }
    if (!hears_of_mappings(dev, errp)) {
        return false;
    }
    if (isolation == NYX_ISOLATION_UNMANAGED) {
        return true;
    }
    why = nyx_device_bypasses(dev);
    if (why) {
        error_setg(errp, "it would bypass the IOMMU, as %s; if it must be so, "
                   "put it into a domain with isolation=unmanaged", why);
        return false;
    }
    if (domain && domain->contained &&
        !contained_can_join(dev, domain, errp)) {
        return false;
    }
    return nyx_backend_dma(dev) != NYX_BACKEND_DMA_ALL_RAM ||
           all_ram_can_join(dev, domain, errp);
}

bool nyx_backend_allows_table(NyxDomain *domain, Error **errp)
{
    NyxEndpoint *ep;
    NyxFunction *fn;

    QTAILQ_FOREACH(ep, &domain->endpoints, domain_link) {
        QTAILQ_FOREACH(fn, &ep->functions, link) {
            if (nyx_backend_dma(fn->dev) == NYX_BACKEND_DMA_ALL_RAM) {
                g_autofree char *name = nyx_function_name(fn);

                error_setg(errp, "domain '%s' must keep allowing all RAM, as "
                           "the %s backend of device '%s' has it all "
                           "(iommu_platform=off); move the device to another "
                           "domain first, or use a backend that can translate "
                           "with iommu_platform=on", domain->id,
                           NyxBackend_str(nyx_device_backend(fn->dev)), name);
                return false;
            }
        }
    }
    return true;
}
