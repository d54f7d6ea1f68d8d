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

void nyx_wakeup(MachineState *machine, const MachineClass *q35)
{
    PCIDevice *bridge = pci_find_device(PC_MACHINE(machine)->pcibus, 0, 0);
    const unsigned low = MCH_HOST_BRIDGE_PCIEXBAR, high = low + 4;
    uint32_t address = pci_get_long(bridge->config + low);
    uint32_t above = pci_get_long(bridge->config + high);

    q35->wakeup(machine);
    /* The lower half enables it. */
    bridge->config_write(bridge, high, above, 4);
    bridge->config_write(bridge, low, address, 4);
}
