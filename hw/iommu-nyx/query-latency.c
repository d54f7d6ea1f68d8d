/*
 * Nyx IOMMU: sampled latencies as QAPI types
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "iommu.h"
#include "qapi/qapi-commands-nyx-metrics.h"

static NyxHistogramInfo *query_histogram(const NyxSampler *s)
{
    const NyxHistogram *h = &s->histogram;
    NyxHistogramInfo *info = g_new0(NyxHistogramInfo, 1);
    uint64List **boundaries = &info->boundaries_ns, **bins = &info->bins;

    for (unsigned i = 0; i < NYX_HISTOGRAM_BINS; i++) {
        if (i < NYX_HISTOGRAM_BINS - 1) {
            QAPI_LIST_APPEND(boundaries, nyx_histogram_bound(i));
        }
        QAPI_LIST_APPEND(bins, qatomic_read(&h->bins[i]));
    }
    info->sum_ns = qatomic_read(&h->sum_ns);
    return info;
}

static NyxDeviceLatency *query_function(NyxFunction *fn)
{
    NyxDeviceLatency *info = g_new0(NyxDeviceLatency, 1);

    info->device = nyx_function_name(fn);
    info->dma = query_histogram(&fn->endpoint->latency.dma);
    info->interrupts = query_histogram(&fn->endpoint->latency.interrupts);
    return info;
}

NyxLatencyInfo *qmp_query_nyx_latency(Error **errp)
{
    NyxLatencyInfo *info = g_new0(NyxLatencyInfo, 1);
    NyxDeviceLatencyList **tail = &info->devices;
    NyxIommu *iommu = nyx_iommu_get();
    NyxEndpoint *ep;
    NyxFunction *fn;

    if (!iommu) {
        return info;
    }
    info->sampling = qatomic_read(&iommu->latency_sampling);
    QTAILQ_FOREACH(ep, &iommu->endpoints, link) {
        QTAILQ_FOREACH(fn, &ep->functions, link) {
            QAPI_LIST_APPEND(tail, query_function(fn));
        }
    }
    return info;
}
