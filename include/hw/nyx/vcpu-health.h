/*
 * vCPU health: what it offers to a machine
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_NYX_VCPU_HEALTH_H
#define HW_NYX_VCPU_HEALTH_H

#include "qom/object.h"

/* Give a machine class the options vcpu-check-ms and vcpu-stuck-ms. */
void nyx_vcpu_health_add_options(ObjectClass *oc);

/*
 * Watch the vCPUs from now on, as the options say.  Once, before the machine's
 * devices are there (it listens to them, and whoever begins to has all others
 * who listen hear of all devices again); BQL held.  Fails if the options do not
 * fit each other.
 */
bool nyx_vcpu_health_start(Error **errp);

#endif
