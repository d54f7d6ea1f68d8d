/*
 * Nyx benchmarks: what the switches of a domain and of the machine do
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "rounds.h"

#define LARGE_PAGES     4096    /* 8 GiB */
#define MESSAGE         0xfee00000
#define MESSAGE_DATA    0x31    /* vector */
#define SCRATCH         MIB(1)  /* in RAM that nobody uses */

static void set_number(Contender *c, const char *path, const char *property,
                       uint32_t value)
{
    nyx_qmp(c->t, "{ 'execute': 'qom-set', 'arguments': { 'path': %s,"
            " 'property': %s, 'value': %u } }", path, property, value);
}

/* Leaves of 2 MiB against the same range in leaves of 4 KiB */
static void measure_large_pages(Bench *b)
{
    static const char *const names[] = {
        "nyx window", "nyx window, large-pages=off", NULL
    };
    Point p = {
        .suite = "large-pages", .op = "read",
        .run = {
            .pages = LARGE_PAGES, .shift = LARGE, .length = LENGTH,
            .flags = NTD_FLAG_RANDOM, .count = MAX(b->count, 4 * LARGE_PAGES),
        },
    };

    bench_start(b, names);
    map_all(b, 0, LARGE_PAGES, LARGE);
    measure(b, &p);
    bench_quit(b);
}

/* Sampled latency */

#define IOMMU_PATH  "/machine/nyx-iommu"
#define SAMPLING    "latency-sampling"

static double run_sampled(Contender *c, const ContenderRun *run)
{
    double ns;

    set_number(c, IOMMU_PATH, SAMPLING, 1000);
    ns = contender_run(c, run);
    set_number(c, IOMMU_PATH, SAMPLING, 0);
    return ns;
}

static void measure_sampling(Bench *b)
{
    static const char *const names[] = { "nyx window", NULL };
    static const Way ways[] = {
        { "latency-sampling=0", contender_run },
        { "latency-sampling=1000", run_sampled },
    };
    Point p = point_in_thread(b, "sampling", 4);

    bench_start(b, names);
    map_all(b, 0, PAGES, SMALL);
    compare(b, &p, ways);
    bench_quit(b);
}

/* Interrupt messages, each with a device's DMA of 4 bytes */

static double run_messages(Contender *c, const ContenderRun *run)
{
    NyxTestdev *dev = c->dev[0];

    qtest_writel(c->t->qts, SCRATCH, MESSAGE_DATA);
    nyx_testdev_read(dev, SCRATCH, sizeof(uint32_t));
    nyx_testdev_run(dev, MESSAGE, sizeof(uint32_t), run->count, 1, 0,
                    NTD_FLAG_WRITE);
    return contender_end(c, 0, run);
}

static double run_coalesced(Contender *c, const ContenderRun *run)
{
    double ns;

    set_number(c, "/objects/small", "irq-coalescing", 1000);
    ns = run_messages(c, run);
    set_number(c, "/objects/small", "irq-coalescing", 0);
    return ns;
}

static void measure_messages(Bench *b)
{
    static const char *const names[] = { "nyx pass-through", NULL };
    static const Way ways[] = {
        { "irq-coalescing=0", run_messages },
        { "irq-coalescing=1000", run_coalesced },
    };
    Point p = {
        .suite = "messages",
        .run = {
            .pages = 1, .shift = SMALL, .length = sizeof(uint32_t),
            .count = b->count,
        },
    };

    bench_start(b, names);
    compare(b, &p, ways);
    bench_quit(b);
}

void suite_switches(Bench *b)
{
    measure_large_pages(b);
    measure_sampling(b);
    measure_messages(b);
}
