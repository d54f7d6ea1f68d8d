/*
 * Nyx ACPI devices: thermal zones
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef NYX_ACPI_THERMAL_ZONE_H
#define NYX_ACPI_THERMAL_ZONE_H

#include "block.h"

/* Has one of the zones a temperature above which processors get slower? */
bool nyx_acpi_cools_passively(const NyxAcpiBlock *block);

#endif
