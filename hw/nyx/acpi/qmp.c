/*
 * Nyx ACPI devices: the operator's commands
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "aml.h"
#include "block.h"
#include "qapi/error.h"
#include "qapi/qapi-commands-nyx-acpi.h"

void qmp_nyx_acpi_set(NyxAcpiSet *set, Error **errp)
{
    NyxAcpiDevice *dev = nyx_acpi_device_find(set->device, errp);
    NyxAcpiDeviceClass *dc;

    if (!dev) {
        return;
    }
    dc = NYX_ACPI_DEVICE_GET_CLASS(dev);
    if (dc->type != set->type) {
        error_setg(errp, "'%s' is of type %s, not %s", set->device,
                   NyxAcpiType_str(dc->type), NyxAcpiType_str(set->type));
        return;
    }
    dc->set(dev, set, errp);
}

static NyxAcpiInfo *device_info(NyxAcpiDevice *dev)
{
    NyxAcpiDeviceClass *dc = NYX_ACPI_DEVICE_GET_CLASS(dev);
    g_autofree char *name = nyx_acpi_name(dev);
    NyxAcpiInfo *info = g_new0(NyxAcpiInfo, 1);

    info->device = g_strdup(nyx_acpi_device_id(dev));
    info->type = dc->type;
    info->path = g_strdup_printf("%s.%s", NYX_ACPI_PATH, name);
    info->pending = dev->pending;
    dc->query(dev, info);
    return info;
}

/* Those that the guest has slowed down. */
static NyxAcpiProcessorList *processor_list(const NyxThrottle *t)
{
    NyxAcpiProcessorList *list = NULL, **tail = &list;
    CPUState *cpu;

    CPU_FOREACH(cpu) {
        uint8_t state = nyx_throttle_get(t, cpu->cpu_index);
        NyxAcpiProcessor *info;

        if (state) {
            info = g_new0(NyxAcpiProcessor, 1);
            info->cpu_index = cpu->cpu_index;
            info->percent = nyx_throttle_percent(state);
            QAPI_LIST_APPEND(tail, info);
        }
    }
    return list;
}

NyxAcpiState *qmp_query_nyx_acpi(Error **errp)
{
    NyxAcpiBlock *block = nyx_acpi_block_find();
    NyxAcpiState *state = g_new0(NyxAcpiState, 1);
    NyxAcpiInfoList **tail = &state->devices;

    for (guint i = 0; block && i < block->devices->len; i++) {
        NyxAcpiDevice *dev = g_ptr_array_index(block->devices, i);

        QAPI_LIST_APPEND(tail, device_info(dev));
    }
    if (block) {
        state->throttled = processor_list(&block->throttle);
    }
    return state;
}
