/*
 * Nyx IOMMU: "info nyx..." of the human monitor
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef NYX_MONITOR_HMP_NYX_H
#define NYX_MONITOR_HMP_NYX_H

#include "monitor/monitor.h"

void hmp_info_nyx(Monitor *mon, const QDict *qdict);
void hmp_info_nyx_acpi(Monitor *mon, const QDict *qdict);
void hmp_info_nyx_devices(Monitor *mon, const QDict *qdict);
void hmp_info_nyx_domains(Monitor *mon, const QDict *qdict);
void hmp_info_nyx_errors(Monitor *mon, const QDict *qdict);
void hmp_info_nyx_faults(Monitor *mon, const QDict *qdict);
void hmp_info_nyx_vcpus(Monitor *mon, const QDict *qdict);

#endif
