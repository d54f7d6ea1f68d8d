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
 * and link go, and an interrupt tells so.  If the power were off, too, Linux
 * would take the slot for one that is disabled already.
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

/* The slot's registers, and its bit there; NULL if it is not ACPI's. */
static AcpiPciHpPciStatus *acpi_slot(PCIDevice *dev, uint32_t *bit)
{
    Object *controller = OBJECT(qdev_get_bus_hotplug_handler(DEVICE(dev)));
    ICH9LPCState *lpc;
    uint64_t bsel;

    if (!object_dynamic_cast(controller, TYPE_ICH9_LPC_DEVICE)) {
        return NULL;
    }
    lpc = ICH9_LPC_DEVICE(controller);
    bsel = object_property_get_uint(OBJECT(pci_get_bus(dev)),
                                    ACPI_PCIHP_PROP_BSEL, &error_abort);
    *bit = 1U << PCI_SLOT(dev->devfn);
    return &lpc->pm.acpi_pci_hotplug.acpi_pcihp_pci_status[bsel];
}

/*
 * ACPI 6.5, 5.6.6: the eject request stays.  A guest that comes to itself lets
 * its driver go by that, and then ejects what is gone already; at a device
 * check, Linux looks for devices that have come, not for those that are gone.
 */
static void remove_acpi(PCIDevice *dev)
{
    HotplugHandler *controller = qdev_get_bus_hotplug_handler(DEVICE(dev));

    remove_slot(pci_get_bus(dev), PCI_SLOT(dev->devfn), true);
    acpi_send_event(DEVICE(controller), ACPI_PCI_HOTPLUG_STATUS);
}

static bool is_alone(PCIDevice *dev)
{
    int slot = PCI_SLOT(dev->devfn);

    for (int function = 0; function < PCI_FUNC_MAX; function++) {
        PCIDevice *other =
            pci_get_bus(dev)->devices[PCI_DEVFN(slot, function)];

        if (other && other != dev) {
            return false;
        }
    }
    return true;
}

void nyx_surprise_removal_forget(PCIDevice *dev)
{
    AcpiPciHpPciStatus *status;
    uint32_t bit;

    status = DEVICE(dev)->hotplugged ? acpi_slot(dev, &bit) : NULL;
    if (status && is_alone(dev)) {
        status->down &= ~bit;
    }
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
        remove_acpi(dev);
        return;
    } else if (shpc_present(PCI_DEVICE(controller))) {
        remove_shpc(PCI_DEVICE(controller), slot);
    }
    /* A controller that holds the slot for empty or off has done nothing. */
    if (DEVICE(dev)->realized) {
        remove_slot(bus, slot, false);
    }
}
