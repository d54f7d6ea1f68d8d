/*
 * Nyx ACPI devices: the lid of a laptop
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * A lid that opens wakes the guest from S3.
 */

#include "qemu/osdep.h"
#include "aml.h"
#include "hw/core/qdev-properties.h"
#include "migration/vmstate.h"
#include "qemu/module.h"

#define TYPE_NYX_LID    "nyx-lid"
OBJECT_DECLARE_SIMPLE_TYPE(NyxLid, NYX_LID)

#define REG_OPEN        0

struct NyxLid {
    NyxAcpiDevice parent_obj;

    bool closed;
};

static uint32_t lid_read(NyxAcpiDevice *dev, unsigned reg)
{
    return reg == REG_OPEN ? !NYX_LID(dev)->closed : UINT32_MAX;
}

static void lid_build_aml(NyxAcpiDevice *dev, Aml *scope)
{
    g_autofree char *name = nyx_acpi_name(dev);
    Aml *device = nyx_acpi_aml_device(name, "PNP0C0D", dev->number,
                                      nyx_acpi_device_id(dev));

    aml_append(device, nyx_acpi_aml_getter("_LID", dev, REG_OPEN));
    aml_append(scope, device);
}

static bool lid_set(NyxAcpiDevice *dev, const NyxAcpiSet *set, Error **errp)
{
    NyxLid *lid = NYX_LID(dev);

    if (lid->closed != set->u.lid.closed) {
        lid->closed = set->u.lid.closed;
        nyx_acpi_notify(dev, NYX_ACPI_CHANGED);
        if (!lid->closed) {
            nyx_acpi_wake_up();
        }
    }
    return true;
}

static void lid_query(NyxAcpiDevice *dev, NyxAcpiInfo *info)
{
    info->u.lid.closed = NYX_LID(dev)->closed;
}

static bool lid_post_load(void *opaque, int version_id, Error **errp)
{
    return nyx_acpi_device_loaded(opaque, errp);
}

static const VMStateDescription vmstate_lid = {
    .name = TYPE_NYX_LID,
    .version_id = 1,
    .minimum_version_id = 1,
    .post_load_errp = lid_post_load,
    .fields = (const VMStateField[]) {
        NYX_VMSTATE_ACPI_DEVICE(NyxLid),
        VMSTATE_BOOL(closed, NyxLid),
        VMSTATE_END_OF_LIST()
    }
};

static const Property lid_properties[] = {
    DEFINE_PROP_BOOL("closed", NyxLid, closed, false),
};

static void lid_class_init(ObjectClass *oc, const void *data)
{
    DeviceClass *dc = DEVICE_CLASS(oc);
    NyxAcpiDeviceClass *nc = NYX_ACPI_DEVICE_CLASS(oc);

    dc->desc = "ACPI lid switch";
    dc->vmsd = &vmstate_lid;
    device_class_set_props(dc, lid_properties);
    nc->type = NYX_ACPI_TYPE_LID;
    nc->name = "LID";
    nc->read = lid_read;
    nc->build_aml = lid_build_aml;
    nc->set = lid_set;
    nc->query = lid_query;
}

static const TypeInfo lid_info = {
    .name = TYPE_NYX_LID,
    .parent = TYPE_NYX_ACPI_DEVICE,
    .instance_size = sizeof(NyxLid),
    .class_init = lid_class_init,
};

static void lid_register(void)
{
    type_register_static(&lid_info);
}

type_init(lid_register)
