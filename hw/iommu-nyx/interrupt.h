/*
 * Nyx IOMMU: the interrupt filter
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * A device may write well-formed message signalled interrupts into the
 * interrupt window, nothing else.  Delivery modes that can hurt the guest are
 * refused.  Message format: Intel SDM volume 3, "Message Signalled Interrupts".
 */

#ifndef HW_IOMMU_NYX_INTERRUPT_H
#define HW_IOMMU_NYX_INTERRUPT_H

#define NYX_MSI_FIRST   0xfee00000ULL
#define NYX_MSI_LAST    0xfeefffffULL
#define NYX_MSI_SIZE    (NYX_MSI_LAST - NYX_MSI_FIRST + 1)

/*
 * Is a write of @size bytes of @data at @address (inside the window) an
 * interrupt that a device may raise?
 */
bool nyx_msi_acceptable(uint64_t address, uint64_t data, unsigned size);

#endif
