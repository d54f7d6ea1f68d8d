/*
 * Random numbers for unit tests, repeatable by NYX_TEST_SEED
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef TESTS_UNIT_NYX_RANDOM_H
#define TESTS_UNIT_NYX_RANDOM_H

typedef struct NyxRandom {
    uint64_t state;
} NyxRandom;

/* Steps of an odd constant, each scrambled: full period, any seed is good. */
static inline uint64_t nyx_random(NyxRandom *r)
{
    uint64_t x = r->state += 0x9e3779b97f4a7c15ULL;

    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
    return x ^ (x >> 31);
}

/* 0 .. n - 1; n > 0 */
static inline uint64_t nyx_random_below(NyxRandom *r, uint64_t n)
{
    return nyx_random(r) % n;
}

/* The environment's seed, else a new one; printed, so that it can be given. */
static inline NyxRandom nyx_random_start(void)
{
    const char *env = getenv("NYX_TEST_SEED");
    uint64_t seed = env ? g_ascii_strtoull(env, NULL, 0)
                        : (uint64_t)g_get_real_time();

    g_test_message("NYX_TEST_SEED=%" PRIu64, seed);
    return (NyxRandom) { .state = seed };
}

#endif
