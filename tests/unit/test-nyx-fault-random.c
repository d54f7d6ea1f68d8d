/*
 * Nyx IOMMU: the fault log against an oracle, with random sequences
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The oracle keeps everything that ever happened and counts it anew each time.
 * The seed is printed; NYX_TEST_SEED=N repeats a run.
 */

#include "qemu/osdep.h"
#include "../../hw/iommu-nyx/fault.h"

#define SEQUENCES   2500
#define STEPS       400

typedef struct Oracle {
    GArray *records;        /* NyxFault, never dropped */
    GArray *times;          /* int64_t, of faults that are still remembered */
    NyxFault piece;
    uint64_t piece_end;
    unsigned piece_size;
    uint64_t total, since_restart;
    int64_t last_ns, source_ns, steady_ns;
    uint32_t max_faults;
    int64_t window_ns;
    bool beyond;
} Oracle;

static void oracle_pass_time(Oracle *o, int64_t now_ns)
{
    o->steady_ns += o->total && now_ns > o->source_ns ?
                    now_ns - o->source_ns : 0;
    o->source_ns = now_ns;
}

static void oracle_forget(Oracle *o)
{
    while (o->times->len > o->max_faults + 1) {
        g_array_remove_index(o->times, 0);
    }
}

static uint64_t oracle_in_window(const Oracle *o, int64_t now_ns)
{
    int64_t steady_ns = o->steady_ns + MAX(0, now_ns - o->source_ns);
    uint64_t count = 0;
    unsigned i;

    if (!o->window_ns) {
        return o->since_restart;
    }
    for (i = 0; i < o->times->len; i++) {
        count += g_array_index(o->times, int64_t, i) + o->window_ns > steady_ns;
    }
    return count;
}

static bool oracle_alike(const NyxFault *a, const NyxFault *b)
{
    return a->type == b->type && a->access == b->access &&
           a->injected == b->injected && a->address / 4096 == b->address / 4096;
}

static NyxFaultVerdict oracle_record(Oracle *o, const NyxFault *f,
                                     unsigned size)
{
    bool continued = o->total && f->address == o->piece_end &&
                     (o->piece_size == 8 || size < o->piece_size) &&
                     oracle_alike(f, &o->piece);
    NyxFault *newest;

    o->piece = *f;
    o->piece_end = f->address + size;
    o->piece_size = size;
    if (continued) {
        return NYX_FAULT_CONTINUED;
    }
    newest = o->records->len ?
             &g_array_index(o->records, NyxFault, o->records->len - 1) : NULL;
    if (newest && oracle_alike(newest, f)) {
        newest->address = f->address;
        newest->time_ns = f->time_ns;
        newest->count++;
    } else {
        g_array_append_val(o->records, *f);
    }
    oracle_pass_time(o, f->time_ns);
    o->total++;
    o->since_restart++;
    o->last_ns = f->time_ns;
    g_array_append_val(o->times, o->steady_ns);
    oracle_forget(o);
    if (o->beyond) {
        return NYX_FAULT_BEYOND;
    }
    o->beyond = oracle_in_window(o, f->time_ns) > o->max_faults;
    return o->beyond ? NYX_FAULT_LIMIT : NYX_FAULT_COUNTED;
}

static void compare(const NyxFaultLog *log, const Oracle *o, int64_t now_ns)
{
    unsigned n;

    g_assert_cmpuint(nyx_fault_log_total(log), ==, o->total);
    g_assert_cmpint(nyx_fault_log_last_ns(log), ==, o->last_ns);
    g_assert_cmpuint(nyx_fault_log_in_window(log, now_ns), ==,
                     oracle_in_window(o, now_ns));
    for (n = 0; n < MIN(NYX_FAULT_RING, o->records->len); n++) {
        const NyxFault *is = nyx_fault_log_get(log, n);
        const NyxFault *want = &g_array_index(o->records, NyxFault,
                                              o->records->len - 1 - n);

        g_assert_nonnull(is);
        g_assert_true(oracle_alike(is, want));
        g_assert_cmphex(is->address, ==, want->address);
        g_assert_cmpint(is->time_ns, ==, want->time_ns);
        g_assert_cmpuint(is->count, ==, want->count);
    }
    g_assert_null(nyx_fault_log_get(log, n));
}

static NyxFault random_fault(GRand *rand, const Oracle *o, int64_t now_ns)
{
    NyxFault f = {
        .type = g_rand_int_range(rand, 0, 2),
        .access = g_rand_int_range(rand, 0, 2),
        .injected = g_rand_int_range(rand, 0, 10) == 0,
        .address = g_rand_int_range(rand, 0, 3 * 4096),
        .time_ns = now_ns,
        .count = 1,
    };

    if (g_rand_int_range(rand, 0, 3)) {
        f.type = o->piece.type;
        f.access = o->piece.access;
        f.injected = o->piece.injected;
        f.address = o->piece_end;
    }
    return f;
}

static int64_t random_step(GRand *rand)
{
    switch (g_rand_int_range(rand, 0, 8)) {
    case 0:
        return g_rand_int_range(rand, -3000, 0);
    case 1:
    case 2:
        return 0;
    case 3:
        return 100;     /* often the length of the window */
    default:
        return g_rand_int_range(rand, 0, 60);
    }
}

static void random_sequence(GRand *rand)
{
    Oracle o = {
        .records = g_array_new(false, false, sizeof(NyxFault)),
        .times = g_array_new(false, false, sizeof(int64_t)),
        .last_ns = -1,
    };
    NyxFaultLog log;
    int64_t now_ns = 100000;
    unsigned step;

    nyx_fault_log_init(&log);
    for (step = 0; step < STEPS; step++) {
        now_ns += random_step(rand);
        if (g_rand_int_range(rand, 0, 25) == 0) {
            o.max_faults = g_rand_int_range(rand, 0, 12);
            o.window_ns = 100 * g_rand_int_range(rand, 0, 4);
            oracle_forget(&o);
            nyx_fault_log_set_limit(&log, o.max_faults, o.window_ns);
        } else if (g_rand_int_range(rand, 0, 25) == 0) {
            g_array_set_size(o.times, 0);
            o.since_restart = 0;
            o.beyond = false;
            nyx_fault_log_restart(&log);
        } else {
            NyxFault f = random_fault(rand, &o, now_ns);
            unsigned size = g_rand_int_range(rand, 1, 9);

            g_assert_cmpint(nyx_fault_log_record(&log, f.type, f.access,
                                                 f.address, size, f.injected,
                                                 now_ns),
                            ==, oracle_record(&o, &f, size));
        }
        compare(&log, &o, now_ns + random_step(rand));
    }
    nyx_fault_log_destroy(&log);
    g_array_free(o.records, true);
    g_array_free(o.times, true);
}

static void test_random(void)
{
    const char *text = g_getenv("NYX_TEST_SEED");
    uint32_t seed = text ? g_ascii_strtoull(text, NULL, 0) : g_random_int();
    GRand *rand = g_rand_new_with_seed(seed);
    unsigned n;

    g_test_message("seed: NYX_TEST_SEED=%u", seed);
    for (n = 0; n < SEQUENCES; n++) {
        random_sequence(rand);
    }
    g_rand_free(rand);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/nyx/fault/random", test_random);
    return g_test_run();
}
