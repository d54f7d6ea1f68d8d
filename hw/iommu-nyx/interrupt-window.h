/*
 * Nyx IOMMU: what becomes of an interrupt message
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_IOMMU_NYX_INTERRUPT_WINDOW_H
#define HW_IOMMU_NYX_INTERRUPT_WINDOW_H

#include "hw/pci/msi.h"
#include "qapi/qapi-types-nyx-types.h"

typedef enum NyxMsiVerdict {
    NYX_MSI_DELIVER,
    NYX_MSI_REFUSED,            /* by the filter */
    NYX_MSI_REFUSED_BY_STAGE1,  /* by the guest's remapping tables */
} NyxMsiVerdict;

/*
 * @from is a message of @requester (its requester ID) in the interrupt window;
 * @to is then what to deliver to the APIC.  Reads guest memory.  BQL held.
 */
NyxMsiVerdict nyx_msi_judge(NyxStage1 stage1, uint16_t requester,
                            const MSIMessage *from, MSIMessage *to);

#endif
