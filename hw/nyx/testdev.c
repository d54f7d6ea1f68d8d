/*
 * Nyx test device: a PCI Express endpoint that does what it is told
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * DMA of any length to any address, any MSI message, INTx and FLR, on command
 * of a test, a benchmark or a program in a guest.  See docs/nyx/testdev.rst.
 *
 * Locking: everything here runs with the BQL held.
 */

#include "qemu/osdep.h"
#include "qemu/bitops.h"
#include "qemu/module.h"
#include "qapi/error.h"
#include "nyx/include/hw/nyx/testdev.h"
#include "hw/pci/msi.h"
#include "hw/pci/msix.h"
#include "hw/pci/pci_device.h"
#include "hw/pci/pcie_aer.h"
#include "migration/vmstate.h"
#include "testdev-run.h"
#include "trace.h"

#define MSI_CAP_OFFSET      0x60
#define EXPRESS_CAP_OFFSET  0x80
#define AER_CAP_OFFSET      0x100

OBJECT_DECLARE_SIMPLE_TYPE(NyxTestdev, NYX_TESTDEV)

struct NyxTestdev {
    PCIDevice parent_obj;

    MemoryRegion registers;
    MemoryRegion buffer;

    uint32_t result;
    uint32_t scratch;
    uint32_t resets;
    uint32_t intx;
    uint64_t address;
    uint32_t length;
    uint32_t offset;
    uint32_t flags;
    uint32_t count;
    uint32_t slots;
    uint32_t seed;
    uint64_t stride;
    uint64_t msi_address;
    uint32_t msi_data;
    uint32_t vector;

    NyxTestdevRun run;
};

static NyxTestdevRunPlan plan_of(const NyxTestdev *s)
{
    return (NyxTestdevRunPlan) {
        .address = s->address,
        .stride = s->stride,
        .slots = MAX(1, s->slots),
        .length = s->length,
        .offset = s->offset,
        .count = s->count,
        .flags = s->flags,
    };
}

static uint32_t command_dma(NyxTestdev *s, DMADirection direction)
{
    PCIDevice *pdev = PCI_DEVICE(s);
    MemTxAttrs attrs = { .requester_id = pci_requester_id(pdev) };
    NyxTestdevRunPlan plan = plan_of(s);
    MemTxResult result;

    plan.slots = 1;
    plan.flags = 0;
    if (!nyx_testdev_run_plan_valid(&plan)) {
        return NTD_RESULT_BAD_ARGUMENT;
    }
    result = pci_dma_rw(pdev, plan.address,
                        memory_region_get_ram_ptr(&s->buffer) + plan.offset,
                        plan.length, direction, attrs);
    if (direction == DMA_DIRECTION_TO_DEVICE) {
        memory_region_set_dirty(&s->buffer, plan.offset, plan.length);
    }
    trace_nyx_testdev_dma(pdev->name, direction == DMA_DIRECTION_FROM_DEVICE,
                          plan.address, plan.length, result);
    return result == MEMTX_OK ? NTD_RESULT_OK : NTD_RESULT_DMA_ERROR;
}

static uint32_t command_start(NyxTestdev *s)
{
    NyxTestdevRunPlan plan = plan_of(s);

    if (nyx_testdev_run_busy(&s->run)) {
        return NTD_RESULT_BUSY;
    }
    if (!nyx_testdev_run_plan_valid(&plan)) {
        return NTD_RESULT_BAD_ARGUMENT;
    }
    nyx_testdev_run_start(&s->run, &plan, s->seed);
    return NTD_RESULT_OK;
}

/* Bypasses MSI and MSI-X, so that malformed messages can be sent, too. */
static uint32_t command_message(NyxTestdev *s)
{
    PCIDevice *pdev = PCI_DEVICE(s);
    MemTxAttrs attrs = { .requester_id = pci_requester_id(pdev) };
    MemTxResult result;

    result = stl_le_pci_dma(pdev, s->msi_address, s->msi_data, attrs);
    trace_nyx_testdev_message(pdev->name, s->msi_address, s->msi_data, result);
    return result == MEMTX_OK ? NTD_RESULT_OK : NTD_RESULT_DMA_ERROR;
}

static uint32_t command_interrupt(NyxTestdev *s)
{
    PCIDevice *pdev = PCI_DEVICE(s);

    if (msix_enabled(pdev)) {
        if (s->vector >= NTD_VECTORS) {
            return NTD_RESULT_BAD_ARGUMENT;
        }
        msix_notify(pdev, s->vector);
    } else if (msi_enabled(pdev)) {
        if (s->vector >= msi_nr_vectors_allocated(pdev)) {
            return NTD_RESULT_BAD_ARGUMENT;
        }
        msi_notify(pdev, s->vector);
    } else {
        return NTD_RESULT_DISABLED;
    }
    return NTD_RESULT_OK;
}

static uint32_t run_command(NyxTestdev *s, uint32_t command)
{
    switch (command) {
    case NTD_CMD_READ:
        return command_dma(s, DMA_DIRECTION_TO_DEVICE);
    case NTD_CMD_WRITE:
        return command_dma(s, DMA_DIRECTION_FROM_DEVICE);
    case NTD_CMD_START:
        return command_start(s);
    case NTD_CMD_STOP:
        nyx_testdev_run_stop(&s->run);
        return NTD_RESULT_OK;
    case NTD_CMD_MESSAGE:
        return command_message(s);
    case NTD_CMD_INTERRUPT:
        return command_interrupt(s);
    default:
        return NTD_RESULT_BAD_COMMAND;
    }
}

static uint64_t read_progress(NyxTestdev *s, hwaddr reg)
{
    NyxTestdevRunProgress p = nyx_testdev_run_progress(&s->run);

    switch (reg) {
    case NTD_REG_DONE_LO:
        return p.done;
    case NTD_REG_ERRORS_LO:
        return p.errors;
    case NTD_REG_FIRST_ERROR_LO:
        return p.first_error;
    default:
        return p.elapsed_ns;
    }
}

static uint32_t *register32(NyxTestdev *s, hwaddr reg)
{
    switch (reg) {
    case NTD_REG_SCRATCH:
        return &s->scratch;
    case NTD_REG_LENGTH:
        return &s->length;
    case NTD_REG_OFFSET:
        return &s->offset;
    case NTD_REG_FLAGS:
        return &s->flags;
    case NTD_REG_COUNT:
        return &s->count;
    case NTD_REG_SLOTS:
        return &s->slots;
    case NTD_REG_SEED:
        return &s->seed;
    case NTD_REG_MSI_DATA:
        return &s->msi_data;
    case NTD_REG_VECTOR:
        return &s->vector;
    default:
        return NULL;
    }
}

/* @reg: of either half */
static uint64_t *register64(NyxTestdev *s, hwaddr reg)
{
    switch (reg & ~4) {
    case NTD_REG_ADDRESS_LO:
        return &s->address;
    case NTD_REG_STRIDE_LO:
        return &s->stride;
    case NTD_REG_MSI_ADDRESS_LO:
        return &s->msi_address;
    default:
        return NULL;
    }
}

static uint64_t registers_read(void *opaque, hwaddr reg, unsigned size)
{
    NyxTestdev *s = opaque;
    unsigned shift = reg & 4 ? 32 : 0;

    if (register32(s, reg)) {
        return *register32(s, reg);
    }
    if (register64(s, reg)) {
        return extract64(*register64(s, reg), shift, 32);
    }
    switch (reg) {
    case NTD_REG_ID:
        return NTD_ID;
    case NTD_REG_VERSION:
        return NTD_VERSION;
    case NTD_REG_STATUS:
        return nyx_testdev_run_busy(&s->run) ? NTD_STATUS_BUSY : 0;
    case NTD_REG_RESULT:
        return s->result;
    case NTD_REG_RESETS:
        return s->resets;
    case NTD_REG_INTX:
        return s->intx;
    case NTD_REG_DONE_LO ... NTD_REG_ELAPSED_HI:
        return extract64(read_progress(s, reg & ~4), shift, 32);
    default:
        return 0;
    }
}

static void registers_write(void *opaque, hwaddr reg, uint64_t value,
                            unsigned size)
{
    NyxTestdev *s = opaque;
    unsigned shift = reg & 4 ? 32 : 0;
    uint32_t result;

    if (register32(s, reg)) {
        *register32(s, reg) = value;
        return;
    }
    if (register64(s, reg)) {
        uint64_t *field = register64(s, reg);

        *field = deposit64(*field, shift, 32, value);
        return;
    }
    switch (reg) {
    case NTD_REG_COMMAND:
        result = run_command(s, value);
        trace_nyx_testdev_command(PCI_DEVICE(s)->name, value, result);
        s->result = result;
        break;
    case NTD_REG_INTX:
        s->intx = value & 1;
        pci_set_irq(PCI_DEVICE(s), s->intx);
        break;
    default:
        break;
    }
}

static const MemoryRegionOps registers_ops = {
    .read = registers_read,
    .write = registers_write,
    .endianness = DEVICE_LITTLE_ENDIAN,
    .valid = { .min_access_size = 4, .max_access_size = 8 },
    .impl = { .min_access_size = 4, .max_access_size = 4 },
};

static void nyx_testdev_reset_hold(Object *obj, ResetType type)
{
    NyxTestdev *s = NYX_TESTDEV(obj);

    nyx_testdev_run_reset(&s->run);
    pci_set_irq(PCI_DEVICE(s), 0);
    s->result = 0;
    s->scratch = 0;
    s->intx = 0;
    s->address = 0;
    s->length = 0;
    s->offset = 0;
    s->flags = 0;
    s->count = 0;
    s->slots = 0;
    s->seed = 0;
    s->stride = 0;
    s->msi_address = 0;
    s->msi_data = 0;
    s->vector = 0;
    s->resets++;
    trace_nyx_testdev_reset(PCI_DEVICE(s)->name, s->resets);
}

static void nyx_testdev_config_write(PCIDevice *pdev, uint32_t address,
                                     uint32_t value, int size)
{
    pci_default_write_config(pdev, address, value, size);
    if (pdev->exp.exp_cap) {
        pcie_cap_flr_write_config(pdev, address, value, size);
        pcie_aer_write_config(pdev, address, value, size);
    }
}

static bool add_capabilities(PCIDevice *pdev, Error **errp)
{
    if (msix_init_exclusive_bar(pdev, NTD_VECTORS, NTD_BAR_MSIX, errp) < 0) {
        return false;
    }
    for (unsigned vector = 0; vector < NTD_VECTORS; vector++) {
        msix_vector_use(pdev, vector);
    }
    if (msi_init(pdev, MSI_CAP_OFFSET, NTD_VECTORS, true, true, errp) < 0) {
        return false;
    }
    /* Behind a PCIe-to-PCI bridge this is a conventional device. */
    if (!pci_bus_is_express(pci_get_bus(pdev))) {
        return true;
    }
    if (pcie_endpoint_cap_init(pdev, EXPRESS_CAP_OFFSET) < 0) {
        error_setg(errp, "nyx-testdev: no room for the PCIe capability");
        return false;
    }
    pcie_cap_deverr_init(pdev);
    pcie_cap_flr_init(pdev);
    return pcie_aer_init(pdev, PCI_ERR_VER, AER_CAP_OFFSET, PCI_ERR_SIZEOF,
                         errp) >= 0;
}

static void drop_capabilities(PCIDevice *pdev)
{
    if (pdev->exp.aer_cap) {
        pcie_aer_exit(pdev);
    }
    if (pdev->exp.exp_cap) {
        pcie_cap_exit(pdev);
    }
    msi_uninit(pdev);
    if (msix_present(pdev)) {
        msix_uninit_exclusive_bar(pdev);
    }
}

/*
 * The buffer lives on until nobody uses it any more, but a device that takes
 * our place needs its name now.
 */
static void drop_buffer(NyxTestdev *s)
{
    vmstate_unregister_ram(&s->buffer, DEVICE(s));
}

static void nyx_testdev_realize(PCIDevice *pdev, Error **errp)
{
    NyxTestdev *s = NYX_TESTDEV(pdev);

    if (!memory_region_init_ram(&s->buffer, OBJECT(s), "nyx-testdev-buffer",
                                NTD_BUFFER_SIZE, errp)) {
        return;
    }
    if (!add_capabilities(pdev, errp)) {
        drop_capabilities(pdev);
        drop_buffer(s);
        return;
    }
    pci_config_set_interrupt_pin(pdev->config, 1);
    memory_region_init_io(&s->registers, OBJECT(s), &registers_ops, s,
                          "nyx-testdev-registers", NTD_REGISTERS_SIZE);
    pci_register_bar(pdev, NTD_BAR_REGISTERS, PCI_BASE_ADDRESS_SPACE_MEMORY,
                     &s->registers);
    pci_register_bar(pdev, NTD_BAR_BUFFER,
                     PCI_BASE_ADDRESS_SPACE_MEMORY |
                     PCI_BASE_ADDRESS_MEM_PREFETCH |
                     PCI_BASE_ADDRESS_MEM_TYPE_64, &s->buffer);
    nyx_testdev_run_realize(&s->run, &s->buffer);
}

static void nyx_testdev_exit(PCIDevice *pdev)
{
    NyxTestdev *s = NYX_TESTDEV(pdev);

    nyx_testdev_run_unrealize(&s->run);
    drop_capabilities(pdev);
    drop_buffer(s);
}

static void nyx_testdev_init(Object *obj)
{
    NyxTestdev *s = NYX_TESTDEV(obj);

    PCI_DEVICE(obj)->cap_present |= QEMU_PCI_CAP_EXPRESS;
    nyx_testdev_run_init(&s->run, PCI_DEVICE(obj));
}

static void nyx_testdev_finalize(Object *obj)
{
    nyx_testdev_run_finalize(&NYX_TESTDEV(obj)->run);
}

static const VMStateDescription vmstate_nyx_testdev = {
    .name = TYPE_NYX_TESTDEV,
    .version_id = 1,
    .minimum_version_id = 1,
    .fields = (const VMStateField[]) {
        VMSTATE_PCI_DEVICE(parent_obj, NyxTestdev),
        VMSTATE_MSIX(parent_obj, NyxTestdev),
        VMSTATE_UINT32(result, NyxTestdev),
        VMSTATE_UINT32(scratch, NyxTestdev),
        VMSTATE_UINT32(resets, NyxTestdev),
        VMSTATE_UINT32(intx, NyxTestdev),
        VMSTATE_UINT64(address, NyxTestdev),
        VMSTATE_UINT32(length, NyxTestdev),
        VMSTATE_UINT32(offset, NyxTestdev),
        VMSTATE_UINT32(flags, NyxTestdev),
        VMSTATE_UINT32(count, NyxTestdev),
        VMSTATE_UINT32(slots, NyxTestdev),
        VMSTATE_UINT32(seed, NyxTestdev),
        VMSTATE_UINT64(stride, NyxTestdev),
        VMSTATE_UINT64(msi_address, NyxTestdev),
        VMSTATE_UINT32(msi_data, NyxTestdev),
        VMSTATE_UINT32(vector, NyxTestdev),
        VMSTATE_STRUCT(run, NyxTestdev, 1, vmstate_nyx_testdev_run,
                       NyxTestdevRun),
        VMSTATE_END_OF_LIST()
    }
};

static void nyx_testdev_class_init(ObjectClass *klass, const void *data)
{
    DeviceClass *dc = DEVICE_CLASS(klass);
    PCIDeviceClass *pc = PCI_DEVICE_CLASS(klass);
    ResettableClass *rc = RESETTABLE_CLASS(klass);

    pc->realize = nyx_testdev_realize;
    pc->exit = nyx_testdev_exit;
    pc->config_write = nyx_testdev_config_write;
    pc->vendor_id = NTD_VENDOR_ID;
    pc->device_id = NTD_DEVICE_ID;
    pc->revision = NTD_VERSION;
    pc->class_id = PCI_CLASS_OTHERS;
    rc->phases.hold = nyx_testdev_reset_hold;
    dc->vmsd = &vmstate_nyx_testdev;
    dc->desc = "Nyx test device (DMA and interrupts on command)";
    set_bit(DEVICE_CATEGORY_MISC, dc->categories);
}

static const TypeInfo nyx_testdev_types[] = {
    {
        .name = TYPE_NYX_TESTDEV,
        .parent = TYPE_PCI_DEVICE,
        .instance_size = sizeof(NyxTestdev),
        .instance_init = nyx_testdev_init,
        .instance_finalize = nyx_testdev_finalize,
        .class_init = nyx_testdev_class_init,
        .interfaces = (const InterfaceInfo[]) {
            { INTERFACE_PCIE_DEVICE },
            { INTERFACE_CONVENTIONAL_PCI_DEVICE },
            { }
        },
    },
};

DEFINE_TYPES(nyx_testdev_types)
