/*
 * Nyx IOMMU: vfio-user messages over a socket
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/sockets.h"
#include "qemu/timer.h"
#include "vfio-user-channel.h"

#define CLOSED "closed the connection"

VuMessage *nyx_vu_message_new(size_t size)
{
    VuMessage *msg = g_new0(VuMessage, 1);

    assert(size >= sizeof(VFIOUserHdr) && size <= VU_SIZE_MAX);
    msg->hdr = g_malloc0(size);
    msg->hdr->size = size;
    return msg;
}

void nyx_vu_message_close_fds(VuMessage *msg)
{
    while (msg->fds) {
        close(msg->fd[--msg->fds]);
    }
}

void nyx_vu_message_free(VuMessage *msg)
{
    nyx_vu_message_close_fds(msg);
    g_free(msg->hdr);
    g_free(msg);
}

void nyx_vu_channel_init(VuChannel *ch, int fd)
{
    *ch = (VuChannel) { .fd = fd };
    QSIMPLEQ_INIT(&ch->out);
}

void nyx_vu_channel_close(VuChannel *ch)
{
    VuMessage *msg;

    if (ch->fd >= 0) {
        close(ch->fd);
        ch->fd = -1;
    }
    g_clear_pointer(&ch->in, nyx_vu_message_free);
    while ((msg = QSIMPLEQ_FIRST(&ch->out))) {
        QSIMPLEQ_REMOVE_HEAD(&ch->out, next);
        nyx_vu_message_free(msg);
    }
    ch->out_bytes = ch->out_done = 0;
}

/* False: too many at once. */
static bool take_fds(VuMessage *msg, struct msghdr *m)
{
    struct cmsghdr *c;
    bool ok = !(m->msg_flags & MSG_CTRUNC);

    for (c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
        const int *fd = (const int *)CMSG_DATA(c);
        size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(*fd);

        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) {
            continue;
        }
        for (size_t i = 0; i < n; i++) {
            if (msg->fds < VU_FDS_MAX) {
                msg->fd[msg->fds++] = fd[i];
            } else {
                close(fd[i]);
                ok = false;
            }
        }
    }
    return ok;
}

/* Bytes received, 0: none now; -1: broken. */
static ssize_t receive_some(VuChannel *ch, size_t size, const char **broken)
{
    char control[CMSG_SPACE(sizeof(int) * VU_FDS_MAX)];
    struct iovec iov = {
        .iov_base = (char *)ch->in->hdr + ch->in_done,
        .iov_len = size,
    };
    struct msghdr m = {
        .msg_iov = &iov,
        .msg_iovlen = 1,
        .msg_control = control,
        .msg_controllen = sizeof(control),
    };
    ssize_t n = RETRY_ON_EINTR(recvmsg(ch->fd, &m,
                                       MSG_DONTWAIT | MSG_CMSG_CLOEXEC));

    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
        return 0;
    }
    if (n <= 0) {
        *broken = CLOSED;
        return -1;
    }
    if (!take_fds(ch->in, &m)) {
        *broken = "sends too many descriptors";
        return -1;
    }
    ch->in_done += n;
    return n;
}

VuMessage *nyx_vu_receive(VuChannel *ch, const char **broken)
{
    size_t wanted;

    if (!ch->in) {
        ch->in = nyx_vu_message_new(sizeof(VFIOUserHdr));
        ch->in_done = 0;
    }
    for (;;) {
        wanted = ch->in_done < sizeof(VFIOUserHdr) ? sizeof(VFIOUserHdr)
                                                   : ch->in->hdr->size;
        if (ch->in_done == wanted) {
            return g_steal_pointer(&ch->in);
        }
        if (receive_some(ch, wanted - ch->in_done, broken) <= 0) {
            return NULL;
        }
        if (ch->in_done == sizeof(VFIOUserHdr)) {
            if (ch->in->hdr->size < sizeof(VFIOUserHdr) ||
                ch->in->hdr->size > VU_SIZE_MAX) {
                *broken = "sends a message of a size that cannot be";
                return NULL;
            }
            ch->in->hdr = g_realloc(ch->in->hdr, ch->in->hdr->size);
        }
    }
}

void nyx_vu_send(VuChannel *ch, VuMessage *msg)
{
    msg->queued_ns = get_clock();
    QSIMPLEQ_INSERT_TAIL(&ch->out, msg, next);
    ch->out_bytes += msg->hdr->size;
}

/* Descriptors go with the first byte. */
static ssize_t send_some(VuChannel *ch, VuMessage *msg)
{
    char control[CMSG_SPACE(sizeof(int) * VU_FDS_MAX)] = {};
    struct iovec iov = {
        .iov_base = (char *)msg->hdr + ch->out_done,
        .iov_len = msg->hdr->size - ch->out_done,
    };
    struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };

    if (msg->fds && !ch->out_done) {
        size_t size = msg->fds * sizeof(int);
        struct cmsghdr *c;

        m.msg_control = control;
        m.msg_controllen = CMSG_SPACE(size);
        c = CMSG_FIRSTHDR(&m);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(size);
        memcpy(CMSG_DATA(c), msg->fd, size);
    }
    return RETRY_ON_EINTR(sendmsg(ch->fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL));
}

bool nyx_vu_flush(VuChannel *ch)
{
    VuMessage *msg;

    while ((msg = QSIMPLEQ_FIRST(&ch->out))) {
        ssize_t n = send_some(ch, msg);

        if (n < 0) {
            return errno == EAGAIN || errno == EWOULDBLOCK;
        }
        ch->out_done += n;
        if (ch->out_done < msg->hdr->size) {
            return true;
        }
        ch->out_done = 0;
        ch->out_bytes -= msg->hdr->size;
        QSIMPLEQ_REMOVE_HEAD(&ch->out, next);
        nyx_vu_message_free(msg);
    }
    return true;
}
