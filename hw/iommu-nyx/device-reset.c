/*
 * Nyx IOMMU: devices that are being reset
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "endpoint.h"
#include "hw/pci/pci.h"
#include "hw/pci/pci_bus.h"
#include "iommu.h"
#include "nyx/include/hw/iommu-nyx/device-reset.h"
#include "trace.h"

/* NULL: it is behind no Nyx IOMMU, or does not work yet. */
static NyxFunction *function_in_use(PCIDevice *dev)
{
    NyxFunction *fn = nyx_iommu_get() ? nyx_function_of(dev) : NULL;

    return fn && fn->endpoint ? fn : NULL;
}

void nyx_device_reset_begin(PCIDevice *dev)
{
    NyxFunction *fn = function_in_use(dev);

    if (fn && fn->resets++ == 0) {
        trace_nyx_device_reset(nyx_endpoint_requester_id(fn->endpoint), true);
        nyx_endpoint_update_reset(fn->endpoint);
    }
}

/* The function may have come while the reset was under way. */
void nyx_device_reset_end(PCIDevice *dev)
{
    NyxFunction *fn = function_in_use(dev);

    if (fn && fn->resets && --fn->resets == 0) {
        trace_nyx_device_reset(nyx_endpoint_requester_id(fn->endpoint), false);
        nyx_quarantine_was_reset(&fn->quarantine);
        nyx_endpoint_update_reset(fn->endpoint);
    }
}

static void visit_bus(PCIBus *bus, void (*visit)(PCIDevice *dev))
{
    PCIBus *child;

    for (int i = 0; i < ARRAY_SIZE(bus->devices); i++) {
        if (bus->devices[i]) {
            visit(bus->devices[i]);
        }
    }
    QLIST_FOREACH(child, &bus->child, sibling) {
        if (!pci_bus_is_root(child)) {
            visit_bus(child, visit);
        }
    }
}

/*
 * The reset of a bus takes in the buses below, which enter it before and leave
 * it earlier.  Only the uppermost acts, for all of them: QEMU looks at every
 * view when one has changed, so they change together.
 */
static bool is_uppermost(PCIBus *bus)
{
    return pci_bus_is_root(bus) ||
           !bus_is_in_reset(BUS(pci_get_bus(bus->parent_dev)));
}

static void visit_buses(PCIBus *bus, void (*visit)(PCIDevice *dev))
{
    if (nyx_iommu_get() && is_uppermost(bus)) {
        memory_region_transaction_begin();
        visit_bus(bus, visit);
        memory_region_transaction_commit();
    }
}

void nyx_bus_reset_enter(Object *bus, ResetType type)
{
    visit_buses(PCI_BUS(bus), nyx_device_reset_begin);
}

void nyx_bus_reset_exit(Object *bus, ResetType type)
{
    visit_buses(PCI_BUS(bus), nyx_device_reset_end);
}

/* As in any DMA of the device: by its address space, which has no lock. */
bool nyx_is_being_reset(DeviceState *dev)
{
    MemoryRegion *view;
    Object *owner;

    while (dev && !object_dynamic_cast(OBJECT(dev), TYPE_PCI_DEVICE)) {
        dev = dev->parent_bus ? dev->parent_bus->parent : NULL;
    }
    view = dev ? PCI_DEVICE(dev)->bus_master_enable_region.alias : NULL;
    owner = view ? memory_region_owner(view) : NULL;
    return owner && object_dynamic_cast(owner, TYPE_NYX_ENDPOINT) &&
           (qatomic_read(&NYX_ENDPOINT(owner)->blocked) & NYX_BLOCKED_RESET);
}
