/*
 * Nyx IOMMU: what a policy names for a limit
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Actions on the VM, and those that take the device out of it.  Each ends with
 * the event NYX_LIMIT_ACTION, whether it could be done or not.
 *
 * Locking: BQL, in the main loop; never inside a device's DMA.
 */

#ifndef HW_IOMMU_NYX_LIMIT_ACTION_H
#define HW_IOMMU_NYX_LIMIT_ACTION_H

#include "endpoint.h"

typedef struct NyxLimitRequest NyxLimitRequest;

/* An action begins that takes a while: its device may be gone at its end. */
NyxLimitRequest *nyx_limit_action_begin(NyxEndpoint *ep, NyxLimit limit,
                                        NyxLimitAction action);

/*
 * It is done or, with @err, could not be: tell the world.  Takes over @req, and
 * @err, which says why in one sentence.
 */
void nyx_limit_action_end(NyxLimitRequest *req, Error *err);

/*
 * Begin one of pause-vm, reset-vm, shutdown, unplug and restore-snapshot.  For
 * the last two the endpoint is cut off already, and stays so if they cannot be
 * done.  The endpoint and its devices are still there when this returns.
 */
void nyx_limit_action_start(NyxEndpoint *ep, NyxLimit limit,
                            NyxLimitAction action);

#endif
