/*
 * Nyx IOMMU: telling the guest, by PCIe Advanced Error Reporting
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "aer.h"
#include "hw/pci/pci_bridge.h"
#include "hw/pci/pci_bus.h"
#include "hw/pci/pcie.h"
#include "qemu/bswap.h"
#include "nyx/include/hw/nyx/root-port.h"
#include "trace.h"

/* PCIe Base 6.0, section 2.2.1: memory requests with 64-bit addresses */
#define TLP_MEM_READ_64     0x20000000u
#define TLP_MEM_WRITE_64    0x60000000u
#define TLP_LENGTH_1_DW     1u
#define TLP_FIRST_DW_BE     0xfu

static bool is_port_with_aer(PCIDevice *dev)
{
    uint8_t type;

    if (!pci_is_express(dev) || !dev->exp.exp_cap || !dev->exp.aer_cap) {
        return false;
    }
    type = pcie_cap_get_type(dev);
    return type == PCI_EXP_TYPE_ROOT_PORT || type == PCI_EXP_TYPE_DOWNSTREAM;
}

/* A PCIe-to-PCI bridge may be in between. */
static PCIDevice *port_above(NyxEndpoint *ep)
{
    PCIDevice *dev = pci_bridge_get_device(ep->bus);

    while (dev && !is_port_with_aer(dev)) {
        dev = pci_bridge_get_device(pci_get_bus(dev));
    }
    return dev;
}

typedef struct Below {
    NyxEndpointVisit *fn;
    void *opaque;
    bool done;
} Below;

static void visit_below(PCIBus *bus, PCIDevice *dev, void *opaque)
{
    NyxEndpoint *ep = nyx_function_of(dev)->endpoint;
    Below *below = opaque;

    /* Virtual functions that are not enabled are there, but not for a guest. */
    if (!below->done && ep && dev->enabled && !nyx_is_bridge(dev)) {
        below->done = !below->fn(ep, below->opaque);
    }
}

/* Bridges and switches included: an error of the link is one for all of it. */
static void visit_bus(PCIBus *bus, Below *below)
{
    PCIBus *child;

    pci_for_each_device_under_bus(bus, visit_below, below);
    QLIST_FOREACH(child, &bus->child, sibling) {
        visit_bus(child, below);
    }
}

void nyx_aer_foreach_below(PCIDevice *port, NyxEndpointVisit *fn, void *opaque)
{
    Below below = { .fn = fn, .opaque = opaque };

    visit_bus(pci_bridge_get_sec_bus(PCI_BRIDGE(port)), &below);
}

typedef struct Others {
    NyxEndpoint *besides;
    bool operational;
} Others;

static bool look_for_operational(NyxEndpoint *ep, void *opaque)
{
    Others *others = opaque;

    others->operational = ep != others->besides &&
                          ep->state == NYX_DEVICE_STATE_OPERATIONAL;
    return !others->operational;
}

static bool others_work_on(PCIDevice *port, NyxEndpoint *ep)
{
    Others others = { .besides = ep };

    nyx_aer_foreach_below(port, look_for_operational, &others);
    return others.operational;
}

/* The latest that led to the quarantine, rather than from it */
static const NyxFault *latest_fault(const NyxFaultLog *log)
{
    const NyxFault *fault;

    for (unsigned n = 0; (fault = nyx_fault_log_get(log, n)); n++) {
        if (fault->type != NYX_FAULT_TYPE_BLOCKED && !fault->injected) {
            return fault;
        }
    }
    return NULL;
}

static void add_header(PCIEAERErr *err, NyxEndpoint *ep)
{
    const NyxFault *fault = latest_fault(&ep->log);
    uint32_t header[4];

    if (!fault) {
        return;
    }
    header[0] = (fault->access == NYX_ACCESS_R ? TLP_MEM_READ_64
                                               : TLP_MEM_WRITE_64) |
                TLP_LENGTH_1_DW;
    header[1] = (uint32_t)nyx_endpoint_requester_id(ep) << 16 |
                TLP_FIRST_DW_BE;
    header[2] = fault->address >> 32;
    header[3] = (uint32_t)fault->address & ~3u;

    err->flags |= PCIE_AER_ERR_HEADER_VALID;
    for (int i = 0; i < ARRAY_SIZE(header); i++) {
        /* QEMU logs the bytes of a word the other way round. */
        err->header[i] = bswap32(header[i]);
    }
}

static void log_error(PCIDevice *port, const PCIEAERErr *err)
{
    uint8_t *lnkcap = port->config + port->exp.exp_cap + PCI_EXP_LNKCAP;
    uint32_t before = pci_get_long(lnkcap);

    pcie_aer_inject_error(port, err);
    /* QEMU 11.1 writes 32 bits to the device status, over what follows it. */
    pci_set_long(lnkcap, before);
}

void nyx_aer_report(NyxEndpoint *ep)
{
    PCIDevice *port = port_above(ep);
    PCIEAERErr err = { .status = PCI_ERR_UNC_UNSUP };

    if (!port || others_work_on(port, ep)) {
        return;
    }
    err.source_id = pci_requester_id(port);
    WITH_QEMU_LOCK_GUARD(&ep->lock) {
        add_header(&err, ep);
    }
    trace_nyx_aer(err.source_id, nyx_endpoint_requester_id(ep));
    log_error(port, &err);
}

bool nyx_aer_can_contain(NyxEndpoint *ep)
{
    PCIDevice *port = port_above(ep);

    return port && !others_work_on(port, ep) &&
           nyx_root_port_can_contain(port);
}

bool nyx_aer_contain(NyxEndpoint *ep)
{
    return nyx_aer_can_contain(ep) &&
           nyx_root_port_contain(port_above(ep),
                                 nyx_endpoint_requester_id(ep));
}
