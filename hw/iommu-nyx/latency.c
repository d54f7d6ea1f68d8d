/*
 * Nyx IOMMU: sampled latencies as histograms
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/host-utils.h"
#include "latency.h"

static unsigned bin_of(uint64_t ns)
{
    /* Bound n is 2^(SHIFT + n), itself included. */
    unsigned bits = ns ? 64 - clz64(ns - 1) : 0;

    return MIN(bits > NYX_HISTOGRAM_SHIFT ? bits - NYX_HISTOGRAM_SHIFT : 0,
               NYX_HISTOGRAM_BINS - 1);
}

void nyx_histogram_add(NyxHistogram *h, uint64_t ns)
{
    qatomic_add(&h->sum_ns, ns);
    qatomic_inc(&h->bins[bin_of(ns)]);
}
