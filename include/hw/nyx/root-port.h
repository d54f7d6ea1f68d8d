/*
 * nyx-root-port: a PCIe root port that contains errors of what is below it
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * pcie-root-port with the Downstream Port Containment extended capability (PCIe
 * Base 6.0, sections 6.2.11 and 7.9.14).
 *
 * Locking: BQL.
 */

#ifndef HW_NYX_ROOT_PORT_H
#define HW_NYX_ROOT_PORT_H

#include "hw/pci/pci_device.h"

#define TYPE_NYX_ROOT_PORT "nyx-root-port"

/*
 * A function with requester ID @source has failed fatally: take the link down
 * and tell the guest.  False if @port is no such port, if the guest has not
 * enabled containment, or if the port has contained an error already.
 *
 * When the guest lets go of the port, nyx_iommu_port_released() is called, the
 * bus below is reset, and the link comes up.
 */
bool nyx_root_port_contain(PCIDevice *port, uint16_t source);

/* Would it? */
bool nyx_root_port_can_contain(PCIDevice *port);

#endif
