/*
 * Nyx ACPI devices: the human monitor's view
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "monitor/hmp.h"
#include "monitor/monitor.h"
#include "nyx/monitor/hmp-nyx.h"
#include "qapi/error.h"
#include "qapi/qapi-commands-nyx-acpi.h"

/* In tenths of a degree; the sign is apart, as -0.5 has no negative whole. */
static void print_temperature(Monitor *mon, const char *name, int64_t value)
{
    uint64_t tenths = value < 0 ? -value : value;

    monitor_printf(mon, "%s%s%" PRIu64 ".%" PRIu64 " C", name,
                   value < 0 ? "-" : "", tenths / 10, tenths % 10);
}

static void print_zone(Monitor *mon, const NyxAcpiThermalInfo *info)
{
    const intList *fan = info->fans;

    print_temperature(mon, "", info->temperature);
    print_temperature(mon, ", critical ", info->critical);
    if (info->has_hot) {
        print_temperature(mon, ", hot ", info->hot);
    }
    if (info->has_passive) {
        print_temperature(mon, ", passive ", info->passive);
    }
    for (const intList *point = info->active; point && fan;
         point = point->next, fan = fan->next) {
        print_temperature(mon, ", active ", point->value);
        monitor_printf(mon, " (fan %" PRId64 " %%)", fan->value);
    }
}

static void print_battery(Monitor *mon, const NyxAcpiBatteryInfo *info)
{
    if (!info->present) {
        monitor_printf(mon, "not present");
        return;
    }
    monitor_printf(mon, "%s%s, %" PRId64 " of %" PRId64 " mWh, %" PRId64
                   " mW, %" PRId64 " mV, %" PRId64 " cycles",
                   NyxBatteryState_str(info->state),
                   info->critical ? " (critical)" : "", info->charge,
                   info->full_charge, info->rate, info->voltage, info->cycles);
}

static void print_device(Monitor *mon, const NyxAcpiInfo *info)
{
    monitor_printf(mon, "%s: %s, ", info->device, NyxAcpiType_str(info->type));
    switch (info->type) {
    case NYX_ACPI_TYPE_THERMAL_ZONE:
        print_zone(mon, &info->u.thermal_zone);
        break;
    case NYX_ACPI_TYPE_BATTERY:
        print_battery(mon, &info->u.battery);
        break;
    case NYX_ACPI_TYPE_AC_ADAPTER:
        monitor_printf(mon, info->u.ac_adapter.online ? "online" : "offline");
        break;
    case NYX_ACPI_TYPE_LID:
        monitor_printf(mon, info->u.lid.closed ? "closed" : "open");
        break;
    case NYX_ACPI_TYPE_POWER_BUTTON:
        monitor_printf(mon, "pressed %" PRIu64 " times",
                       info->u.power_button.presses);
        break;
    case NYX_ACPI_TYPE_SLEEP_BUTTON:
        monitor_printf(mon, "pressed %" PRIu64 " times",
                       info->u.sleep_button.presses);
        break;
    default:
        g_assert_not_reached();
    }
    monitor_printf(mon, info->pending ? " (guest not told yet)\n" : "\n");
}

void hmp_info_nyx_acpi(Monitor *mon, const QDict *qdict)
{
    g_autoptr(NyxAcpiState) state = qmp_query_nyx_acpi(&error_abort);

    if (!state->devices) {
        monitor_printf(mon, "This VM has no ACPI devices of Nyx\n");
        return;
    }
    for (NyxAcpiInfoList *i = state->devices; i; i = i->next) {
        print_device(mon, i->value);
    }
    for (NyxAcpiProcessorList *i = state->throttled; i; i = i->next) {
        monitor_printf(mon, "vCPU %" PRId64 ": at %" PRId64 " %%\n",
                       i->value->cpu_index, i->value->percent);
    }
}
