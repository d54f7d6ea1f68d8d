/*
 * Nyx IOMMU: no vhost-user backend makes the VM wait for ever
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <poll.h>
#include <sys/ioctl.h>
#include "chardev/char-socket.h"
#include "io/channel-socket.h"
#include "nyx/include/hw/iommu-nyx/nyx-iommu.h"
#include "nyx/include/hw/iommu-nyx/vhost-user-wait.h"
#include "qemu/error-report.h"
#include "qemu/timer.h"

/* Some, but not all bytes are there: the others are about to come. */
#define RETRY_US            200

/*
 * A process that hangs accepts connections, and QEMU tries again: then it must
 * answer soon, and is not tried often, so that the VM works on meanwhile.
 */
#define SUSPECT_WAIT_MS     200
#define SUSPECT_RETRY_MS    10000

static unsigned lost;

/* Label of a chardev whose backend hangs -> what its reconnect-ms was */
static GHashTable *suspects;

unsigned nyx_vhost_user_lost(void)
{
    return lost;
}

/* False if the time is up. */
static bool await_bytes(QIOChannel *ioc, size_t size, int64_t left)
{
    int64_t end = qemu_clock_get_ms(QEMU_CLOCK_REALTIME) + left;
    int fd = QIO_CHANNEL_SOCKET(ioc)->fd;

    while (left > 0) {
        struct pollfd pfd = { .fd = fd, .events = POLLIN | POLLRDHUP };
        int there = 0;

        if (poll(&pfd, 1, left) > 0) {
            if ((pfd.revents & ~POLLIN) || ioctl(fd, FIONREAD, &there) < 0 ||
                there >= size) {
                return true;
            }
            g_usleep(RETRY_US);
        }
        left = end - qemu_clock_get_ms(QEMU_CLOCK_REALTIME);
    }
    return false;
}

static bool is_socket(QIOChannel *ioc)
{
    return ioc && object_dynamic_cast(OBJECT(ioc), TYPE_QIO_CHANNEL_SOCKET);
}

static bool is_suspect(const char *label)
{
    return suspects && g_hash_table_contains(suspects, label);
}

static void suspect(SocketChardev *s, const char *label)
{
    error_report("the vhost-user backend of chardev '%s' has not answered for "
                 "%d s: its connection is ended; end its process, too, as that "
                 "has guest RAM", label, NYX_VHOST_USER_WAIT_MS / 1000);
    lost++;
    if (!suspects) {
        suspects = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    }
    g_hash_table_insert(suspects, g_strdup(label),
                        GINT_TO_POINTER(s->reconnect_time_ms));
    if (s->reconnect_time_ms) {
        s->reconnect_time_ms = MAX(s->reconnect_time_ms, SUSPECT_RETRY_MS);
    }
}

static void clear_suspicion(SocketChardev *s, const char *label)
{
    s->reconnect_time_ms =
        GPOINTER_TO_INT(g_hash_table_lookup(suspects, label));
    g_hash_table_remove(suspects, label);
}

void nyx_vhost_user_await(CharFrontend *fe, size_t size)
{
    Chardev *chr = qemu_chr_fe_get_driver(fe);
    SocketChardev *s;
    bool known;

    if (!nyx_iommu_get() || !chr ||
        !object_dynamic_cast(OBJECT(chr), TYPE_CHARDEV_SOCKET)) {
        return;
    }
    s = SOCKET_CHARDEV(chr);
    if (s->state != TCP_CHARDEV_STATE_CONNECTED || !is_socket(s->ioc)) {
        return;
    }
    known = is_suspect(chr->label);
    if (!await_bytes(s->ioc, size,
                     known ? SUSPECT_WAIT_MS : NYX_VHOST_USER_WAIT_MS)) {
        if (!known) {
            suspect(s, chr->label);
        }
        qio_channel_shutdown(s->ioc, QIO_CHANNEL_SHUTDOWN_BOTH, NULL);
    } else if (known) {
        clear_suspicion(s, chr->label);
    }
}

void nyx_vhost_user_await_channel(QIOChannel *ioc, size_t size)
{
    if (nyx_iommu_get() && is_socket(ioc) &&
        !await_bytes(ioc, size, SUSPECT_WAIT_MS)) {
        error_report("a vhost-user backend sent part of a request only: its "
                     "channel is closed");
        qio_channel_shutdown(ioc, QIO_CHANNEL_SHUTDOWN_BOTH, NULL);
    }
}
