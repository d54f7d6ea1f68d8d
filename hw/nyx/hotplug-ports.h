/*
 * nyx-pc: root ports for devices that name no bus
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The ports are of type nyx-root-port, have the ids nyx-port0, nyx-port1 and so
 * on, and are the functions of slots that nobody else hands out.
 */

#ifndef HW_NYX_HOTPLUG_PORTS_H
#define HW_NYX_HOTPLUG_PORTS_H

#include "hw/pci/pci_bus.h"

#define NYX_HOTPLUG_PORTS_MAX       24      /* three slots */
#define NYX_HOTPLUG_PORTS_DEFAULT   4       /* none with -nodefaults */

/* A device of the host, or of a vfio-user server? */
bool nyx_is_passthrough(ObjectClass *oc);

/* @count: 0..NYX_HOTPLUG_PORTS_MAX, below @root.  BQL held. */
bool nyx_hotplug_ports_create(PCIBus *root, unsigned count, Error **errp);

#endif
