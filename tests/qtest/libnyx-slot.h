/*
 * What the qtests of plugging share: slots that devices are plugged into
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * There is no guest in a qtest: what one does to a slot is done here, by the
 * slot's own registers.
 */

#ifndef TESTS_QTEST_LIBNYX_SLOT_H
#define TESTS_QTEST_LIBNYX_SLOT_H

#include "libnyx-extra.h"

#define NYX_SLOT_PORT       5   /* where the port or bridge "rp" is */

typedef struct NyxSlot {
    const char *name;
    const char *options;        /* of QEMU */
    const char *addr;           /* of the device behind it */
    bool native;                /* PCIe; else ACPI or SHPC */
    bool acpi;
} NyxSlot;

/* pcie, nyx-root-port, acpi, acpi-nyx-root-port, shpc */
#define NYX_SLOTS           5
extern const NyxSlot nyx_slots[NYX_SLOTS];

/* docs/specs/acpi_pci_hotplug.rst of QEMU; the base is that of Q35. */
#define NYX_ACPI_DOWN       0xcc4
#define NYX_ACPI_EJECT      0xcc8
#define NYX_ACPI_SELECT     0xcd0
#define NYX_ACPI_BUSES      4   /* more than these machines have */

/* The guest puts the slot to use: else nobody would be asked to let go. */
void nyx_slot_use(NyxTest *t, const NyxSlot *slot);

/* The guest lets go of what is in the slot; of all slots, by ACPI. */
void nyx_slot_let_go(NyxTest *t, const NyxSlot *slot);

#endif
