/*
 * nyx-pc: devices whose storage fails
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "error-recovery.h"
#include "hw/core/qdev.h"
#include "qapi/error.h"
#include "system/block-backend.h"

void nyx_block_error(BlockBackend *blk, BlockErrorAction action, bool is_read,
                     int error)
{
    g_autofree char *device = NULL;
    g_autofree char *detail = NULL;

    /* Whoever asked for that is told nothing else; or nothing was really. */
    if (action == BLOCK_ERROR_ACTION_IGNORE || error == ECANCELED) {
        return;
    }
    if (nyx_error_policy_action(NYX_ERROR_CAUSE_DEVICE_ERROR) ==
        NYX_ERROR_ACTION_DEFAULT) {
        return;
    }
    device = blk_get_attached_dev_id(blk);
    detail = g_strdup_printf("%s failed: %s", is_read ? "read" : "write",
                             strerror(error));
    nyx_error_report(&(NyxErrorReport) {
        .cause = NYX_ERROR_CAUSE_DEVICE_ERROR,
        .vcpu = -1,
        .device = device,
        .detail = detail,
        .vm_stops = action == BLOCK_ERROR_ACTION_STOP,
    });
}

static int find_stopping(Object *obj, void *opaque)
{
    Object *dev = object_dynamic_cast(obj, TYPE_DEVICE);
    BlockBackend *blk = dev ? blk_by_dev(DEVICE(dev)) : NULL;

    if (blk && (blk_get_on_error(blk, true) == BLOCKDEV_ON_ERROR_STOP ||
                blk_get_on_error(blk, false) == BLOCKDEV_ON_ERROR_STOP)) {
        *(BlockBackend **)opaque = blk;
    }
    return *(BlockBackend **)opaque != NULL;
}

bool nyx_error_storage_is_ours(Error **errp)
{
    g_autofree char *name = NULL;
    BlockBackend *blk = NULL;

    object_child_foreach_recursive(object_get_root(), find_stopping, &blk);
    if (blk) {
        name = blk_get_attached_dev_id(blk);
        error_setg(errp, "device '%s' stops the VM by itself when its storage "
                   "fails, before on-device-error could act; give it "
                   "werror=report and rerror=report", name);
    }
    return !blk;
}
