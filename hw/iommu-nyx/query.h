/*
 * Nyx IOMMU: its state as QAPI types
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * What the QMP queries, the human monitor and the dump have in common.
 * Locking: BQL.  The caller frees what is returned.
 */

#ifndef HW_IOMMU_NYX_QUERY_H
#define HW_IOMMU_NYX_QUERY_H

#include "iommu.h"

/* @iommu may be NULL: a machine without one. */
NyxIommuInfo *nyx_query_iommu(NyxIommu *iommu);
NyxDomainInfoList *nyx_query_domains(NyxIommu *iommu);

/* @only: just this function; NULL: all */
NyxDeviceInfoList *nyx_query_devices(NyxIommu *iommu, NyxFunction *only);

/* Newest first; @only as above */
NyxFaultInfoList *nyx_query_faults(NyxIommu *iommu, NyxFunction *only,
                                   uint32_t limit);
NyxTableInfoList *nyx_query_tables(NyxIommu *iommu);

#endif
