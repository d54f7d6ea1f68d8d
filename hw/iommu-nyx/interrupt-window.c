/*
 * Nyx IOMMU: the interrupt window of an endpoint
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Where a device writes its message signalled interrupts: past the filter
 * they go to the APIC, the rest is refused and recorded.
 */

#include "qemu/osdep.h"
#include "endpoint.h"
#include "interrupt.h"
#include "system/address-spaces.h"
#include "trace.h"

static MemTxResult refuse_msi(NyxEndpoint *ep, NyxAccess access, hwaddr addr,
                              unsigned size)
{
    /* A thread may have blocked the endpoint, and the view not changed yet. */
    NyxFaultType type = qatomic_read(&ep->blocked) ? NYX_FAULT_TYPE_BLOCKED
                                                   : NYX_FAULT_TYPE_INTERRUPT;

    nyx_endpoint_fault(ep, type, access, NYX_MSI_FIRST + addr, size, false);
    return MEMTX_ACCESS_ERROR;
}

static MemTxResult nyx_msi_read(void *opaque, hwaddr addr, uint64_t *data,
                                unsigned size, MemTxAttrs attrs)
{
    *data = UINT64_MAX;
    return refuse_msi(opaque, NYX_ACCESS_R, addr, size);
}

static MemTxResult nyx_msi_write(void *opaque, hwaddr addr, uint64_t data,
                                 unsigned size, MemTxAttrs attrs)
{
    NyxEndpoint *ep = opaque;
    uint64_t address = NYX_MSI_FIRST + addr;
    MemTxResult result;

    if (qatomic_read(&ep->blocked) ||
        !nyx_msi_acceptable(address, data, size)) {
        qatomic_inc(&ep->msi_refused);
        trace_nyx_msi_refuse(nyx_endpoint_requester_id(ep), address, data);
        return refuse_msi(ep, NYX_ACCESS_W, addr, size);
    }
    qatomic_inc(&ep->msi_delivered);
    trace_nyx_msi_deliver(nyx_endpoint_requester_id(ep), address, data);
    address_space_stl_le(&address_space_memory, address, data, attrs, &result);
    return result;
}

static const MemoryRegionOps nyx_msi_ops = {
    .read_with_attrs = nyx_msi_read,
    .write_with_attrs = nyx_msi_write,
    .endianness = DEVICE_LITTLE_ENDIAN,
    .valid = { .min_access_size = 1, .max_access_size = 8, .unaligned = true },
    .impl = { .min_access_size = 1, .max_access_size = 8, .unaligned = true },
};

void nyx_endpoint_init_msi_window(NyxEndpoint *ep)
{
    memory_region_init_io(&ep->view.msi, OBJECT(ep), &nyx_msi_ops, ep,
                          "nyx-msi", NYX_MSI_SIZE);
}
