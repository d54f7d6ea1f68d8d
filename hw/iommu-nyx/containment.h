/*
 * Nyx IOMMU: from fault to quarantine to recovery
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Carries out what the state machine (device-state.h) allows and tells the
 * world about it.
 *
 * Locking: BQL, in the main loop; never inside a device's DMA.
 */

#ifndef HW_IOMMU_NYX_CONTAINMENT_H
#define HW_IOMMU_NYX_CONTAINMENT_H

#include "endpoint.h"

/* Emit NYX_DMA_FAULT.  @total: all faults of the endpoint. */
void nyx_containment_report(NyxEndpoint *ep, const NyxFault *fault,
                            uint64_t total);

/* Do what the policy names (or named then) for an endpoint past its limit. */
void nyx_containment_limit(NyxEndpoint *ep, NyxLimitAction action,
                           uint64_t faults_in_window);

/* Cut the endpoint off.  No effect if it is cut off already. */
void nyx_containment_quarantine(NyxEndpoint *ep, const char *reason);

/*
 * Cut the endpoint off, which is operational, and recover it at once, as far as
 * its budget allows.  On error it stays cut off.
 */
bool nyx_containment_reset(NyxEndpoint *ep, const char *reason, Error **errp);

/*
 * Reset the endpoint's devices and let them work again, within the budget of
 * the policy or, with @force, beyond it.  On error the endpoint stays cut off.
 */
bool nyx_containment_recover(NyxEndpoint *ep, bool force, Error **errp);

#endif
