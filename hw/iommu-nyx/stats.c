/*
 * Nyx IOMMU: statistics for query-stats
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/qapi-types-stats.h"
#include "query.h"
#include "stats.h"
#include "system/stats.h"

typedef struct NyxStatistic {
    const char *name;
    StatsType type;
    uint64_t (*get)(NyxIommu *iommu, const NyxIommuInfo *info);
} NyxStatistic;

static uint64_t get_faults(NyxIommu *iommu, const NyxIommuInfo *info)
{
    return info->fault_events;
}

static uint64_t get_quarantines(NyxIommu *iommu, const NyxIommuInfo *info)
{
    return iommu->stats.quarantines;
}

static uint64_t get_recoveries(NyxIommu *iommu, const NyxIommuInfo *info)
{
    return iommu->stats.recoveries;
}

static uint64_t get_not_operational(NyxIommu *iommu, const NyxIommuInfo *info)
{
    return info->quarantined;
}

static uint64_t get_delivered(NyxIommu *iommu, const NyxIommuInfo *info)
{
    return info->interrupts->delivered;
}

static uint64_t get_refused(NyxIommu *iommu, const NyxIommuInfo *info)
{
    return info->interrupts->refused;
}

static uint64_t get_hits(NyxIommu *iommu, const NyxIommuInfo *info)
{
    return info->iotlb->hits;
}

static uint64_t get_misses(NyxIommu *iommu, const NyxIommuInfo *info)
{
    return info->iotlb->misses;
}

static uint64_t get_invalidations(NyxIommu *iommu, const NyxIommuInfo *info)
{
    return info->iotlb->invalidations;
}

static const NyxStatistic nyx_statistics[] = {
    { "faults", STATS_TYPE_CUMULATIVE, get_faults },
    { "quarantines", STATS_TYPE_CUMULATIVE, get_quarantines },
    { "recoveries", STATS_TYPE_CUMULATIVE, get_recoveries },
    { "not-operational", STATS_TYPE_INSTANT, get_not_operational },
    { "interrupts-delivered", STATS_TYPE_CUMULATIVE, get_delivered },
    { "interrupts-refused", STATS_TYPE_CUMULATIVE, get_refused },
    { "iotlb-hits", STATS_TYPE_CUMULATIVE, get_hits },
    { "iotlb-misses", STATS_TYPE_CUMULATIVE, get_misses },
    { "iotlb-invalidations", STATS_TYPE_CUMULATIVE, get_invalidations },
};

static void nyx_stats_get(StatsResultList **result, StatsTarget target,
                          strList *names, strList *targets, Error **errp)
{
    NyxIommu *iommu = nyx_iommu_get();
    g_autoptr(NyxIommuInfo) info = NULL;
    StatsList *list = NULL, **tail = &list;

    if (target != STATS_TARGET_VM) {
        return;
    }
    info = nyx_query_iommu(iommu);
    for (int i = 0; i < ARRAY_SIZE(nyx_statistics); i++) {
        const NyxStatistic *s = &nyx_statistics[i];
        Stats *stats;

        if (!apply_str_list_filter(s->name, names)) {
            continue;
        }
        stats = g_new0(Stats, 1);
        stats->name = g_strdup(s->name);
        stats->value = g_new0(StatsValue, 1);
        stats->value->type = QTYPE_QNUM;
        stats->value->u.scalar = s->get(iommu, info);
        QAPI_LIST_APPEND(tail, stats);
    }
    if (list) {
        add_stats_entry(result, STATS_PROVIDER_NYX, NULL, list);
    }
}

static void nyx_stats_schemas(StatsSchemaList **result, Error **errp)
{
    StatsSchemaValueList *list = NULL, **tail = &list;

    for (int i = 0; i < ARRAY_SIZE(nyx_statistics); i++) {
        StatsSchemaValue *value = g_new0(StatsSchemaValue, 1);

        value->name = g_strdup(nyx_statistics[i].name);
        value->type = nyx_statistics[i].type;
        QAPI_LIST_APPEND(tail, value);
    }
    add_stats_schema(result, STATS_PROVIDER_NYX, STATS_TARGET_VM, list);
}

void nyx_stats_register(void)
{
    add_stats_callbacks(STATS_PROVIDER_NYX, nyx_stats_get, nyx_stats_schemas);
}
