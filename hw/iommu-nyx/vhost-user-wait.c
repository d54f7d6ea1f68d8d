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

static unsigned lost;

/* Some, but not all bytes are there: the others are about to come. */
#define RETRY_US    200

unsigned nyx_vhost_user_lost(void)
{
    return lost;
}

/* False if the time is up. */
static bool await_bytes(int fd, size_t size)
{
    int64_t end = qemu_clock_get_ms(QEMU_CLOCK_REALTIME) +
                  NYX_VHOST_USER_WAIT_MS;
    int64_t left = NYX_VHOST_USER_WAIT_MS;

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

static void await_or_end(QIOChannel *ioc, size_t size, const char *name)
{
    if (!nyx_iommu_get() ||
        !object_dynamic_cast(OBJECT(ioc), TYPE_QIO_CHANNEL_SOCKET) ||
        await_bytes(QIO_CHANNEL_SOCKET(ioc)->fd, size)) {
        return;
    }
    lost++;
    error_report("%s has not answered for %d s; its connection is ended, and "
                 "its process should be, too: it has guest RAM", name,
                 NYX_VHOST_USER_WAIT_MS / 1000);
    qio_channel_shutdown(ioc, QIO_CHANNEL_SHUTDOWN_BOTH, NULL);
}

void nyx_vhost_user_await(CharFrontend *fe, size_t size)
{
    Chardev *chr = qemu_chr_fe_get_driver(fe);
    g_autofree char *name = NULL;
    SocketChardev *s;

    if (!chr || !object_dynamic_cast(OBJECT(chr), TYPE_CHARDEV_SOCKET)) {
        return;
    }
    s = SOCKET_CHARDEV(chr);
    if (s->state != TCP_CHARDEV_STATE_CONNECTED) {
        return;
    }
    name = g_strdup_printf("the vhost-user backend of chardev '%s'",
                           chr->label);
    await_or_end(s->ioc, size, name);
}

void nyx_vhost_user_await_channel(QIOChannel *ioc, size_t size)
{
    await_or_end(ioc, size, "a vhost-user backend");
}
