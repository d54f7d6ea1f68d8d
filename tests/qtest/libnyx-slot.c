/*
 * What the qtests of plugging share: slots that devices are plugged into
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "hw/pci/pci_regs.h"
#include "libnyx-slot.h"

/* SHPC 1.0, 4.9.5 and 5.3: the register, and slot operations with power LED */
#define SHPC_COMMAND        0x14
#define SHPC_ENABLE_SLOT    (1 << 2 | 2)
#define SHPC_DISABLE_SLOT   (3 << 2 | 3)

#define NATIVE_HOTPLUG \
    "-global ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off "

const NyxSlot nyx_slots[NYX_SLOTS] = {
    { "pcie", NATIVE_HOTPLUG "-device pcie-root-port,id=rp,addr=5 ", "0",
      .native = true },
    { "nyx-root-port", NATIVE_HOTPLUG "-device nyx-root-port,id=rp,addr=5 ",
      "0", .native = true },
    { "acpi", "-device pcie-root-port,id=rp,addr=5 ", "0", .acpi = true },
    { "acpi-nyx-root-port", "-device nyx-root-port,id=rp,addr=5 ", "0",
      .acpi = true },
    { "shpc", NATIVE_HOTPLUG "-device pcie-pci-bridge,id=rp,addr=5 ", "3" },
};

static QPCIDevice *port_of(NyxTest *t)
{
    return qpci_device_find(t->bus, QPCI_DEVFN(NYX_SLOT_PORT, 0));
}

static void write_pcie(NyxTest *t, uint16_t control)
{
    g_autofree QPCIDevice *port = port_of(t);
    unsigned express = qpci_find_capability(port, PCI_CAP_ID_EXP, 0);

    qpci_config_writew(port, express + PCI_EXP_SLTCTL, control);
}

static void write_shpc(NyxTest *t, const NyxSlot *slot, uint8_t command)
{
    g_autofree QPCIDevice *bridge = port_of(t);
    QPCIBar registers = qpci_iomap(bridge, 0, NULL);

    qpci_device_enable(bridge);
    qpci_io_writew(bridge, registers, SHPC_COMMAND,
                   atoi(slot->addr) << 8 | command);
}

static void eject_all(NyxTest *t)
{
    for (unsigned bus = 0; bus < NYX_ACPI_BUSES; bus++) {
        qtest_outl(t->qts, NYX_ACPI_SELECT, bus);
        qtest_outl(t->qts, NYX_ACPI_EJECT, qtest_inl(t->qts, NYX_ACPI_DOWN));
    }
}

void nyx_slot_use(NyxTest *t, const NyxSlot *slot)
{
    if (slot->native) {
        write_pcie(t, PCI_EXP_SLTCTL_PWR_IND_ON);
    } else if (!slot->acpi) {
        write_shpc(t, slot, SHPC_ENABLE_SLOT);
    }
}

void nyx_slot_let_go(NyxTest *t, const NyxSlot *slot)
{
    if (slot->native) {
        write_pcie(t, PCI_EXP_SLTCTL_PWR_IND_OFF | PCI_EXP_SLTCTL_PWR_OFF);
    } else if (slot->acpi) {
        eject_all(t);
    } else {
        write_shpc(t, slot, SHPC_DISABLE_SLOT);
    }
}
