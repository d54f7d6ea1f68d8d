/*
 * Nyx IOMMU: the interrupt filter
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "interrupt.h"

/* Address: with VT-d, bit 4 asks for interrupt remapping. */
#define MSI_ADDRESS_REMAPPABLE  (1u << 4)
#define MSI_ADDRESS_UNALIGNED   3u

#define MSI_DATA_VECTOR(data)   ((data) & 0xff)
#define MSI_DATA_MODE(data)     (((data) >> 8) & 7)
#define MSI_DATA_RESERVED       0xffff3800u

#define MSI_VECTOR_FIRST        16  /* below: exceptions of the processor */

enum {
    MSI_MODE_FIXED = 0,
    MSI_MODE_LOWEST_PRIORITY = 1,
    /* SMI 2, NMI 4, INIT 5, ExtINT 7; 3 and 6 are reserved */
};

static bool mode_is_harmless(uint64_t data)
{
    return MSI_DATA_MODE(data) == MSI_MODE_FIXED ||
           MSI_DATA_MODE(data) == MSI_MODE_LOWEST_PRIORITY;
}

bool nyx_msi_is_message(uint64_t address, unsigned size)
{
    return size == 4 && !(address & MSI_ADDRESS_UNALIGNED);
}

bool nyx_msi_acceptable(uint64_t address, uint64_t data)
{
    return !(address & MSI_ADDRESS_REMAPPABLE) &&
           !(data & MSI_DATA_RESERVED) && mode_is_harmless(data) &&
           MSI_DATA_VECTOR(data) >= MSI_VECTOR_FIRST;
}

bool nyx_msi_remappable(NyxStage1 stage1, uint64_t address, uint64_t data)
{
    switch (stage1) {
    case NYX_STAGE1_INTEL:
        return address & MSI_ADDRESS_REMAPPABLE;
    case NYX_STAGE1_AMD:
        /* The rest of the data is an index: it says nothing about itself. */
        return mode_is_harmless(data);
    default:
        return false;
    }
}
