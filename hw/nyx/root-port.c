/*
 * nyx-root-port: a PCIe root port that contains errors of what is below it
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * All that is not said here is pcie-root-port's.
 */

#include "qemu/osdep.h"
#include "hw/core/qdev.h"
#include "hw/pci/msi.h"
#include "hw/pci/msix.h"
#include "hw/pci/pci_bridge.h"
#include "hw/pci/pci_bus.h"
#include "hw/pci/pcie.h"
#include "hw/pci/pcie_port.h"
#include "nyx/include/hw/iommu-nyx/nyx-iommu.h"
#include "nyx/include/hw/nyx/root-port.h"
#include "migration/vmstate.h"
#include "qemu/aio.h"
#include "qemu/main-loop.h"
#include "qemu/module.h"
#include "qemu/queue.h"
#include "system/runstate.h"
#include "trace.h"

/* Behind AER and ACS, which pcie-root-port has from 0x100 on */
#define DPC_OFFSET      0x180
#define DPC_SIZE        0x38
#define DPC_VERSION     1

/* 7.9.14.5, RP PIO mask: the values after reset; nothing is enabled. */
#define RP_PIO_MASK     0x00070707u

#define LOG_DWORDS      4       /* header log; neither more, nor prefixes */

#define TRIGGER_ENABLE  (PCI_EXP_DPC_CTL_EN_FATAL | PCI_EXP_DPC_CTL_EN_NONFATAL)
#define SW_TRIGGER      0x0040u /* 7.9.14.3, bit 6 */
#define RW1C            (PCI_EXP_DPC_STATUS_TRIGGER | \
                         PCI_EXP_DPC_STATUS_INTERRUPT)

#define PARENT          "pcie-root-port"

typedef struct NyxRootPortClass {
    PCIERootPortClass parent_class;

    DeviceRealize parent_realize;
    DeviceUnrealize parent_unrealize;
    ResettablePhases parent_phases;
    PCIConfigWriteFunc *parent_config_write;
} NyxRootPortClass;

DECLARE_CLASS_CHECKERS(NyxRootPortClass, NYX_ROOT_PORT, TYPE_NYX_ROOT_PORT)

static uint16_t get_word(PCIDevice *port, unsigned reg)
{
    return pci_get_word(port->config + DPC_OFFSET + reg);
}

static void set_word(PCIDevice *port, unsigned reg, uint16_t value)
{
    pci_set_word(port->config + DPC_OFFSET + reg, value);
}

static bool is_contained(PCIDevice *port)
{
    return get_word(port, PCI_EXP_DPC_STATUS) & PCI_EXP_DPC_STATUS_TRIGGER;
}

/* What was in the slot may have gone while the link was down. */
static bool is_populated(PCIDevice *port)
{
    return pci_bridge_get_sec_bus(PCI_BRIDGE(port))->devices[0];
}

/*
 * 7.5.3.6: a port that does not report it (QEMU's does with native hotplug
 * alone) always says no, and software waits a second instead.
 */
static void set_link_active(PCIDevice *port, bool active)
{
    uint8_t *express = port->config + port->exp.exp_cap;
    uint8_t *status = express + PCI_EXP_LNKSTA;

    if (!(pci_get_long(express + PCI_EXP_LNKCAP) & PCI_EXP_LNKCAP_DLLLARC)) {
        return;
    }
    if (active) {
        pci_word_test_and_set_mask(status, PCI_EXP_LNKSTA_DLLLA);
    } else {
        pci_word_test_and_clear_mask(status, PCI_EXP_LNKSTA_DLLLA);
    }
}

static bool wants_interrupt(PCIDevice *port)
{
    return (get_word(port, PCI_EXP_DPC_CTL) & PCI_EXP_DPC_CTL_INT_EN) &&
           (get_word(port, PCI_EXP_DPC_STATUS) & PCI_EXP_DPC_STATUS_INTERRUPT);
}

/*
 * 6.2.11.1: a message when it becomes wanted, or a level for as long as it is.
 * Number 0: the port has one vector.  Hotplug has the same pin.
 */
static void update_interrupt(PCIDevice *port, bool before)
{
    bool wanted = wants_interrupt(port);

    if (wanted == before) {
        return;
    }
    if (!msix_enabled(port) && !msi_enabled(port)) {
        pci_set_irq(port, wanted || port->exp.hpev_notified);
    } else if (wanted && msix_enabled(port)) {
        msix_notify(port, 0);
    } else if (wanted) {
        msi_notify(port, 0);
    }
}

static void contain(PCIDevice *port, uint16_t reason, uint16_t source)
{
    trace_nyx_root_port_contain(pci_requester_id(port), reason, source);
    set_link_active(port, false);
    set_word(port, PCI_EXP_DPC_SOURCE_ID, source);
    set_word(port, PCI_EXP_DPC_STATUS,
             PCI_EXP_DPC_STATUS_TRIGGER | PCI_EXP_DPC_STATUS_INTERRUPT |
             reason);
}

bool nyx_root_port_can_contain(PCIDevice *port)
{
    return object_dynamic_cast(OBJECT(port), TYPE_NYX_ROOT_PORT) &&
           (get_word(port, PCI_EXP_DPC_CTL) & TRIGGER_ENABLE) &&
           !is_contained(port);
}

bool nyx_root_port_contain(PCIDevice *port, uint16_t source)
{
    bool before;

    if (!nyx_root_port_can_contain(port)) {
        return false;
    }
    before = wants_interrupt(port);
    contain(port, PCI_EXP_DPC_STATUS_TRIGGER_RSN_FE, source);
    update_interrupt(port, before);
    return true;
}

/*
 * Containment has ended, and the link is yet to come up.  A port's type has no
 * room of its own, as the size of its parent is not known outside of that.
 */
typedef struct Release {
    PCIDevice *port;
    bool pending;
    VMChangeStateEntry *vm_state;
    QTAILQ_ENTRY(Release) next;
} Release;

static QTAILQ_HEAD(, Release) releases = QTAILQ_HEAD_INITIALIZER(releases);

/* NULL: the port is not realized, or not any more. */
static Release *find_release(PCIDevice *port)
{
    Release *r;

    QTAILQ_FOREACH(r, &releases, next) {
        if (r->port == port) {
            return r;
        }
    }
    return NULL;
}

/*
 * The link trains: what is below has been reset when it is active.  Out of the
 * guest's access, as devices may wait for their I/O in a reset.
 */
static void release_bh(void *opaque)
{
    PCIDevice *port = opaque;
    Release *r = find_release(port);

    /* If the VM stands still: when it runs, here or elsewhere. */
    if (r && r->pending && !is_contained(port) && runstate_is_running()) {
        r->pending = false;
        trace_nyx_root_port_release(pci_requester_id(port));
        nyx_iommu_port_released(port);
        bus_cold_reset(BUS(pci_bridge_get_sec_bus(PCI_BRIDGE(port))));
        set_link_active(port, is_populated(port));
    }
    object_unref(OBJECT(port));
}

static void release_later(Release *r)
{
    r->pending = true;
    object_ref(OBJECT(r->port));
    aio_bh_schedule_oneshot(iohandler_get_aio_context(), release_bh, r->port);
}

/* It was pending elsewhere; now all that is below has come, too. */
static void vm_state_changed(void *opaque, bool running, RunState state)
{
    Release *r = opaque;

    if (running && r->pending) {
        release_later(r);
    }
}

static bool release_needed(void *opaque)
{
    return ((Release *)opaque)->pending;
}

static const VMStateDescription vmstate_release = {
    .name = "nyx-root-port-release",
    .version_id = 1,
    .minimum_version_id = 1,
    .needed = release_needed,
    .fields = (const VMStateField[]) {
        VMSTATE_BOOL(pending, Release),
        VMSTATE_END_OF_LIST()
    },
};

static void control_written(PCIDevice *port)
{
    uint16_t control = get_word(port, PCI_EXP_DPC_CTL);

    set_word(port, PCI_EXP_DPC_CTL, control & ~SW_TRIGGER);
    if ((control & SW_TRIGGER) && (control & TRIGGER_ENABLE) &&
        !is_contained(port)) {
        contain(port, PCI_EXP_DPC_STATUS_TRIGGER_RSN_IN_EXT |
                      PCI_EXP_DPC_STATUS_TRIGGER_RSN_SW_TRIGGER, 0);
    }
}

static void nyx_root_port_config_write(PCIDevice *port, uint32_t addr,
                                       uint32_t val, int len)
{
    NyxRootPortClass *nrpc = NYX_ROOT_PORT_GET_CLASS(port);
    bool contained = is_contained(port);
    bool wanted = wants_interrupt(port);

    nrpc->parent_config_write(port, addr, val, len);
    if (ranges_overlap(addr, len, DPC_OFFSET + PCI_EXP_DPC_CTL, 2)) {
        control_written(port);
    }
    if (contained && !is_contained(port)) {
        /* 7.9.14.4: the reason means something as long as this is set. */
        set_word(port, PCI_EXP_DPC_STATUS,
                 get_word(port, PCI_EXP_DPC_STATUS) & RW1C);
        release_later(find_release(port));
    }
    update_interrupt(port, wanted);
}

static void init_dpc(PCIDevice *port)
{
    uint8_t *config = port->config + DPC_OFFSET;

    pcie_add_capability(port, PCI_EXT_CAP_ID_DPC, DPC_VERSION, DPC_OFFSET,
                        DPC_SIZE);
    pci_set_word(config + PCI_EXP_DPC_CAP,
                 PCI_EXP_DPC_CAP_RP_EXT | PCI_EXP_DPC_CAP_SW_TRIGGER |
                 LOG_DWORDS << ctz32(PCI_EXP_DPC_RP_PIO_LOG_SIZE));
    pci_set_long(config + PCI_EXP_DPC_RP_PIO_MASK, RP_PIO_MASK);

    pci_set_word(port->wmask + DPC_OFFSET + PCI_EXP_DPC_CTL,
                 TRIGGER_ENABLE | PCI_EXP_DPC_CTL_INT_EN | SW_TRIGGER);
    pci_set_word(port->w1cmask + DPC_OFFSET + PCI_EXP_DPC_STATUS, RW1C);
    pci_set_long(port->w1cmask + DPC_OFFSET + PCI_EXP_DPC_RP_PIO_STATUS,
                 RP_PIO_MASK);
    for (unsigned reg = PCI_EXP_DPC_RP_PIO_MASK;
         reg <= PCI_EXP_DPC_RP_PIO_EXCEPTION; reg += 4) {
        pci_set_long(port->wmask + DPC_OFFSET + reg, RP_PIO_MASK);
    }
    /* They differ between a port and one that is loaded into it. */
    pci_set_word(port->cmask + DPC_OFFSET + PCI_EXP_DPC_STATUS, 0);
    pci_set_word(port->cmask + DPC_OFFSET + PCI_EXP_DPC_SOURCE_ID, 0);
}

static void add_release(PCIDevice *port)
{
    Release *r = g_new0(Release, 1);

    r->port = port;
    r->vm_state = qemu_add_vm_change_state_handler(vm_state_changed, r);
    QTAILQ_INSERT_TAIL(&releases, r, next);
    vmstate_register(VMSTATE_IF(port), 0, &vmstate_release, r);
}

static void remove_release(PCIDevice *port)
{
    Release *r = find_release(port);

    vmstate_unregister(VMSTATE_IF(port), &vmstate_release, r);
    qemu_del_vm_change_state_handler(r->vm_state);
    QTAILQ_REMOVE(&releases, r, next);
    g_free(r);
}

static void nyx_root_port_realize(DeviceState *dev, Error **errp)
{
    ERRP_GUARD();

    NYX_ROOT_PORT_GET_CLASS(dev)->parent_realize(dev, errp);
    if (!*errp) {
        init_dpc(PCI_DEVICE(dev));
        add_release(PCI_DEVICE(dev));
    }
}

static void nyx_root_port_unrealize(DeviceState *dev)
{
    remove_release(PCI_DEVICE(dev));
    NYX_ROOT_PORT_GET_CLASS(dev)->parent_unrealize(dev);
}

/* 6.2.11: a reset of the port ends containment. */
static void nyx_root_port_reset_hold(Object *obj, ResetType type)
{
    NyxRootPortClass *nrpc = NYX_ROOT_PORT_GET_CLASS(obj);
    PCIDevice *port = PCI_DEVICE(obj);
    Release *r = find_release(port);
    bool down = is_contained(port) || (r && r->pending);

    nrpc->parent_phases.hold(obj, type);
    set_word(port, PCI_EXP_DPC_CTL, 0);
    set_word(port, PCI_EXP_DPC_STATUS, 0);
    set_word(port, PCI_EXP_DPC_SOURCE_ID, 0);
    if (down) {
        set_link_active(port, is_populated(port));
    }
    if (r) {
        r->pending = false;
    }
}

static void nyx_root_port_class_init(ObjectClass *oc, const void *data)
{
    DeviceClass *dc = DEVICE_CLASS(oc);
    PCIDeviceClass *k = PCI_DEVICE_CLASS(oc);
    ResettableClass *rc = RESETTABLE_CLASS(oc);
    NyxRootPortClass *nrpc = NYX_ROOT_PORT_CLASS(oc);

    dc->desc = "PCI Express Root Port with Downstream Port Containment";
    device_class_set_parent_realize(dc, nyx_root_port_realize,
                                    &nrpc->parent_realize);
    device_class_set_parent_unrealize(dc, nyx_root_port_unrealize,
                                      &nrpc->parent_unrealize);
    nrpc->parent_config_write = k->config_write;
    k->config_write = nyx_root_port_config_write;
    resettable_class_set_parent_phases(rc, NULL, nyx_root_port_reset_hold,
                                       NULL, &nrpc->parent_phases);
}

static const TypeInfo nyx_root_port_info = {
    .name = TYPE_NYX_ROOT_PORT,
    .parent = PARENT,
    .class_size = sizeof(NyxRootPortClass),
    .class_init = nyx_root_port_class_init,
};

static void nyx_root_port_register_types(void)
{
    type_register_static(&nyx_root_port_info);
}

type_init(nyx_root_port_register_types)
