/*
 * Nyx IOMMU: the interrupt window of an endpoint
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Where a device writes its message signalled interrupts.  What the guest's
 * IOMMU remaps goes to the APIC as the guest's tables say; what it leaves as it
 * is has to pass the filter.  The rest is refused and recorded.
 *
 * The IOAPIC is no PCI device and has no endpoint.  Its messages go straight
 * into stage 1: X86MachineState.ioapic_as is what the model has set when it was
 * realized, and with KVM's split irqchip kvm_arch_fixup_msi_route() remaps the
 * IOAPIC's routes with no device.  Neither comes through here; the tests in
 * tests/bare-metal show that both are remapped.
 */

#include "qemu/osdep.h"
#include "endpoint.h"
#include "exec/memattrs.h"
#include "hw/i386/apic_internal.h"
#include "hw/i386/x86-iommu.h"
#include "hw/i386/x86.h"
#include "interrupt.h"
#include "interrupt-window.h"
#include "iommu.h"
#include "system/address-spaces.h"
#include "trace.h"

/* VT-d specification, 5.1.2.2: remappable format of address and data */
#define VTD_HANDLE_MASK         0xfffe4ULL  /* bits 19:5 and, above them, 2 */
#define VTD_SUBHANDLE_VALID     (1u << 3)
#define VTD_SUBHANDLE_MASK      0xffffu

static uint16_t vtd_handle(uint64_t address)
{
    return ((address >> 5) & 0x7fff) | ((address & 4) << 13);
}

static uint64_t vtd_handle_bits(uint16_t handle)
{
    return ((handle & 0x7fff) << 5) | ((handle >> 15) << 2);
}

/*
 * int_remap of VT-d keeps it to itself when it fails: only a message that is
 * written is reported to the guest.  Write one that the guest's tables refuse
 * for the same reason, but that does no harm if they have just changed: what
 * counts in the data goes into the address, the vector becomes 0.
 */
static void report_to_guest(NyxEndpoint *ep, const MSIMessage *msg,
                            MemTxAttrs attrs)
{
    /* Any of VT-d's address spaces: the requester is in the attributes. */
    AddressSpace *as = X86_MACHINE(qdev_get_machine())->ioapic_as;
    uint16_t handle = vtd_handle(msg->address);
    uint64_t address = msg->address & ~VTD_HANDLE_MASK;
    uint32_t data = 0;

    if (ep->iommu->stage1 != NYX_STAGE1_INTEL) {
        return;
    }
    if (msg->address & VTD_SUBHANDLE_VALID) {
        handle += msg->data & VTD_SUBHANDLE_MASK;
        data = msg->data & ~VTD_SUBHANDLE_MASK;
    }
    attrs.unspecified = 0;
    attrs.requester_id = nyx_endpoint_requester_id(ep);
    address_space_stl_le(as, address | vtd_handle_bits(handle), data, attrs,
                         NULL);
}

static bool remap(uint16_t requester, const MSIMessage *from, MSIMessage *to)
{
    X86IOMMUState *stage1 = x86_iommu_get_default();
    MSIMessage message = *from;

    return !X86_IOMMU_DEVICE_GET_CLASS(stage1)->int_remap(stage1, &message, to,
                                                          requester);
}

NyxMsiVerdict nyx_msi_judge(NyxStage1 stage1, uint16_t requester,
                            const MSIMessage *from, MSIMessage *to)
{
    *to = *from;
    if (nyx_msi_remappable(stage1, from->address, from->data)) {
        if (!remap(requester, from, to)) {
            return NYX_MSI_REFUSED_BY_STAGE1;
        }
        if (to->address != from->address || to->data != from->data) {
            return NYX_MSI_DELIVER;
        }
    }
    return nyx_msi_acceptable(to->address, to->data) ? NYX_MSI_DELIVER
                                                     : NYX_MSI_REFUSED;
}

static NyxMsiVerdict judge_write(NyxEndpoint *ep, const MSIMessage *from,
                                 unsigned size, MemTxAttrs attrs,
                                 MSIMessage *to)
{
    if (qatomic_read(&ep->blocked) ||
        !nyx_msi_is_message(from->address, size)) {
        return NYX_MSI_REFUSED;
    }
    /* VT-d specification, 4.2.3: a translated request is no interrupt. */
    if (ep->iommu->stage1 == NYX_STAGE1_INTEL &&
        attrs.address_type == PCI_AT_TRANSLATED) {
        return NYX_MSI_REFUSED_BY_STAGE1;
    }
    return nyx_msi_judge(ep->iommu->stage1, nyx_endpoint_requester_id(ep),
                         from, to);
}

static void record_refusal(NyxEndpoint *ep, NyxMsiVerdict verdict,
                           NyxAccess access, uint64_t address, unsigned size)
{
    NyxFaultType type = NYX_FAULT_TYPE_INTERRUPT;

    /* A thread may have blocked the endpoint, and the view not changed yet. */
    if (qatomic_read(&ep->blocked)) {
        type = NYX_FAULT_TYPE_BLOCKED;
    } else if (verdict == NYX_MSI_REFUSED_BY_STAGE1) {
        type = NYX_FAULT_TYPE_STAGE1;
    }
    nyx_endpoint_fault(ep, type, access, address, size, false);
}

static MemTxResult nyx_msi_read(void *opaque, hwaddr addr, uint64_t *data,
                                unsigned size, MemTxAttrs attrs)
{
    record_refusal(opaque, NYX_MSI_REFUSED, NYX_ACCESS_R, NYX_MSI_FIRST + addr,
                   size);
    *data = UINT64_MAX;
    return MEMTX_ACCESS_ERROR;
}

static void refuse(NyxEndpoint *ep, NyxMsiVerdict verdict,
                   const MSIMessage *from, unsigned size, MemTxAttrs attrs)
{
    qatomic_inc(&ep->msi_refused);
    trace_nyx_msi_refuse(nyx_endpoint_requester_id(ep), from->address,
                         from->data, verdict == NYX_MSI_REFUSED_BY_STAGE1);
    record_refusal(ep, verdict, NYX_ACCESS_W, from->address, size);
    if (verdict == NYX_MSI_REFUSED_BY_STAGE1) {
        report_to_guest(ep, from, attrs);
    }
}

/*
 * Not as a write to the address: the registers of a vCPU's own APIC are there,
 * too, and x2APIC destinations do not fit.
 */
static void deliver(NyxEndpoint *ep, const MSIMessage *from, MSIMessage *to)
{
    qatomic_inc(&ep->msi_delivered);
    trace_nyx_msi_deliver(nyx_endpoint_requester_id(ep), from->address,
                          from->data, to->address, to->data);
    apic_get_class(NULL)->send_msi(to);
}

/* The guest may have changed its tables since the message was written. */
static void deliver_held(void *opaque, const MSIMessage *from,
                         MemTxAttrs attrs)
{
    NyxEndpoint *ep = opaque;
    MSIMessage to;
    NyxMsiVerdict verdict = judge_write(ep, from, sizeof(from->data), attrs,
                                        &to);

    if (verdict == NYX_MSI_DELIVER) {
        deliver(ep, from, &to);
    } else {
        refuse(ep, verdict, from, sizeof(from->data), attrs);
    }
}

static MemTxResult nyx_msi_write(void *opaque, hwaddr addr, uint64_t data,
                                 unsigned size, MemTxAttrs attrs)
{
    NyxEndpoint *ep = opaque;
    NyxDomain *domain = ep->domain;
    MSIMessage from = { .address = NYX_MSI_FIRST + addr, .data = data };
    MSIMessage to;
    NyxSampler *sampler = &ep->latency.interrupts;
    int64_t begin_ns =
        nyx_sampler_begin(sampler, qatomic_read(&ep->iommu->latency_sampling));
    NyxMsiVerdict verdict = judge_write(ep, &from, size, attrs, &to);

    nyx_sampler_end(sampler, begin_ns);
    if (verdict != NYX_MSI_DELIVER) {
        refuse(ep, verdict, &from, size, attrs);
        return MEMTX_ACCESS_ERROR;
    }
    if (!domain || !domain->irq_coalescing ||
        !nyx_coalesce(&ep->coalescer, &from, attrs, domain->irq_coalescing)) {
        deliver(ep, &from, &to);
    }
    return MEMTX_OK;
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
    nyx_coalescer_init(&ep->coalescer, deliver_held, ep);
}
