/*
 * Nyx IOMMU: has its state come with the migration stream?
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * QEMU takes a stream that lacks sections for one of a machine without these
 * devices.  Here that would be a VM with other permissions than it had.
 *
 * Locking: BQL.
 */

#ifndef INCLUDE_HW_IOMMU_NYX_LOADVM_H
#define INCLUDE_HW_IOMMU_NYX_LOADVM_H

/*
 * The VM is to run, and the rest of the stream comes later.  False and @errp if
 * there is a Nyx IOMMU, and not all of it has come.  Says so, too: QEMU does
 * not in this case.
 */
bool nyx_loadvm_may_run(Error **errp);

/*
 * A stream has been loaded, with the result @ret (below 0: an error).  Returns
 * that, or -EINVAL and @errp as above; what comes next is another stream.
 */
int nyx_loadvm_done(int ret, Error **errp);

#endif
