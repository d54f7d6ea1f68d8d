/*
 * Nyx IOMMU: the VM back to a snapshot
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * A snapshot may lead to the same limit again and again.  So restores spend a
 * budget, which belongs to this process, goes by the host's clock and never
 * travels: the restored state must not bring its own along.
 *
 * Locking: BQL.
 */

#ifndef HW_IOMMU_NYX_RESTORE_H
#define HW_IOMMU_NYX_RESTORE_H

#include "device-state.h"

#define NYX_MAX_RESTORES_LIMIT      NYX_MAX_RECOVERIES_LIMIT

typedef struct NyxRestore {
    char *snapshot;             /* its name or id; NULL: none */
    uint32_t max;               /* within an hour; 0: never */
    NyxRecoveryBudget budget;
} NyxRestore;

void nyx_restore_init(NyxRestore *restore);
void nyx_restore_destroy(NyxRestore *restore);

/* Restores less than one hour ago */
uint32_t nyx_restore_count(const NyxRestore *restore);

/*
 * Load the snapshot; a VM that was running runs on with it.  In a bottom half
 * of the main loop, as nothing may hold on to any state of the VM.
 *
 * On error the VM is as it was, unless the snapshot turned out to be unfit
 * while it was being loaded: then the VM is stopped, and @errp says so.
 */
bool nyx_restore_run(NyxRestore *restore, Error **errp);

#endif
