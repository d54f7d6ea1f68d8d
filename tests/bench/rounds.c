/*
 * Nyx benchmarks: contenders that take turns, and what they took
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "rounds.h"

void progress(const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputc('\n', stderr);
}

static bool is_wanted(Bench *b, const char *const *names,
                      const ContenderKind *kind)
{
    return (names ? g_strv_contains(names, kind->name) : !kind->extra) &&
           (!b->only || g_strv_contains((const char *const *)b->only,
                                        kind->name));
}

void bench_start(Bench *b, const char *const *names)
{
    b->n = 0;
    for (const ContenderKind *kind = contender_kinds; kind->name; kind++) {
        if (is_wanted(b, names, kind)) {
            progress("  starting %s", kind->name);
            g_assert_cmpuint(b->n, <, KINDS_MAX);
            b->c[b->n++] = contender_start(kind);
        }
    }
}

void bench_quit(Bench *b)
{
    for (unsigned i = 0; i < b->n; i++) {
        contender_quit(b->c[i]);
    }
}

void map_all(Bench *b, uint64_t first, uint64_t count, unsigned shift)
{
    for (unsigned i = 0; i < b->n; i++) {
        contender_map(b->c[i], first, count, shift);
    }
}

void print_point(const Point *p, const char *contender, const double *ns,
                 unsigned rounds)
{
    printf("{\"suite\": \"%s\", \"contender\": \"%s\", \"op\": \"%s\", "
           "\"length\": %" PRIu32 ", \"leaf\": %llu, \"pages\": %" PRIu64
           ", \"ns\": [", p->suite, contender, p->op, p->run.length,
           1ULL << p->run.shift, p->run.pages);
    for (unsigned i = 0; i < rounds; i++) {
        printf("%s%.3f", i ? ", " : "", ns[i]);
    }
    printf("]}\n");
    fflush(stdout);
}

void measure(Bench *b, const Point *p)
{
    g_autofree double *ns = g_new(double, b->n * b->rounds);

    for (unsigned i = 0; i < b->n; i++) {
        contender_run(b->c[i], &p->run);
    }
    for (unsigned round = 0; round < b->rounds; round++) {
        for (unsigned i = 0; i < b->n; i++) {
            /* Whose turn is first changes, too. */
            unsigned turn = (i + round) % b->n;

            ns[turn * b->rounds + round] = contender_run(b->c[turn], &p->run);
        }
    }
    for (unsigned i = 0; i < b->n; i++) {
        print_point(p, b->c[i]->kind->name, ns + i * b->rounds, b->rounds);
    }
}

Point point_in_thread(Bench *b, const char *suite, unsigned factor)
{
    return (Point) {
        .suite = suite,
        .run = {
            .pages = PAGES, .shift = SMALL, .length = LENGTH,
            .count = b->count * factor,
            .flags = NTD_FLAG_RANDOM | NTD_FLAG_THREAD,
        },
    };
}

void compare(Bench *b, const Point *p, const Way ways[2])
{
    g_autofree double *ns = g_new(double, KINDS_MAX * 2 * b->rounds);

    for (unsigned round = 0; round < b->rounds; round++) {
        for (unsigned i = 0; i < b->n * 2; i++) {
            ns[i * b->rounds + round] =
                ways[i % 2].run(b->c[i / 2], &p->run);
        }
    }
    for (unsigned i = 0; i < b->n * 2; i++) {
        Point q = *p;

        q.op = ways[i % 2].op;
        print_point(&q, b->c[i / 2]->kind->name, ns + i * b->rounds,
                    b->rounds);
    }
}
