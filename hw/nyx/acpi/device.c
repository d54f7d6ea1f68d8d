/*
 * Nyx ACPI devices: what they have in common
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "block.h"
#include "device.h"
#include "hw/core/vmstate-if.h"
#include "qapi/error.h"
#include "qemu/module.h"
#include "system/runstate.h"
#include "../trace.h"

const char *nyx_acpi_device_id(const NyxAcpiDevice *dev)
{
    return DEVICE(dev)->id;
}

NyxAcpiDevice *nyx_acpi_device_find(const char *id, Error **errp)
{
    NyxAcpiBlock *block = nyx_acpi_block_find();

    for (guint i = 0; block && i < block->devices->len; i++) {
        NyxAcpiDevice *dev = g_ptr_array_index(block->devices, i);

        if (!strcmp(nyx_acpi_device_id(dev), id)) {
            return dev;
        }
    }
    error_setg(errp, "No ACPI device has the id '%s'; query-nyx-acpi shows "
               "those there are", id);
    return NULL;
}

void nyx_acpi_notify(NyxAcpiDevice *dev, uint8_t notifications)
{
    dev->pending |= notifications;
    trace_nyx_acpi_notify(nyx_acpi_device_id(dev), notifications);
    nyx_acpi_block_raise(dev->block);
}

bool nyx_acpi_wake_up(void)
{
    if (!runstate_check(RUN_STATE_SUSPENDED)) {
        return false;
    }
    /* The only error is that the guest does not sleep. */
    qemu_system_wakeup_request(QEMU_WAKEUP_REASON_OTHER, &error_abort);
    return true;
}

bool nyx_acpi_device_loaded(NyxAcpiDevice *dev, Error **errp)
{
    if (dev->pending & ~NYX_ACPI_NOTIFICATIONS) {
        error_setg(errp, "The stream has notifications 0x%x for '%s', which "
                   "there are not", dev->pending, nyx_acpi_device_id(dev));
        return false;
    }
    return true;
}

static void acpi_device_realize(DeviceState *qdev, Error **errp)
{
    NyxAcpiDevice *dev = NYX_ACPI_DEVICE(qdev);
    NyxAcpiDeviceClass *dc = NYX_ACPI_DEVICE_GET_CLASS(dev);
    NyxAcpiBlock *block;

    if (!qdev->id) {
        error_setg(errp, "%s needs a name for nyx-acpi-set; add id=NAME",
                   object_get_typename(OBJECT(dev)));
        return;
    }
    if (dc->check && !dc->check(dev, errp)) {
        return;
    }
    block = nyx_acpi_block_get(errp);
    if (block) {
        nyx_acpi_block_add(block, dev, errp);
    }
}

static void acpi_device_unrealize(DeviceState *qdev)
{
    nyx_acpi_block_remove(NYX_ACPI_DEVICE(qdev));
}

/* Devices on no bus have no name in a stream but a number of their order. */
static char *acpi_device_stream_id(VMStateIf *obj)
{
    return g_strdup(DEVICE(obj)->id);
}

static void acpi_device_class_init(ObjectClass *oc, const void *data)
{
    DeviceClass *dc = DEVICE_CLASS(oc);

    dc->realize = acpi_device_realize;
    dc->unrealize = acpi_device_unrealize;
    /* A guest reads its tables once. */
    dc->hotpluggable = false;
    VMSTATE_IF_CLASS(oc)->get_id = acpi_device_stream_id;
    set_bit(DEVICE_CATEGORY_MISC, dc->categories);
}

static const TypeInfo acpi_device_info = {
    .name = TYPE_NYX_ACPI_DEVICE,
    .parent = TYPE_DEVICE,
    .abstract = true,
    .instance_size = sizeof(NyxAcpiDevice),
    .class_size = sizeof(NyxAcpiDeviceClass),
    .class_init = acpi_device_class_init,
};

static void acpi_device_register(void)
{
    type_register_static(&acpi_device_info);
}

type_init(acpi_device_register)
