/*
 * nyx-pc: the IOMMU model that the guest sees (stage 1)
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_NYX_STAGE1_MODEL_H
#define HW_NYX_STAGE1_MODEL_H

#include "hw/core/boards.h"
#include "nyx/include/hw/iommu-nyx/nyx-iommu.h"
#include "qapi/qapi-types-nyx-types.h"
#include "qobject/qdict.h"

/*
 * Add the settings of the models that differ from QEMU's to a machine class, so
 * that -global, and then @options below, go before them.
 */
void nyx_stage1_add_defaults(MachineClass *mc);

/*
 * Create and realize the model as /machine/stage1-model and put it in front of
 * @iommu.  To be called once, when the PCI root bus exists and before any
 * device of the user does.  @options, which may be NULL, maps names of the
 * model's properties to values as keyval_parse() makes them.  BQL held.
 *
 * Returns false with an error if the model lacks such a property, does not
 * accept a value, or is not in this build.
 */
bool nyx_stage1_create(MachineState *machine, NyxIommu *iommu, NyxStage1 stage1,
                       const QDict *options, Error **errp);

#endif
