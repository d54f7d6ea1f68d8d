/*
 * Nyx ACPI devices: what the guest's AML interpreter gets
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * All of it is below one device, and values are read from registers when the
 * guest asks.
 */

#ifndef NYX_ACPI_AML_H
#define NYX_ACPI_AML_H

#include "device.h"

#define NYX_ACPI_PATH       "\\_SB.PCI0.SF8.NYXA"

/* The name of a device below NYX_ACPI_PATH. */
char *nyx_acpi_name(const NyxAcpiDevice *dev);

/* Expressions that read and write a register of a device. */
Aml *nyx_acpi_aml_read(const NyxAcpiDevice *dev, unsigned reg);
Aml *nyx_acpi_aml_write(const NyxAcpiDevice *dev, unsigned reg, Aml *value);

/* A method that returns a register. */
Aml *nyx_acpi_aml_getter(const char *name, const NyxAcpiDevice *dev,
                         unsigned reg);

/* A Device() of that name with _HID, _UID, and _STR that says @text. */
Aml *nyx_acpi_aml_device(const char *name, const char *hid, unsigned uid,
                         const char *text);

/* The package that lists all processors there can be. */
Aml *nyx_acpi_aml_processors(void);

/* All devices of a block. */
void nyx_acpi_build_aml(NyxAcpiBlock *block, Aml *scope);

#endif
