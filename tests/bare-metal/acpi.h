/*
 * Bare-metal payload: what the firmware's ACPI tables say
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef BARE_METAL_ACPI_H
#define BARE_METAL_ACPI_H

#include "io.h"

typedef struct Platform {
    uint64_t vtd;               /* registers of the remapping hardware */
    bool remaps_interrupts;
    uint16_t ioapic_source;     /* requester ID of the IOAPIC's messages */
    uint64_t ioapic;            /* its registers */
} Platform;

/* @start_info: PVH's, or 0. */
Platform acpi_find_platform(uint64_t start_info);

#endif
