/*
 * Nyx IOMMU: the human monitor's view
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
#include "qapi/qapi-commands-nyx.h"
#include "qobject/qdict.h"

void hmp_info_nyx(Monitor *mon, const QDict *qdict)
{
    g_autoptr(NyxIommuInfo) info = qmp_query_nyx_iommu(&error_abort);

    if (!info->enabled) {
        monitor_printf(mon, "This machine has no Nyx IOMMU\n");
        return;
    }
    monitor_printf(mon, "stage 1:      %s\n", NyxStage1_str(info->stage1));
    monitor_printf(mon, "domains:      %" PRIu64 "\n", info->domains);
    monitor_printf(mon, "devices:      %" PRIu64 " (%" PRIu64
                   " not operational)\n", info->devices, info->quarantined);
    monitor_printf(mon, "faults:       %" PRIu64 "\n", info->fault_events);
    monitor_printf(mon, "interrupts:   %" PRIu64 " delivered, %" PRIu64
                   " refused\n", info->interrupts->delivered,
                   info->interrupts->refused);
    monitor_printf(mon, "IOTLB:        %" PRIu64 " hits, %" PRIu64
                   " misses, %" PRIu64 " invalidations\n", info->iotlb->hits,
                   info->iotlb->misses, info->iotlb->invalidations);
    if (info->recovery_snapshot) {
        monitor_printf(mon, "snapshot:     %s, %" PRIu32 " restores within the "
                       "last hour\n", info->recovery_snapshot, info->restores);
    }
}

/* Devices without an id go by their QOM path, which may be long. */
static int widest(int width, const char *text)
{
    return MAX(width, (int)strlen(text));
}

void hmp_info_nyx_devices(Monitor *mon, const QDict *qdict)
{
    int device_width = strlen("DEVICE"), domain_width = strlen("DOMAIN");
    Error *err = NULL;
    g_autoptr(NyxDeviceInfoList) list =
        qmp_query_nyx_devices(qdict_get_try_str(qdict, "device"), &err);

    if (hmp_handle_error(mon, err)) {
        return;
    }
    for (NyxDeviceInfoList *item = list; item; item = item->next) {
        device_width = widest(device_width, item->value->device);
        domain_width = widest(domain_width, item->value->domain);
    }
    monitor_printf(mon, "%-*s %-12s %-*s %-12s %-12s %s\n", device_width,
                   "DEVICE", "BDF", domain_width, "DOMAIN", "STATE", "DMA",
                   "FAULTS");
    for (NyxDeviceInfoList *item = list; item; item = item->next) {
        NyxDeviceInfo *d = item->value;

        monitor_printf(mon, "%-*s %-12s %-*s %-12s %-12s ", device_width,
                       d->device, d->bdf, domain_width, d->domain,
                       NyxDeviceState_str(d->state), NyxDmaMode_str(d->dma));
        if (d->faults_observable) {
            monitor_printf(mon, "%" PRIu64 "\n", d->total_faults);
        } else {
            monitor_printf(mon, "not observable\n");
        }
    }
}

static void print_names(Monitor *mon, const strList *names)
{
    for (const strList *name = names; name; name = name->next) {
        monitor_printf(mon, " %s", name->value);
    }
    monitor_printf(mon, "\n");
}

void hmp_info_nyx_domains(Monitor *mon, const QDict *qdict)
{
    Error *err = NULL;
    g_autoptr(NyxDomainInfoList) list = qmp_query_nyx_domains(&err);

    if (hmp_handle_error(mon, err)) {
        return;
    }
    for (NyxDomainInfoList *item = list; item; item = item->next) {
        NyxDomainInfo *d = item->value;

        monitor_printf(mon, "%s: %s%s\n", d->id, NyxIsolation_str(d->isolation),
                       d->automatic ? ", automatic" : "");
        monitor_printf(mon, "  devices:");
        print_names(mon, d->devices);
        monitor_printf(mon, "  mapped: %" PRIu64 " bytes in %" PRIu64
                       " ranges, table of %" PRIu64 " bytes\n",
                       d->mapped_bytes, d->mappings, d->table_bytes);
        monitor_printf(mon, "  policy: %" PRIu32 " faults in %" PRIu32
                       " ms, then %s; %" PRIu32 " recoveries an hour, "
                       "then %s; scope %s\n", d->policy->max_faults,
                       d->policy->fault_window_ms,
                       NyxLimitAction_str(d->policy->on_fault_limit),
                       d->policy->max_recoveries,
                       NyxRecoveryLimitAction_str(
                           d->policy->on_recovery_limit),
                       NyxScope_str(d->policy->scope));
    }
}

void hmp_info_nyx_faults(Monitor *mon, const QDict *qdict)
{
    int device_width = strlen("DEVICE");
    Error *err = NULL;
    g_autoptr(NyxFaultInfoList) list =
        qmp_query_nyx_faults(qdict_get_try_str(qdict, "device"), false, 0,
                             &err);

    if (hmp_handle_error(mon, err)) {
        return;
    }
    for (NyxFaultInfoList *item = list; item; item = item->next) {
        device_width = widest(device_width, item->value->device);
    }
    monitor_printf(mon, "%14s %-*s %-14s %-6s %-18s %s\n", "TIME (s)",
                   device_width, "DEVICE", "TYPE", "ACCESS", "ADDRESS",
                   "COUNT");
    for (NyxFaultInfoList *item = list; item; item = item->next) {
        NyxFaultInfo *f = item->value;

        monitor_printf(mon, "%14.6f %-*s %-14s %-6s 0x%016" PRIx64 " %" PRIu64
                       "%s\n", f->time_ns / 1e9, device_width, f->device,
                       NyxFaultType_str(f->type), NyxAccess_str(f->access),
                       f->address, f->count, f->injected ? " injected" : "");
    }
}
