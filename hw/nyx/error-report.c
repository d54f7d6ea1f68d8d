/*
 * nyx-pc: errors on their way from whoever finds them to the main loop
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/aio.h"
#include "error-recovery.h"
#include "qemu/lockable.h"
#include "qemu/main-loop.h"
#include "qemu/queue.h"
#include "qemu/timer.h"

/*
 * Nothing more is done about one place for as long: a failing disk fails with
 * each request, and a guest can panic as often as it likes.
 */
#define QUIET_MS    1000

/* Errors of one cause and one place, that is one device or processor */
typedef struct Place {
    NyxErrorReport report;      /* of the latest; strings are ours */
    uint64_t pending;           /* reports that nothing was done about yet */
    int64_t quiet_until_ms;     /* host's clock */
    QTAILQ_ENTRY(Place) link;
} Place;

static QTAILQ_HEAD(, Place) places = QTAILQ_HEAD_INITIALIZER(places);
static QemuMutex places_lock;
static QEMUBH *bh;
static QEMUTimer *timer;

static void free_report(NyxErrorReport *report)
{
    g_free((char *)report->device);
    g_free((char *)report->detail);
}

static NyxErrorReport copy_report(const NyxErrorReport *report)
{
    NyxErrorReport copy = *report;

    copy.device = g_strdup(report->device);
    copy.detail = g_strdup(report->detail);
    return copy;
}

static void remove_place(Place *place)
{
    QTAILQ_REMOVE(&places, place, link);
    free_report(&place->report);
    g_free(place);
}

static Place *find_place(const NyxErrorReport *report)
{
    Place *place;

    QTAILQ_FOREACH(place, &places, link) {
        if (place->report.cause == report->cause &&
            place->report.vcpu == report->vcpu &&
            !g_strcmp0(place->report.device, report->device)) {
            return place;
        }
    }
    place = g_new0(Place, 1);
    QTAILQ_INSERT_TAIL(&places, place, link);
    return place;
}

void nyx_error_report(const NyxErrorReport *report)
{
    if (nyx_error_policy_action(report->cause) == NYX_ERROR_ACTION_DEFAULT) {
        return;
    }
    WITH_QEMU_LOCK_GUARD(&places_lock) {
        Place *place = find_place(report);

        free_report(&place->report);
        place->report = copy_report(report);
        place->pending++;
    }
    qemu_bh_schedule(bh);
}

/*
 * The next one whose time has come.  What is of no interest any more is
 * forgotten on the way.  @next_ms: when there is another one.
 */
static bool take_next(NyxErrorItem *item, int64_t *next_ms)
{
    int64_t now = qemu_clock_get_ms(QEMU_CLOCK_REALTIME);
    Place *place, *other;

    *next_ms = INT64_MAX;
    QTAILQ_FOREACH_SAFE(place, &places, link, other) {
        if (place->quiet_until_ms > now) {
            if (place->pending) {
                *next_ms = MIN(*next_ms, place->quiet_until_ms);
            }
        } else if (!place->pending) {
            remove_place(place);
        } else {
            item->report = copy_report(&place->report);
            item->count = place->pending;
            place->pending = 0;
            place->quiet_until_ms = now + QUIET_MS;
            return true;
        }
    }
    return false;
}

static void forget_pending(void)
{
    Place *place;

    QTAILQ_FOREACH(place, &places, link) {
        place->pending = 0;
    }
}

static void process(void *opaque)
{
    NyxErrorItem item;
    int64_t next_ms;
    bool found;

    do {
        WITH_QEMU_LOCK_GUARD(&places_lock) {
            found = take_next(&item, &next_ms);
        }
        if (found) {
            bool void_now;

            nyx_error_policy.reports[item.report.cause] += item.count;
            void_now = nyx_error_act(&item);
            free_report(&item.report);
            if (void_now) {
                QEMU_LOCK_GUARD(&places_lock);
                forget_pending();
            }
        }
    } while (found);
    if (next_ms != INT64_MAX) {
        timer_mod(timer, next_ms);
    }
}

void nyx_error_report_start(void)
{
    qemu_mutex_init(&places_lock);
    /* Never inside a drain or a DMA: in a context that only the loop polls */
    bh = aio_bh_new(iohandler_get_aio_context(), process, NULL);
    timer = timer_new_ms(QEMU_CLOCK_REALTIME, process, NULL);
}
