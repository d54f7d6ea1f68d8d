/*
 * Nyx: what would refuse to migrate, told before the start
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "configuration.h"
#include "digest.h"
#include "nyx/hw/iommu-nyx/departure.h"
#include "nyx/hw/iommu-nyx/vfio-migration.h"
#include "qapi/error.h"
#include "qapi/qapi-commands-migration.h"
#include "qapi/qapi-commands-nyx.h"

/* Takes @reason. */
static void add_obstacle(NyxMigrationInfo *info, NyxMigrationObstacleKind kind,
                         char *reason)
{
    NyxMigrationObstacle *obstacle = g_new0(NyxMigrationObstacle, 1);
    NyxMigrationObstacleList **tail = &info->obstacles;

    while (*tail) {
        tail = &(*tail)->next;
    }
    obstacle->kind = kind;
    obstacle->reason = reason;
    QAPI_LIST_APPEND(tail, obstacle);
}

/* Device models that cannot migrate, and what blocks it for the moment */
static void ask_qemu(NyxMigrationInfo *info)
{
    MigrationInfo *m = qmp_query_migrate(&error_abort);

    for (strList *l = m->blocked_reasons; l; l = l->next) {
        add_obstacle(info, NYX_MIGRATION_OBSTACLE_KIND_QEMU,
                     g_strdup(l->value));
    }
    qapi_free_MigrationInfo(m);
}

static void ask_endpoints(NyxMigrationInfo *info, NyxIommu *iommu)
{
    NyxEndpoint *ep = nyx_departure_recovering(iommu);

    if (ep) {
        g_autofree char *name = nyx_endpoint_name(ep);

        add_obstacle(info, NYX_MIGRATION_OBSTACLE_KIND_RECOVERY,
                     g_strdup_printf("device '%s' is being recovered; wait for "
                                     "the end of it", name));
    }
}

static void add_difference(char *reason, void *opaque)
{
    add_obstacle(opaque, NYX_MIGRATION_OBSTACLE_KIND_DESTINATION, reason);
}

static char *digest_now(NyxIommu *iommu)
{
    NyxDigests d;

    nyx_departure_iommu(iommu, &iommu->saved, NYX_TABLES_BY_DIGEST);
    nyx_digest_iommu(&iommu->saved, &d.iommu);
    nyx_saved_iommu_clear(&iommu->saved);
    nyx_departure_functions(iommu, &iommu->saved_functions);
    nyx_digest_functions(&iommu->saved_functions, &d.functions);
    nyx_saved_functions_clear(&iommu->saved_functions);
    nyx_digest_join(&d.iommu, &d.functions, &d.joined);
    return nyx_digest_text(&d.joined);
}

NyxMigrationInfo *
qmp_query_nyx_migration(NyxMigrationConfiguration *destination, Error **errp)
{
    NyxIommu *iommu = nyx_iommu_get();
    NyxMigrationInfo *info;

    if (!iommu && destination) {
        error_setg(errp, "this machine has no Nyx IOMMU; use -M nyx-pc");
        return NULL;
    }
    info = g_new0(NyxMigrationInfo, 1);
    if (iommu) {
        nyx_vfio_migration_refresh(iommu);
    }
    ask_qemu(info);
    if (iommu) {
        info->configuration = nyx_configuration_of(iommu);
        info->digest = digest_now(iommu);
        ask_endpoints(info, iommu);
    }
    if (destination) {
        nyx_configuration_compare(info->configuration, destination,
                                  add_difference, info);
    }
    info->ready = !info->obstacles;
    return info;
}
