/*
 * Tests of Nyx: the other side of a vhost-user device, which keeps what it got
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Messages: "Vhost-user Protocol" in QEMU's documentation.
 */

#include "qemu/osdep.h"
#include "vhost-user-peer.h"

enum {
    GET_FEATURES = 1,
    GET_VRING_BASE = 11,
    SET_VRING_CALL = 13,
    GET_PROTOCOL_FEATURES = 15,
};

#define VERSION         1u
#define REPLY           (1u << 2)
#define FEATURES        (1ULL << 32 | 1ULL << 30)   /* 1.0, and protocol's */
#define MAX_PAYLOAD     1024
#define MAX_FDS         16

typedef struct Message {
    uint32_t request;
    uint32_t flags;
    uint32_t size;
    uint8_t payload[MAX_PAYLOAD];
} QEMU_PACKED Message;

#define HEADER_SIZE     offsetof(Message, payload)

struct VhostUserPeer {
    int fd;
    GThread *thread;
    GMutex lock;
    GArray *calls;          /* of int; @lock */
};

static void keep(VhostUserPeer *peer, const Message *m, int fd)
{
    if (m->request != SET_VRING_CALL) {
        close(fd);
        return;
    }
    g_mutex_lock(&peer->lock);
    g_array_append_val(peer->calls, fd);
    g_mutex_unlock(&peer->lock);
}

static void keep_fds(VhostUserPeer *peer, const Message *m, struct msghdr *msg)
{
    struct cmsghdr *c;

    for (c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
        int *fds = (int *)CMSG_DATA(c);
        size_t i, n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);

        for (i = 0; i < n; i++) {
            keep(peer, m, fds[i]);
        }
    }
}

/* False at the end of the connection */
static bool receive(VhostUserPeer *peer, Message *m)
{
    char control[CMSG_SPACE(MAX_FDS * sizeof(int))];
    struct iovec iov = { m, HEADER_SIZE };
    struct msghdr msg = {
        .msg_iov = &iov, .msg_iovlen = 1,
        .msg_control = control, .msg_controllen = sizeof(control),
    };
    ssize_t n = recvmsg(peer->fd, &msg, MSG_WAITALL);

    if (n != HEADER_SIZE) {
        return false;
    }
    g_assert_cmpuint(m->size, <=, MAX_PAYLOAD);
    if (m->size &&
        recv(peer->fd, m->payload, m->size, MSG_WAITALL) != m->size) {
        return false;
    }
    keep_fds(peer, m, &msg);
    return true;
}

static void reply(VhostUserPeer *peer, Message *m, const void *payload,
                  uint32_t size)
{
    m->flags = VERSION | REPLY;
    m->size = size;
    memmove(m->payload, payload, size);
    g_assert_cmpint(send(peer->fd, m, HEADER_SIZE + size, MSG_NOSIGNAL), ==,
                    HEADER_SIZE + size);
}

static void *serve(void *opaque)
{
    VhostUserPeer *peer = opaque;
    uint64_t features = FEATURES, none = 0;
    Message m;

    while (receive(peer, &m)) {
        switch (m.request) {
        case GET_FEATURES:
            reply(peer, &m, &features, sizeof(features));
            break;
        case GET_PROTOCOL_FEATURES:
            reply(peer, &m, &none, sizeof(none));
            break;
        case GET_VRING_BASE:
            /* Number of the ring, and where it has stopped: as it was told */
            memset(m.payload + 4, 0, 4);
            reply(peer, &m, m.payload, 8);
            break;
        default:
            /* The others expect no answer. */
            break;
        }
    }
    return NULL;
}

VhostUserPeer *vhost_user_peer_start(int fd)
{
    VhostUserPeer *peer = g_new0(VhostUserPeer, 1);

    peer->fd = fd;
    g_mutex_init(&peer->lock);
    peer->calls = g_array_new(false, false, sizeof(int));
    peer->thread = g_thread_new("vhost-user", serve, peer);
    return peer;
}

void vhost_user_peer_end(VhostUserPeer *peer)
{
    unsigned i;

    g_thread_join(peer->thread);
    for (i = 0; i < peer->calls->len; i++) {
        close(g_array_index(peer->calls, int, i));
    }
    g_array_free(peer->calls, true);
    g_mutex_clear(&peer->lock);
    close(peer->fd);
    g_free(peer);
}

void vhost_user_peer_raise(VhostUserPeer *peer)
{
    uint64_t one = 1;
    unsigned i;

    g_mutex_lock(&peer->lock);
    for (i = 0; i < peer->calls->len; i++) {
        g_assert_cmpint(write(g_array_index(peer->calls, int, i), &one,
                              sizeof(one)), ==, sizeof(one));
    }
    g_mutex_unlock(&peer->lock);
}
