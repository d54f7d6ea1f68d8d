/*
 * Nyx ACPI devices: the registers that they share
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "aml.h"
#include "block.h"
#include "hw/acpi/acpi_aml_interface.h"
#include "hw/acpi/acpi_dev_interface.h"
#include "hw/core/boards.h"
#include "hw/southbridge/ich9.h"
#include "migration/vmstate.h"
#include "qapi/error.h"
#include "qemu/bitops.h"
#include "qemu/host-utils.h"
#include "qemu/module.h"
#include "../trace.h"

#define NAME_IN_MACHINE     "nyx-acpi"
#define NOTHING             UINT32_MAX

static NyxAcpiDevice *device_at(NyxAcpiBlock *block, unsigned index)
{
    return index < block->devices->len
           ? g_ptr_array_index(block->devices, index) : NULL;
}

/* Registers */

static uint32_t read_selected(NyxAcpiBlock *block)
{
    NyxAcpiDevice *dev = device_at(block, extract32(block->selector, 0, 8));

    return dev ? NYX_ACPI_DEVICE_GET_CLASS(dev)->read(
                     dev, block->selector >> NYX_ACPI_REGISTER_SHIFT)
               : NOTHING;
}

static void write_selected(NyxAcpiBlock *block, uint32_t value)
{
    NyxAcpiDevice *dev = device_at(block, extract32(block->selector, 0, 8));
    NyxAcpiDeviceClass *dc = dev ? NYX_ACPI_DEVICE_GET_CLASS(dev) : NULL;

    if (dc && dc->write) {
        dc->write(dev, block->selector >> NYX_ACPI_REGISTER_SHIFT, value);
    }
}

static uint32_t take_notification(NyxAcpiBlock *block)
{
    static const uint8_t codes[] = { 0x81, 0x80, 0x02 };

    for (unsigned i = 0; i < block->devices->len; i++) {
        NyxAcpiDevice *dev = device_at(block, i);

        if (dev->pending) {
            int bit = ctz32(dev->pending);

            dev->pending &= dev->pending - 1;
            trace_nyx_acpi_taken(nyx_acpi_device_id(dev), codes[bit]);
            return (i + 1) | codes[bit] << NYX_ACPI_CODE_SHIFT;
        }
    }
    return 0;
}

static uint64_t registers_read(void *opaque, hwaddr addr, unsigned size)
{
    NyxAcpiBlock *block = opaque;

    switch (addr) {
    case NYX_ACPI_PORT_SELECT:
        return block->selector;
    case NYX_ACPI_PORT_DATA:
        return read_selected(block);
    case NYX_ACPI_PORT_NEXT:
        return take_notification(block);
    default:
        return NOTHING;
    }
}

static void registers_write(void *opaque, hwaddr addr, uint64_t value,
                            unsigned size)
{
    NyxAcpiBlock *block = opaque;

    switch (addr) {
    case NYX_ACPI_PORT_SELECT:
        block->selector = value & MAKE_64BIT_MASK(0, 16);
        break;
    case NYX_ACPI_PORT_DATA:
        write_selected(block, value);
        break;
    }
}

static const MemoryRegionOps registers_ops = {
    .read = registers_read,
    .write = registers_write,
    .valid.min_access_size = 4,
    .valid.max_access_size = 4,
    .endianness = DEVICE_LITTLE_ENDIAN,
};

/* Each processor finds its own state there; a debugger the first one's. */
static unsigned asking_cpu(void)
{
    return (current_cpu ? current_cpu : first_cpu)->cpu_index;
}

static uint64_t throttle_read(void *opaque, hwaddr addr, unsigned size)
{
    NyxAcpiBlock *block = opaque;

    return nyx_throttle_get(&block->throttle, asking_cpu());
}

static void throttle_write(void *opaque, hwaddr addr, uint64_t value,
                           unsigned size)
{
    NyxAcpiBlock *block = opaque;

    nyx_throttle_set(&block->throttle, asking_cpu(), value);
}

static const MemoryRegionOps throttle_ops = {
    .read = throttle_read,
    .write = throttle_write,
    .valid.min_access_size = 1,
    .valid.max_access_size = 1,
    .endianness = DEVICE_LITTLE_ENDIAN,
};

void nyx_acpi_block_raise(NyxAcpiBlock *block)
{
    acpi_send_event(block->chipset, BIT(NYX_ACPI_GPE));
}

/* Devices */

NyxAcpiBlock *nyx_acpi_block_find(void)
{
    Object *block = object_resolve_path_component(qdev_get_machine(),
                                                  NAME_IN_MACHINE);

    return block ? NYX_ACPI_BLOCK(block) : NULL;
}

NyxAcpiBlock *nyx_acpi_block_get(Error **errp)
{
    NyxAcpiBlock *block = nyx_acpi_block_find();
    Object *chipset = object_resolve_path_type("", TYPE_ICH9_LPC_DEVICE, NULL);
    Object *isa = object_resolve_path_type("", TYPE_ISA_BUS, NULL);
    DeviceState *dev;

    if (block) {
        return block;
    }
    if (!chipset || !isa) {
        error_setg(errp, "ACPI devices of Nyx need the chipset of a Q35 PC; "
                   "use -M nyx-pc");
        return NULL;
    }
    dev = qdev_new(TYPE_NYX_ACPI_BLOCK);
    block = NYX_ACPI_BLOCK(dev);
    block->chipset = DEVICE(chipset);
    object_property_add_child(qdev_get_machine(), NAME_IN_MACHINE, OBJECT(dev));
    return qdev_realize_and_unref(dev, BUS(isa), errp) ? block : NULL;
}

static gint compare_devices(gconstpointer a, gconstpointer b)
{
    NyxAcpiDevice *one = *(NyxAcpiDevice *const *)a;
    NyxAcpiDevice *other = *(NyxAcpiDevice *const *)b;
    int by_type = (int)NYX_ACPI_DEVICE_GET_CLASS(one)->type -
                  (int)NYX_ACPI_DEVICE_GET_CLASS(other)->type;

    return by_type ? by_type : strcmp(nyx_acpi_device_id(one),
                                      nyx_acpi_device_id(other));
}

static void number_devices(NyxAcpiBlock *block)
{
    g_ptr_array_sort(block->devices, compare_devices);
    for (unsigned i = 0; i < block->devices->len; i++) {
        NyxAcpiDevice *dev = device_at(block, i);
        NyxAcpiDevice *before = i ? device_at(block, i - 1) : NULL;

        dev->index = i;
        dev->number = before && NYX_ACPI_DEVICE_GET_CLASS(before) ==
                                NYX_ACPI_DEVICE_GET_CLASS(dev)
                      ? before->number + 1 : 0;
    }
}

bool nyx_acpi_block_add(NyxAcpiBlock *block, NyxAcpiDevice *dev, Error **errp)
{
    unsigned count = 0;

    for (unsigned i = 0; i < block->devices->len; i++) {
        count += NYX_ACPI_DEVICE_GET_CLASS(device_at(block, i)) ==
                 NYX_ACPI_DEVICE_GET_CLASS(dev);
    }
    if (count == NYX_ACPI_MAX_OF_TYPE) {
        error_setg(errp, "A VM can have %d devices of type %s; leave '%s' out",
                   NYX_ACPI_MAX_OF_TYPE, object_get_typename(OBJECT(dev)),
                   nyx_acpi_device_id(dev));
        return false;
    }
    dev->block = block;
    g_ptr_array_add(block->devices, dev);
    number_devices(block);
    return true;
}

void nyx_acpi_block_remove(NyxAcpiDevice *dev)
{
    g_ptr_array_remove(dev->block->devices, dev);
    number_devices(dev->block);
}

/* Reset and migration */

/*
 * What goes on around the VM does not end with a reset.  What the guest has
 * set does, but not by S3: its drivers take up where they were.
 */
static void block_reset(Object *obj, ResetType type)
{
    NyxAcpiBlock *block = NYX_ACPI_BLOCK(obj);

    if (type == RESET_TYPE_WAKEUP) {
        return;
    }
    block->selector = 0;
    nyx_throttle_reset(&block->throttle);
    for (unsigned i = 0; i < block->devices->len; i++) {
        NyxAcpiDevice *dev = device_at(block, i);
        NyxAcpiDeviceClass *dc = NYX_ACPI_DEVICE_GET_CLASS(dev);

        dev->pending = 0;
        if (dc->reset) {
            dc->reset(dev);
        }
    }
}

/* The chipset has forgotten, in its reset before, that there is something. */
static void block_reset_exit(Object *obj, ResetType type)
{
    NyxAcpiBlock *block = NYX_ACPI_BLOCK(obj);

    for (unsigned i = 0; i < block->devices->len; i++) {
        if (device_at(block, i)->pending) {
            nyx_acpi_block_raise(block);
            return;
        }
    }
}

static int block_pre_save(void *opaque)
{
    NyxAcpiBlock *block = opaque;

    block->saved_count = block->devices->len;
    block->saved_cpus = block->throttle.cpus;
    return 0;
}

static bool block_same_cpus(void *opaque, int version_id)
{
    NyxAcpiBlock *block = opaque;

    return block->saved_cpus == block->throttle.cpus;
}

static bool block_post_load(void *opaque, int version_id, Error **errp)
{
    NyxAcpiBlock *block = opaque;

    if (block->saved_count != block->devices->len) {
        error_setg(errp, "The stream is of a VM with %" PRIu32 " ACPI devices "
                   "of Nyx, here are %u; start both with the same -device "
                   "options", block->saved_count, block->devices->len);
        return false;
    }
    block->selector &= MAKE_64BIT_MASK(0, 16);
    return nyx_throttle_loaded(&block->throttle, errp);
}

static const VMStateDescription vmstate_block = {
    .name = TYPE_NYX_ACPI_BLOCK,
    .version_id = 1,
    .minimum_version_id = 1,
    .pre_save = block_pre_save,
    .post_load_errp = block_post_load,
    .fields = (const VMStateField[]) {
        VMSTATE_UINT32(saved_count, NyxAcpiBlock),
        VMSTATE_UINT32(selector, NyxAcpiBlock),
        VMSTATE_UINT32(saved_cpus, NyxAcpiBlock),
        VMSTATE_VALIDATE("both VMs need the same maxcpus", block_same_cpus),
        VMSTATE_VARRAY_UINT32(throttle.states, NyxAcpiBlock, throttle.cpus, 1,
                              vmstate_info_uint8, uint8_t),
        VMSTATE_END_OF_LIST()
    }
};

static void block_build_aml(AcpiDevAmlIf *obj, Aml *scope)
{
    nyx_acpi_build_aml(NYX_ACPI_BLOCK(obj), scope);
}

static void block_realize(DeviceState *dev, Error **errp)
{
    NyxAcpiBlock *block = NYX_ACPI_BLOCK(dev);

    nyx_throttle_init(&block->throttle, current_machine->smp.max_cpus);
    memory_region_init_io(&block->registers, OBJECT(block), &registers_ops,
                          block, "nyx-acpi", NYX_ACPI_PORT_THROTTLE);
    memory_region_init_io(&block->throttle_register, OBJECT(block),
                          &throttle_ops, block, "nyx-acpi-throttle", 1);
    isa_register_ioport(ISA_DEVICE(dev), &block->registers, NYX_ACPI_PORT);
    isa_register_ioport(ISA_DEVICE(dev), &block->throttle_register,
                        NYX_ACPI_PORT + NYX_ACPI_PORT_THROTTLE);
}

static void block_instance_init(Object *obj)
{
    NYX_ACPI_BLOCK(obj)->devices = g_ptr_array_new();
}

static void block_instance_finalize(Object *obj)
{
    NyxAcpiBlock *block = NYX_ACPI_BLOCK(obj);

    g_ptr_array_free(block->devices, true);
    if (block->throttle.timer) {
        nyx_throttle_finalize(&block->throttle);
    }
}

static void block_class_init(ObjectClass *oc, const void *data)
{
    DeviceClass *dc = DEVICE_CLASS(oc);
    ResettableClass *rc = RESETTABLE_CLASS(oc);

    dc->realize = block_realize;
    dc->vmsd = &vmstate_block;
    dc->user_creatable = false;     /* comes with the first device */
    dc->hotpluggable = false;
    rc->phases.hold = block_reset;
    rc->phases.exit = block_reset_exit;
    ACPI_DEV_AML_IF_CLASS(oc)->build_dev_aml = block_build_aml;
    set_bit(DEVICE_CATEGORY_MISC, dc->categories);
}

static const TypeInfo block_info = {
    .name = TYPE_NYX_ACPI_BLOCK,
    .parent = TYPE_ISA_DEVICE,
    .instance_size = sizeof(NyxAcpiBlock),
    .instance_init = block_instance_init,
    .instance_finalize = block_instance_finalize,
    .class_init = block_class_init,
    .interfaces = (const InterfaceInfo[]) {
        { TYPE_ACPI_DEV_AML_IF },
        { },
    },
};

static void block_register(void)
{
    type_register_static(&block_info);
}

type_init(block_register)
