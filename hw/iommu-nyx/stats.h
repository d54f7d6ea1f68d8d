/*
 * Nyx IOMMU: statistics for query-stats
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_IOMMU_NYX_STATS_H
#define HW_IOMMU_NYX_STATS_H

/* Register the provider "nyx" (target "vm").  Once per process. */
void nyx_stats_register(void);

#endif
