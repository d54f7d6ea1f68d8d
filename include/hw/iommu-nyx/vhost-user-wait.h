/*
 * Nyx IOMMU: no vhost-user backend makes the VM wait for ever
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * QEMU waits for the answers of a backend with the BQL held, so that the whole
 * VM stands still.  One that does not answer in time loses its connection, as
 * if it had died; it may be reconnected like one that has.
 */

#ifndef HW_IOMMU_NYX_VHOST_USER_WAIT_H
#define HW_IOMMU_NYX_VHOST_USER_WAIT_H

#include "chardev/char-fe.h"
#include "io/channel.h"

#define NYX_VHOST_USER_WAIT_MS  10000

/*
 * Wait until @size bytes can be read at once.  When they do not come in time,
 * or the other side is gone, reading will find the end of the stream.  At once
 * on a machine without a Nyx IOMMU.
 */
void nyx_vhost_user_await(CharFrontend *fe, size_t size);
void nyx_vhost_user_await_channel(QIOChannel *ioc, size_t size);

/*
 * How many connections were ended so.  What such a backend still does is not
 * known: it has guest RAM for as long as its process lives.
 */
unsigned nyx_vhost_user_lost(void);

#endif
