/*
 * Nyx IOMMU: IOMMU groups of the host
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "backend.h"
#include "host-group.h"
#include "hw/pci/pci_device.h"
#include "iommu.h"
#include "qapi/error.h"

#define HOST_PCI_DEVICES    "/sys/bus/pci/devices/"

static char *string_property(PCIDevice *dev, const char *name)
{
    return object_property_find(OBJECT(dev), name)
           ? object_property_get_str(OBJECT(dev), name, NULL) : NULL;
}

/* Where the host shows the device; a path that does not exist if nowhere. */
static char *host_path(PCIDevice *dev)
{
    g_autofree char *sysfsdev = string_property(dev, "sysfsdev");
    g_autofree char *host = NULL;

    if (sysfsdev && *sysfsdev) {
        return g_steal_pointer(&sysfsdev);
    }
    host = string_property(dev, "host");
    return g_strconcat(HOST_PCI_DEVICES, host ?: "", NULL);
}

/* Name of the group, which is a number; NULL if not known. */
static char *host_group(PCIDevice *dev)
{
    g_autofree char *path = NULL;
    g_autofree char *link = NULL;
    g_autofree char *target = NULL;

    if (nyx_device_backend(dev) != NYX_BACKEND_VFIO) {
        return NULL;
    }
    path = host_path(dev);
    link = g_build_filename(path, "iommu_group", NULL);
    target = g_file_read_link(link, NULL);
    return target ? g_path_get_basename(target) : NULL;
}

/* Another function that is in use and in the same group of the host */
static NyxFunction *group_mate(NyxIommu *iommu, PCIDevice *dev,
                               const char *group)
{
    NyxEndpoint *ep;
    NyxFunction *fn;

    QTAILQ_FOREACH(ep, &iommu->endpoints, link) {
        QTAILQ_FOREACH(fn, &ep->functions, link) {
            g_autofree char *other = fn->dev == dev ? NULL
                                                    : host_group(fn->dev);

            if (!g_strcmp0(other, group)) {
                return fn;
            }
        }
    }
    return NULL;
}

static bool unmanaged(NyxDomain *domain)
{
    return domain && domain->isolation == NYX_ISOLATION_UNMANAGED;
}

bool nyx_host_group_check(NyxIommu *iommu, PCIDevice *dev, NyxDomain *domain,
                          Error **errp)
{
    g_autofree char *group = host_group(dev);
    g_autofree char *name = NULL;
    NyxFunction *mate = group ? group_mate(iommu, dev, group) : NULL;

    if (!mate) {
        return true;
    }
    name = nyx_function_name(mate);
    if (iommu->stage1 != NYX_STAGE1_NONE) {
        error_setg(errp, "it is in IOMMU group %s of the host like device "
                   "'%s', and with stage1=%s each device needs a group of its "
                   "own; use stage1=none, or leave one of them out", group,
                   name, NyxStage1_str(iommu->stage1));
        return false;
    }
    if (mate->endpoint->domain == domain ||
        (unmanaged(mate->endpoint->domain) && unmanaged(domain))) {
        return true;
    }
    error_setg(errp, "it is in IOMMU group %s of the host like device '%s', "
               "which is in domain '%s', and the host cannot tell them apart; "
               "put both into one domain with isolation=shared, or leave one "
               "of them out", group, name, mate->endpoint->domain->id);
    return false;
}
