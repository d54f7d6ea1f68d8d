/*
 * Nyx IOMMU: an endpoint, that is, one requester ID
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "backend.h"
#include "containment.h"
#include "endpoint.h"
#include "held-maps.h"
#include "hw/pci/pci_bridge.h"
#include "hw/pci/pci_bus.h"
#include "iommu.h"
#include "msi-route.h"
#include "qapi/error.h"
#include "qemu/main-loop.h"
#include "qemu/module.h"
#include "qemu/rcu.h"
#include "qemu/timer.h"
#include "trace.h"
#include "vhost-queues.h"

uint16_t nyx_endpoint_requester_id(const NyxEndpoint *ep)
{
    return ep->bus ? PCI_BUILD_BDF(pci_bus_num(ep->bus), ep->devfn)
                   : UINT16_MAX;
}

int64_t nyx_endpoint_now(void)
{
    return qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL);
}

/* Faults */

#define REPORT_INTERVAL_NS NANOSECONDS_PER_SECOND

/*
 * Pieces of one DMA follow each other within a microsecond or so; what comes
 * much later is a DMA of its own, even if it goes on where the last one ended.
 * A DMA that the host interrupts for so long counts twice.
 */
#define SAME_DMA_NS (50 * SCALE_US)

/*
 * Under @lock.  A time that is yet to come is that of a clock which was set
 * back, or of a stream that lies.
 */
static bool may_report(const NyxPending *p, int64_t now)
{
    return p->reported_ns < 0 || p->reported_ns > now ||
           now - p->reported_ns >= REPORT_INTERVAL_NS;
}

/* Under @lock: have the main loop report, now or when a second has passed. */
static void schedule_report(NyxEndpoint *ep, int64_t now)
{
    NyxPending *p = &ep->pending;

    if (p->report && p->reported_ns <= now) {
        return;
    }
    p->report = true;
    if (may_report(p, now)) {
        qemu_bh_schedule(ep->bh);
    } else {
        timer_mod(ep->timer, p->reported_ns + REPORT_INTERVAL_NS);
    }
}

/* Under @lock: what follows from the newest fault.  True: it contains. */
static bool act_on_fault(NyxEndpoint *ep, NyxFaultVerdict verdict, int64_t now)
{
    bool contain = false;

    ep->pending.fault = *nyx_fault_log_get(&ep->log, 0);
    /* Who is cut off cannot get worse, nor free by going on. */
    if (verdict == NYX_FAULT_LIMIT && !nyx_endpoint_is_contained(ep)) {
        ep->pending.limit = true;
        ep->pending.action = ep->policy.on_fault_limit;
        contain = nyx_limit_action_contains(ep->pending.action);
        nyx_endpoint_set_contained(ep, contain);
        qemu_bh_schedule(ep->bh);
    }
    schedule_report(ep, now);
    return contain;
}

void nyx_endpoint_fault(NyxEndpoint *ep, NyxFaultType type, NyxAccess access,
                        uint64_t address, unsigned size, bool injected)
{
    int64_t now = nyx_endpoint_now();
    bool contain = false;

    WITH_QEMU_LOCK_GUARD(&ep->lock) {
        /* What a device does while it is being reset is not held against it. */
        bool reset = type == NYX_FAULT_TYPE_BLOCKED &&
                     !nyx_endpoint_is_contained(ep);
        NyxFaultVerdict verdict;

        if (get_clock() - ep->piece_host_ns > SAME_DMA_NS) {
            nyx_fault_log_break(&ep->log);
        }
        nyx_fault_log_exempt(&ep->log, NYX_FAULT_TYPE_BLOCKED, reset);
        verdict = nyx_fault_log_record(&ep->log, type, access, address, size,
                                       injected, now);
        if (verdict == NYX_FAULT_CONTINUED) {
            ep->piece_host_ns = get_clock();
            return;
        }
        contain = !reset && act_on_fault(ep, verdict, now);
        /* Last, as the time that all this took is no gap between pieces. */
        ep->piece_host_ns = get_clock();
    }
    trace_nyx_fault(nyx_endpoint_requester_id(ep), NyxFaultType_str(type),
                    NyxAccess_str(access), address, size);

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

    due.report = p->report && may_report(p, now);
    if (due.report) {
        p->report = false;
        p->reported_ns = now;
        if (p->restart) {
            p->restart = false;
            nyx_fault_log_restart(&ep->log);
        }
    }
    p->limit = false;
    if (p->report) {
        timer_mod(ep->timer, p->reported_ns + REPORT_INTERVAL_NS);
    }
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

/* An action may stop the clock, which waits for the end of its timers. */
static void nyx_endpoint_report_now(void *opaque)
{
    NyxEndpoint *ep = opaque;

    qemu_bh_schedule(ep->bh);
}

/*
 * What is done with the device is done here, and its state travels.  What is
 * done with the VM has to be done where that is.
 */
static bool is_done_here(NyxLimitAction action)
{
    return action == NYX_LIMIT_ACTION_QUARANTINE ||
           action == NYX_LIMIT_ACTION_RESET_DEVICE ||
           action == NYX_LIMIT_ACTION_REPORT;
}

void nyx_endpoint_settle(NyxEndpoint *ep)
{
    bool due;

    WITH_QEMU_LOCK_GUARD(&ep->lock) {
        due = ep->pending.limit && is_done_here(ep->pending.action);
    }
    if (due) {
        nyx_endpoint_report(ep);
    }
    nyx_coalescer_flush(&ep->coalescer);
}

void nyx_endpoint_resume(NyxEndpoint *ep, NyxDeviceState state, bool report,
                         bool restart, int64_t reported_ns)
{
    const NyxFault *newest;

    WITH_QEMU_LOCK_GUARD(&ep->lock) {
        newest = nyx_fault_log_get(&ep->log, 0);
        ep->pending = (NyxPending) {
            .restart = restart,
            .reported_ns = reported_ns,
        };
        if (report && newest) {
            ep->pending.fault = *newest;
            ep->pending.report = true;
            /* The clock, too, may be one that has yet to arrive. */
            timer_mod(ep->timer, reported_ns < 0 ? 0 : reported_ns +
                                 REPORT_INTERVAL_NS);
        }
        ep->state = state;
        nyx_endpoint_set_contained(ep, state != NYX_DEVICE_STATE_OPERATIONAL);
    }
    nyx_endpoint_update_view(ep);
    nyx_iommu_state_changed(ep);
}

void nyx_endpoint_resume_limit(NyxEndpoint *ep, NyxLimitAction action)
{
    WITH_QEMU_LOCK_GUARD(&ep->lock) {
        ep->pending.limit = true;
        ep->pending.action = action;
        if (nyx_limit_action_contains(action)) {
            nyx_endpoint_set_contained(ep, true);
        }
        /* Of the virtual clock: the VM runs then. */
        timer_mod(ep->timer, 0);
    }
    nyx_endpoint_update_view(ep);
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
        nyx_fault_log_exempt(&ep->log, NYX_FAULT_TYPE_STAGE1,
                             !policy.count_stage1);
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
    nyx_endpoint_expect_backend(ep, nyx_backend_dma(fn->dev));
    if (fn->migratable) {
        /* Without the trap */
        nyx_endpoint_update_view(ep);
    }
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
    fn->resets = 0;
    nyx_endpoint_update_reset(ep);
}

static bool is_being_reset(NyxEndpoint *ep)
{
    NyxFunction *fn;

    QTAILQ_FOREACH(fn, &ep->functions, link) {
        if (fn->resets) {
            return true;
        }
    }
    return false;
}

void nyx_endpoint_update_reset(NyxEndpoint *ep)
{
    bool reset = is_being_reset(ep);

    if (reset == !!(qatomic_read(&ep->blocked) & NYX_BLOCKED_RESET)) {
        return;
    }
    if (reset) {
        qatomic_or(&ep->blocked, NYX_BLOCKED_RESET);
        nyx_coalescer_drop(&ep->coalescer);
        if (ep->backend_caches) {
            nyx_mirror_unmap(ep, 0, UINT64_MAX);
        }
    } else {
        qatomic_and(&ep->blocked, ~NYX_BLOCKED_RESET);
    }
    nyx_endpoint_forget_translations(ep);
    nyx_endpoint_update_view(ep);
}

/*
 * DMA of other threads goes on meanwhile and must not be refused what both
 * domains allow.  So it always finds a table or a view without one: coming from
 * a table, the view is there before the domain; going to one, after it.
 */
void nyx_endpoint_show_domain(NyxEndpoint *ep, NyxDomain *domain)
{
    if (domain && nyx_endpoint_needs_translation(ep, domain)) {
        nyx_endpoint_need_peers(ep, domain);
        qatomic_rcu_set(&ep->domain, domain);
        nyx_endpoint_update_cached(ep);
        nyx_endpoint_forget_translations(ep);
        /* If the view is new, it is the view that tells backends. */
        nyx_mirror_sync(ep, 0, UINT64_MAX);
        nyx_endpoint_show(ep, domain);
        if (ep->backend_caches) {
            /* It may listen only from now on, and hold what it got before. */
            nyx_mirror_unmap(ep, 0, UINT64_MAX);
            nyx_vhost_tell_queues(ep);
        }
    } else {
        nyx_endpoint_show(ep, domain);
        qatomic_rcu_set(&ep->domain, domain);
        nyx_endpoint_update_cached(ep);
        nyx_endpoint_forget_translations(ep);
    }
}

/*
 * No two generations are equal, be they of a domain or of a shadow: an entry is
 * valid while the one under which it was filled is the current one.
 */
static const uint64_t *current_generation(NyxEndpoint *ep)
{
    /* What leads to devices is not cached. */
    if (!ep->domain || ep->domain->peer_to_peer) {
        return NULL;
    }
    if (ep->stage1.mr) {
        return &ep->stage1.shadow.generation;
    }
    return ep->domain->isolation == NYX_ISOLATION_UNMANAGED
           ? NULL : &ep->domain->generation;
}

void nyx_endpoint_update_cached(NyxEndpoint *ep)
{
    qatomic_rcu_set(&ep->generation, current_generation(ep));
}

void nyx_endpoint_forget_translations(NyxEndpoint *ep)
{
    if (ep->stage1.as) {
        nyx_shadow_forget_all(&ep->stage1.shadow);
    }
}

void nyx_endpoint_expect_backend(NyxEndpoint *ep, NyxBackendDma dma)
{
    bool caches = ep->backend_caches || dma == NYX_BACKEND_DMA_CACHES;

    if (dma > ep->backend_dma || caches != ep->backend_caches) {
        ep->backend_dma = MAX(dma, ep->backend_dma);
        ep->backend_caches = caches;
        nyx_endpoint_update_view(ep);
    }
}

void nyx_endpoint_set_domain(NyxEndpoint *ep, NyxDomain *domain)
{
    if (ep->domain) {
        QTAILQ_REMOVE(&ep->domain->endpoints, ep, domain_link);
    }
    if (domain) {
        QTAILQ_INSERT_TAIL(&domain->endpoints, ep, domain_link);
    }
    nyx_endpoint_show_domain(ep, domain);
    WITH_QEMU_LOCK_GUARD(&ep->lock) {
        nyx_fault_log_set_domain(&ep->log,
                                 g_intern_string(domain ? domain->id : ""));
    }
    nyx_endpoint_update_policy(ep);
    nyx_msi_routes_refresh();
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
    nyx_endpoint_init_regions(ep);
    nyx_endpoint_update_policy(ep);
    nyx_endpoint_update_view(ep);
    memory_region_transaction_commit();
    nyx_stage1_link(ep);
    return ep;
}

/* Views of memory that are still in use hold references of their own. */
static void nyx_endpoint_unparent(struct rcu_head *head)
{
    object_unparent(OBJECT(container_of(head, NyxEndpoint, rcu)));
}

#define FREE_RETRY_MS   10

/* Whoever has held on to the address space may have let go by now. */
static void nyx_endpoint_free_when_unused(void *opaque)
{
    NyxEndpoint *ep = opaque;

    if (!QTAILQ_EMPTY(&ep->as.listeners)) {
        timer_mod(ep->free_timer, qemu_clock_get_ms(QEMU_CLOCK_REALTIME) +
                                  FREE_RETRY_MS);
        return;
    }
    /* In this order: RCU frees the contents of the address spaces first. */
    address_space_destroy(&ep->as);
    address_space_destroy(&ep->trap_as);
    if (ep->peers_as.root) {
        address_space_destroy(&ep->peers_as);
    }
    if (ep->stage1.as) {
        address_space_destroy(&ep->stage1_trap_as);
    }
    call_rcu1(&ep->rcu, nyx_endpoint_unparent);
}

/*
 * VFIO listens to the address space until its device is finalized, which comes
 * after all that tells that the device goes.
 */
void nyx_endpoint_free(NyxEndpoint *ep)
{
    assert(QTAILQ_EMPTY(&ep->functions) && !ep->domain);
    timer_del(ep->timer);
    nyx_coalescer_drop(&ep->coalescer);
    nyx_stage1_unlink(ep);
    ep->free_timer = timer_new_ms(QEMU_CLOCK_REALTIME,
                                  nyx_endpoint_free_when_unused, ep);
    nyx_endpoint_free_when_unused(ep);
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
    ep->timer = timer_new_ns(QEMU_CLOCK_VIRTUAL, nyx_endpoint_report_now, ep);
}

static void nyx_endpoint_finalize(Object *obj)
{
    NyxEndpoint *ep = NYX_ENDPOINT(obj);

    qemu_bh_delete(ep->bh);
    timer_free(ep->timer);
    timer_free(ep->free_timer);
    nyx_coalescer_destroy(&ep->coalescer);
    if (ep->stage1.as) {
        nyx_shadow_destroy(&ep->stage1.shadow);
    }
    nyx_mirror_destroy(&ep->mirror);
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
    },
};

DEFINE_TYPES(nyx_endpoint_types)
