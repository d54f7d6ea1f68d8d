/*
 * nyx-pc: where a PCI device goes that names no bus
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_NYX_DEFAULT_BUS_H
#define HW_NYX_DEFAULT_BUS_H

#include "hw/core/qdev.h"
#include "qobject/qdict.h"

/*
 * The bus for a device of class @dc that is about to be made with @opts, in
 * which no bus is named.  On machines but nyx-pc, and for all but PCI devices,
 * what qdev_find_default_bus() says.  NULL with @errp set if there is none.
 * BQL held.
 */
BusState *nyx_default_bus(DeviceClass *dc, const QDict *opts, Error **errp);

#endif
