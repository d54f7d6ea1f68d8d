/*
 * Nyx ACPI devices: the registers that they share
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * One block of I/O ports, on the ISA bus of a Q35's chipset.  It comes with
 * the first device.  A change raises event 0 of the chipset's GPE register;
 * the guest's AML then takes notifications one by one.
 *
 *   port  bits
 *   0     32    selector: device in bits 7:0, its register in 15:8
 *   4     32    the selected register
 *   8     32    read: the next notification, which is taken by that: device
 *               plus 1 in bits 7:0, its code in 15:8; 0 if there is none
 *   12    8     state of throttling of the processor that asks (throttle.h)
 */

#ifndef NYX_ACPI_BLOCK_H
#define NYX_ACPI_BLOCK_H

#include "device.h"
#include "hw/isa/isa.h"
#include "throttle.h"

#define TYPE_NYX_ACPI_BLOCK     "nyx-acpi-block"
OBJECT_DECLARE_SIMPLE_TYPE(NyxAcpiBlock, NYX_ACPI_BLOCK)

/* These values are known to guests, by AML that travels in their memory. */
#define NYX_ACPI_PORT           0x0b00
#define NYX_ACPI_PORT_SELECT    0
#define NYX_ACPI_PORT_DATA      4
#define NYX_ACPI_PORT_NEXT      8
#define NYX_ACPI_PORT_THROTTLE  12
#define NYX_ACPI_PORTS          16
#define NYX_ACPI_REGISTER_SHIFT 8
#define NYX_ACPI_CODE_SHIFT     8
#define NYX_ACPI_GPE            0

/* One hexadecimal digit is left for the number in a name of ACPI. */
#define NYX_ACPI_MAX_OF_TYPE    16

struct NyxAcpiBlock {
    ISADevice parent_obj;

    DeviceState *chipset;
    MemoryRegion registers;
    MemoryRegion throttle_register;
    GPtrArray *devices;         /* of NyxAcpiDevice, by type, then by id */
    NyxThrottle throttle;
    uint32_t selector;
    uint32_t saved_count;       /* of devices, in a stream */
    uint32_t saved_cpus;        /* that there can be, in a stream */
};

/* The block; NULL if there are no devices. */
NyxAcpiBlock *nyx_acpi_block_find(void);

/* The block, made if it is not there; NULL and an error without a Q35. */
NyxAcpiBlock *nyx_acpi_block_get(Error **errp);

/*
 * Devices come before the guest sees tables, and are numbered anew each time:
 * the order of the command line has no influence.
 */
bool nyx_acpi_block_add(NyxAcpiBlock *block, NyxAcpiDevice *dev, Error **errp);
void nyx_acpi_block_remove(NyxAcpiDevice *dev);

/* Make the guest ask for notifications. */
void nyx_acpi_block_raise(NyxAcpiBlock *block);

#endif
