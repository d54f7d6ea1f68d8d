/*
 * Nyx IOMMU: sampled latencies as histograms
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Off by default.  Of the operations of an endpoint, one in so many is timed
 * by the host's monotonic clock.  Any thread, no lock: when threads race, a
 * sample may come early or late, but none that was taken gets lost.
 */

#ifndef HW_IOMMU_NYX_LATENCY_H
#define HW_IOMMU_NYX_LATENCY_H

#include "qemu/atomic.h"
#include "qemu/timer.h"

/* Upper bounds 32 ns, 64 ns and so on up to 16 ms; the last bin has none. */
#define NYX_HISTOGRAM_SHIFT     5
#define NYX_HISTOGRAM_BINS      21

typedef struct NyxHistogram {
    uint64_t bins[NYX_HISTOGRAM_BINS];  /* each without those before it */
    uint64_t sum_ns;
} NyxHistogram;

typedef struct NyxSampler {
    uint32_t left;              /* operations until the next sample */
    NyxHistogram histogram;
} NyxSampler;

/* Of one endpoint */
typedef struct NyxLatency {
    NyxSampler dma;             /* translations */
    NyxSampler interrupts;      /* filter and remapping of messages */
} NyxLatency;

void nyx_histogram_add(NyxHistogram *h, uint64_t ns);

/* Inclusive upper bound in ns of a bin that has one */
static inline uint64_t nyx_histogram_bound(unsigned bin)
{
    return UINT64_C(1) << (NYX_HISTOGRAM_SHIFT + bin);
}

/* Is this operation one to be timed?  @interval: 1 times all */
static inline bool nyx_sampler_due(NyxSampler *s, uint32_t interval)
{
    uint32_t left = qatomic_read(&s->left);

    if (left > 1 && left <= interval) {
        qatomic_set(&s->left, left - 1);
        return false;
    }
    qatomic_set(&s->left, interval);
    return true;
}

/*
 * Begin to time an operation, and end it.  @interval 0: not at all.  The value
 * in between is the time of the beginning, or -1.
 */
static inline int64_t nyx_sampler_begin(NyxSampler *s, uint32_t interval)
{
    return interval && nyx_sampler_due(s, interval) ? get_clock() : -1;
}

static inline void nyx_sampler_end(NyxSampler *s, int64_t begin_ns)
{
    if (begin_ns >= 0) {
        nyx_histogram_add(&s->histogram, get_clock() - begin_ns);
    }
}

#endif
