/*
 * nyx-pc: a Q35 PC whose devices all sit behind nyx-iommu
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Everything that is not said here is as in QEMU's pc-q35 machine of the same
 * version.
 */

#include "qemu/osdep.h"
#include "cold-plug.h"
#include "error-recovery.h"
#include "hotplug-ports.h"
#include "hw/core/boards.h"
#include "hw/i386/pc.h"
#include "nyx/include/hw/iommu-nyx/nyx-iommu.h"
#include "nyx/include/hw/nyx/vcpu-health.h"
#include "hw/pci/pci.h"
#include "hw/virtio/virtio.h"
#include "qapi/error.h"
#include "qapi/visitor.h"
#include "qemu/error-report.h"
#include "qemu/module.h"
#include "stage1-model.h"
#include "surprise-removal.h"
#include "tpm-option.h"
#include "unplug.h"
#include "system/system.h"
#include "wakeup.h"

#define TYPE_NYX_PC         MACHINE_TYPE_NAME("pc-q35-nyx-11.1")
#define NYX_PC_PARENT       MACHINE_TYPE_NAME("pc-q35-11.1")
#define NYX_PC_IOMMU        "nyx-iommu"

typedef struct NyxPcClass {
    PCMachineClass parent_class;

    const MachineClass *q35;
    HotplugHandlerClass *q35_hotplug;
} NyxPcClass;

typedef struct NyxPcState {
    PCMachineState parent_obj;

    QDict *stage1_options;      /* may be NULL */
    NyxUnplug unplug;
    NyxColdPlug cold_plug;
    int hotplug_ports;          /* -1: not said */
    NyxTpmOption tpm;
} NyxPcState;

DECLARE_OBJ_CHECKERS(NyxPcState, NyxPcClass, NYX_PC, TYPE_NYX_PC)

/*
 * Virtio devices use the DMA address space of their PCI device only with
 * iommu_platform=on, which needs the modern interface.  Later lines win.
 */
static GlobalProperty nyx_pc_compat[] = {
    { TYPE_VIRTIO_DEVICE, "iommu_platform", "on" },
    /*
     * Their backends, but for a few, cannot translate.  nyx-iommu lets them in
     * where a domain allows all RAM, which is what they have.
     */
    { "vhost-scsi", "iommu_platform", "off", .optional = true },
    { "vhost-user-base", "iommu_platform", "off", .optional = true },
    { "vhost-user-blk", "iommu_platform", "off", .optional = true },
    { "vhost-user-fs-device", "iommu_platform", "off", .optional = true },
    { "vhost-user-gpu", "iommu_platform", "off", .optional = true },
    { "vhost-user-scmi", "iommu_platform", "off", .optional = true },
    { "vhost-user-scsi", "iommu_platform", "off", .optional = true },
    { "vhost-user-vsock-device", "iommu_platform", "off", .optional = true },
    /*
     * What is refused goes through bounce buffers: a request must not wait for
     * ever for a larger one than there can be.
     */
    { TYPE_PCI_DEVICE, "x-max-bounce-buffer-size", "16777216" },
    /* Types that are only modern, or only transitional, do not have it. */
    { "virtio-pci", "disable-legacy", "on", .optional = true },
};

static NyxIommu *nyx_pc_iommu(Object *machine)
{
    return NYX_IOMMU(object_resolve_path_component(machine, NYX_PC_IOMMU));
}

/* Devices: the IOMMU has a say, then QEMU's own handlers go on. */

/* Is it the machine that handles the device, or (false) the device's bus? */
static bool q35_handles(HotplugHandler *handler, DeviceState *dev)
{
    const MachineClass *q35 = NYX_PC_GET_CLASS(handler)->q35;

    return q35->get_hotplug_handler(MACHINE(handler), dev) == handler;
}

static HotplugHandler *nyx_pc_get_hotplug_handler(MachineState *machine,
                                                  DeviceState *dev)
{
    if (object_dynamic_cast(OBJECT(dev), TYPE_PCI_DEVICE) ||
        q35_handles(HOTPLUG_HANDLER(machine), dev)) {
        return HOTPLUG_HANDLER(machine);
    }
    return NULL;
}

static void nyx_pc_pre_plug(HotplugHandler *handler, DeviceState *dev,
                            Error **errp)
{
    HotplugHandler *bus = qdev_get_bus_hotplug_handler(dev);

    if (!nyx_iommu_pre_plug(nyx_pc_iommu(OBJECT(handler)), dev, errp)) {
        return;
    }
    /* VFIO maps what it sees, and has to know whether that works. */
    if (nyx_is_passthrough(object_get_class(OBJECT(dev)))) {
        nyx_cold_plug_interrupt(&NYX_PC(handler)->cold_plug);
    }
    if (q35_handles(handler, dev)) {
        NYX_PC_GET_CLASS(handler)->q35_hotplug->pre_plug(handler, dev, errp);
    } else if (bus) {
        hotplug_handler_pre_plug(bus, dev, errp);
    }
}

static void nyx_pc_plug(HotplugHandler *handler, DeviceState *dev, Error **errp)
{
    HotplugHandler *bus = qdev_get_bus_hotplug_handler(dev);

    if (object_dynamic_cast(OBJECT(dev), TYPE_PCI_DEVICE)) {
        nyx_surprise_removal_forget(PCI_DEVICE(dev));
    }
    nyx_cold_plug_resume(&NYX_PC(handler)->cold_plug);
    if (q35_handles(handler, dev)) {
        NYX_PC_GET_CLASS(handler)->q35_hotplug->plug(handler, dev, errp);
    } else if (bus) {
        hotplug_handler_plug(bus, dev, errp);
    }
}

static void nyx_pc_ask_guest(HotplugHandler *handler, DeviceState *dev,
                             Error **errp)
{
    HotplugHandler *bus = qdev_get_bus_hotplug_handler(dev);

    if (q35_handles(handler, dev)) {
        NYX_PC_GET_CLASS(handler)->q35_hotplug->unplug_request(handler, dev,
                                                               errp);
    } else if (bus) {
        hotplug_handler_unplug_request(bus, dev, errp);
    }
}

static void nyx_pc_unplug_request(HotplugHandler *handler, DeviceState *dev,
                                  Error **errp)
{
    NyxUnplug *unplug = &NYX_PC(handler)->unplug;
    ERRP_GUARD();

    if (!object_dynamic_cast(OBJECT(dev), TYPE_PCI_DEVICE)) {
        nyx_pc_ask_guest(handler, dev, errp);
        return;
    }
    object_ref(OBJECT(dev));
    nyx_unplug_request(unplug, PCI_DEVICE(dev));
    nyx_pc_ask_guest(handler, dev, errp);
    nyx_unplug_requested(unplug, PCI_DEVICE(dev), !*errp);
    object_unref(OBJECT(dev));
}

static void nyx_pc_unplug(HotplugHandler *handler, DeviceState *dev,
                          Error **errp)
{
    HotplugHandler *bus = qdev_get_bus_hotplug_handler(dev);

    if (object_dynamic_cast(OBJECT(dev), TYPE_PCI_DEVICE)) {
        nyx_unplug_let_go(&NYX_PC(handler)->unplug, PCI_DEVICE(dev));
    }
    if (q35_handles(handler, dev)) {
        NYX_PC_GET_CLASS(handler)->q35_hotplug->unplug(handler, dev, errp);
    } else if (bus) {
        hotplug_handler_unplug(bus, dev, errp);
    }
}

/* Machine options are properties of the IOMMU. */

static void nyx_pc_get_option(Object *obj, Visitor *v, const char *name,
                              void *opaque, Error **errp)
{
    object_property_get(OBJECT(nyx_pc_iommu(obj)), name, v, errp);
}

static void nyx_pc_set_option(Object *obj, Visitor *v, const char *name,
                              void *opaque, Error **errp)
{
    object_property_set(OBJECT(nyx_pc_iommu(obj)), name, v, errp);
}

/* Values of the model's properties; it judges them when it is created. */
static void nyx_pc_set_stage1_options(Object *obj, Visitor *v, const char *name,
                                      void *opaque, Error **errp)
{
    NyxPcState *npc = NYX_PC(obj);
    QObject *value;

    if (DEVICE(nyx_pc_iommu(obj))->realized) {
        error_setg(errp, "the properties of stage 1 cannot change while the VM "
                   "runs");
        return;
    }
    if (!visit_type_any(v, name, &value, errp)) {
        return;
    }
    if (!qobject_to(QDict, value)) {
        error_setg(errp, "stage1-options has no value of its own; give "
                   "stage1.PROPERTY=VALUE");
        qobject_unref(value);
        return;
    }
    qobject_unref(npc->stage1_options);
    npc->stage1_options = qobject_to(QDict, value);
}

static unsigned nyx_pc_hotplug_ports(NyxPcState *npc)
{
    if (npc->hotplug_ports >= 0) {
        return npc->hotplug_ports;
    }
    return defaults_enabled() ? NYX_HOTPLUG_PORTS_DEFAULT : 0;
}

static void nyx_pc_get_hotplug_ports(Object *obj, Visitor *v, const char *name,
                                     void *opaque, Error **errp)
{
    uint8_t value = nyx_pc_hotplug_ports(NYX_PC(obj));

    visit_type_uint8(v, name, &value, errp);
}

static void nyx_pc_set_hotplug_ports(Object *obj, Visitor *v, const char *name,
                                     void *opaque, Error **errp)
{
    uint8_t value;

    if (DEVICE(nyx_pc_iommu(obj))->realized) {
        error_setg(errp, "hotplug-ports cannot change while the VM runs");
        return;
    }
    if (!visit_type_uint8(v, name, &value, errp)) {
        return;
    }
    if (value > NYX_HOTPLUG_PORTS_MAX) {
        error_setg(errp, "hotplug-ports must be at most %d; add more ports as "
                   "-device nyx-root-port", NYX_HOTPLUG_PORTS_MAX);
        return;
    }
    NYX_PC(obj)->hotplug_ports = value;
}

static void nyx_pc_get_unplug_timeout(Object *obj, Visitor *v,
                                      const char *name, void *opaque,
                                      Error **errp)
{
    visit_type_uint32(v, name, &NYX_PC(obj)->unplug.timeout_ms, errp);
}

/* Also while the VM runs: requests from then on have it. */
static void nyx_pc_set_unplug_timeout(Object *obj, Visitor *v,
                                      const char *name, void *opaque,
                                      Error **errp)
{
    visit_type_uint32(v, name, &NYX_PC(obj)->unplug.timeout_ms, errp);
}

static void nyx_pc_add_options(ObjectClass *oc)
{
    static const char *const options[] = {
        "stage1", "default-isolation", "max-faults", "fault-window-ms",
        "on-fault-limit", "max-recoveries", "scope", "count-stage1",
        "recovery", "latency-sampling", "on-recovery-limit",
        "recovery-snapshot", "max-restores",
    };
    ObjectClass *iommu = object_class_by_name(TYPE_NYX_IOMMU);

    for (int i = 0; i < ARRAY_SIZE(options); i++) {
        ObjectProperty *prop = object_class_property_find(iommu, options[i]);

        object_class_property_add(oc, prop->name, prop->type,
                                  nyx_pc_get_option, nyx_pc_set_option, NULL,
                                  NULL);
        object_class_property_set_description(oc, prop->name,
                                              prop->description);
    }
    object_class_property_add(oc, "stage1-options", "dict", NULL,
                              nyx_pc_set_stage1_options, NULL, NULL);
    object_class_property_set_description(oc, "stage1-options",
        "Properties of the IOMMU that stage1 names, given as "
        "stage1.PROPERTY=VALUE");
    object_class_property_add(oc, "hotplug-ports", "uint8",
                              nyx_pc_get_hotplug_ports,
                              nyx_pc_set_hotplug_ports, NULL, NULL);
    object_class_property_set_description(oc, "hotplug-ports",
        "Root ports for devices that are plugged in later without bus= "
        "(default: 4; with -nodefaults: 0)");
    object_class_property_add(oc, "unplug-timeout-ms", "uint32",
                              nyx_pc_get_unplug_timeout,
                              nyx_pc_set_unplug_timeout, NULL, NULL);
    object_class_property_set_description(oc, "unplug-timeout-ms",
        "Time after device_del in which the guest may let go of a device that "
        "is not operational, in ms (default: 10000)");
}

static void nyx_pc_create_stage1(MachineState *machine, NyxIommu *iommu)
{
    const QDict *options = NYX_PC(machine)->stage1_options;
    NyxStage1 stage1 = object_property_get_enum(OBJECT(iommu), "stage1",
                                                "NyxStage1", &error_abort);

    if (stage1 != NYX_STAGE1_NONE) {
        nyx_stage1_create(machine, iommu, stage1, options, &error_fatal);
    } else if (options) {
        error_report("stage1.%s has no IOMMU to go to; add stage1=intel, amd "
                     "or virtio", qdict_entry_key(qdict_first(options)));
        exit(EXIT_FAILURE);
    }
}

static void nyx_pc_init(MachineState *machine)
{
    const MachineClass *q35 = NYX_PC_GET_CLASS(machine)->q35;
    NyxIommu *iommu = nyx_pc_iommu(OBJECT(machine));

    if (PC_MACHINE(machine)->default_bus_bypass_iommu) {
        error_report("default-bus-bypass-iommu=on would let devices bypass "
                     "nyx-iommu; use default-isolation=unmanaged instead");
        exit(EXIT_FAILURE);
    }
    nyx_vcpu_health_start(&error_fatal);
    /* First, so that it sees the chipset's devices come, too. */
    qdev_realize(DEVICE(iommu), NULL, &error_fatal);
    nyx_unplug_start(&NYX_PC(machine)->unplug, iommu);
    nyx_error_policy_start();
    nyx_cold_plug_init(&NYX_PC(machine)->cold_plug);
    q35->init(machine);
    /* Before the user's devices, in whatever order the options came. */
    nyx_pc_create_stage1(machine, iommu);
    nyx_hotplug_ports_create(PC_MACHINE(machine)->pcibus,
                             nyx_pc_hotplug_ports(NYX_PC(machine)),
                             &error_fatal);
    nyx_tpm_create(machine, &NYX_PC(machine)->tpm, &error_fatal);
    nyx_cold_plug_begin(&NYX_PC(machine)->cold_plug);
}

static void nyx_pc_wakeup(MachineState *machine)
{
    nyx_wakeup(machine, NYX_PC_GET_CLASS(machine)->q35);
}

static void nyx_pc_instance_init(Object *obj)
{
    Object *iommu = object_new(TYPE_NYX_IOMMU);

    object_property_add_child(obj, NYX_PC_IOMMU, iommu);
    object_unref(iommu);
    NYX_PC(obj)->hotplug_ports = -1;
    nyx_unplug_init(&NYX_PC(obj)->unplug);
}

static void nyx_pc_instance_finalize(Object *obj)
{
    qobject_unref(NYX_PC(obj)->stage1_options);
    nyx_tpm_finalize(&NYX_PC(obj)->tpm);
}

static void nyx_pc_inherit_compat(MachineClass *mc, const MachineClass *parent)
{
    for (guint i = 0; i < parent->compat_props->len; i++) {
        g_ptr_array_add(mc->compat_props, parent->compat_props->pdata[i]);
    }
    compat_props_add(mc->compat_props, nyx_pc_compat,
                     G_N_ELEMENTS(nyx_pc_compat));
    nyx_stage1_add_defaults(mc);
}

static void nyx_pc_class_init(ObjectClass *oc, const void *data)
{
    MachineClass *mc = MACHINE_CLASS(oc);
    HotplugHandlerClass *hc = HOTPLUG_HANDLER_CLASS(oc);
    NyxPcClass *npc = NYX_PC_CLASS(oc);
    ObjectClass *parent = object_class_get_parent(oc);

    npc->q35 = MACHINE_CLASS(parent);
    npc->q35_hotplug = HOTPLUG_HANDLER_CLASS(parent);

    mc->desc = "Nyx PC (Q35 + ICH9, all devices behind nyx-iommu)";
    mc->alias = "nyx-pc";
    mc->is_default = false;
    mc->deprecation_reason = NULL;
    /* With interrupts all in KVM, no IOMMU could remap or refuse them. */
    mc->default_kernel_irqchip_split = true;
    mc->init = nyx_pc_init;
    mc->wakeup = nyx_pc_wakeup;
    mc->get_hotplug_handler = nyx_pc_get_hotplug_handler;
    hc->pre_plug = nyx_pc_pre_plug;
    hc->plug = nyx_pc_plug;
    hc->unplug_request = nyx_pc_unplug_request;
    hc->unplug = nyx_pc_unplug;
    nyx_pc_inherit_compat(mc, MACHINE_CLASS(parent));
    nyx_pc_add_options(oc);
    nyx_tpm_add_options(oc, offsetof(NyxPcState, tpm));
    nyx_vcpu_health_add_options(oc);
    nyx_error_policy_add_options(oc);
    nyx_iommu_add_device_property();
}

static const TypeInfo nyx_pc_info = {
    .name = TYPE_NYX_PC,
    .parent = NYX_PC_PARENT,
    .class_size = sizeof(NyxPcClass),
    .instance_size = sizeof(NyxPcState),
    .instance_init = nyx_pc_instance_init,
    .instance_finalize = nyx_pc_instance_finalize,
    .class_init = nyx_pc_class_init,
};

static void nyx_pc_register_types(void)
{
    type_register_static(&nyx_pc_info);
}

type_init(nyx_pc_register_types)
