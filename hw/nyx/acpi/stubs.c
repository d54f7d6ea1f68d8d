/*
 * Nyx ACPI devices: commands in a QEMU whose target has no such devices
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qapi/qapi-commands-nyx-acpi.h"

void qmp_nyx_acpi_set(NyxAcpiSet *set, Error **errp)
{
    error_setg(errp, "not supported: this target has no ACPI devices of Nyx");
}

NyxAcpiState *qmp_query_nyx_acpi(Error **errp)
{
    return g_new0(NyxAcpiState, 1);
}
