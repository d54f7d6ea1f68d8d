/*
 * nyx-pc: the IOMMU model that the guest sees (stage 1)
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The models are QEMU's own.  The machine creates them, with settings that suit
 * what may stand behind a device, rather than the user with -device.
 */

#include "qemu/osdep.h"
#include "hw/core/qdev-properties.h"
#include "hw/core/sysbus.h"
#include "hw/i386/intel_iommu.h"
#include "hw/i386/pc.h"
#include "hw/i386/x86-iommu.h"
#include "hw/pci/pci.h"
#include "hw/pci/pci_bus.h"
#include "hw/virtio/virtio-iommu.h"
#include "qapi/error.h"
#include "qapi/qapi-types-common.h"
#include "qemu/error-report.h"
#include "stage1-model.h"
#include "system/kvm.h"

/* As in hw/i386/amd_iommu.h, which others cannot include. */
#define TYPE_AMD_IOMMU      "amd-iommu"
#define TYPE_AMD_IOMMU_PCI  "AMDVI-PCI"

/*
 * Where a model has a PCI function: libvirt and QEMU hand out slots from 1 on,
 * ICH9's own functions and those of QEMU's Q35 examples are at 0x19 to 0x1f,
 * amd-iommu calls the IOAPIC 0x14, and Linux looks for the north bridge of an
 * AMD system at 0x18.
 */
#define STAGE1_DEVFN        PCI_DEVFN(0x17, 0)

/* No user can choose an id like this one. */
#define STAGE1_PCI_ID       "#stage1-pci"

static GlobalProperty stage1_defaults[] = {
    /* VFIO must learn of new mappings, and vhost of those that go. */
    { TYPE_INTEL_IOMMU_DEVICE, "caching-mode", "on" },
    { TYPE_INTEL_IOMMU_DEVICE, "device-iotlb", "on" },
    { TYPE_INTEL_IOMMU_DEVICE, "aw-bits", "48" },
    { TYPE_AMD_IOMMU, "xtsup", "on" },
    { TYPE_AMD_IOMMU, "dma-remap", "on" },
    /* Stage 2 and IOMMUs of hosts translate no more. */
    { TYPE_VIRTIO_IOMMU_PCI, "aw-bits", "48" },
    { TYPE_VIRTIO_IOMMU_PCI, "boot-bypass", "on" },
};

void nyx_stage1_add_defaults(MachineClass *mc)
{
    compat_props_add(mc->compat_props, stage1_defaults,
                     ARRAY_SIZE(stage1_defaults));
}

static const char *stage1_type(NyxStage1 stage1)
{
    switch (stage1) {
    case NYX_STAGE1_INTEL:
        return TYPE_INTEL_IOMMU_DEVICE;
    case NYX_STAGE1_AMD:
        return TYPE_AMD_IOMMU;
    case NYX_STAGE1_VIRTIO:
        return TYPE_VIRTIO_IOMMU_PCI;
    default:
        g_assert_not_reached();
    }
}

/* Properties that the machine itself sets, so that the model works. */
static bool machine_owns(const char *property)
{
    return g_str_equal(property, "pci-id") || g_str_equal(property, "realized");
}

static bool set_options(DeviceState *model, const QDict *options, Error **errp)
{
    const char *type = object_get_typename(OBJECT(model));
    const QDictEntry *e;
    ERRP_GUARD();

    for (e = qdict_first(options); e; e = qdict_next(options, e)) {
        if (!object_property_find(OBJECT(model), qdict_entry_key(e))) {
            error_setg(errp, "%s has no property '%s'; -device %s,help lists "
                       "those it has", type, qdict_entry_key(e), type);
            return false;
        }
        if (machine_owns(qdict_entry_key(e))) {
            error_setg(errp, "the machine itself sets %s's property '%s'; "
                       "leave it out", type, qdict_entry_key(e));
            return false;
        }
    }
    return object_set_props_from_keyval(OBJECT(model), options, false, errp);
}

/* Remapping is for interrupts that this process, not KVM, delivers. */
static bool can_remap_interrupts(void)
{
    return !kvm_irqchip_in_kernel() || kvm_irqchip_is_split();
}

/* Has the user left it to the machine? */
static bool is_auto(DeviceState *model, const char *name)
{
    g_autofree char *value = object_property_get_str(OBJECT(model), name,
                                                     &error_abort);

    return g_str_equal(value, "auto");
}

static bool is_off(DeviceState *model, const char *name)
{
    g_autofree char *value = object_property_get_str(OBJECT(model), name,
                                                     &error_abort);

    return g_str_equal(value, "off");
}

/*
 * QEMU leaves extended interrupt mode off where KVM has no part in interrupts;
 * but TCG has the x2APIC, and more than 255 CPUs need this mode.
 */
static void choose_eim(DeviceState *model)
{
    if (!kvm_enabled() && !is_off(model, "intremap") &&
        is_auto(model, "eim")) {
        qdev_prop_set_enum(model, "eim", ON_OFF_AUTO_ON);
    }
}

/* AMD's IOMMU has a PCI function beside it; with one of its own it migrates. */
static bool add_amd_function(MachineState *machine, DeviceState *model,
                             Error **errp)
{
    DeviceState *function = DEVICE(pci_new(STAGE1_DEVFN, TYPE_AMD_IOMMU_PCI));

    function->id = g_strdup(STAGE1_PCI_ID);
    object_property_add_child(OBJECT(machine), "stage1-pci", OBJECT(function));
    qdev_prop_set_string(model, "pci-id", STAGE1_PCI_ID);
    return qdev_realize_and_unref(function, BUS(PC_MACHINE(machine)->pcibus),
                                  errp);
}

static bool realize_x86(MachineState *machine, DeviceState *model,
                        NyxStage1 stage1, Error **errp)
{
    bool chosen = !is_auto(model, "intremap");

    if (stage1 == NYX_STAGE1_INTEL) {
        choose_eim(model);
    } else if (!add_amd_function(machine, model, errp)) {
        return false;
    }
    if (!sysbus_realize(SYS_BUS_DEVICE(model), errp)) {
        return false;
    }
    if (!chosen && !can_remap_interrupts()) {
        warn_report("stage1=%s has no interrupt remapping, as "
                    "kernel-irqchip=on leaves interrupts to KVM; use "
                    "kernel-irqchip=split",
                    NyxStage1_str(stage1));
    }
    return true;
}

/* As many as any other IOMMU of a PC has: backends are told no more. */
#define WIDTH_MAX   57

static bool check_width(DeviceState *model, Error **errp)
{
    uint64_t bits = object_property_get_uint(OBJECT(model), "aw-bits",
                                             &error_abort);

    if (bits > WIDTH_MAX) {
        error_setg(errp, "aw-bits must be at most %d", WIDTH_MAX);
        return false;
    }
    return true;
}

static bool realize_model(MachineState *machine, DeviceState *model,
                          NyxStage1 stage1, Error **errp)
{
    if (stage1 == NYX_STAGE1_VIRTIO) {
        return check_width(model, errp) &&
               qdev_realize(model, BUS(PC_MACHINE(machine)->pcibus), errp);
    }
    return realize_x86(machine, model, stage1, errp);
}

bool nyx_stage1_create(MachineState *machine, NyxIommu *iommu, NyxStage1 stage1,
                       const QDict *options, Error **errp)
{
    const char *type = stage1_type(stage1);
    DeviceState *model = qdev_try_new(type);
    ERRP_GUARD();

    if (!model) {
        error_setg(errp, "stage1=%s: this QEMU was built without %s",
                   NyxStage1_str(stage1), type);
        return false;
    }
    object_property_add_child(OBJECT(machine), "stage1-model", OBJECT(model));
    object_unref(OBJECT(model));
    if (stage1 == NYX_STAGE1_VIRTIO) {
        qdev_prop_set_int32(model, "addr", STAGE1_DEVFN);
    }
    if ((options && !set_options(model, options, errp)) ||
        !realize_model(machine, model, stage1, errp)) {
        error_prepend(errp, "stage1=%s: ", NyxStage1_str(stage1));
        return false;
    }
    return nyx_iommu_attach_stage1(iommu, model, errp);
}
