/*
 * Nyx IOMMU: the IOMMU of a VM
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Finds the endpoint of each PCI function, and the domain of each endpoint.
 */

#include "qemu/osdep.h"
#include "backend.h"
#include "hw/i386/pc.h"
#include "hw/i386/x86-iommu.h"
#include "hw/pci/pci.h"
#include "hw/pci/pci_bus.h"
#include "hw/pci/pci_host.h"
#include "hw/virtio/virtio-iommu.h"
#include "bus-ops.h"
#include "iommu.h"
#include "iommu-properties.h"
#include "qapi/error.h"
#include "qemu/module.h"
#include "qemu/units.h"
#include "qom/object_interfaces.h"
#include "ram-table.h"
#include "system/system.h"
#include "stats.h"
#include "trace.h"
#include "vmstate.h"
#include "vfio-migration.h"
#include "vfio-user-guard.h"

static NyxIommu *the_iommu;

NyxIommu *nyx_iommu_get(void)
{
    return the_iommu;
}

NyxPolicy nyx_iommu_policy(NyxIommu *iommu)
{
    NyxPolicy policy = nyx_policy_default;

    nyx_policy_apply(&policy, &iommu->policy);
    return policy;
}

static NyxDeviceWindow device_window(Object *host, const char *first,
                                     const char *end)
{
    uint64_t from = object_property_get_uint(host, first, &error_abort);
    uint64_t to = object_property_get_uint(host, end, &error_abort);

    from = ROUND_UP(from, NYX_PAGE_SIZE);
    to = ROUND_DOWN(to, NYX_PAGE_SIZE);
    if (from >= to) {
        return (NyxDeviceWindow) {};
    }
    return (NyxDeviceWindow) { .first = from, .last = to - 1 };
}

NyxDeviceWindows nyx_iommu_device_windows(NyxIommu *iommu)
{
    Object *host = OBJECT(BUS(iommu->bus)->parent);

    return (NyxDeviceWindows) {
        .range = {
            device_window(host, PCI_HOST_PROP_PCI_HOLE_START,
                          PCI_HOST_PROP_PCI_HOLE_END),
            device_window(host, PCI_HOST_PROP_PCI_HOLE64_START,
                          PCI_HOST_PROP_PCI_HOLE64_END),
        },
    };
}

/* Domains */

void nyx_iommu_add_domain(NyxIommu *iommu, NyxDomain *domain)
{
    QTAILQ_INSERT_TAIL(&iommu->domains, domain, link);
}

void nyx_iommu_remove_domain(NyxIommu *iommu, NyxDomain *domain)
{
    iommu->past_invalidations += domain->invalidations;
    QTAILQ_REMOVE(&iommu->domains, domain, link);
}

NyxDomain *nyx_iommu_find_domain(NyxIommu *iommu, const char *id, Error **errp)
{
    NyxDomain *domain;

    QTAILQ_FOREACH(domain, &iommu->domains, link) {
        if (g_str_equal(domain->id, id)) {
            return domain;
        }
    }
    error_setg(errp, "there is no domain '%s'; create it with -object "
               "nyx-domain or object-add", id);
    return NULL;
}

static void drop_if_unused(NyxDomain *domain)
{
    if (domain && domain->automatic && QTAILQ_EMPTY(&domain->endpoints)) {
        nyx_domain_unbind(domain);
        nyx_domain_unref_later(domain);
    }
}

void nyx_iommu_drop_unused_domains(NyxIommu *iommu)
{
    NyxDomain *domain, *next;

    QTAILQ_FOREACH_SAFE(domain, &iommu->domains, link, next) {
        drop_if_unused(domain);
    }
}

void nyx_iommu_move_endpoint(NyxIommu *iommu, NyxEndpoint *ep,
                             NyxDomain *domain)
{
    NyxDomain *old = ep->domain;

    nyx_endpoint_set_domain(ep, domain);
    drop_if_unused(old);
}

/* Of the automatic domain for @fn, if no other device has it */
static char *automatic_id(NyxIommu *iommu, NyxFunction *fn)
{
    g_autofree char *name = NULL;

    if (iommu->default_isolation != NYX_ISOLATION_STRICT) {
        return g_strdup_printf("auto:%s",
                               NyxIsolation_str(iommu->default_isolation));
    }
    name = nyx_function_name(fn);
    return g_strdup_printf("auto:%s", name);
}

/* @fn is the first function of an endpoint that names no domain. */
static NyxDomain *nyx_iommu_automatic_domain(NyxIommu *iommu, NyxFunction *fn)
{
    g_autofree char *id = automatic_id(iommu, fn);
    NyxDomain *domain = nyx_iommu_find_domain(iommu, id, NULL);

    /* Of a group whose first device, of this very name, is gone by now. */
    while (domain && !nyx_domain_admits(domain, NULL, NULL)) {
        char *next = g_strconcat(id, "'", NULL);

        g_free(id);
        id = next;
        domain = nyx_iommu_find_domain(iommu, id, NULL);
    }
    return domain ?: nyx_domain_new_automatic(iommu, id,
                                              iommu->default_isolation);
}

/* Endpoints */

static NyxEndpoint *find_endpoint(NyxIommu *iommu, PCIBus *bus, int devfn)
{
    NyxEndpoint *ep;

    QTAILQ_FOREACH(ep, &iommu->endpoints, link) {
        if (ep->bus == bus && ep->devfn == devfn) {
            return ep;
        }
    }
    return NULL;
}

static NyxEndpoint *nyx_iommu_endpoint(NyxIommu *iommu, PCIBus *bus, int devfn)
{
    NyxEndpoint *ep = find_endpoint(iommu, bus, devfn);

    if (!ep) {
        ep = nyx_endpoint_new(iommu, bus, devfn);
        QTAILQ_INSERT_TAIL(&iommu->endpoints, ep, link);
    }
    return ep;
}

static NyxDomain *wanted_domain(NyxIommu *iommu, NyxFunction *fn,
                                NyxEndpoint *ep)
{
    NyxDomain *domain = NULL;

    if (fn->wanted_domain) {
        domain = nyx_iommu_find_domain(iommu, fn->wanted_domain, NULL);
    }
    return domain && nyx_domain_admits(domain, ep, NULL)
           ? domain : nyx_iommu_automatic_domain(iommu, fn);
}

/*
 * A device that is being realized asks for its address space; it is known by
 * that, so that the endpoint does not stay if it cannot be realized after all.
 * VFIO maps everything before it is realized, and reports errors only then: its
 * domain must be there.
 */
NyxEndpoint *nyx_iommu_claim_endpoint(NyxIommu *iommu, PCIBus *bus, int devfn)
{
    NyxEndpoint *ep = nyx_iommu_endpoint(iommu, bus, devfn);
    NyxFunction *fn = iommu->plugging;

    if (!fn || fn->claimed) {
        return ep;
    }
    nyx_endpoint_expect_backend(ep, nyx_backend_dma(fn->dev));
    if (!QTAILQ_EMPTY(&ep->functions)) {
        return ep;
    }
    fn->claimed = ep;
    if (ep->backend_dma == NYX_BACKEND_DMA_MAPS && !ep->domain) {
        nyx_endpoint_set_domain(ep, wanted_domain(iommu, fn, ep));
    }
    return ep;
}

/*
 * PCI core asks, too, for DMA (interrupts, with VFIO) that QEMU does in the
 * name of the device: when all devices of a new machine are realized, later at
 * the beginning of each one's realization.
 */
static bool is_vfio_asking(PCIDevice *dev)
{
    return !phase_check(PHASE_MACHINE_READY) ||
           dev->bus_master_enable_region.alias;
}

/* With stage 1 each requester has mappings of its own. */
NyxDomain *nyx_iommu_claim_container(NyxIommu *iommu)
{
    NyxFunction *fn = iommu->plugging;
    NyxDomain *domain = fn && fn->claimed ? fn->claimed->domain : NULL;

    if (!domain || domain->isolation == NYX_ISOLATION_STRICT ||
        iommu->stage1_model.dev ||
        nyx_device_backend(fn->dev) != NYX_BACKEND_VFIO ||
        !is_vfio_asking(fn->dev)) {
        return NULL;
    }
    fn->container = domain;
    return domain;
}

/* IOAPIC, HPET, local APICs and flash end the 32-bit space. */
#define CHIPSET_FIRST   0xfec00000ULL

/* The first PCI device to come is the chipset's host bridge. */
static void nyx_iommu_attach_bus(NyxIommu *iommu, PCIDevice *host_bridge)
{
    MemoryRegion *pci;

    iommu->bus = pci_device_root_bus(host_bridge);
    pci = iommu->bus->address_space_mem;
    memory_region_init_alias(&iommu->peers_low, OBJECT(iommu), "nyx-peers-low",
                             pci, 0, CHIPSET_FIRST);
    memory_region_add_subregion(&iommu->peers, 0, &iommu->peers_low);
    memory_region_init_alias(&iommu->peers_high, OBJECT(iommu),
                             "nyx-peers-high", pci, 4 * GiB,
                             NYX_IOVA_LAST + 1 - 4 * GiB);
    memory_region_add_subregion(&iommu->peers, 4 * GiB, &iommu->peers_high);
    nyx_bus_serve(iommu);
}

static void nyx_iommu_remove_endpoint(NyxIommu *iommu, NyxEndpoint *ep)
{
    WITH_QEMU_LOCK_GUARD(&ep->lock) {
        iommu->past_faults += nyx_fault_log_total(&ep->log);
    }
    iommu->past_msi_delivered += qatomic_read(&ep->msi_delivered);
    iommu->past_msi_refused += qatomic_read(&ep->msi_refused);
    iommu->past_iotlb_hits += nyx_iotlb_hits(&ep->iotlb);
    iommu->past_iotlb_misses += nyx_iotlb_misses(&ep->iotlb);
    nyx_iommu_move_endpoint(iommu, ep, NULL);
    QTAILQ_REMOVE(&iommu->endpoints, ep, link);
    nyx_endpoint_free(ep);
}

static void nyx_iommu_detach(NyxIommu *iommu, NyxFunction *fn)
{
    NyxEndpoint *ep = fn->endpoint ?: fn->claimed;

    nyx_vfio_user_device_gone(fn->dev);
    nyx_vfio_migration_forget(fn);
    if (fn->endpoint) {
        nyx_endpoint_remove_function(ep, fn);
    }
    fn->claimed = NULL;
    if (ep && QTAILQ_EMPTY(&ep->functions)) {
        nyx_iommu_remove_endpoint(iommu, ep);
    }
}

void nyx_iommu_forget_function(NyxFunction *fn)
{
    NyxIommu *iommu = nyx_iommu_get();

    if (!iommu) {
        return;
    }
    if (iommu->plugging == fn) {
        iommu->plugging = NULL;
    }
    nyx_iommu_detach(iommu, fn);
}

NyxFunction *nyx_iommu_find_function(NyxIommu *iommu, const char *name,
                                     Error **errp)
{
    NyxEndpoint *ep;
    NyxFunction *fn;

    QTAILQ_FOREACH(ep, &iommu->endpoints, link) {
        QTAILQ_FOREACH(fn, &ep->functions, link) {
            g_autofree char *path = NULL;

            if (!g_strcmp0(DEVICE(fn->dev)->id, name)) {
                return fn;
            }
            path = object_get_canonical_path(OBJECT(fn->dev));
            if (g_str_equal(path, name)) {
                return fn;
            }
        }
    }
    error_set(errp, ERROR_CLASS_DEVICE_NOT_FOUND,
              "there is no PCI device '%s' behind the Nyx IOMMU", name);
    return NULL;
}

/* How devices stand */

char *nyx_iommu_device_name(PCIDevice *dev)
{
    return nyx_function_name(nyx_function_of(dev));
}

const char *nyx_iommu_device_domain(PCIDevice *dev)
{
    NyxEndpoint *ep = nyx_function_of(dev)->endpoint;

    return ep && ep->domain ? ep->domain->id : "";
}

NyxDeviceState nyx_iommu_device_state(PCIDevice *dev)
{
    NyxEndpoint *ep = nyx_function_of(dev)->endpoint;

    return ep ? ep->state : NYX_DEVICE_STATE_OPERATIONAL;
}

void nyx_iommu_add_state_notifier(NyxIommu *iommu, Notifier *notifier)
{
    notifier_list_add(&iommu->state_notifiers, notifier);
}

void nyx_iommu_state_changed(NyxEndpoint *ep)
{
    NyxFunction *fn;

    QTAILQ_FOREACH(fn, &ep->functions, link) {
        notifier_list_notify(&ep->iommu->state_notifiers, fn->dev);
    }
}

/* Devices come */

/*
 * The endpoint that other devices share with this one already, which is not
 * realized yet, if the IOMMU cannot tell them apart.
 */
static NyxEndpoint *shared_endpoint(NyxIommu *iommu, PCIDevice *dev)
{
    PCIBus *iommu_bus, *bus;
    int devfn, own_devfn = dev->devfn;
    bool aliased;

    /* A function whose slot is not chosen yet has -1; an alias hides it. */
    dev->devfn = MAX(own_devfn, 0);
    aliased = pci_device_get_iommu_bus_devfn(dev, &iommu_bus, &bus, &devfn);
    dev->devfn = own_devfn;
    return aliased ? find_endpoint(iommu, bus, devfn) : NULL;
}

/*
 * @domain: the one that the device would join, NULL if it is yet to be made.
 * False if it must not.
 */
static bool check_domain(NyxIommu *iommu, NyxFunction *fn, NyxDomain **domain,
                         Error **errp)
{
    NyxEndpoint *ep = shared_endpoint(iommu, fn->dev);
    g_autofree char *automatic = NULL;

    if (ep && !ep->domain) {
        ep = NULL;
    }
    if (!fn->wanted_domain && ep) {
        *domain = ep->domain;
        return true;
    }
    if (!fn->wanted_domain) {
        automatic = automatic_id(iommu, fn);
        *domain = nyx_iommu_find_domain(iommu, automatic, NULL);
        if (*domain && !nyx_domain_admits(*domain, NULL, NULL)) {
            *domain = NULL;
        }
        return true;
    }
    *domain = nyx_iommu_find_domain(iommu, fn->wanted_domain, errp);
    if (!*domain) {
        return false;
    }
    if (ep && ep->domain != *domain) {
        g_autofree char *name = nyx_endpoint_name(ep);

        error_setg(errp, "it cannot be told apart from device '%s', which is "
                   "in domain '%s'; put it into that domain, or on a PCIe "
                   "port", name, ep->domain->id);
        return false;
    }
    return nyx_domain_admits(*domain, ep, errp);
}

/* What -M nyx-pc,stage1=... calls the model that @dev is or belongs to */
static const char *stage1_name(DeviceState *dev)
{
    static const struct {
        const char *type, *name;
    } models[] = {
        { "intel-iommu", "intel" },
        { "amd-iommu", "amd" },
        { "AMDVI-PCI", "amd" },
        { TYPE_VIRTIO_IOMMU_PCI, "virtio" },
    };

    for (int i = 0; i < ARRAY_SIZE(models); i++) {
        if (object_dynamic_cast(OBJECT(dev), models[i].type)) {
            return models[i].name;
        }
    }
    return NULL;
}

bool nyx_iommu_pre_plug(NyxIommu *iommu, DeviceState *dev, Error **errp)
{
    const char *type = object_get_typename(OBJECT(dev));
    NyxDomain *domain;
    NyxFunction *fn;
    ERRP_GUARD();

    /* The machine's own is its child; what the user gives is elsewhere. */
    if (stage1_name(dev) && OBJECT(dev)->parent != qdev_get_machine()) {
        error_setg(errp, "%s cannot be added to nyx-pc, which itself creates "
                   "the IOMMU that the guest sees; use -M nyx-pc,stage1=%s",
                   type, stage1_name(dev));
        return false;
    }
    if (!object_dynamic_cast(OBJECT(dev), TYPE_PCI_DEVICE)) {
        return nyx_vfio_user_admits_memory(dev, errp);
    }
    fn = nyx_function_of(PCI_DEVICE(dev));
    if (!check_domain(iommu, fn, &domain, errp) ||
        !nyx_backend_can_join(fn->dev, domain, errp)) {
        error_prepend(errp, "device '%s': ", dev->id ?: type);
        return false;
    }
    iommu->plugging = fn;
    return true;
}

static void nyx_iommu_device_realize(DeviceListener *listener, DeviceState *dev)
{
    NyxIommu *iommu = container_of(listener, NyxIommu, device_listener);
    PCIBus *iommu_bus, *bus;
    NyxEndpoint *ep;
    NyxFunction *fn;
    int devfn;

    if (!object_dynamic_cast(OBJECT(dev), TYPE_PCI_DEVICE)) {
        return;
    }
    fn = nyx_function_of(PCI_DEVICE(dev));
    if (!iommu->bus) {
        nyx_iommu_attach_bus(iommu, fn->dev);
    }
    pci_device_get_iommu_bus_devfn(fn->dev, &iommu_bus, &bus, &devfn);
    ep = nyx_iommu_endpoint(iommu, bus, devfn);
    if (!ep->domain) {
        nyx_endpoint_set_domain(ep, wanted_domain(iommu, fn, ep));
    }
    fn->claimed = NULL;
    iommu->plugging = NULL;
    nyx_endpoint_add_function(ep, fn);
    nyx_vfio_user_device_ready(fn->dev);
    nyx_vmstate_prepare(fn->dev);
    trace_nyx_attach(DEVICE(dev)->id ?: object_get_typename(OBJECT(dev)),
                     ep->domain->id);
}

/* Devices go: their configuration space is gone already. */
static void nyx_iommu_device_unrealize(DeviceListener *listener,
                                       DeviceState *dev)
{
    NyxIommu *iommu = container_of(listener, NyxIommu, device_listener);

    if (object_dynamic_cast(OBJECT(dev), TYPE_PCI_DEVICE)) {
        nyx_iommu_detach(iommu, nyx_function_of(PCI_DEVICE(dev)));
        nyx_stage1_bridge_gone(iommu, PCI_DEVICE(dev));
    }
}

/* The device itself */

static void nyx_iommu_ram_hotplug(void *opaque, uint64_t first, uint64_t last,
                                  bool plugged)
{
    NyxIommu *iommu = opaque;
    NyxDomain *domain;

    if (iommu->ram_table && plugged) {
        nyx_ram_table_plugged(iommu->ram_table, first, last);
    } else if (iommu->ram_table) {
        nyx_ram_table_unplugged(iommu->ram_table, first, last);
    }
    QTAILQ_FOREACH(domain, &iommu->domains, link) {
        nyx_domain_ram_changed(domain, first, last, plugged);
    }
}

/*
 * Nothing does DMA before; and each change of a view costs QEMU a look at all
 * of them, so they are shown together.
 */
static void nyx_iommu_machine_done(Notifier *notifier, void *data)
{
    NyxIommu *iommu = container_of(notifier, NyxIommu, machine_done);
    NyxEndpoint *ep;

    iommu->ready = true;
    iommu->ram_table = nyx_ram_table_new(&iommu->ram, true);
    memory_region_transaction_begin();
    QTAILQ_FOREACH(ep, &iommu->endpoints, link) {
        nyx_endpoint_update_view(ep);
    }
    memory_region_transaction_commit();
    QTAILQ_FOREACH(ep, &iommu->endpoints, link) {
        nyx_mirror_sync(ep, 0, UINT64_MAX);
    }
}

/* Domains given with -object came before the machine. */
static int bind_domain(Object *obj, void *opaque)
{
    if (object_dynamic_cast(obj, TYPE_NYX_DOMAIN)) {
        nyx_domain_bind(NYX_DOMAIN(obj), opaque);
    }
    return 0;
}

static void nyx_iommu_realize(DeviceState *dev, Error **errp)
{
    NyxIommu *iommu = NYX_IOMMU(dev);

    the_iommu = iommu;
    nyx_vmstate_init(iommu);
    nyx_ram_map_init(&iommu->ram, OBJECT(iommu), nyx_iommu_ram_hotplug, iommu);
    memory_region_init(&iommu->peers, OBJECT(iommu), "nyx-peers", UINT64_MAX);
    iommu->machine_done.notify = nyx_iommu_machine_done;
    qemu_add_machine_init_done_notifier(&iommu->machine_done);
    iommu->device_listener = (DeviceListener) {
        .realize = nyx_iommu_device_realize,
        .unrealize = nyx_iommu_device_unrealize,
    };
    device_listener_register(&iommu->device_listener);
    migration_add_notifier(&iommu->migration_starts, nyx_vfio_migration_starts);
    nyx_stats_register();
    object_child_foreach(object_get_objects_root(), bind_domain, iommu);
}

static void nyx_iommu_instance_init(Object *obj)
{
    NyxIommu *iommu = NYX_IOMMU(obj);

    QTAILQ_INIT(&iommu->domains);
    QTAILQ_INIT(&iommu->endpoints);
    notifier_list_init(&iommu->state_notifiers);
    nyx_restore_init(&iommu->restore);
}

static void nyx_iommu_instance_finalize(Object *obj)
{
    nyx_restore_destroy(&NYX_IOMMU(obj)->restore);
}

static void nyx_iommu_class_init(ObjectClass *oc, const void *data)
{
    DeviceClass *dc = DEVICE_CLASS(oc);

    dc->desc = "Nyx policy IOMMU";
    dc->realize = nyx_iommu_realize;
    dc->vmsd = &nyx_vmstate_iommu;
    dc->user_creatable = false;     /* part of the machine */
    dc->hotpluggable = false;
    nyx_iommu_add_class_properties(oc);
}

static const TypeInfo nyx_iommu_info = {
    .name = TYPE_NYX_IOMMU,
    .parent = TYPE_DEVICE,
    .instance_size = sizeof(NyxIommu),
    .instance_init = nyx_iommu_instance_init,
    .instance_finalize = nyx_iommu_instance_finalize,
    .class_init = nyx_iommu_class_init,
};

static void nyx_iommu_register_types(void)
{
    type_register_static(&nyx_iommu_info);
}

type_init(nyx_iommu_register_types)
