/*
 * Nyx IOMMU: commands in a QEMU whose target has no Nyx IOMMU
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "nyx/include/hw/iommu-nyx/device-reset.h"
#include "nyx/include/hw/iommu-nyx/loadvm.h"
#include "nyx/include/hw/iommu-nyx/msi-route.h"
#include "nyx/include/hw/iommu-nyx/permission.h"
#include "nyx/include/hw/iommu-nyx/vfio-migration.h"
#include "nyx/include/hw/iommu-nyx/vfio-user.h"
#include "nyx/monitor/hmp-nyx.h"
#include "qapi/error.h"
#include "qapi/qapi-commands-nyx.h"
#include "qapi/qapi-commands-nyx-metrics.h"

static void not_supported(Error **errp)
{
    error_setg(errp, "not supported: this target has no Nyx IOMMU");
}

bool nyx_loadvm_may_run(Error **errp)
{
    return true;
}

int nyx_loadvm_done(int ret, Error **errp)
{
    return ret;
}

bool nyx_iommu_allows_msi(PCIDevice *dev, uint64_t address, uint32_t data)
{
    return true;
}

IOMMUAccessFlags nyx_iommu_permission(AddressSpace *as, hwaddr iova,
                                      bool write, hwaddr gpa)
{
    return IOMMU_RW;
}

bool nyx_iommu_watches_migration(DeviceState *dev, const AddressSpace *as)
{
    return false;
}

bool nyx_vfio_user_guard(PCIDevice *dev, QIOChannel **ioc, Error **errp)
{
    return true;
}

bool nyx_vfio_user_is_sound(PCIDevice *dev, Error **errp)
{
    return true;
}

void nyx_vfio_user_explain(PCIDevice *dev, Error **errp)
{
}

void nyx_device_reset_begin(PCIDevice *dev)
{
}

void nyx_device_reset_end(PCIDevice *dev)
{
}

void nyx_bus_reset_enter(Object *bus, ResetType type)
{
}

void nyx_bus_reset_exit(Object *bus, ResetType type)
{
}

bool nyx_is_being_reset(DeviceState *dev)
{
    return false;
}

NyxIommuInfo *qmp_query_nyx_iommu(Error **errp)
{
    NyxIommuInfo *info = g_new0(NyxIommuInfo, 1);

    info->interrupts = g_new0(NyxInterruptInfo, 1);
    info->iotlb = g_new0(NyxIotlbInfo, 1);
    return info;
}

NyxDomainInfoList *qmp_query_nyx_domains(Error **errp)
{
    return NULL;
}

NyxDeviceInfoList *qmp_query_nyx_devices(const char *device, Error **errp)
{
    if (device) {
        not_supported(errp);
    }
    return NULL;
}

NyxFaultInfoList *qmp_query_nyx_faults(const char *device, bool has_limit,
                                       uint32_t limit, Error **errp)
{
    if (device) {
        not_supported(errp);
    }
    return NULL;
}

NyxLatencyInfo *qmp_query_nyx_latency(Error **errp)
{
    return g_new0(NyxLatencyInfo, 1);
}

void qmp_nyx_assign_device(const char *device, const char *id, Error **errp)
{
    not_supported(errp);
}

void qmp_nyx_map(const char *id, uint64_t iova, uint64_t gpa, uint64_t size,
                 NyxAccess access, Error **errp)
{
    not_supported(errp);
}

void qmp_nyx_unmap(const char *id, uint64_t iova, uint64_t size, Error **errp)
{
    not_supported(errp);
}

void qmp_nyx_quarantine_device(const char *device, const char *reason,
                               Error **errp)
{
    not_supported(errp);
}

void qmp_nyx_recover_device(const char *device, bool has_force, bool force,
                            Error **errp)
{
    not_supported(errp);
}

void qmp_nyx_set_policy(const char *device, const char *id,
                        bool has_max_faults, uint32_t max_faults,
                        bool has_fault_window_ms, uint32_t fault_window_ms,
                        bool has_on_fault_limit, NyxLimitAction on_fault_limit,
                        bool has_max_recoveries, uint32_t max_recoveries,
                        bool has_scope, NyxScope scope,
                        bool has_count_stage1, bool count_stage1,
                        bool has_recovery, NyxRecovery recovery,
                        bool has_on_recovery_limit,
                        NyxRecoveryLimitAction on_recovery_limit,
                        Error **errp)
{
    not_supported(errp);
}

void qmp_nyx_inject_fault(const char *device, uint64_t address,
                          NyxAccess access, bool has_count, uint32_t count,
                          Error **errp)
{
    not_supported(errp);
}

void qmp_nyx_dump(const char *filename, Error **errp)
{
    not_supported(errp);
}

static void print_not_supported(Monitor *mon)
{
    monitor_printf(mon, "This target has no Nyx IOMMU\n");
}

void hmp_info_nyx(Monitor *mon, const QDict *qdict)
{
    print_not_supported(mon);
}

void hmp_info_nyx_devices(Monitor *mon, const QDict *qdict)
{
    print_not_supported(mon);
}

void hmp_info_nyx_domains(Monitor *mon, const QDict *qdict)
{
    print_not_supported(mon);
}

void hmp_info_nyx_faults(Monitor *mon, const QDict *qdict)
{
    print_not_supported(mon);
}
