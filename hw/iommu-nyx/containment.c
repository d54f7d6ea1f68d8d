/*
 * Nyx IOMMU: from fault to quarantine to recovery
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "aer.h"
#include "containment.h"
#include "iommu.h"
#include "limit-action.h"
#include "msi-route.h"
#include "qapi/error.h"
#include "qapi/qapi-events-nyx.h"
#include "trace.h"
#include "vfio-user-guard.h"

void nyx_containment_report(NyxEndpoint *ep, const NyxFault *fault,
                            uint64_t total)
{
    g_autofree char *name = nyx_endpoint_name(ep);

    qapi_event_send_nyx_dma_fault(name, fault->domain, fault->type,
                                  fault->address, fault->access,
                                  fault->time_ns, total, fault->injected);
}

static bool may_step(NyxEndpoint *ep, NyxStateEvent event)
{
    NyxDeviceState state = ep->state;

    return nyx_state_step(&state, event);
}

/* False if the state machine forbids it. */
static bool step(NyxEndpoint *ep, NyxStateEvent event, const char *reason)
{
    NyxDeviceState old = ep->state;
    NyxFunction *fn;

    if (!nyx_state_step(&ep->state, event)) {
        return false;
    }
    QTAILQ_FOREACH(fn, &ep->functions, link) {
        g_autofree char *name = nyx_function_name(fn);

        trace_nyx_state(name, NyxDeviceState_str(old),
                        NyxDeviceState_str(ep->state), reason);
        qapi_event_send_nyx_device_state(name, ep->domain->id, old, ep->state,
                                         reason);
    }
    nyx_iommu_state_changed(ep);
    return true;
}

static void cut_off(NyxEndpoint *ep)
{
    NyxFunction *fn;

    nyx_endpoint_set_contained(ep, true);
    nyx_coalescer_drop(&ep->coalescer);
    nyx_endpoint_update_view(ep);
    QTAILQ_FOREACH(fn, &ep->functions, link) {
        nyx_quarantine_enter(&fn->quarantine, OBJECT(fn), fn->dev,
                             MEMORY_REGION(&ep->gate));
    }
}

/* True if the endpoint was operational. */
static bool quarantine_one(NyxEndpoint *ep, const char *reason)
{
    /* A state that says quarantined while DMA goes on would be a lie. */
    if (nyx_endpoint_bypassed(ep, NULL) || !may_step(ep, NYX_EVENT_CONTAIN)) {
        return false;
    }
    cut_off(ep);
    step(ep, NYX_EVENT_CONTAIN, reason);
    ep->iommu->stats.quarantines++;
    return true;
}

/* Returns those that were operational. */
static GPtrArray *quarantine_scope(NyxEndpoint *ep, const char *reason)
{
    GPtrArray *taken = g_ptr_array_new();
    NyxEndpoint *other;

    if (quarantine_one(ep, reason)) {
        g_ptr_array_add(taken, ep);
    }
    if (ep->policy.scope == NYX_SCOPE_DOMAIN) {
        QTAILQ_FOREACH(other, &ep->domain->endpoints, domain_link) {
            if (!nyx_endpoint_is_bridge(other) &&
                quarantine_one(other, reason)) {
                g_ptr_array_add(taken, other);
            }
        }
    }
    return taken;
}

/*
 * What the policy names for a device that has just failed.  Removing it, and
 * going back to a snapshot, begin once nobody is at work with it any more.
 */
static void escalate(NyxEndpoint *ep)
{
    static const NyxLimitAction actions[NYX_RECOVERY_LIMIT_ACTION__MAX] = {
        [NYX_RECOVERY_LIMIT_ACTION_UNPLUG] = NYX_LIMIT_ACTION_UNPLUG,
        [NYX_RECOVERY_LIMIT_ACTION_PAUSE_VM] = NYX_LIMIT_ACTION_PAUSE_VM,
        [NYX_RECOVERY_LIMIT_ACTION_RESET_VM] = NYX_LIMIT_ACTION_RESET_VM,
        [NYX_RECOVERY_LIMIT_ACTION_SHUTDOWN] = NYX_LIMIT_ACTION_SHUTDOWN,
        [NYX_RECOVERY_LIMIT_ACTION_RESTORE_SNAPSHOT] =
            NYX_LIMIT_ACTION_RESTORE_SNAPSHOT,
    };
    NyxRecoveryLimitAction named = ep->policy.on_recovery_limit;

    if (named != NYX_RECOVERY_LIMIT_ACTION_FAIL) {
        nyx_limit_action_start(ep, NYX_LIMIT_RECOVERIES, actions[named]);
    }
}

static bool has_recoveries_left(NyxEndpoint *ep)
{
    return nyx_recovery_budget_left(&ep->budget, ep->policy.max_recoveries,
                                    nyx_endpoint_now());
}

/*
 * The guest would be led to a recovery that there is not going to be, and what
 * the policy names for that would meet drivers in the midst of it.
 */
static bool fails_at_once(NyxEndpoint *ep)
{
    return ep->policy.recovery == NYX_RECOVERY_AUTO &&
           ep->policy.on_recovery_limit != NYX_RECOVERY_LIMIT_ACTION_FAIL &&
           !has_recoveries_left(ep) && nyx_aer_can_contain(ep);
}

/* Once all are cut off, so that none of them works on behind a port. */
static void tell_guest(GPtrArray *taken)
{
    for (guint i = 0; i < taken->len; i++) {
        NyxEndpoint *ep = taken->pdata[i];

        if (fails_at_once(ep)) {
            nyx_aer_report(ep);
            step(ep, NYX_EVENT_EXHAUSTED, "no recoveries left");
            escalate(ep);
        } else if (ep->policy.recovery != NYX_RECOVERY_AUTO ||
                   !nyx_aer_contain(ep)) {
            nyx_aer_report(ep);
        }
    }
}

void nyx_containment_quarantine(NyxEndpoint *ep, const char *reason)
{
    g_autoptr(GPtrArray) taken = quarantine_scope(ep, reason);

    tell_guest(taken);
}

static bool reset_functions(NyxEndpoint *ep, Error **errp)
{
    NyxFunction *fn;

    QTAILQ_FOREACH(fn, &ep->functions, link) {
        if (!nyx_quarantine_reset(&fn->quarantine, fn->dev, errp) ||
            !nyx_vfio_user_was_reset(fn->dev, errp)) {
            nyx_vfio_user_explain(fn->dev, errp);
            return false;
        }
    }
    return true;
}

static void set_to_work(NyxEndpoint *ep)
{
    WITH_QEMU_LOCK_GUARD(&ep->lock) {
        nyx_fault_log_restart(&ep->log);
        ep->pending.limit = false;
        ep->pending.restart = false;
        nyx_endpoint_set_contained(ep, false);
    }
    nyx_endpoint_update_view(ep);
    nyx_msi_routes_refresh();
}

static bool may_recover(NyxEndpoint *ep, bool force, const char *name,
                        Error **errp)
{
    if (ep->state == NYX_DEVICE_STATE_OPERATIONAL) {
        error_setg(errp, "device '%s' is operational; there is nothing to "
                   "recover", name);
        return false;
    }
    if (force) {
        return true;
    }
    if (ep->state == NYX_DEVICE_STATE_FAILED) {
        error_setg(errp, "device '%s' has failed; recover it with force=true, "
                   "or remove it", name);
        return false;
    }
    if (!has_recoveries_left(ep)) {
        step(ep, NYX_EVENT_EXHAUSTED, "no recoveries left");
        error_setg(errp, "device '%s' has had %" PRIu32 " recoveries within "
                   "the last hour, and fails; recover it with force=true, or "
                   "remove it", name,
                   nyx_recovery_budget_used(&ep->budget, nyx_endpoint_now()));
        escalate(ep);
        return false;
    }
    return true;
}

static bool recover(NyxEndpoint *ep, bool force, Error **errp)
{
    g_autofree char *name = nyx_endpoint_name(ep);
    Error *local_err = NULL;

    if (!may_recover(ep, force, name, errp)) {
        return false;
    }
    if (!step(ep, force ? NYX_EVENT_FORCE : NYX_EVENT_RECOVER,
              force ? "recovery forced" : "recovery")) {
        error_setg(errp, "device '%s' is being recovered already", name);
        return false;
    }
    nyx_recovery_budget_spend(&ep->budget, nyx_endpoint_now());
    ep->iommu->stats.recoveries++;
    if (!reset_functions(ep, &local_err)) {
        cut_off(ep);
        step(ep, NYX_EVENT_RECOVERY_FAILED, error_get_pretty(local_err));
        if (!force) {
            escalate(ep);
        }
        error_propagate_prepend(errp, local_err, "device '%s': ", name);
        return false;
    }
    set_to_work(ep);
    step(ep, NYX_EVENT_RECOVERED, "reset and restored");
    return true;
}

/* Its driver is told to begin anew, if there is a way. */
bool nyx_containment_recover(NyxEndpoint *ep, bool force, Error **errp)
{
    if (!recover(ep, force, errp)) {
        return false;
    }
    nyx_aer_contain(ep);
    return true;
}

/* Then it is to leave, and not to come back. */
static bool is_being_unplugged(NyxEndpoint *ep)
{
    NyxFunction *fn;

    QTAILQ_FOREACH(fn, &ep->functions, link) {
        if (DEVICE(fn->dev)->pending_deleted_event) {
            return true;
        }
    }
    return false;
}

static bool recover_released(NyxEndpoint *ep, void *opaque)
{
    Error *local_err = NULL;

    if (ep->state == NYX_DEVICE_STATE_QUARANTINED &&
        ep->policy.recovery == NYX_RECOVERY_AUTO &&
        !is_being_unplugged(ep) && !recover(ep, false, &local_err)) {
        /* The state tells so. */
        error_free(local_err);
    }
    return true;
}

void nyx_iommu_port_released(PCIDevice *port)
{
    if (nyx_iommu_get()) {
        nyx_aer_foreach_below(port, recover_released, NULL);
    }
}

static GPtrArray *quarantine_at_limit(NyxEndpoint *ep, uint64_t faults)
{
    g_autofree char *reason = NULL;

    if (ep->policy.fault_window_ms) {
        reason = g_strdup_printf("%" PRIu64 " faults within %" PRIu32 " ms",
                                 faults, ep->policy.fault_window_ms);
    } else {
        reason = g_strdup_printf("%" PRIu64 " faults", faults);
    }
    return quarantine_scope(ep, reason);
}

/*
 * Whom the quarantine took in, the recovery lets go.  The guest is only told of
 * those that stay cut off.
 */
static bool recover_taken(GPtrArray *taken, Error **errp)
{
    bool done = true;

    for (guint i = 0; i < taken->len; i++) {
        /* The first error is as good as any other. */
        if (!nyx_containment_recover(taken->pdata[i], false,
                                     done ? errp : NULL)) {
            nyx_aer_report(taken->pdata[i]);
            done = false;
        }
    }
    return done;
}

static void reset_at_limit(NyxEndpoint *ep, uint64_t faults)
{
    NyxLimitRequest *req = nyx_limit_action_begin(
        ep, NYX_LIMIT_FAULTS, NYX_LIMIT_ACTION_RESET_DEVICE);
    g_autoptr(GPtrArray) taken = quarantine_at_limit(ep, faults);
    Error *err = NULL;

    recover_taken(taken, &err);
    nyx_limit_action_end(req, err);
}

bool nyx_containment_reset(NyxEndpoint *ep, const char *reason, Error **errp)
{
    g_autoptr(GPtrArray) taken = quarantine_scope(ep, reason);

    return recover_taken(taken, errp);
}

/*
 * Cut off what is then to go.  The guest hears of an error, but is not led
 * through a recovery.
 */
static void leave_at_limit(NyxEndpoint *ep, NyxLimitAction action,
                           uint64_t faults)
{
    g_autoptr(GPtrArray) taken = quarantine_at_limit(ep, faults);

    for (guint i = 0; i < taken->len; i++) {
        nyx_aer_report(taken->pdata[i]);
    }
    nyx_limit_action_start(ep, NYX_LIMIT_FAULTS, action);
}

void nyx_containment_limit(NyxEndpoint *ep, NyxLimitAction action,
                           uint64_t faults)
{
    g_autofree char *name = nyx_endpoint_name(ep);
    g_autoptr(GPtrArray) taken = NULL;
    NyxLimitRequest *req;

    /* It was cut off meanwhile, by the operator or with its domain. */
    if (ep->state != NYX_DEVICE_STATE_OPERATIONAL) {
        return;
    }
    trace_nyx_limit(name, faults, NyxLimitAction_str(action));
    qapi_event_send_nyx_fault_limit(name, ep->domain->id, faults, action);

    switch (action) {
    case NYX_LIMIT_ACTION_QUARANTINE:
        req = nyx_limit_action_begin(ep, NYX_LIMIT_FAULTS, action);
        taken = quarantine_at_limit(ep, faults);
        tell_guest(taken);
        nyx_limit_action_end(req, NULL);
        break;
    case NYX_LIMIT_ACTION_RESET_DEVICE:
        reset_at_limit(ep, faults);
        break;
    case NYX_LIMIT_ACTION_REPORT:
        /* Not at once, or a flood of faults were a flood of events. */
        WITH_QEMU_LOCK_GUARD(&ep->lock) {
            ep->pending.restart = true;
        }
        req = nyx_limit_action_begin(ep, NYX_LIMIT_FAULTS, action);
        nyx_limit_action_end(req, NULL);
        break;
    case NYX_LIMIT_ACTION_UNPLUG:
    case NYX_LIMIT_ACTION_RESTORE_SNAPSHOT:
        leave_at_limit(ep, action, faults);
        break;
    default:
        /* The VM is in question, not the device: faults count anew. */
        WITH_QEMU_LOCK_GUARD(&ep->lock) {
            nyx_fault_log_restart(&ep->log);
        }
        nyx_limit_action_start(ep, NYX_LIMIT_FAULTS, action);
    }
}
