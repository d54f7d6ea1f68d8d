/*
 * Nyx IOMMU: the interrupt filter
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * A device may write well-formed message signalled interrupts into the
 * interrupt window, nothing else.  Delivery modes that can hurt the guest are
 * refused, unless the guest itself asks for them in the interrupt remapping
 * tables of its IOMMU.  Message format: Intel SDM volume 3, "Message Signalled
 * Interrupts".
 */

#ifndef HW_IOMMU_NYX_INTERRUPT_H
#define HW_IOMMU_NYX_INTERRUPT_H

#include "qapi/qapi-types-nyx-types.h"

#define NYX_MSI_FIRST   0xfee00000ULL
#define NYX_MSI_LAST    0xfeefffffULL
#define NYX_MSI_SIZE    (NYX_MSI_LAST - NYX_MSI_FIRST + 1)

/* Has a write of @size bytes at @address (in the window) a message's form? */
bool nyx_msi_is_message(uint64_t address, unsigned size);

/* May a device raise what @address and @data say, if they are not remapped? */
bool nyx_msi_acceptable(uint64_t address, uint64_t data);

/*
 * Might the guest's IOMMU remap the message?  It may then mean anything, and
 * it is for the IOMMU to say.
 * - VT-d specification, 5.1.2.2: bit 4 of the address asks for it.
 * - AMD I/O Virtualization Technology specification, 2.2.5: fixed and
 *   arbitrated interrupts are, others are passed or blocked as they are.
 */
bool nyx_msi_remappable(NyxStage1 stage1, uint64_t address, uint64_t data);

#endif
