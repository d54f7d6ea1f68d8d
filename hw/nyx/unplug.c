/*
 * nyx-pc: unplugging that ends, whatever the guest does
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "migration/misc.h"
#include "qapi/qapi-events-nyx.h"
#include "qemu/timer.h"
#include "surprise-removal.h"
#include "trace.h"
#include "unplug.h"

/* While a migration is running */
#define RETRY_MS    50

/*
 * ASKING  -accepted-> PENDING, its time runs
 * PENDING -time over, operational-> WAITING
 * PENDING -time over, else-> it is taken out; WAITING if it is there still
 * WAITING -contained, or asked again-> PENDING
 * All end when the device is gone.
 */
typedef enum RequestState {
    REQUEST_ASKING,
    REQUEST_PENDING,
    REQUEST_WAITING,
} RequestState;

struct NyxUnplugRequest {
    NyxUnplug *unplug;
    PCIDevice *dev;
    RequestState state;
    /* Of the host's clock: a VM that is stopped must not hold it up. */
    QEMUTimer *timer;
    QTAILQ_ENTRY(NyxUnplugRequest) link;
};

static void send_event(PCIDevice *dev, NyxUnplugStep step)
{
    g_autofree char *name = nyx_iommu_device_name(dev);
    NyxDeviceState state = nyx_iommu_device_state(dev);

    trace_nyx_unplug(name, NyxUnplugStep_str(step), NyxDeviceState_str(state));
    qapi_event_send_nyx_device_unplug(name, nyx_iommu_device_domain(dev),
                                      state, step);
}

static NyxUnplugRequest *find_request(NyxUnplug *unplug, PCIDevice *dev)
{
    NyxUnplugRequest *req;

    QTAILQ_FOREACH(req, &unplug->requests, link) {
        if (req->dev == dev) {
            return req;
        }
    }
    return NULL;
}

static void free_request(NyxUnplugRequest *req)
{
    QTAILQ_REMOVE(&req->unplug->requests, req, link);
    timer_free(req->timer);
    g_free(req);
}

static void start_time(NyxUnplugRequest *req, uint32_t ms)
{
    req->state = REQUEST_PENDING;
    timer_mod(req->timer, qemu_clock_get_ms(QEMU_CLOCK_REALTIME) + ms);
}

/* All of the slot, as when the guest lets go of it */
static void take_out(NyxUnplugRequest *req)
{
    NyxUnplug *unplug = req->unplug;
    PCIDevice *dev = req->dev;

    /* What is still there afterwards waits for the guest, as does failover. */
    req->state = REQUEST_WAITING;
    object_ref(OBJECT(dev));
    unplug->forcing = true;
    nyx_surprise_removal(dev);
    unplug->forcing = false;
    object_unref(OBJECT(dev));
}

/*
 * Never within a recovery: that may wait for I/O, but then no timer of the main
 * loop runs.
 */
static void time_is_over(void *opaque)
{
    NyxUnplugRequest *req = opaque;

    if (nyx_iommu_device_state(req->dev) == NYX_DEVICE_STATE_OPERATIONAL) {
        req->state = REQUEST_WAITING;
        send_event(req->dev, NYX_UNPLUG_STEP_WAITING);
    } else if (migration_is_running()) {
        /* Both sides have the same devices until it is over. */
        start_time(req, RETRY_MS);
    } else {
        take_out(req);
    }
}

void nyx_unplug_request(NyxUnplug *unplug, PCIDevice *dev)
{
    NyxUnplugRequest *req = find_request(unplug, dev);

    if (!req) {
        req = g_new0(NyxUnplugRequest, 1);
        req->unplug = unplug;
        req->dev = dev;
        req->timer = timer_new_ms(QEMU_CLOCK_REALTIME, time_is_over, req);
        QTAILQ_INSERT_TAIL(&unplug->requests, req, link);
    }
}

void nyx_unplug_requested(NyxUnplug *unplug, PCIDevice *dev, bool accepted)
{
    NyxUnplugRequest *req = find_request(unplug, dev);

    if (!req) {
        return;     /* It is gone already. */
    }
    if (accepted) {
        send_event(dev, NYX_UNPLUG_STEP_REQUESTED);
        /* Who asks again does not make the first request wait longer. */
        if (req->state != REQUEST_PENDING) {
            start_time(req, unplug->timeout_ms);
        }
    } else if (req->state == REQUEST_ASKING) {
        free_request(req);
    }
}

void nyx_unplug_let_go(NyxUnplug *unplug, PCIDevice *dev)
{
    NyxUnplugRequest *req = find_request(unplug, dev);

    if (req && req->state == REQUEST_ASKING) {
        /* Nobody has to be asked, as where the slot has no power. */
        send_event(dev, NYX_UNPLUG_STEP_REQUESTED);
    }
    send_event(dev, unplug->forcing ? NYX_UNPLUG_STEP_FORCED
                                    : NYX_UNPLUG_STEP_LET_GO);
}

/* Also of a device that goes with the bridge above it */
static void device_gone(DeviceListener *listener, DeviceState *dev)
{
    NyxUnplug *unplug = container_of(listener, NyxUnplug, listener);
    PCIDevice *pci = (PCIDevice *)object_dynamic_cast(OBJECT(dev),
                                                      TYPE_PCI_DEVICE);
    NyxUnplugRequest *req;

    if (!pci) {
        return;
    }
    req = find_request(unplug, pci);
    if (req) {
        free_request(req);
    }
    send_event(pci, NYX_UNPLUG_STEP_REMOVED);
}

static void state_changed(Notifier *notifier, void *data)
{
    NyxUnplug *unplug = container_of(notifier, NyxUnplug, state_notifier);
    NyxUnplugRequest *req = find_request(unplug, data);

    if (req && req->state == REQUEST_WAITING &&
        nyx_iommu_device_state(data) != NYX_DEVICE_STATE_OPERATIONAL) {
        start_time(req, unplug->timeout_ms);
    }
}

void nyx_unplug_init(NyxUnplug *unplug)
{
    unplug->timeout_ms = NYX_UNPLUG_TIMEOUT_MS;
    QTAILQ_INIT(&unplug->requests);
}

void nyx_unplug_start(NyxUnplug *unplug, NyxIommu *iommu)
{
    unplug->state_notifier.notify = state_changed;
    nyx_iommu_add_state_notifier(iommu, &unplug->state_notifier);
    /* After that of @iommu, so that it is called before, when devices go. */
    unplug->listener.unrealize = device_gone;
    device_listener_register(&unplug->listener);
}
