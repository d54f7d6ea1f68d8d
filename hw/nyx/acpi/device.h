/*
 * Nyx ACPI devices: what they have in common
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Thermal zones, batteries, AC adapters, lids and buttons: what a platform
 * tells its guest about the world around.  The operator says what that is, by
 * nyx-acpi-set; the guest reads it through registers that all devices share
 * (block.h).
 *
 * All of it runs with the BQL held.
 */

#ifndef NYX_ACPI_DEVICE_H
#define NYX_ACPI_DEVICE_H

#include "hw/acpi/aml-build.h"
#include "hw/core/qdev.h"
#include "qapi/qapi-types-nyx-acpi.h"

#define TYPE_NYX_ACPI_DEVICE "nyx-acpi-device"
OBJECT_DECLARE_TYPE(NyxAcpiDevice, NyxAcpiDeviceClass, NYX_ACPI_DEVICE)

typedef struct NyxAcpiBlock NyxAcpiBlock;

/*
 * What the guest is told; a set of these waits until it asks, and goes out in
 * this order: it has to know the points of a zone when it looks at its
 * temperature.
 */
typedef enum NyxAcpiNotification {
    NYX_ACPI_INFO_CHANGED = 1 << 0, /* code 0x81 */
    NYX_ACPI_CHANGED = 1 << 1,      /* code 0x80, also that of a button */
    NYX_ACPI_WOKE = 1 << 2,         /* code 0x02 */
    NYX_ACPI_NOTIFICATIONS = 7,
} NyxAcpiNotification;

struct NyxAcpiDevice {
    DeviceState parent_obj;

    NyxAcpiBlock *block;
    unsigned index;             /* among all devices of the block */
    unsigned number;            /* among those of its type */
    uint8_t pending;            /* of NyxAcpiNotification */
};

struct NyxAcpiDeviceClass {
    DeviceClass parent_class;

    NyxAcpiType type;
    const char *name;           /* its name in ACPI, but for the number */
    /* May be NULL; are the properties in order? */
    bool (*check)(NyxAcpiDevice *dev, Error **errp);
    /* Registers, from 0 up; any number may come from the guest. */
    uint32_t (*read)(NyxAcpiDevice *dev, unsigned reg);
    void (*write)(NyxAcpiDevice *dev, unsigned reg, uint32_t value);
    void (*build_aml)(NyxAcpiDevice *dev, Aml *scope);
    /* Changes all that @set names, or nothing. */
    bool (*set)(NyxAcpiDevice *dev, const NyxAcpiSet *set, Error **errp);
    void (*query)(NyxAcpiDevice *dev, NyxAcpiInfo *info);
    /* May be NULL; forgets what the guest has set, not the operator. */
    void (*reset)(NyxAcpiDevice *dev);
};

/* The id, which every device has. */
const char *nyx_acpi_device_id(const NyxAcpiDevice *dev);

/* The device with an id; NULL and an error if there is none. */
NyxAcpiDevice *nyx_acpi_device_find(const char *id, Error **errp);

/* Tell the guest, with notifications of NyxAcpiNotification. */
void nyx_acpi_notify(NyxAcpiDevice *dev, uint8_t notifications);

/* End S3, if the guest is in it; false if it is not. */
bool nyx_acpi_wake_up(void);

/* What travels of every device; post_load_errp of each type calls this. */
#define NYX_VMSTATE_ACPI_DEVICE(type) \
    VMSTATE_UINT8(parent_obj.pending, type)
bool nyx_acpi_device_loaded(NyxAcpiDevice *dev, Error **errp);

#endif
