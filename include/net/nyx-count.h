/*
 * Packets that QEMU's network core drops
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef NYX_NET_COUNT_H
#define NYX_NET_COUNT_H

#include "net/net.h"

/*
 * A packet of @sender (NULL: of nobody) will not reach its receiver.  The
 * filter-nyx-count objects of that network backend, if any, count it.  BQL.
 */
void nyx_net_drop(NetClientState *sender);

#endif
