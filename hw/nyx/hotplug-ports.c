/*
 * nyx-pc: root ports for devices that name no bus
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The root bus of a Q35 takes no device while the VM runs, and what is on it
 * has no port that could contain its errors.  So devices that are hot-plugged,
 * and those of the host, get a port.
 */

#include "qemu/osdep.h"
#include "hotplug-ports.h"
#include "hw/core/boards.h"
#include "hw/core/qdev-properties.h"
#include "hw/pci/pci_bridge.h"
#include "monitor/qdev.h"
#include "nyx/include/hw/iommu-nyx/nyx-iommu.h"
#include "nyx/include/hw/nyx/default-bus.h"
#include "nyx/include/hw/nyx/root-port.h"
#include "qapi/error.h"

/* libvirt counts up from 1, and the chipset is at 0x1f. */
#define FIRST_SLOT      0x18
#define CHASSIS         250     /* so that slot numbers are our own */

/* hw/vfio/types.h has it, which is private; vfio-user derives from it, too. */
#define TYPE_PASSTHROUGH    "vfio-pci-device"

bool nyx_is_passthrough(ObjectClass *oc)
{
    return object_class_dynamic_cast(oc, TYPE_PASSTHROUGH);
}

static char *port_id(unsigned index)
{
    return g_strdup_printf("nyx-port%u", index);
}

/* NULL: there are fewer */
static PCIBridge *port_get(unsigned index)
{
    g_autofree char *id = port_id(index);
    g_autofree char *path = g_strdup_printf("/machine/peripheral/%s", id);

    return (PCIBridge *)object_resolve_path_type(path, TYPE_NYX_ROOT_PORT,
                                                 NULL);
}

static unsigned port_count(void)
{
    unsigned count = 0;

    while (port_get(count)) {
        count++;
    }
    return count;
}

static bool port_add(PCIBus *root, unsigned index, Error **errp)
{
    g_autofree char *id = port_id(index);
    DeviceState *port;

    if (!object_class_by_name(TYPE_NYX_ROOT_PORT)) {
        error_setg(errp, "this QEMU was built without %s", TYPE_NYX_ROOT_PORT);
        return false;
    }
    port = DEVICE(pci_new_multifunction(PCI_DEVFN(FIRST_SLOT + index / 8,
                                                  index % 8),
                                        TYPE_NYX_ROOT_PORT));
    qdev_prop_set_uint8(port, "chassis", CHASSIS);
    qdev_prop_set_uint16(port, "slot", index);
    if (!qdev_set_id(port, g_steal_pointer(&id), errp)) {
        object_unref(OBJECT(port));
        return false;
    }
    return qdev_realize_and_unref(port, BUS(root), errp);
}

bool nyx_hotplug_ports_create(PCIBus *root, unsigned count, Error **errp)
{
    for (unsigned i = 0; i < count; i++) {
        if (!port_add(root, i, errp)) {
            return false;
        }
    }
    return true;
}

static bool is_empty(PCIBus *bus)
{
    for (int i = 0; i < ARRAY_SIZE(bus->devices); i++) {
        if (bus->devices[i]) {
            return false;
        }
    }
    return true;
}

static BusState *free_port_bus(Error **errp)
{
    PCIBridge *port;

    for (unsigned i = 0; (port = port_get(i)); i++) {
        PCIBus *bus = pci_bridge_get_sec_bus(port);

        if (is_empty(bus)) {
            return BUS(bus);
        }
    }
    error_setg(errp, "none of the %u ports for devices without bus=... is "
               "free; unplug a device, name another port with bus=, or start "
               "the VM with more of them (-M hotplug-ports=N, at most %u)",
               port_count(), NYX_HOTPLUG_PORTS_MAX);
    return NULL;
}

static BusState *new_port_bus(BusState *root, Error **errp)
{
    unsigned index = port_count();

    if (index == NYX_HOTPLUG_PORTS_MAX) {
        error_setg(errp, "all %u ports for devices of the host are taken; name "
                   "a port with bus=...", index);
        return NULL;
    }
    if (!port_add(PCI_BUS(root), index, errp)) {
        return NULL;
    }
    return BUS(pci_bridge_get_sec_bus(port_get(index)));
}

BusState *nyx_default_bus(DeviceClass *dc, const QDict *opts, Error **errp)
{
    ObjectClass *oc = OBJECT_CLASS(dc);
    BusState *bus = qdev_find_default_bus(dc, errp);

    /* An address is one on the root bus. */
    if (!bus || !nyx_iommu_get() || qdict_haskey(opts, "addr") ||
        !object_class_dynamic_cast(oc, TYPE_PCI_DEVICE)) {
        return bus;
    }
    if (phase_check(PHASE_MACHINE_READY)) {
        /* Without a single port it is QEMU's to say why not. */
        return port_get(0) ? free_port_bus(errp) : bus;
    }
    return nyx_is_passthrough(oc) ? new_port_bus(bus, errp) : bus;
}
