/*
 * Nyx IOMMU: telling the guest, by PCIe Advanced Error Reporting
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_IOMMU_NYX_AER_H
#define HW_IOMMU_NYX_AER_H

#include "endpoint.h"

/*
 * Log an Unsupported Request, an uncorrectable error, at the root or downstream
 * port above an endpoint that has been quarantined, as the receiver of requests
 * from below that are refused does (PCIe Base 6.0, section 6.2.7).  With the
 * header of the latest such request, if there is one.  No effect without such a
 * port, or if devices behind it work on: drivers may reset all that is below a
 * port with an error.  BQL held.
 */
void nyx_aer_report(NyxEndpoint *ep);

/*
 * Have the port above the endpoint contain a fatal error of it instead, so that
 * the guest's drivers let go of the device and set it up anew.  False if it
 * cannot, or if other devices behind it work on.  BQL held.
 */
bool nyx_aer_contain(NyxEndpoint *ep);

/* Would it? */
bool nyx_aer_can_contain(NyxEndpoint *ep);

/* The endpoints of @port's secondary bus and below; stops when @fn is false. */
typedef bool NyxEndpointVisit(NyxEndpoint *ep, void *opaque);
void nyx_aer_foreach_below(PCIDevice *port, NyxEndpointVisit *fn, void *opaque);

#endif
