/*
 * nyx-pc: the end of S3
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "hw/i386/pc.h"
#include "hw/pci-host/q35.h"
#include "hw/pci/pci.h"
#include "wakeup.h"

#define WINDOW      MCH_HOST_BRIDGE_PCIEXBAR
#define WINDOW_HIGH (WINDOW + 4)

static void write_but_keep_window(PCIDevice *bridge, uint32_t address,
                                  uint32_t value, int size)
{
    bool closes = address == WINDOW &&
                  (pci_get_long(bridge->config + WINDOW) &
                   MCH_HOST_BRIDGE_PCIEXBAREN) &&
                  !(value & MCH_HOST_BRIDGE_PCIEXBAREN);

    if (!closes) {
        PCI_DEVICE_GET_CLASS(bridge)->config_write(bridge, address, value,
                                                   size);
    }
}

void nyx_wakeup(MachineState *machine, const MachineClass *q35)
{
    PCIDevice *bridge = pci_find_device(PC_MACHINE(machine)->pcibus, 0, 0);
    uint32_t low = pci_get_long(bridge->config + WINDOW);
    uint32_t high = pci_get_long(bridge->config + WINDOW_HIGH);

    q35->wakeup(machine);
    bridge->config_write = write_but_keep_window;
    /* The lower half opens it. */
    bridge->config_write(bridge, WINDOW_HIGH, high, 4);
    bridge->config_write(bridge, WINDOW, low, 4);
}
