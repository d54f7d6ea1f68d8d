/*
 * Nyx benchmarks: what DMA costs with each IOMMU
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Writes a line of JSON for each point: its contender and parameters, and the
 * nanoseconds per DMA of each round.  All contenders of a comparison live at
 * once and take turns in each round, so that what else the machine does hits
 * them alike.  tests/bench/run makes a table of it.
 *
 * Usage: nyx-bench-dma [--quick] [--only CONTENDER]... [SUITE...]
 */

#include "qemu/osdep.h"
#include "rounds.h"

/* Random reads over more and more pages */

static void working_set(Bench *b, unsigned shift, uint64_t before,
                        uint64_t pages)
{
    Point p = {
        .suite = "working-set", .op = "read",
        .run = {
            .pages = pages, .shift = shift, .length = LENGTH,
            .flags = NTD_FLAG_RANDOM,
            /* The warm-up is to come by all of them. */
            .count = MAX(b->count, 4 * pages),
        },
    };

    progress("  %" PRIu64 " pages of %llu KiB", pages, 1ULL << (shift - 10));
    map_all(b, before, pages - before, shift);
    measure(b, &p);
}

/* A guest maps page by page there, and each is a request of its own. */
static void leave_out_virtio(Bench *b)
{
    unsigned kept = 0;

    for (unsigned i = 0; i < b->n; i++) {
        if (b->c[i]->kind->stage1 == &stage1_viommu) {
            contender_quit(b->c[i]);
        } else {
            b->c[kept++] = b->c[i];
        }
    }
    b->n = kept;
}

#define MANY    262144

static void suite_working_set(Bench *b)
{
    static const uint64_t pages[] = { 64, 512, 4096, 32768 };
    unsigned n = ARRAY_SIZE(pages) - (b->quick ? 1 : 0);

    bench_start(b, NULL);
    for (unsigned i = 0; i < n; i++) {
        working_set(b, LARGE, i ? pages[i - 1] : 0, pages[i]);
    }
    for (unsigned i = 0; i < n; i++) {
        working_set(b, SMALL, i ? pages[i - 1] : 0, pages[i]);
    }
    if (!b->quick) {
        leave_out_virtio(b);
        working_set(b, SMALL, pages[n - 1], MANY);
    }
    bench_quit(b);
}

/* Everything that a device does, where nothing is to be translated */

static void suite_sizes(Bench *b)
{
    static const char *const names[] = { "q35", "nyx pass-through", NULL };
    static const uint32_t lengths[] = { 4, 64, 512, 4096, 65536, 1 << 20 };
    static const struct {
        const char *name;
        uint32_t flags;
    } ops[] = {
        { "read" },
        { "write", NTD_FLAG_WRITE },
        { "map-read", NTD_FLAG_MAP },
        { "map-write", NTD_FLAG_MAP | NTD_FLAG_WRITE },
    };

    bench_start(b, names);
    for (unsigned i = 0; i < ARRAY_SIZE(ops); i++) {
        for (unsigned j = 0; j < ARRAY_SIZE(lengths); j++) {
            Point p = {
                .suite = "sizes", .op = ops[i].name,
                .run = {
                    .pages = 16, .shift = LARGE, .length = lengths[j],
                    /* A MiB takes as long as some thousand small ones. */
                    .count = MAX(b->count / (1 + lengths[j] / 256), 100),
                    .flags = ops[i].flags,
                },
            };

            measure(b, &p);
        }
        progress("  %s", ops[i].name);
    }
    bench_quit(b);
}

/* Two devices in threads of their own, beside one */

static double run_two(Contender *c, const ContenderRun *run)
{
    double a, b;

    contender_begin(c, 0, run);
    contender_begin(c, 1, run);
    a = contender_end(c, 0, run);
    b = contender_end(c, 1, run);
    /* As long as both are at work, that many DMAs are done in that time. */
    return 1 / (1 / a + 1 / b);
}

static void suite_threads(Bench *b)
{
    static const char *const names[] = {
        "q35", "nyx pass-through", "nyx window", "nyx intel", NULL
    };
    static const Way ways[] = { { "one", contender_run }, { "two", run_two } };
    Point p = point_in_thread(b, "threads", 4);

    bench_start(b, names);
    map_all(b, 0, PAGES, SMALL);
    compare(b, &p, ways);
    bench_quit(b);
}

/* Reads of one device while something else goes on */

typedef void Disturb(Contender *c);

static double run_disturbed(Contender *c, const ContenderRun *run,
                            Disturb *disturb)
{
    contender_begin(c, 0, run);
    while (nyx_testdev_get(c->dev[0], NTD_REG_STATUS) & NTD_STATUS_BUSY) {
        disturb(c);
    }
    return contender_end(c, 0, run);
}

/* As the guest, or the operator, does with a buffer of 16 pages */
static void map_and_unmap(Contender *c)
{
    contender_map(c, 2 * PAGES, 16, SMALL);
    contender_unmap(c, 2 * PAGES, 16, SMALL);
}

static double run_beside_writer(Contender *c, const ContenderRun *run)
{
    return run_disturbed(c, run, map_and_unmap);
}

static void suite_writer(Bench *b)
{
    static const char *const names[] = {
        "q35", "q35 intel-iommu", "nyx pass-through", "nyx window",
        "nyx intel", NULL
    };
    static const Way ways[] = {
        { "alone", contender_run }, { "beside a writer", run_beside_writer }
    };
    Point p = point_in_thread(b, "writer", 8);

    bench_start(b, names);
    map_all(b, 0, PAGES, SMALL);
    compare(b, &p, ways);
    bench_quit(b);
}

/* What is refused: each access, and its record */

static void measure_faults(Bench *b, Contender *c)
{
    g_autofree double *ns = g_new(double, b->rounds);
    Point p = {
        .suite = "fault", .op = "refused read",
        .run = {
            .pages = 4096, .shift = SMALL, .length = 8, .refused = true,
            .count = b->count, .flags = NTD_FLAG_RANDOM,
        },
    };

    for (unsigned round = 0; round < b->rounds; round++) {
        contender_begin(c, 1, &p.run);
        ns[round] = contender_end(c, 1, &p.run);
    }
    print_point(&p, c->kind->name, ns, b->rounds);
}

static void flood(Contender *c)
{
    ContenderRun run = {
        .pages = 4096, .shift = SMALL, .length = 8, .refused = true,
        .count = 200000, .flags = NTD_FLAG_RANDOM | NTD_FLAG_THREAD,
    };

    contender_begin(c, 1, &run);
    contender_end(c, 1, &run);
}

static double run_beside_flood(Contender *c, const ContenderRun *run)
{
    return run_disturbed(c, run, flood);
}

static void suite_fault(Bench *b)
{
    static const char *const names[] = { "nyx window", NULL };
    static const Way ways[] = {
        { "alone", contender_run }, { "beside a flood", run_beside_flood }
    };
    Point p = point_in_thread(b, "flood", 20);

    bench_start(b, names);
    map_all(b, 0, PAGES, SMALL);
    if (b->n) {
        measure_faults(b, b->c[0]);
    }
    compare(b, &p, ways);
    bench_quit(b);
}

static const struct {
    const char *name;
    void (*run)(Bench *b);
} suites[] = {
    { "working-set", suite_working_set },
    { "sizes", suite_sizes },
    { "threads", suite_threads },
    { "writer", suite_writer },
    { "fault", suite_fault },
    { "switches", suite_switches },
};

int main(int argc, char **argv)
{
    Bench b = { .rounds = 15, .count = 200000 };
    g_auto(GStrv) wanted = NULL;
    const GOptionEntry options[] = {
        { "quick", 0, 0, G_OPTION_ARG_NONE, &b.quick,
          "fewer points and rounds", NULL },
        { "only", 0, 0, G_OPTION_ARG_STRING_ARRAY, &b.only,
          "only this contender", "CONTENDER" },
        { G_OPTION_REMAINING, 0, 0, G_OPTION_ARG_STRING_ARRAY, &wanted,
          NULL, "[SUITE...]" },
        { }
    };
    g_autoptr(GOptionContext) context = g_option_context_new(NULL);
    g_autoptr(GError) error = NULL;

    g_option_context_add_main_entries(context, options, NULL);
    if (!g_option_context_parse(context, &argc, &argv, &error)) {
        fprintf(stderr, "nyx-bench-dma: %s\n", error->message);
        return EXIT_FAILURE;
    }
    /* Else libqtest keeps what it says to a test harness. */
    g_test_init(&(int) { 1 }, &(char **) { argv }, NULL);
    if (b.quick) {
        b.rounds = 5;
        b.count = 50000;
    }
    for (unsigned i = 0; i < ARRAY_SIZE(suites); i++) {
        if (!wanted || g_strv_contains((const char *const *)wanted,
                                       suites[i].name)) {
            progress("%s", suites[i].name);
            suites[i].run(&b);
        }
    }
    g_strfreev(b.only);
    return EXIT_SUCCESS;
}
