/*
 * Nyx IOMMU: what a policy names for a limit
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "containment.h"
#include "hw/core/qdev.h"
#include "iommu.h"
#include "limit-action.h"
#include "qapi/error.h"
#include "qapi/qapi-events-nyx.h"
#include "qemu/main-loop.h"
#include "qemu/timer.h"
#include "system/runstate.h"
#include "trace.h"

/* By name, as the device may be gone by the time that its action is done */
struct NyxLimitRequest {
    char *device;
    char *domain;
    NyxLimit limit;
    NyxLimitAction action;
    DeviceState *unplug;        /* a reference; NULL for other actions */
};

static NyxLimitRequest *new_request(NyxFunction *fn, NyxLimit limit,
                                 NyxLimitAction action)
{
    NyxLimitRequest *req = g_new(NyxLimitRequest, 1);

    *req = (NyxLimitRequest) {
        .device = nyx_function_name(fn),
        .domain = g_strdup(fn->endpoint->domain->id),
        .limit = limit,
        .action = action,
    };
    return req;
}

static void free_request(gpointer data)
{
    NyxLimitRequest *req = data;

    object_unref(OBJECT(req->unplug));
    g_free(req->device);
    g_free(req->domain);
    g_free(req);
}

/* @err: NULL if it is done.  It stays the caller's. */
static void send_event(const NyxLimitRequest *req, const Error *err)
{
    const char *why = err ? error_get_pretty(err) : NULL;

    trace_nyx_limit_action(req->device, NyxLimit_str(req->limit),
                           NyxLimitAction_str(req->action), why ?: "done");
    qapi_event_send_nyx_limit_action(req->device, req->domain, req->limit,
                                     req->action, !err, why);
}

NyxLimitRequest *nyx_limit_action_begin(NyxEndpoint *ep, NyxLimit limit,
                                        NyxLimitAction action)
{
    return new_request(nyx_endpoint_leader(ep), limit, action);
}

void nyx_limit_action_end(NyxLimitRequest *req, Error *err)
{
    send_event(req, err);
    free_request(req);
    error_free(err);
}

/* Unplug: a device may go at once, so nobody must be at work with it. */

/* As device_del has it: it can be asked for anew when nothing came of it. */
static bool is_being_unplugged(DeviceState *dev)
{
    return dev->pending_deleted_event &&
           (!dev->pending_deleted_expires_ms ||
            dev->pending_deleted_expires_ms >
            qemu_clock_get_ms(QEMU_CLOCK_VIRTUAL));
}

static void unplug(const NyxLimitRequest *req)
{
    Error *err = NULL;

    /* It may have gone with another function of its slot. */
    if (req->unplug->realized && !is_being_unplugged(req->unplug)) {
        qdev_unplug(req->unplug, &err);
    }
    if (err) {
        error_prepend(&err, "device '%s' stays cut off, as it cannot be "
                      "unplugged: ", req->device);
    }
    send_event(req, err);
    error_free(err);
}

static void unplug_bh(void *opaque)
{
    g_autoptr(GPtrArray) requests = opaque;

    for (guint i = 0; i < requests->len; i++) {
        unplug(requests->pdata[i]);
    }
}

/* Functions that the IOMMU cannot tell apart misbehave together. */
static void unplug_later(NyxEndpoint *ep, NyxLimit limit)
{
    GPtrArray *requests = g_ptr_array_new_with_free_func(free_request);
    NyxFunction *fn;

    QTAILQ_FOREACH(fn, &ep->functions, link) {
        NyxLimitRequest *req;

        if (nyx_is_bridge(fn->dev)) {
            continue;
        }
        req = new_request(fn, limit, NYX_LIMIT_ACTION_UNPLUG);
        req->unplug = DEVICE(object_ref(OBJECT(fn->dev)));
        g_ptr_array_add(requests, req);
    }
    aio_bh_schedule_oneshot(iohandler_get_aio_context(), unplug_bh, requests);
}

/* Restore: one for all that have asked for it meanwhile. */

/* What was loaded before an error may have let it go. */
static void keep_cut_off(NyxIommu *iommu, const NyxLimitRequest *req)
{
    NyxFunction *fn = nyx_iommu_find_function(iommu, req->device, NULL);

    if (fn) {
        nyx_containment_quarantine(fn->endpoint, "the snapshot was not loaded");
    }
}

static void restore_bh(void *opaque)
{
    NyxIommu *iommu = opaque;
    g_autoptr(GPtrArray) requests = g_steal_pointer(&iommu->restore_requests);
    Error *err = NULL;

    nyx_restore_run(&iommu->restore, &err);
    for (guint i = 0; i < requests->len; i++) {
        if (err) {
            keep_cut_off(iommu, requests->pdata[i]);
        }
        send_event(requests->pdata[i], err);
    }
    error_free(err);
}

static void restore_later(NyxIommu *iommu, NyxLimitRequest *req)
{
    if (!iommu->restore_requests) {
        iommu->restore_requests =
            g_ptr_array_new_with_free_func(free_request);
        aio_bh_schedule_oneshot(iohandler_get_aio_context(), restore_bh,
                                iommu);
    }
    g_ptr_array_add(iommu->restore_requests, req);
}

void nyx_limit_action_start(NyxEndpoint *ep, NyxLimit limit,
                            NyxLimitAction action)
{
    NyxLimitRequest *req;

    if (action == NYX_LIMIT_ACTION_UNPLUG) {
        unplug_later(ep, limit);
        return;
    }
    req = nyx_limit_action_begin(ep, limit, action);
    switch (action) {
    case NYX_LIMIT_ACTION_RESTORE_SNAPSHOT:
        restore_later(ep->iommu, req);
        return;
    case NYX_LIMIT_ACTION_PAUSE_VM:
        vm_stop(RUN_STATE_PAUSED);
        break;
    case NYX_LIMIT_ACTION_RESET_VM:
        qemu_system_reset_request(SHUTDOWN_CAUSE_HOST_ERROR);
        break;
    case NYX_LIMIT_ACTION_SHUTDOWN:
        qemu_system_shutdown_request(SHUTDOWN_CAUSE_HOST_ERROR);
        break;
    default:
        g_assert_not_reached();
    }
    nyx_limit_action_end(req, NULL);
}
