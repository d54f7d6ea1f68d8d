/*
 * Nyx ACPI devices: power and sleep buttons
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Pressed in S3, a button wakes the guest and says so; it then is no wish to
 * switch off, or to sleep again.
 */

#include "qemu/osdep.h"
#include "aml.h"
#include "migration/vmstate.h"
#include "qemu/module.h"

#define TYPE_NYX_BUTTON         "nyx-button"
#define TYPE_NYX_POWER_BUTTON   "nyx-power-button"
#define TYPE_NYX_SLEEP_BUTTON   "nyx-sleep-button"
OBJECT_DECLARE_SIMPLE_TYPE(NyxButton, NYX_BUTTON)

struct NyxButton {
    NyxAcpiDevice parent_obj;

    uint64_t presses;
};

static uint32_t button_read(NyxAcpiDevice *dev, unsigned reg)
{
    return UINT32_MAX;
}

static void button_build_aml(NyxAcpiDevice *dev, Aml *scope)
{
    bool power = NYX_ACPI_DEVICE_GET_CLASS(dev)->type ==
                 NYX_ACPI_TYPE_POWER_BUTTON;
    g_autofree char *name = nyx_acpi_name(dev);

    aml_append(scope, nyx_acpi_aml_device(name, power ? "PNP0C0C" : "PNP0C0E",
                                          dev->number,
                                          nyx_acpi_device_id(dev)));
}

static bool button_set(NyxAcpiDevice *dev, const NyxAcpiSet *set, Error **errp)
{
    NYX_BUTTON(dev)->presses++;
    nyx_acpi_notify(dev, nyx_acpi_wake_up() ? NYX_ACPI_WOKE
                                            : NYX_ACPI_CHANGED);
    return true;
}

static void button_query(NyxAcpiDevice *dev, NyxAcpiInfo *info)
{
    NyxAcpiButtonInfo *button =
        info->type == NYX_ACPI_TYPE_POWER_BUTTON ? &info->u.power_button
                                                 : &info->u.sleep_button;

    button->presses = NYX_BUTTON(dev)->presses;
}

static bool button_post_load(void *opaque, int version_id, Error **errp)
{
    return nyx_acpi_device_loaded(opaque, errp);
}

static const VMStateDescription vmstate_button = {
    .name = TYPE_NYX_BUTTON,
    .version_id = 1,
    .minimum_version_id = 1,
    .post_load_errp = button_post_load,
    .fields = (const VMStateField[]) {
        NYX_VMSTATE_ACPI_DEVICE(NyxButton),
        VMSTATE_UINT64(presses, NyxButton),
        VMSTATE_END_OF_LIST()
    }
};

static void button_class_init(ObjectClass *oc, const void *data)
{
    NyxAcpiDeviceClass *nc = NYX_ACPI_DEVICE_CLASS(oc);

    DEVICE_CLASS(oc)->vmsd = &vmstate_button;
    nc->read = button_read;
    nc->build_aml = button_build_aml;
    nc->set = button_set;
    nc->query = button_query;
}

static void power_button_class_init(ObjectClass *oc, const void *data)
{
    NyxAcpiDeviceClass *nc = NYX_ACPI_DEVICE_CLASS(oc);

    DEVICE_CLASS(oc)->desc = "ACPI power button";
    nc->type = NYX_ACPI_TYPE_POWER_BUTTON;
    nc->name = "PWB";
}

static void sleep_button_class_init(ObjectClass *oc, const void *data)
{
    NyxAcpiDeviceClass *nc = NYX_ACPI_DEVICE_CLASS(oc);

    DEVICE_CLASS(oc)->desc = "ACPI sleep button";
    nc->type = NYX_ACPI_TYPE_SLEEP_BUTTON;
    nc->name = "SLB";
}

static const TypeInfo button_types[] = {
    {
        .name = TYPE_NYX_BUTTON,
        .parent = TYPE_NYX_ACPI_DEVICE,
        .abstract = true,
        .instance_size = sizeof(NyxButton),
        .class_init = button_class_init,
    }, {
        .name = TYPE_NYX_POWER_BUTTON,
        .parent = TYPE_NYX_BUTTON,
        .class_init = power_button_class_init,
    }, {
        .name = TYPE_NYX_SLEEP_BUTTON,
        .parent = TYPE_NYX_BUTTON,
        .class_init = sleep_button_class_init,
    },
};

DEFINE_TYPES(button_types)
