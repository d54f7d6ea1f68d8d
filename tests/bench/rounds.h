/*
 * Nyx benchmarks: contenders that take turns, and what they took
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef NYX_TESTS_BENCH_ROUNDS_H
#define NYX_TESTS_BENCH_ROUNDS_H

#include "contender.h"

#define KINDS_MAX       10
#define SMALL           12      /* pages of 4 KiB */
#define LARGE           21      /* pages of 2 MiB */
#define LENGTH          64
#define PAGES           512     /* where their number is not what varies */

typedef struct Bench {
    bool quick;
    char **only;                /* contenders; NULL: all */
    unsigned rounds;
    uint32_t count;             /* DMAs in a round of a point */
    Contender *c[KINDS_MAX];
    unsigned n;
} Bench;

typedef struct Point {
    const char *suite;
    const char *op;
    ContenderRun run;
} Point;

/* Say on stderr what is being done. */
void progress(const char *fmt, ...) G_GNUC_PRINTF(1, 2);

/* @names: of contender kinds, ended by NULL; NULL: all of them */
void bench_start(Bench *b, const char *const *names);
void bench_quit(Bench *b);

/* Like contender_map(), for all that were started */
void map_all(Bench *b, uint64_t first, uint64_t count, unsigned shift);

/* A line of JSON; @ns: of each round */
void print_point(const Point *p, const char *contender, const double *ns,
                 unsigned rounds);

/* One warm-up each, then rounds in which all take turns. */
void measure(Bench *b, const Point *p);

typedef double RunFn(Contender *c, const ContenderRun *run);

typedef struct Way {
    const char *op;
    RunFn *run;
} Way;

/* The same done in two ways, by turns; @p->op is not used. */
void compare(Bench *b, const Point *p, const Way ways[2]);

/* Random reads in a thread; @factor: how many times the usual number */
Point point_in_thread(Bench *b, const char *suite, unsigned factor);

/* What the domain's and the machine's switches do */
void suite_switches(Bench *b);

#endif
