/*
 * Nyx ACPI devices: AC adapters
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "aml.h"
#include "hw/core/qdev-properties.h"
#include "migration/vmstate.h"
#include "qemu/module.h"

#define TYPE_NYX_AC_ADAPTER "nyx-ac-adapter"
OBJECT_DECLARE_SIMPLE_TYPE(NyxAcAdapter, NYX_AC_ADAPTER)

#define REG_ONLINE      0

struct NyxAcAdapter {
    NyxAcpiDevice parent_obj;

    bool online;
};

static uint32_t adapter_read(NyxAcpiDevice *dev, unsigned reg)
{
    return reg == REG_ONLINE ? NYX_AC_ADAPTER(dev)->online : UINT32_MAX;
}

static void adapter_build_aml(NyxAcpiDevice *dev, Aml *scope)
{
    g_autofree char *name = nyx_acpi_name(dev);
    Aml *device = nyx_acpi_aml_device(name, "ACPI0003", dev->number,
                                      nyx_acpi_device_id(dev));
    Aml *powers = aml_package(1);

    aml_append(powers, aml_name("\\_SB"));
    aml_append(device, aml_name_decl("_PCL", powers));
    aml_append(device, nyx_acpi_aml_getter("_PSR", dev, REG_ONLINE));
    aml_append(scope, device);
}

static bool adapter_set(NyxAcpiDevice *dev, const NyxAcpiSet *set, Error **errp)
{
    NyxAcAdapter *adapter = NYX_AC_ADAPTER(dev);

    if (adapter->online != set->u.ac_adapter.online) {
        adapter->online = set->u.ac_adapter.online;
        nyx_acpi_notify(dev, NYX_ACPI_CHANGED);
    }
    return true;
}

static void adapter_query(NyxAcpiDevice *dev, NyxAcpiInfo *info)
{
    info->u.ac_adapter.online = NYX_AC_ADAPTER(dev)->online;
}

static bool adapter_post_load(void *opaque, int version_id, Error **errp)
{
    return nyx_acpi_device_loaded(opaque, errp);
}

static const VMStateDescription vmstate_adapter = {
    .name = TYPE_NYX_AC_ADAPTER,
    .version_id = 1,
    .minimum_version_id = 1,
    .post_load_errp = adapter_post_load,
    .fields = (const VMStateField[]) {
        NYX_VMSTATE_ACPI_DEVICE(NyxAcAdapter),
        VMSTATE_BOOL(online, NyxAcAdapter),
        VMSTATE_END_OF_LIST()
    }
};

static const Property adapter_properties[] = {
    DEFINE_PROP_BOOL("online", NyxAcAdapter, online, true),
};

static void adapter_class_init(ObjectClass *oc, const void *data)
{
    DeviceClass *dc = DEVICE_CLASS(oc);
    NyxAcpiDeviceClass *nc = NYX_ACPI_DEVICE_CLASS(oc);

    dc->desc = "ACPI power source";
    dc->vmsd = &vmstate_adapter;
    device_class_set_props(dc, adapter_properties);
    nc->type = NYX_ACPI_TYPE_AC_ADAPTER;
    nc->name = "ADP";
    nc->read = adapter_read;
    nc->build_aml = adapter_build_aml;
    nc->set = adapter_set;
    nc->query = adapter_query;
}

static const TypeInfo adapter_info = {
    .name = TYPE_NYX_AC_ADAPTER,
    .parent = TYPE_NYX_ACPI_DEVICE,
    .instance_size = sizeof(NyxAcAdapter),
    .class_init = adapter_class_init,
};

static void adapter_register(void)
{
    type_register_static(&adapter_info);
}

type_init(adapter_register)
