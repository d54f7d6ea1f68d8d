/*
 * Nyx IOMMU: device models that hold on to mapped guest memory
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "held-maps.h"
#include "hw/ide/ahci-pci.h"
#include "system/memory.h"
#include "trace.h"

/* Serial ATA AHCI 1.3.1, section 3.3.7: PxCMD */
#define PORT_CMD(port)      (0x100 + (port) * 0x80 + 0x18)
#define PORT_CMD_ST         (1u << 0)
#define PORT_CMD_FRE        (1u << 4)
#define PORT_CMD_ENGINES    (PORT_CMD_ST | PORT_CMD_FRE)

/* Stop and start the port's engines, as its driver could at any time. */
static void ahci_restart_port(AHCIState *ahci, int port)
{
    uint64_t cmd;

    memory_region_dispatch_read(&ahci->mem, PORT_CMD(port), &cmd, MO_LEUL,
                                MEMTXATTRS_UNSPECIFIED);
    if (!(cmd & PORT_CMD_ENGINES)) {
        return;
    }
    trace_nyx_ahci_restart(port);
    memory_region_dispatch_write(&ahci->mem, PORT_CMD(port),
                                 cmd & ~PORT_CMD_ENGINES, MO_LEUL,
                                 MEMTXATTRS_UNSPECIFIED);
    memory_region_dispatch_write(&ahci->mem, PORT_CMD(port), cmd, MO_LEUL,
                                 MEMTXATTRS_UNSPECIFIED);
}

void nyx_device_renew_maps(PCIDevice *dev)
{
    Object *obj = object_dynamic_cast(OBJECT(dev), TYPE_ICH9_AHCI);
    AHCIState *ahci;

    if (!obj) {
        return;
    }
    ahci = &ICH9_AHCI(obj)->ahci;
    for (uint32_t port = 0; port < ahci->ports; port++) {
        ahci_restart_port(ahci, port);
    }
}
