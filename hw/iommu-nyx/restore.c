/*
 * Nyx IOMMU: the VM back to a snapshot
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "block/block.h"
#include "block/snapshot.h"
#include "migration/misc.h"
#include "migration/options.h"
#include "migration/snapshot.h"
#include "qapi/error.h"
#include "qemu/timer.h"
#include "restore.h"
#include "system/runstate.h"

#define MAX_DEFAULT     3

void nyx_restore_init(NyxRestore *restore)
{
    restore->max = MAX_DEFAULT;
    nyx_recovery_budget_init(&restore->budget);
}

void nyx_restore_destroy(NyxRestore *restore)
{
    g_free(restore->snapshot);
}

static int64_t host_now(void)
{
    return qemu_clock_get_ns(QEMU_CLOCK_REALTIME);
}

uint32_t nyx_restore_count(const NyxRestore *restore)
{
    return nyx_recovery_budget_used(&restore->budget, host_now());
}

/* The disks are another QEMU's, or the state is on its way to or from one. */
static bool is_migrating(void)
{
    return migration_is_running() || runstate_check(RUN_STATE_INMIGRATE) ||
           runstate_check(RUN_STATE_FINISH_MIGRATE) ||
           runstate_check(RUN_STATE_POSTMIGRATE) ||
           runstate_check(RUN_STATE_COLO);
}

/* All that can be known before the VM has to be stopped for it */
static bool is_there(const char *name, Error **errp)
{
    BlockDriverState *bs;
    QEMUSnapshotInfo info;
    int found;

    if (!migrate_can_snapshot(errp) ||
        !bdrv_all_can_snapshot(false, NULL, errp)) {
        return false;
    }
    bs = bdrv_all_find_vmstate_bs(NULL, false, NULL, errp);
    if (!bs) {
        return false;
    }
    found = bdrv_all_has_snapshot(name, false, NULL, errp);
    if (found < 0) {
        return false;
    }
    if (!found) {
        error_setg(errp, "not all disks have a snapshot '%s'; create it with "
                   "savevm or snapshot-save", name);
        return false;
    }
    if (bdrv_snapshot_find(bs, &info, name) < 0 || !info.vm_state_size) {
        error_setg(errp, "snapshot '%s' is one of disks alone; create it with "
                   "savevm or snapshot-save", name);
        return false;
    }
    return true;
}

static bool may_restore(const NyxRestore *restore, Error **errp)
{
    if (!restore->snapshot) {
        error_setg(errp, "no snapshot is named; set the machine option "
                   "recovery-snapshot");
        return false;
    }
    if (is_migrating()) {
        error_setg(errp, "the VM is being migrated");
        return false;
    }
    if (!nyx_recovery_budget_left(&restore->budget, restore->max,
                                  host_now())) {
        error_setg(errp, "the VM has gone back to a snapshot %" PRIu32
                   " times within the last hour; more are allowed by the "
                   "machine option max-restores", nyx_restore_count(restore));
        return false;
    }
    return is_there(restore->snapshot, errp);
}

bool nyx_restore_run(NyxRestore *restore, Error **errp)
{
    RunState before = runstate_get();
    ERRP_GUARD();

    if (!may_restore(restore, errp)) {
        return false;
    }
    nyx_recovery_budget_spend(&restore->budget, host_now());
    vm_stop(RUN_STATE_RESTORE_VM);
    if (!load_snapshot(restore->snapshot, NULL, false, NULL, errp)) {
        error_prepend(errp, "the VM is stopped, with half of snapshot '%s' "
                      "loaded: ", restore->snapshot);
        return false;
    }
    load_snapshot_resume(before);
    return true;
}
