/*
 * Nyx IOMMU: an endpoint, that is, one requester ID
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "containment.h"
#include "endpoint.h"
#include "held-maps.h"
#include "hw/pci/pci_bridge.h"
#include "hw/pci/pci_bus.h"
#include "interrupt.h"
#include "iommu.h"
#include "qapi/error.h"
#include "qemu/main-loop.h"
#include "qemu/module.h"
#include "qemu/rcu.h"
#include "qemu/timer.h"
#include "system/address-spaces.h"
#include "trace.h"

/* Priorities inside the view's root */
enum {
    VIEW_UNMAPPED = -2,
    VIEW_DEVICES = -1,
    VIEW_CONTENT = 0,
    VIEW_MSI = 1,
    VIEW_BLOCK = 2,
};

/* Bus, slot and function, for trace events */
#define ADDRESS_OF(ep) \
    pci_bus_num((ep)->bus), PCI_SLOT((ep)->devfn), PCI_FUNC((ep)->devfn)

int64_t nyx_endpoint_now(void)
{
    return qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL);
}

/* The trap: where every refused access ends. */

static NyxFaultType refusal(NyxEndpoint *ep, uint64_t address,
                            IOMMUAccessFlags flag)
{
    NyxDomain *domain = qatomic_rcu_read(&ep->domain);
    NyxPageTable *table = domain ? qatomic_rcu_read(&domain->table) : NULL;
    NyxTranslation t;

    if (qatomic_read(&ep->blocked) || !domain) {
        return NYX_FAULT_TYPE_BLOCKED;
    }
    if (address > NYX_IOVA_LAST) {
        return NYX_FAULT_TYPE_ADDRESS_WIDTH;
    }
    if (table && nyx_page_table_lookup(table, address, &t) &&
        !(t.perm & flag)) {
        return NYX_FAULT_TYPE_PERMISSION;
    }
    return NYX_FAULT_TYPE_UNMAPPED;
}

static MemTxResult nyx_trap_read(void *opaque, hwaddr addr, uint64_t *data,
                                 unsigned size, MemTxAttrs attrs)
{
    NyxEndpoint *ep = opaque;

    nyx_endpoint_fault(ep, refusal(ep, addr, IOMMU_RO), NYX_ACCESS_R, addr,
                       size, false);
    *data = UINT64_MAX;
    return MEMTX_ACCESS_ERROR;
}

static MemTxResult nyx_trap_write(void *opaque, hwaddr addr, uint64_t data,
                                  unsigned size, MemTxAttrs attrs)
{
    NyxEndpoint *ep = opaque;

    nyx_endpoint_fault(ep, refusal(ep, addr, IOMMU_WO), NYX_ACCESS_W, addr,
                       size, false);
    return MEMTX_ACCESS_ERROR;
}

static const MemoryRegionOps nyx_trap_ops = {
    .read_with_attrs = nyx_trap_read,
    .write_with_attrs = nyx_trap_write,
    .endianness = DEVICE_LITTLE_ENDIAN,
    .valid = { .min_access_size = 1, .max_access_size = 8, .unaligned = true },
    .impl = { .min_access_size = 1, .max_access_size = 8, .unaligned = true },
};

/*
 * QEMU itself refuses an access with MemTxAttrs.memory that hits no memory, so
 * it never comes to the trap.  It is translated once, though: an IOMMU index
 * of its own tells it, and the translation records it.
 */
enum {
    INDEX_ANY,
    INDEX_MEMORY_ONLY,
    INDEX__MAX,
};

static int nyx_attrs_to_index(IOMMUMemoryRegion *mr, MemTxAttrs attrs)
{
    return attrs.memory ? INDEX_MEMORY_ONLY : INDEX_ANY;
}

static int nyx_num_indexes(IOMMUMemoryRegion *mr)
{
    return INDEX__MAX;
}

/* The trap records an access when, and if, it really happens. */
static IOMMUTLBEntry lead_to_trap(NyxEndpoint *ep, hwaddr iova,
                                  IOMMUAccessFlags flag, int index)
{
    IOMMUTLBEntry entry = {
        .target_as = &ep->trap_as,
        .iova = iova & ~(hwaddr)(NYX_PAGE_SIZE - 1),
        .translated_addr = iova & ~(hwaddr)(NYX_PAGE_SIZE - 1),
        .addr_mask = NYX_PAGE_SIZE - 1,
        .perm = flag,
    };

    if (index == INDEX_MEMORY_ONLY && flag != IOMMU_NONE) {
        nyx_endpoint_fault(ep, refusal(ep, iova, flag),
                           flag == IOMMU_RO ? NYX_ACCESS_R : NYX_ACCESS_W,
                           iova, 1, false);
        entry.perm = IOMMU_NONE;
    }
    return entry;
}

/* The gate of the trap, for DMA that is not translated otherwise */

#define TYPE_NYX_GATE "nyx-gate-memory-region"

static IOMMUTLBEntry nyx_gate_translate(IOMMUMemoryRegion *mr, hwaddr iova,
                                        IOMMUAccessFlags flag, int index)
{
    return lead_to_trap(container_of(mr, NyxEndpoint, gate), iova, flag, index);
}

static void nyx_gate_class_init(ObjectClass *oc, const void *data)
{
    IOMMUMemoryRegionClass *imrc = IOMMU_MEMORY_REGION_CLASS(oc);

    imrc->translate = nyx_gate_translate;
    imrc->attrs_to_index = nyx_attrs_to_index;
    imrc->num_indexes = nyx_num_indexes;
}

/* The interrupt window */

static MemTxResult nyx_msi_read(void *opaque, hwaddr addr, uint64_t *data,
                                unsigned size, MemTxAttrs attrs)
{
    nyx_endpoint_fault(opaque, NYX_FAULT_TYPE_INTERRUPT, NYX_ACCESS_R,
                       NYX_MSI_FIRST + addr, size, false);
    *data = UINT64_MAX;
    return MEMTX_ACCESS_ERROR;
}

static MemTxResult nyx_msi_write(void *opaque, hwaddr addr, uint64_t data,
                                 unsigned size, MemTxAttrs attrs)
{
    NyxEndpoint *ep = opaque;
    uint64_t address = NYX_MSI_FIRST + addr;
    MemTxResult result;

    if (!nyx_msi_acceptable(address, data, size)) {
        qatomic_inc(&ep->msi_refused);
        trace_nyx_msi_refuse(ADDRESS_OF(ep), address, data);
        nyx_endpoint_fault(ep, NYX_FAULT_TYPE_INTERRUPT, NYX_ACCESS_W, address,
                           size, false);
        return MEMTX_ACCESS_ERROR;
    }
    qatomic_inc(&ep->msi_delivered);
    trace_nyx_msi_deliver(ADDRESS_OF(ep), address, data);
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

/* Translation */

#define TYPE_NYX_TRANSLATE "nyx-translate-memory-region"

/*
 * Look up @iova for @domain.  The generation is read before the table: what is
 * cached under it cannot be older than it.
 */
static void nyx_endpoint_lookup(NyxEndpoint *ep, NyxDomain *domain,
                                hwaddr iova, NyxTranslation *t)
{
    uint64_t generation = qatomic_load_acquire(&domain->generation);
    NyxPageTable *table;

    if (nyx_iotlb_lookup(&ep->iotlb, generation, iova, t)) {
        return;
    }
    table = qatomic_rcu_read(&domain->table);
    if (!table) {
        *t = (NyxTranslation) { .mask = NYX_PAGE_SIZE - 1 };
    } else if (nyx_page_table_lookup(table, iova, t)) {
        nyx_iotlb_fill(&ep->iotlb, generation, iova, t);
    }
}

static IOMMUTLBEntry nyx_translate(IOMMUMemoryRegion *mr, hwaddr iova,
                                   IOMMUAccessFlags flag, int index)
{
    NyxEndpoint *ep = container_of(mr, NyxEndpoint, view.translate);
    NyxDomain *domain = qatomic_rcu_read(&ep->domain);
    NyxTranslation t = { .mask = NYX_PAGE_SIZE - 1 };

    if (likely(domain && iova <= NYX_IOVA_LAST &&
               !qatomic_read(&ep->blocked))) {
        nyx_endpoint_lookup(ep, domain, iova, &t);
    }
    if (likely((t.perm & flag) == flag)) {
        return (IOMMUTLBEntry) {
            .target_as = likely(!domain->peer_to_peer) ||
                         nyx_ram_map_in_window(&ep->iommu->ram, t.gpa)
                         ? &address_space_memory : &ep->peers_as,
            .iova = iova & ~t.mask,
            .translated_addr = t.gpa,
            .addr_mask = t.mask,
            .perm = t.perm,
        };
    }
    return lead_to_trap(ep, iova, flag, index);
}

static void nyx_translate_class_init(ObjectClass *oc, const void *data)
{
    IOMMUMemoryRegionClass *imrc = IOMMU_MEMORY_REGION_CLASS(oc);

    imrc->translate = nyx_translate;
    imrc->attrs_to_index = nyx_attrs_to_index;
    imrc->num_indexes = nyx_num_indexes;
}

/* The view */

NyxDmaMode nyx_endpoint_dma_mode(NyxEndpoint *ep)
{
    if (!ep->domain || qatomic_read(&ep->blocked)) {
        return NYX_DMA_MODE_BLOCKED;
    }
    if (ep->domain->isolation == NYX_ISOLATION_UNMANAGED) {
        return NYX_DMA_MODE_UNMANAGED;
    }
    return nyx_domain_translates(ep->domain) ? NYX_DMA_MODE_TRANSLATING
                                             : NYX_DMA_MODE_PASS_THROUGH;
}

/*
 * What translations for @domain may name besides RAM and the trap.  It is there
 * before DMA can see the domain or the translating region; few endpoints need
 * it.
 */
static void nyx_endpoint_need_peers(NyxEndpoint *ep, NyxDomain *domain)
{
    if (domain->peer_to_peer && !ep->peers_as.root) {
        address_space_init(&ep->peers_as, &ep->peers, "nyx-peers");
    }
}

void nyx_endpoint_update_view(NyxEndpoint *ep)
{
    NyxDmaMode mode = nyx_endpoint_dma_mode(ep);
    bool pass = mode == NYX_DMA_MODE_PASS_THROUGH;
    bool translate = mode == NYX_DMA_MODE_TRANSLATING;
    NyxEndpointView *v = &ep->view;

    if (!ep->iommu->ready) {
        return;
    }
    memory_region_transaction_begin();
    memory_region_set_enabled(&v->block, mode == NYX_DMA_MODE_BLOCKED);
    memory_region_set_enabled(&v->ram, pass);
    memory_region_set_enabled(&v->devices, pass && ep->domain->peer_to_peer);
    memory_region_set_enabled(&v->system, mode == NYX_DMA_MODE_UNMANAGED);
    memory_region_set_enabled(MEMORY_REGION(&v->translate), translate);
    memory_region_set_enabled(&v->msi, pass || translate);
    /* QEMU cannot show one region of 2^64 bytes below another. */
    memory_region_set_enabled(&v->unmapped, pass);
    if (translate) {
        nyx_endpoint_need_peers(ep, ep->domain);
    }
    memory_region_transaction_commit();
    trace_nyx_endpoint_view(ADDRESS_OF(ep), NyxDmaMode_str(mode));
}

static void add_to_view(NyxEndpointView *v, MemoryRegion *mr, int priority,
                        hwaddr offset)
{
    memory_region_set_enabled(mr, false);
    memory_region_add_subregion_overlap(&v->root, offset, mr, priority);
}

static void nyx_endpoint_init_trap(NyxEndpoint *ep)
{
    Object *owner = OBJECT(ep);

    memory_region_init_io(&ep->trap, owner, &nyx_trap_ops, ep, "nyx-trap",
                          UINT64_MAX);
    /* A fault takes no lock but the endpoint's own. */
    memory_region_enable_lockless_io(&ep->trap);
    memory_region_init_iommu(&ep->gate, sizeof(ep->gate), TYPE_NYX_GATE, owner,
                             "nyx-gate", UINT64_MAX);
    address_space_init(&ep->trap_as, &ep->trap, "nyx-trap");
}

static void nyx_endpoint_init_view(NyxEndpoint *ep)
{
    NyxEndpointView *v = &ep->view;
    MemoryRegion *gate = MEMORY_REGION(&ep->gate);
    Object *owner = OBJECT(ep);

    memory_region_init(&v->root, owner, "nyx-endpoint", UINT64_MAX);
    memory_region_init_alias(&v->ram, owner, "nyx-pass-through",
                             &ep->iommu->ram.view, 0, UINT64_MAX);
    add_to_view(v, &v->ram, VIEW_CONTENT, 0);
    memory_region_init_alias(&v->devices, owner, "nyx-peers",
                             &ep->iommu->peers, 0, UINT64_MAX);
    add_to_view(v, &v->devices, VIEW_DEVICES, 0);
    memory_region_init_alias(&v->system, owner, "nyx-unmanaged",
                             get_system_memory(), 0, UINT64_MAX);
    add_to_view(v, &v->system, VIEW_CONTENT, 0);
    memory_region_init_iommu(&v->translate, sizeof(v->translate),
                             TYPE_NYX_TRANSLATE, owner, "nyx-translate",
                             UINT64_MAX);
    add_to_view(v, MEMORY_REGION(&v->translate), VIEW_CONTENT, 0);
    memory_region_init_io(&v->msi, owner, &nyx_msi_ops, ep, "nyx-msi",
                          NYX_MSI_SIZE);
    add_to_view(v, &v->msi, VIEW_MSI, NYX_MSI_FIRST);
    memory_region_init_alias(&v->unmapped, owner, "nyx-unmapped", gate, 0,
                             UINT64_MAX);
    add_to_view(v, &v->unmapped, VIEW_UNMAPPED, 0);
    memory_region_init_alias(&v->block, owner, "nyx-block", gate, 0,
                             UINT64_MAX);
    add_to_view(v, &v->block, VIEW_BLOCK, 0);
}

/* Where translations lead that are not to RAM: a device's memory, or the trap */
static void nyx_endpoint_init_peers(NyxEndpoint *ep)
{
    Object *owner = OBJECT(ep);

    memory_region_init(&ep->peers, owner, "nyx-peer-target", UINT64_MAX);
    memory_region_init_alias(&ep->peers_memory, owner, "nyx-peers",
                             &ep->iommu->peers, 0, UINT64_MAX);
    memory_region_add_subregion_overlap(&ep->peers, 0, &ep->peers_memory, 1);
    memory_region_init_alias(&ep->peers_trap, owner, "nyx-no-peer",
                             MEMORY_REGION(&ep->gate), 0, UINT64_MAX);
    memory_region_add_subregion_overlap(&ep->peers, 0, &ep->peers_trap, 0);
}

/* Faults */

static bool contains_at_limit(NyxLimitAction action)
{
    return action == NYX_LIMIT_ACTION_QUARANTINE ||
           action == NYX_LIMIT_ACTION_RESET_DEVICE;
}

#define REPORT_INTERVAL_NS NANOSECONDS_PER_SECOND

/*
 * Pieces of one DMA follow each other within a microsecond or so; what comes
 * much later is a DMA of its own, even if it goes on where the last one ended.
 * A DMA that the host interrupts for so long counts twice.
 */
#define SAME_DMA_NS (50 * SCALE_US)

/* Under @lock: have the main loop report, now or when a second has passed. */
static void schedule_report(NyxEndpoint *ep, int64_t now)
{
    NyxPending *p = &ep->pending;

    if (p->report) {
        return;
    }
    p->report = true;
    if (p->reported_ns < 0 || now - p->reported_ns >= REPORT_INTERVAL_NS) {
        qemu_bh_schedule(ep->bh);
    } else {
        timer_mod(ep->timer, p->reported_ns + REPORT_INTERVAL_NS);
    }
}

void nyx_endpoint_fault(NyxEndpoint *ep, NyxFaultType type, NyxAccess access,
                        uint64_t address, unsigned size, bool injected)
{
    int64_t now = nyx_endpoint_now();
    bool contain = false;

    WITH_QEMU_LOCK_GUARD(&ep->lock) {
        NyxFaultVerdict verdict;

        if (get_clock() - ep->piece_host_ns > SAME_DMA_NS) {
            nyx_fault_log_break(&ep->log);
        }
        verdict = nyx_fault_log_record(&ep->log, type, access, address, size,
                                       injected, now);
        if (verdict == NYX_FAULT_CONTINUED) {
            ep->piece_host_ns = get_clock();
            return;
        }
        ep->pending.fault = *nyx_fault_log_get(&ep->log, 0);
        /* Who is cut off cannot get worse, nor free by going on. */
        if (verdict == NYX_FAULT_LIMIT && !qatomic_read(&ep->blocked)) {
            ep->pending.limit = true;
            ep->pending.action = ep->policy.on_fault_limit;
            contain = contains_at_limit(ep->pending.action);
            qatomic_set(&ep->blocked, contain);
            qemu_bh_schedule(ep->bh);
        }
        schedule_report(ep, now);
        /* Last, as the time that all this took is no gap between pieces. */
        ep->piece_host_ns = get_clock();
    }
    trace_nyx_fault(ADDRESS_OF(ep), NyxFaultType_str(type), NyxAccess_str(access), address,
                    size);

    /*
     * A thread without the BQL leaves this to the main loop: until then its
     * device can still reach what its domain allows, if that is pass-through.
     */
    if (contain && bql_locked()) {
        nyx_endpoint_update_view(ep);
    }
}

/* Under @lock: what is due now; the rest stays pending. */
static NyxPending take_pending(NyxEndpoint *ep, int64_t now)
{
    NyxPending *p = &ep->pending;
    NyxPending due = *p;

    due.report = p->report && (p->reported_ns < 0 ||
                               now - p->reported_ns >= REPORT_INTERVAL_NS);
    if (due.report) {
        p->report = false;
        p->reported_ns = now;
        if (p->restart) {
            p->restart = false;
            nyx_fault_log_restart(&ep->log);
        }
    }
    p->limit = false;
    return due;
}

/* Main loop: tell the world, and do what the policy says. */
static void nyx_endpoint_report(void *opaque)
{
    NyxEndpoint *ep = opaque;
    int64_t now = nyx_endpoint_now();
    NyxPending due;
    uint64_t total, in_window;

    WITH_QEMU_LOCK_GUARD(&ep->lock) {
        in_window = nyx_fault_log_in_window(&ep->log, now);
        total = nyx_fault_log_total(&ep->log);
        due = take_pending(ep, now);
    }
    if (!nyx_endpoint_leader(ep)) {
        return;
    }
    if (due.report) {
        nyx_containment_report(ep, &due.fault, total);
    }
    if (due.limit) {
        nyx_containment_limit(ep, due.action, in_window);
    }
}

void nyx_endpoint_update_policy(NyxEndpoint *ep)
{
    NyxPolicy policy = ep->domain ? nyx_domain_policy(ep->domain)
                                  : nyx_iommu_policy(ep->iommu);

    nyx_policy_apply(&policy, &ep->override);
    WITH_QEMU_LOCK_GUARD(&ep->lock) {
        ep->policy = policy;
        nyx_fault_log_set_limit(&ep->log, policy.max_faults,
                                policy.fault_window_ms * (int64_t)SCALE_MS);
    }
}

/* Members and domain */

NyxFunction *nyx_endpoint_leader(NyxEndpoint *ep)
{
    NyxFunction *fn;

    QTAILQ_FOREACH(fn, &ep->functions, link) {
        if (!nyx_is_bridge(fn->dev)) {
            return fn;
        }
    }
    return QTAILQ_FIRST(&ep->functions);
}

char *nyx_endpoint_name(NyxEndpoint *ep)
{
    NyxFunction *fn = nyx_endpoint_leader(ep);

    return fn ? nyx_function_name(fn) : g_strdup("(no device)");
}

bool nyx_endpoint_bypassed(NyxEndpoint *ep, Error **errp)
{
    NyxFunction *fn;

    QTAILQ_FOREACH(fn, &ep->functions, link) {
        const char *why = nyx_device_bypasses(fn->dev);

        if (why) {
            g_autofree char *name = nyx_function_name(fn);

            error_setg(errp, "device '%s' bypasses the IOMMU, as %s; only "
                       "device_del stops it", name, why);
            return true;
        }
    }
    return false;
}

bool nyx_endpoint_is_bridge(NyxEndpoint *ep)
{
    NyxFunction *fn = nyx_endpoint_leader(ep);

    return !fn || nyx_is_bridge(fn->dev);
}

void nyx_endpoint_add_function(NyxEndpoint *ep, NyxFunction *fn)
{
    fn->endpoint = ep;
    QTAILQ_INSERT_TAIL(&ep->functions, fn, link);
    if (ep->state != NYX_DEVICE_STATE_OPERATIONAL) {
        nyx_quarantine_enter(&fn->quarantine, OBJECT(fn), fn->dev,
                             MEMORY_REGION(&ep->gate));
    }
}

void nyx_endpoint_remove_function(NyxEndpoint *ep, NyxFunction *fn)
{
    nyx_quarantine_abandon(&fn->quarantine);
    QTAILQ_REMOVE(&ep->functions, fn, link);
    fn->endpoint = NULL;
}

void nyx_endpoint_set_domain(NyxEndpoint *ep, NyxDomain *domain)
{
    NyxDomain *old = ep->domain;

    if (old) {
        QTAILQ_REMOVE(&old->endpoints, ep, domain_link);
    }
    if (domain) {
        QTAILQ_INSERT_TAIL(&domain->endpoints, ep, domain_link);
        if (nyx_domain_translates(domain)) {
            nyx_endpoint_need_peers(ep, domain);
        }
    }
    qatomic_rcu_set(&ep->domain, domain);
    WITH_QEMU_LOCK_GUARD(&ep->lock) {
        nyx_fault_log_set_domain(&ep->log,
                                 g_intern_string(domain ? domain->id : ""));
    }
    nyx_endpoint_update_policy(ep);
    nyx_endpoint_update_view(ep);
}

bool nyx_endpoint_io_under_way(NyxEndpoint *ep)
{
    NyxFunction *fn;

    QTAILQ_FOREACH(fn, &ep->functions, link) {
        if (nyx_function_io_under_way(fn)) {
            return true;
        }
    }
    return false;
}

void nyx_endpoint_renew(NyxEndpoint *ep)
{
    NyxFunction *fn;

    QTAILQ_FOREACH(fn, &ep->functions, link) {
        nyx_function_drain_io(fn);
        nyx_device_renew_maps(fn->dev);
    }
}

/* Life */

NyxEndpoint *nyx_endpoint_new(NyxIommu *iommu, PCIBus *bus, int devfn)
{
    NyxEndpoint *ep = NYX_ENDPOINT(object_new(TYPE_NYX_ENDPOINT));

    object_property_add_child(OBJECT(iommu), "endpoint[*]", OBJECT(ep));
    object_unref(OBJECT(ep));
    ep->iommu = iommu;
    ep->bus = bus;
    ep->devfn = devfn;
    memory_region_transaction_begin();
    nyx_endpoint_init_trap(ep);
    nyx_endpoint_init_view(ep);
    nyx_endpoint_init_peers(ep);
    address_space_init(&ep->as, &ep->view.root, "nyx-endpoint");
    nyx_endpoint_update_policy(ep);
    nyx_endpoint_update_view(ep);
    memory_region_transaction_commit();
    return ep;
}

/* Views of memory that are still in use hold references of their own. */
static void nyx_endpoint_unparent(struct rcu_head *head)
{
    object_unparent(OBJECT(container_of(head, NyxEndpoint, rcu)));
}

void nyx_endpoint_free(NyxEndpoint *ep)
{
    assert(QTAILQ_EMPTY(&ep->functions) && !ep->domain);
    timer_del(ep->timer);
    /* In this order: RCU frees the contents of the address spaces first. */
    address_space_destroy(&ep->as);
    address_space_destroy(&ep->trap_as);
    if (ep->peers_as.root) {
        address_space_destroy(&ep->peers_as);
    }
    call_rcu1(&ep->rcu, nyx_endpoint_unparent);
}

static void nyx_endpoint_instance_init(Object *obj)
{
    NyxEndpoint *ep = NYX_ENDPOINT(obj);

    QTAILQ_INIT(&ep->functions);
    qemu_mutex_init(&ep->lock);
    nyx_fault_log_init(&ep->log);
    nyx_fault_log_set_domain(&ep->log, g_intern_static_string(""));
    nyx_recovery_budget_init(&ep->budget);
    nyx_iotlb_init(&ep->iotlb);
    ep->pending.reported_ns = -1;
    /*
     * In the context that nested event loops leave alone: a device that waits
     * for its I/O inside its own reset must not be reset once more.
     */
    ep->bh = aio_bh_new(iohandler_get_aio_context(), nyx_endpoint_report, ep);
    ep->timer = timer_new_ns(QEMU_CLOCK_VIRTUAL, nyx_endpoint_report, ep);
}

static void nyx_endpoint_finalize(Object *obj)
{
    NyxEndpoint *ep = NYX_ENDPOINT(obj);

    qemu_bh_delete(ep->bh);
    timer_free(ep->timer);
    nyx_iotlb_destroy(&ep->iotlb);
    nyx_fault_log_destroy(&ep->log);
    qemu_mutex_destroy(&ep->lock);
}

static const TypeInfo nyx_endpoint_types[] = {
    {
        .name = TYPE_NYX_ENDPOINT,
        .parent = TYPE_OBJECT,
        .instance_size = sizeof(NyxEndpoint),
        .instance_init = nyx_endpoint_instance_init,
        .instance_finalize = nyx_endpoint_finalize,
    }, {
        .name = TYPE_NYX_TRANSLATE,
        .parent = TYPE_IOMMU_MEMORY_REGION,
        .class_init = nyx_translate_class_init,
    }, {
        .name = TYPE_NYX_GATE,
        .parent = TYPE_IOMMU_MEMORY_REGION,
        .class_init = nyx_gate_class_init,
    },
};

DEFINE_TYPES(nyx_endpoint_types)
