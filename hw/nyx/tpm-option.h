/*
 * nyx-pc: the machine options "tpm" and "tpm-model"
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The models are QEMU's own; the option saves the user -device, and says what
 * is missing for a TPM where something is.  For the guest, for snapshots and
 * for migration the result is what -device gives.
 *
 * Locking: BQL.
 */

#ifndef HW_NYX_TPM_OPTION_H
#define HW_NYX_TPM_OPTION_H

#include "hw/core/boards.h"

typedef enum NyxTpmModel {
    NYX_TPM_MODEL_CRB,
    NYX_TPM_MODEL_TIS,
    NYX_TPM_MODEL__MAX,
} NyxTpmModel;

/* What the user has asked for; part of the machine's state, zero at first */
typedef struct NyxTpmOption {
    char *tpmdev;               /* id of a -tpmdev; NULL: no TPM */
    int model;                  /* NyxTpmModel */
    bool model_chosen;
} NyxTpmOption;

/* Add the options to a machine class with a NyxTpmOption at @offset. */
void nyx_tpm_add_options(ObjectClass *oc, ptrdiff_t offset);

/*
 * Create the TPM that the options name, if any, as "tpm-device" of @machine,
 * whose chipset is there.  False with @errp set if that is not possible.
 */
bool nyx_tpm_create(MachineState *machine, const NyxTpmOption *option,
                    Error **errp);

void nyx_tpm_finalize(NyxTpmOption *option);

#endif
