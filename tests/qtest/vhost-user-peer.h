/*
 * Tests of Nyx: the other side of a vhost-user device, which keeps what it got
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * It serves no requests.  It remembers every descriptor that was to raise an
 * interrupt, also those that were taken back, and raises them all when told.
 */

#ifndef NYX_VHOST_USER_PEER_H
#define NYX_VHOST_USER_PEER_H

typedef struct VhostUserPeer VhostUserPeer;

/* @fd: a connected socket, whose other end is QEMU's chardev; owned. */
VhostUserPeer *vhost_user_peer_start(int fd);

/* QEMU must have closed its end. */
void vhost_user_peer_end(VhostUserPeer *peer);

/* Raise all that it ever got.  KVM injects as the descriptor is written. */
void vhost_user_peer_raise(VhostUserPeer *peer);

#endif
