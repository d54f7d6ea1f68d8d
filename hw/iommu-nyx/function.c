/*
 * Nyx IOMMU: one PCI function and what it asked for
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "block/block_int.h"
#include "function.h"
#include "hw/pci/pci.h"
#include "hw/pci/pci_bus.h"
#include "iommu.h"
#include "qapi/error.h"
#include "qemu/module.h"
#include "system/block-backend.h"

#define NYX_FUNCTION_CHILD "nyx"

NyxFunction *nyx_function_of(PCIDevice *dev)
{
    Object *obj = object_resolve_path_component(OBJECT(dev),
                                                NYX_FUNCTION_CHILD);

    if (!obj) {
        obj = object_new(TYPE_NYX_FUNCTION);
        NYX_FUNCTION(obj)->dev = dev;
        object_property_add_child(OBJECT(dev), NYX_FUNCTION_CHILD, obj);
        object_unref(obj);
    }
    return NYX_FUNCTION(obj);
}

NyxQuarantine *nyx_quarantine_of(PCIDevice *dev)
{
    return &nyx_function_of(dev)->quarantine;
}

char *nyx_function_name(NyxFunction *fn)
{
    DeviceState *dev = DEVICE(fn->dev);

    return dev->id ? g_strdup(dev->id) : object_get_canonical_path(OBJECT(dev));
}

char *nyx_function_bdf(NyxFunction *fn)
{
    PCIDevice *dev = fn->dev;

    return g_strdup_printf("0000:%02x:%02x.%x", pci_dev_bus_num(dev),
                           PCI_SLOT(dev->devfn), PCI_FUNC(dev->devfn));
}

static bool is_behind(DeviceState *dev, DeviceState *ancestor)
{
    while (dev && dev != ancestor) {
        dev = dev->parent_bus ? dev->parent_bus->parent : NULL;
    }
    return dev;
}

/* The next backend after @blk (NULL: the first) of a device behind @fn */
static BlockBackend *next_backend(NyxFunction *fn, BlockBackend *blk)
{
    while ((blk = blk_all_next(blk))) {
        DeviceState *dev = blk_get_attached_dev(blk);

        if (dev && is_behind(dev, DEVICE(fn->dev))) {
            return blk;
        }
    }
    return NULL;
}

bool nyx_function_io_under_way(NyxFunction *fn)
{
    BlockBackend *blk = NULL;

    while ((blk = next_backend(fn, blk))) {
        if (blk_bs(blk) && qatomic_read(&blk_bs(blk)->in_flight)) {
            return true;
        }
    }
    return false;
}

void nyx_function_drain_io(NyxFunction *fn)
{
    BlockBackend *blk = NULL;

    while ((blk = next_backend(fn, blk))) {
        blk_drain(blk);
    }
}

/*
 * With its device.  One whose realize failed at the end, after it had been
 * announced as realized, is not announced as unrealized.
 */
static void nyx_function_unparent(Object *obj)
{
    nyx_iommu_forget_function(NYX_FUNCTION(obj));
}

static void nyx_function_finalize(Object *obj)
{
    g_free(NYX_FUNCTION(obj)->wanted_domain);
}

static void nyx_function_class_init(ObjectClass *oc, const void *data)
{
    oc->unparent = nyx_function_unparent;
}

static const TypeInfo nyx_function_info = {
    .name = TYPE_NYX_FUNCTION,
    .parent = TYPE_OBJECT,
    .instance_size = sizeof(NyxFunction),
    .instance_finalize = nyx_function_finalize,
    .class_init = nyx_function_class_init,
};

static void nyx_function_register_types(void)
{
    type_register_static(&nyx_function_info);
}

type_init(nyx_function_register_types)

/* The property nyx-domain of PCI devices. */

static char *nyx_get_device_domain(Object *obj, Error **errp)
{
    NyxFunction *fn;

    /* Looking at a device must not change it. */
    obj = object_resolve_path_component(obj, NYX_FUNCTION_CHILD);
    if (!obj) {
        return g_strdup("");
    }
    fn = NYX_FUNCTION(obj);
    return g_strdup(fn->wanted_domain ?: "");
}

static void nyx_set_device_domain(Object *obj, const char *value, Error **errp)
{
    NyxFunction *fn;

    if (!nyx_iommu_get()) {
        error_setg(errp, "nyx-domain needs a machine with a Nyx IOMMU; use "
                   "-M nyx-pc");
        return;
    }
    if (DEVICE(obj)->realized) {
        error_setg(errp, "nyx-domain cannot change on a device in use; use "
                   "nyx-assign-device");
        return;
    }
    fn = nyx_function_of(PCI_DEVICE(obj));
    g_free(fn->wanted_domain);
    fn->wanted_domain = *value ? g_strdup(value) : NULL;
}

void nyx_iommu_add_device_property(void)
{
    ObjectClass *oc = object_class_by_name(TYPE_PCI_DEVICE);

    if (object_class_property_find(oc, "nyx-domain")) {
        return;
    }
    object_class_property_add_str(oc, "nyx-domain", nyx_get_device_domain,
                                  nyx_set_device_domain);
    object_class_property_set_description(oc, "nyx-domain",
        "Isolation domain to join (id of a nyx-domain object)");
}
