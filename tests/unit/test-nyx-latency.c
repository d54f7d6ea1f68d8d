/*
 * Tests of sampled latencies
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/cutils.h"
#include "nyx/hw/iommu-nyx/latency.h"

#define LAST    (NYX_HISTOGRAM_BINS - 1)

static unsigned only_bin(uint64_t ns)
{
    NyxHistogram h = {};
    unsigned bin = NYX_HISTOGRAM_BINS;

    nyx_histogram_add(&h, ns);
    g_assert_cmpuint(h.sum_ns, ==, ns);
    for (unsigned i = 0; i < NYX_HISTOGRAM_BINS; i++) {
        g_assert_cmpuint(h.bins[i], <=, 1);
        if (h.bins[i]) {
            g_assert_cmpuint(bin, ==, NYX_HISTOGRAM_BINS);
            bin = i;
        }
    }
    return bin;
}

/* Bounds are inclusive, and each bin begins after that of the one before. */
static void test_bounds(void)
{
    g_assert_cmpuint(only_bin(0), ==, 0);
    g_assert_cmpuint(only_bin(1), ==, 0);
    for (unsigned i = 0; i < LAST; i++) {
        g_assert_cmpuint(only_bin(nyx_histogram_bound(i)), ==, i);
        g_assert_cmpuint(only_bin(nyx_histogram_bound(i) + 1), ==, i + 1);
    }
    g_assert_cmpuint(nyx_histogram_bound(0), ==, 32);
    g_assert_cmpuint(nyx_histogram_bound(LAST - 1), ==, 1 << 24);
    g_assert_cmpuint(only_bin(UINT64_MAX), ==, LAST);
}

static unsigned due(NyxSampler *s, uint32_t interval, unsigned operations)
{
    unsigned samples = 0;

    while (operations--) {
        samples += nyx_sampler_due(s, interval);
    }
    return samples;
}

static void test_interval(void)
{
    NyxSampler s = {};

    g_assert_cmpuint(due(&s, 1, 10), ==, 10);
    g_assert_cmpuint(due(&s, 100, 1000), ==, 10);
    /* A shorter one takes effect at once, whatever was left. */
    s.left = 1000000;
    g_assert_cmpuint(due(&s, 5, 10), ==, 2);
}

static void test_off(void)
{
    NyxSampler s = {};
    int64_t begin = nyx_sampler_begin(&s, 0);

    g_assert_cmpint(begin, <, 0);
    nyx_sampler_end(&s, begin);
    g_assert_cmpuint(s.left, ==, 0);
    g_assert_true(buffer_is_zero(&s.histogram, sizeof(s.histogram)));

    nyx_sampler_end(&s, nyx_sampler_begin(&s, 1));
    g_assert_false(buffer_is_zero(s.histogram.bins,
                                  sizeof(s.histogram.bins)));
}

#define THREADS     4
#define SAMPLES     100000

static void *add_samples(void *opaque)
{
    for (unsigned i = 0; i < SAMPLES; i++) {
        nyx_histogram_add(opaque, 100);
    }
    return NULL;
}

/* No sample gets lost. */
static void test_threads(void)
{
    NyxHistogram h = {};
    GThread *threads[THREADS];

    for (unsigned i = 0; i < THREADS; i++) {
        threads[i] = g_thread_new("samples", add_samples, &h);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        g_thread_join(threads[i]);
    }
    g_assert_cmpuint(h.bins[2], ==, THREADS * SAMPLES);
    g_assert_cmpuint(h.sum_ns, ==, THREADS * SAMPLES * 100ULL);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/nyx/latency/bounds", test_bounds);
    g_test_add_func("/nyx/latency/interval", test_interval);
    g_test_add_func("/nyx/latency/off", test_off);
    g_test_add_func("/nyx/latency/threads", test_threads);
    return g_test_run();
}
