/*
 * nyx-pc: taking out a PCI device without asking the guest
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The device goes by the code of QEMU that serves a guest which lets go of it;
 * here it is called without the guest.
 */

#include "qemu/osdep.h"
#include "hw/acpi/acpi_dev_interface.h"
#include "hw/acpi/pcihp.h"
#include "hw/core/hotplug.h"
#include "hw/pci/pci.h"
#include "hw/pci/pci_bridge.h"
#include "hw/pci/pci_bus.h"
#include "hw/pci/pcie_port.h"
#include "hw/pci/shpc.h"
#include "hw/southbridge/ich9.h"
#include "qapi/error.h"
#include "surprise-removal.h"

static bool goes_by_itself(PCIDevice *dev, bool keep_bridges)
{
    DeviceState *qdev = DEVICE(dev);

    /* Virtual functions go with their physical function. */
    return DEVICE_GET_CLASS(dev)->hotpluggable && !pci_is_vf(dev) &&
           !dev->partially_hotplugged &&
           !(keep_bridges && IS_PCI_BRIDGE(dev) && !qdev->hotplugged);
}

static void remove_slot(PCIBus *bus, int slot, bool keep_bridges)
{
    for (int function = 0; function < PCI_FUNC_MAX; function++) {
        PCIDevice *dev = bus->devices[PCI_DEVFN(slot, function)];

        if (dev && goes_by_itself(dev, keep_bridges)) {
            hotplug_handler_unplug(qdev_get_hotplug_handler(DEVICE(dev)),
                                   DEVICE(dev), &error_abort);
            object_unparent(OBJECT(dev));
        }
    }
}

/*
 * As if the guest turned the slot's power off, but for the register: presence
 * and link go, and an interrupt tells so.
 */
static void remove_pcie(PCIDevice *port)
{
    uint16_t control, status, on, off;

    pcie_cap_slot_get(port, &control, &status);
    on = control & ~PCI_EXP_SLTCTL_PCC;
    off = (control & ~PCI_EXP_SLTCTL_PIC) | PCI_EXP_SLTCTL_PWR_IND_OFF |
          PCI_EXP_SLTCTL_PWR_OFF;
    pcie_cap_slot_write_config(port, on, status,
                               port->exp.exp_cap + PCI_EXP_SLTCTL, off, 2);
}

/*
 * ACPI 6.5, 5.6.6: a device check has the guest look whether a device has come
 * or gone; an eject request, which may be due still, is of no use any more.
 */
static void remove_acpi(ICH9LPCState *lpc, PCIBus *bus, int slot)
{
    AcpiPciHpState *s = &lpc->pm.acpi_pci_hotplug;
    uint64_t bsel = object_property_get_uint(OBJECT(bus),
                                             ACPI_PCIHP_PROP_BSEL,
                                             &error_abort);

    remove_slot(bus, slot, true);
    s->acpi_pcihp_pci_status[bsel].down &= ~(1U << slot);
    s->acpi_pcihp_pci_status[bsel].up |= 1U << slot;
    acpi_send_event(DEVICE(lpc), ACPI_PCI_HOTPLUG_STATUS);
}

/* SHPC 1.0, 4.9.5 and 5.3: a command by which the guest disables a slot */
#define SHPC_COMMAND        0x14
#define SHPC_DISABLE_SLOT   0x03u
#define SHPC_POWER_LED_OFF  (0x03u << 2)

/* SHPC knows no other way.  Its slots are numbered as the bus has them. */
static void remove_shpc(PCIDevice *bridge, int slot)
{
    memory_region_dispatch_write(&bridge->shpc->mmio, SHPC_COMMAND,
                                 slot << 8 | SHPC_POWER_LED_OFF |
                                 SHPC_DISABLE_SLOT,
                                 MO_16 | MO_LE, MEMTXATTRS_UNSPECIFIED);
}

void nyx_surprise_removal(PCIDevice *dev)
{
    Object *controller = OBJECT(qdev_get_bus_hotplug_handler(DEVICE(dev)));
    PCIBus *bus = pci_get_bus(dev);
    int slot = PCI_SLOT(dev->devfn);

    if (object_dynamic_cast(controller, TYPE_PCIE_SLOT)) {
        remove_pcie(PCI_DEVICE(controller));
    } else if (object_dynamic_cast(controller, TYPE_ICH9_LPC_DEVICE)) {
        remove_acpi(ICH9_LPC_DEVICE(controller), bus, slot);
        return;
    } else if (shpc_present(PCI_DEVICE(controller))) {
        remove_shpc(PCI_DEVICE(controller), slot);
    }
    /* A controller that holds the slot for empty or off has done nothing. */
    if (DEVICE(dev)->realized) {
        remove_slot(bus, slot, false);
    }
}
