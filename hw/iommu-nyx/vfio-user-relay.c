/*
 * Nyx IOMMU: pass messages between QEMU and a vfio-user server
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * One thread per server.  It never waits for anything but its sockets.
 */

#include "qemu/osdep.h"
#include <linux/vfio.h>
#include <poll.h>
#include "containment.h"
#include "hw/pci/pci.h"
#include "iommu.h"
#include "qapi/error.h"
#include "qemu/error-report.h"
#include "qemu/main-loop.h"
#include "qemu/rcu.h"
#include "qemu/sockets.h"
#include "qemu/thread.h"
#include "qemu/timer.h"
#include "trace.h"
#include "vfio-user-guard.h"

/* Bytes that may wait for a side that does not read before others do. */
#define QUEUE_MAX (4 * VU_SIZE_MAX)

/*
 * Answers that take longer than such a part of the server's deadline must not,
 * taken together, have the VM wait for more than so many deadlines within the
 * window.
 */
#define SLOW_PART       20
#define SLOW_DEADLINES  4
#define SLOW_WINDOW_NS  (60 * NANOSECONDS_PER_SECOND)

/* What is left of a server that has broken */

/* Main loop */
static void contain(void *opaque)
{
    VuGuard *g = opaque;
    NyxFunction *fn = g->owner ? nyx_function_of(g->owner) : NULL;

    if (fn && fn->endpoint && qatomic_read(&g->dev)) {
        nyx_containment_quarantine(fn->endpoint, "its vfio-user server broke");
    }
    nyx_vu_guard_unref(g);
}

/*
 * Is @req answered without an error?  Register accesses are once the VM knows
 * the device; before, reads of its configuration space: QEMU copes with
 * whatever they say, but not with errors.
 */
static bool is_harmless(const VuRequest *req, bool realized)
{
    switch (req->command) {
    case VFIO_USER_REGION_READ:
        return realized || (req->region == VFIO_PCI_CONFIG_REGION_INDEX &&
                            req->count < PCI_CONFIG_SPACE_SIZE);
    case VFIO_USER_VERSION:
    case VFIO_USER_DEVICE_RESET:
    case VFIO_USER_DEVICE_FEATURE:
        return false;
    default:
        return realized;
    }
}

static bool is_interrupt_pin(const VuRequest *req)
{
    return req->region == VFIO_PCI_CONFIG_REGION_INDEX &&
           req->offset == PCI_INTERRUPT_PIN && req->count == 1;
}

/* Answer @req as a slot without a device would: all-ones, and no effect. */
static void answer(VuGuard *g, const VuRequest *req)
{
    bool realized = qatomic_read(&g->dev);
    bool ok = is_harmless(req, realized);
    size_t data = ok && req->command == VFIO_USER_REGION_READ ? req->count : 0;
    VuMessage *msg;

    if (ok && (req->command == VFIO_USER_REGION_READ ||
               req->command == VFIO_USER_REGION_WRITE)) {
        VFIOUserRegionRW *rw;

        msg = nyx_vu_message_new(sizeof(*rw) + data);
        rw = (VFIOUserRegionRW *)msg->hdr;
        rw->offset = req->offset;
        rw->region = req->region;
        rw->count = req->count;
        /* Of a pin that there cannot be, QEMU would complain. */
        memset(rw->data, realized && !is_interrupt_pin(req) ? 0xff : 0, data);
    } else {
        msg = nyx_vu_message_new(sizeof(VFIOUserHdr));
    }
    msg->hdr->id = req->id;
    msg->hdr->command = req->command;
    msg->hdr->flags = VFIO_USER_REPLY | (ok ? 0 : VFIO_USER_ERROR);
    msg->hdr->error_reply = ok ? 0 : EIO;
    nyx_vu_send(&g->client, msg);
}

static void forget(VuGuard *g, VuRequest *req)
{
    QTAILQ_REMOVE(&g->requests, req, next);
    g_free(req);
}

/* @why: what the server does that it must not */
static void break_off(VuGuard *g, const char *why)
{
    VuRequest *req;

    error_report("device '%s': its vfio-user server %s; it is cut off",
                 g->name, why);
    trace_nyx_vfio_user_broken(g->name, why);
    g->why = why;
    qatomic_store_release(&g->broken, true);
    nyx_vu_channel_close(&g->server);
    nyx_vu_channel_close(&g->dma);
    if (g->dma_fd >= 0) {
        shutdown(g->dma_fd, SHUT_RDWR);
    }
    while ((req = QTAILQ_FIRST(&g->requests))) {
        if (!req->ours) {
            answer(g, req);
        }
        forget(g, req);
    }
    aio_bh_schedule_oneshot(iohandler_get_aio_context(), contain,
                            nyx_vu_guard_ref(g));
}

/* From QEMU to the server */

static void trace_request(VuGuard *g, const VuMessage *msg)
{
    const VFIOUserDMAMap *map = (const VFIOUserDMAMap *)msg->hdr;
    const VFIOUserDMAUnmap *unmap = (const VFIOUserDMAUnmap *)msg->hdr;

    if (msg->hdr->command == VFIO_USER_DMA_MAP) {
        trace_nyx_vfio_user_map(g->name, map->iova, map->size, map->flags,
                                msg->fds);
    } else if (msg->hdr->command == VFIO_USER_DMA_UNMAP) {
        trace_nyx_vfio_user_unmap(g->name, unmap->iova, unmap->size);
    }
}

static void answer_done(VuGuard *g, const VuRequest *req)
{
    VuMessage *reply = nyx_vu_message_new(sizeof(VFIOUserHdr));

    reply->hdr->id = req->id;
    reply->hdr->command = req->command;
    reply->hdr->flags = VFIO_USER_REPLY;
    nyx_vu_send(&g->client, reply);
}

/* Those that need no server are answered when their turn comes. */
static void answer_settled(VuGuard *g)
{
    VuRequest *req;

    while ((req = QTAILQ_FIRST(&g->requests)) && req->settled) {
        answer_done(g, req);
        forget(g, req);
    }
}

/* @msg goes, and the answer to it is expected. */
static void send_request(VuGuard *g, VuRequest *req, VuMessage *msg)
{
    trace_request(g, msg);
    req->sent_ns = get_clock();
    QTAILQ_INSERT_TAIL(&g->requests, req, next);
    nyx_vu_send(&g->server, msg);
}

static VuRequest *find_request(VuGuard *g, uint16_t id)
{
    VuRequest *req;

    QTAILQ_FOREACH(req, &g->requests, next) {
        if (req->id == id) {
            return req;
        }
    }
    return NULL;
}

static uint16_t new_id(VuGuard *g)
{
    while (find_request(g, ++g->last_id)) {
        ;
    }
    return g->last_id;
}

/*
 * A window is but news to a server that has no descriptor of RAM: each access is
 * checked when it comes.  So the VM does not wait for it to take notice, and
 * what holds the access up, a lock of stage 1 for one, cannot hold up the VM.
 */
static bool windows_are_news(VuGuard *g)
{
    return !g->has_ram && qatomic_read(&g->dev);
}

static void send_window(VuGuard *g, VuRequest *req, VuMessage *msg)
{
    if (windows_are_news(g)) {
        answer_done(g, req);
        req->id = msg->hdr->id = new_id(g);
        req->ours = true;
    }
    send_request(g, req, msg);
}

/* One of several windows that QEMU takes back with one request */
static void take_back(VuGuard *g, const DMAMap *window)
{
    VuMessage *msg = nyx_vu_message_new(sizeof(VFIOUserDMAUnmap));
    VFIOUserDMAUnmap *unmap = (VFIOUserDMAUnmap *)msg->hdr;
    VuRequest *req = g_new(VuRequest, 1);

    unmap->hdr.id = new_id(g);
    unmap->hdr.command = VFIO_USER_DMA_UNMAP;
    unmap->argsz = sizeof(*unmap) - sizeof(unmap->hdr);
    unmap->iova = window->iova;
    unmap->size = window->size + 1;
    nyx_vu_request_init(req, msg);
    req->ours = true;
    send_request(g, req, msg);
}

/* The server answers in order, so the answer to the last one is QEMU's. */
static void pass_unmap(VuGuard *g, VuRequest *req, VuMessage *msg)
{
    VFIOUserDMAUnmap *unmap = (VFIOUserDMAUnmap *)msg->hdr;
    g_autoptr(GArray) windows = nyx_vu_windows_removed(g, unmap);
    const DMAMap *last;

    if (!windows->len) {
        nyx_vu_message_free(msg);
        if (windows_are_news(g)) {
            answer_done(g, req);
            g_free(req);
            return;
        }
        /* QEMU may wait for the answer to the last of several requests only. */
        req->settled = true;
        QTAILQ_INSERT_TAIL(&g->requests, req, next);
        answer_settled(g);
        return;
    }
    for (guint i = 0; i < windows->len - 1; i++) {
        take_back(g, &g_array_index(windows, DMAMap, i));
    }
    last = &g_array_index(windows, DMAMap, windows->len - 1);
    unmap->flags = 0;
    unmap->iova = last->iova;
    unmap->size = last->size + 1;
    send_window(g, req, msg);
}

static void pass_map(VuGuard *g, VuRequest *req, VuMessage *msg)
{
    VFIOUserDMAMap *map = (VFIOUserDMAMap *)msg->hdr;

    if (g->contained) {
        nyx_vu_message_close_fds(msg);
        map->offset = 0;
    }
    g->has_ram |= msg->fds;
    nyx_vu_window_added(g, map);
    send_window(g, req, msg);
}

static void pass_request(VuGuard *g, VuMessage *msg)
{
    VuRequest *req = g_new(VuRequest, 1);

    nyx_vu_request_init(req, msg);
    if (qatomic_read(&g->broken)) {
        if (!(msg->hdr->flags & VFIO_USER_NO_REPLY)) {
            answer(g, req);
        }
        g_free(req);
        nyx_vu_message_free(msg);
        return;
    }
    switch (msg->hdr->command) {
    case VFIO_USER_DMA_MAP:
        pass_map(g, req, msg);
        return;
    case VFIO_USER_DMA_UNMAP:
        pass_unmap(g, req, msg);
        return;
    case VFIO_USER_REGION_WRITE:
        nyx_vu_note_write(&g->facts, msg);
        break;
    case VFIO_USER_VERSION:
        msg = nyx_vu_offer_twin(msg);
        break;
    }
    if (msg->hdr->flags & VFIO_USER_NO_REPLY) {
        g_free(req);
        nyx_vu_send(&g->server, msg);
    } else {
        send_request(g, req, msg);
    }
}

/* From the server to QEMU */

/* Where a server has no socket for its own requests, one inside QEMU is it. */
static bool start_dma(VuGuard *g, int twin)
{
    int pair[2];

    if (twin < 0) {
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair)) {
            return false;
        }
        nyx_vu_channel_init(&g->dma, pair[0]);
        twin = pair[1];
    }
    g->dma_fd = twin;
    qemu_set_blocking(twin, true, NULL);
    nyx_vu_start_dma(g);
    return true;
}

/* NULL and @why: it is not to be passed on. */
static VuMessage *open_version(VuGuard *g, const VuRequest *req,
                               VuMessage *reply, const char **why)
{
    int twin;

    if (g->dma_fd >= 0) {
        nyx_vu_message_free(reply);
        *why = "agrees on a version twice";
        return NULL;
    }
    reply = nyx_vu_take_twin(reply, &twin, why);
    if (reply && reply->hdr->size <= req->size && start_dma(g, twin)) {
        return reply;
    }
    if (reply) {
        nyx_vu_message_free(reply);
        *why = "has too many capabilities";
    }
    if (twin >= 0 && g->dma_fd < 0) {
        close(twin);
    }
    return NULL;
}

/*
 * Slow answers keep the VM waiting, as QEMU's client holds the BQL.  NULL, or
 * the server has done so for too long.
 */
static const char *account_delay(VuGuard *g, const VuRequest *req)
{
    int64_t now = get_clock();
    int64_t waited = now - MAX(req->sent_ns, g->answered_ns);

    g->answered_ns = now;
    if (now - g->slow_since_ns > SLOW_WINDOW_NS) {
        g->slow_since_ns = now;
        g->slow_ns = 0;
    }
    if (!req->ours && waited > g->patience_ns / SLOW_PART) {
        g->slow_ns += waited;
    }
    return g->slow_ns > SLOW_DEADLINES * g->patience_ns ? "answers too slowly"
                                                        : NULL;
}

/* Errors of register accesses are the device's, not QEMU's to report. */
static void hide_error(VuGuard *g, const VuRequest *req, VuMessage **reply)
{
    if (!((*reply)->hdr->flags & VFIO_USER_ERROR) ||
        !qatomic_read(&g->dev) ||
        (req->command != VFIO_USER_REGION_READ &&
         req->command != VFIO_USER_REGION_WRITE)) {
        return;
    }
    trace_nyx_vfio_user_access_error(g->name, req->region, req->offset,
                                     (*reply)->hdr->error_reply);
    nyx_vu_message_free(*reply);
    *reply = NULL;
    answer(g, req);
}

/*
 * A window that the server does not take: not for QEMU to report, again and
 * again, as its device alone has to do without.
 */
static VuMessage *note_refusal(VuGuard *g, const VuRequest *req,
                               VuMessage *reply, const char **why)
{
    uint32_t error = reply->hdr->error_reply;

    nyx_vu_window_failed(g, req->offset, req->count);
    if (!qatomic_read(&g->dev)) {
        nyx_vu_message_free(reply);
        *why = "refuses guest memory";
        return NULL;
    }
    if (!g->refused) {
        g->refused = true;
        warn_report("device '%s': its vfio-user server refuses guest memory "
                    "(0x%" PRIx64 " size 0x%" PRIx64 "): %s; this is said once",
                    g->name, req->offset, req->count, strerror(error));
    }
    reply->hdr->flags &= ~VFIO_USER_ERROR;
    reply->hdr->error_reply = 0;
    return reply;
}

static VuMessage *take_ours(const VuRequest *req, VuMessage *reply)
{
    if (reply && req->ours) {
        nyx_vu_message_free(reply);
        return NULL;
    }
    return reply;
}

/* What follows from an answer.  NULL: QEMU is not to have it. */
static VuMessage *note_reply(VuGuard *g, const VuRequest *req,
                             VuMessage *reply, const char **why)
{
    bool error = reply->hdr->flags & VFIO_USER_ERROR;

    switch (req->command) {
    case VFIO_USER_DEVICE_RESET:
        qatomic_set(&g->reset_failed, error);
        return reply;
    case VFIO_USER_DMA_MAP:
        if (error) {
            reply = note_refusal(g, req, reply, why);
        }
        return take_ours(req, reply);
    case VFIO_USER_DMA_UNMAP:
        if (error) {
            nyx_vu_message_free(reply);
            *why = "does not give up guest memory";
            return NULL;
        }
        return take_ours(req, reply);
    case VFIO_USER_VERSION:
        return error ? reply : open_version(g, req, reply, why);
    default:
        hide_error(g, req, &reply);
        return reply;
    }
}

static const char *pass_reply(VuGuard *g, VuMessage *reply)
{
    VuRequest *req = find_request(g, reply->hdr->id);
    const char *why;

    why = req && !req->settled
              ? nyx_vu_check_reply(&g->facts, req, reply)
              : "answers what it was not asked";
    why = why ?: account_delay(g, req);
    if (why) {
        nyx_vu_message_free(reply);
        return why;
    }
    reply = note_reply(g, req, reply, &why);
    if (reply) {
        nyx_vu_send(&g->client, reply);
    }
    if (!why) {
        forget(g, req);
        answer_settled(g);
    }
    return why;
}

/* A request of a server without a twin socket */
static const char *pass_dma(VuGuard *g, VuMessage *msg)
{
    const char *why = NULL;

    if (g->dma.fd < 0) {
        why = "sends a request where only answers belong";
    } else if (msg->fds) {
        why = "sends descriptors that nobody asked for";
    } else if (msg->hdr->size < sizeof(VFIOUserDMARW)) {
        why = "sends a request for DMA that is too short";
    } else {
        why = nyx_vu_check_dma((VFIOUserDMARW *)msg->hdr);
    }
    if (why) {
        nyx_vu_message_free(msg);
    } else {
        nyx_vu_send(&g->dma, msg);
    }
    return why;
}

static void hear_server(VuGuard *g)
{
    const char *why = NULL;
    VuMessage *msg = nyx_vu_receive(&g->server, &why);

    if (msg) {
        switch (msg->hdr->flags & VFIO_USER_TYPE) {
        case VFIO_USER_REPLY:
            why = pass_reply(g, msg);
            break;
        case VFIO_USER_REQUEST:
            why = pass_dma(g, msg);
            break;
        default:
            nyx_vu_message_free(msg);
            why = "sends a message of no known type";
        }
    }
    if (why) {
        break_off(g, why);
    }
}

/* The DMA thread's answers, to a server without a twin socket */
static void hear_dma(VuGuard *g)
{
    const char *why = NULL;
    VuMessage *msg = nyx_vu_receive(&g->dma, &why);

    if (msg) {
        nyx_vu_send(&g->server, msg);
    } else if (why) {
        nyx_vu_channel_close(&g->dma);
    }
}

/* The loop */

/* When the server is to have answered, or read, something; 0: never */
static int64_t deadline(VuGuard *g)
{
    VuRequest *req = QTAILQ_FIRST(&g->requests);
    VuMessage *msg = QSIMPLEQ_FIRST(&g->server.out);
    int64_t since = 0;

    if (req) {
        since = MAX(req->sent_ns, g->answered_ns);
    }
    if (msg) {
        since = since ? MIN(since, msg->queued_ns) : msg->queued_ns;
    }
    return since ? since + g->patience_ns : 0;
}

static void watch(struct pollfd *p, VuChannel *ch, bool listen)
{
    *p = (struct pollfd) {
        .fd = ch->fd,
        .events = (listen ? POLLIN : 0) | (nyx_vu_sending(ch) ? POLLOUT : 0),
    };
    if (!p->events) {
        p->fd = -1;
    }
}

enum { CLIENT, SERVER, DMA, WAKE, SOURCES };

/* False: nothing can be waited for. */
static bool wait_for_work(VuGuard *g, struct pollfd *p)
{
    int64_t until = deadline(g);
    struct timespec timeout = {};

    watch(&p[CLIENT], &g->client, g->server.out_bytes < QUEUE_MAX &&
                                  g->client.out_bytes < QUEUE_MAX);
    watch(&p[SERVER], &g->server, g->dma.out_bytes < QUEUE_MAX);
    watch(&p[DMA], &g->dma, g->server.out_bytes < QUEUE_MAX);
    p[WAKE] = (struct pollfd) {
        .fd = event_notifier_get_fd(&g->wake), .events = POLLIN,
    };
    if (until) {
        int64_t left = MAX(until - get_clock(), 0);

        timeout.tv_sec = left / NANOSECONDS_PER_SECOND;
        timeout.tv_nsec = left % NANOSECONDS_PER_SECOND;
    }
    if (ppoll(p, SOURCES, until ? &timeout : NULL, NULL) < 0) {
        for (int i = 0; i < SOURCES; i++) {
            p[i].revents = 0;
        }
        return errno == EINTR;
    }
    return true;
}

static void hear_complaint(VuGuard *g)
{
    const char *why;

    event_notifier_test_and_clear(&g->wake);
    why = qatomic_read(&g->complaint);
    if (why && !qatomic_read(&g->broken)) {
        break_off(g, why);
    }
}

/* False: QEMU has closed its end. */
static bool hear_client(VuGuard *g)
{
    const char *why = NULL;
    VuMessage *msg = nyx_vu_receive(&g->client, &why);

    if (msg) {
        pass_request(g, msg);
    }
    return !why;
}

/* Same */
static bool flush_all(VuGuard *g)
{
    if (g->server.fd >= 0 && !nyx_vu_flush(&g->server)) {
        break_off(g, "closed the connection");
    }
    if (g->dma.fd >= 0 && !nyx_vu_flush(&g->dma)) {
        nyx_vu_channel_close(&g->dma);
    }
    return nyx_vu_flush(&g->client);
}

/* Same */
static bool relay_step(VuGuard *g)
{
    struct pollfd p[SOURCES];
    int64_t until;

    if (!wait_for_work(g, p)) {
        return false;
    }
    if (p[WAKE].revents) {
        hear_complaint(g);
    }
    if (g->server.fd >= 0 && p[SERVER].revents) {
        hear_server(g);
    }
    if (g->dma.fd >= 0 && p[DMA].revents) {
        hear_dma(g);
    }
    if (p[CLIENT].revents && !hear_client(g)) {
        return false;
    }
    until = deadline(g);
    if (until && get_clock() > until) {
        break_off(g, "does not answer");
    }
    return flush_all(g);
}

static void *relay_thread(void *opaque)
{
    VuGuard *g = opaque;

    rcu_register_thread();
    while (relay_step(g)) {
        ;
    }
    if (g->dma_fd >= 0) {
        shutdown(g->dma_fd, SHUT_RDWR);
    }
    nyx_vu_channel_close(&g->server);
    nyx_vu_channel_close(&g->dma);
    rcu_unregister_thread();
    nyx_vu_guard_unref(g);
    return NULL;
}

void nyx_vu_start_relay(VuGuard *g)
{
    QemuThread thread;

    qemu_thread_create(&thread, "vfio-user-relay", relay_thread,
                       nyx_vu_guard_ref(g), QEMU_THREAD_DETACHED);
}
