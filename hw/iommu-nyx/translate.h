/*
 * Nyx IOMMU: translation of a device's accesses
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Locking: any thread, inside an RCU read-side critical section.
 */

#ifndef HW_IOMMU_NYX_TRANSLATE_H
#define HW_IOMMU_NYX_TRANSLATE_H

#include "endpoint.h"

/* IOMMU regions inside an endpoint: @view.translate and @gate */
#define TYPE_NYX_TRANSLATE  "nyx-translate-memory-region"
#define TYPE_NYX_GATE       "nyx-gate-memory-region"

/* The table of what stage 2 allows; that of all RAM for a domain without. */
NyxPageTable *nyx_endpoint_table(NyxEndpoint *ep, NyxDomain *domain);

/* What stage 2 makes of @address; perm NONE if it refuses. */
void nyx_endpoint_stage2(NyxEndpoint *ep, NyxDomain *domain, uint64_t address,
                         NyxTranslation *t);

/* Why stage 2 refuses. */
NyxFaultType nyx_endpoint_refusal(NyxEndpoint *ep, uint64_t address,
                                  IOMMUAccessFlags flag);

/*
 * Whether translations of all endpoints are timed, as often as
 * NyxIommu.latency_sampling says.  BQL.
 */
void nyx_translate_set_sampling(bool on);

#endif
