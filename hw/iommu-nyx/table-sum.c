/*
 * Nyx IOMMU: a fingerprint of a table that follows its changes
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/host-utils.h"
#include "table-sum.h"

/* Arithmetic modulo a Mersenne prime; numbers are below it. */

#define MODULUS         ((1ULL << 61) - 1)

static uint64_t add(uint64_t a, uint64_t b)
{
    uint64_t sum = a + b;

    return sum >= MODULUS ? sum - MODULUS : sum;
}

static uint64_t subtract(uint64_t a, uint64_t b)
{
    return add(a, MODULUS - b);
}

static uint64_t multiply(uint64_t a, uint64_t b)
{
    uint64_t low, high;

    mulu64(&low, &high, a, b);
    return add(low & MODULUS, high << 3 | low >> 61);
}

static uint64_t power(uint64_t base, uint64_t exponent)
{
    uint64_t result = 1;

    for (; exponent; exponent >>= 1) {
        if (exponent & 1) {
            result = multiply(result, base);
        }
        base = multiply(base, base);
    }
    return result;
}

/*
 * Powers of r by pieces of the exponent, which is a page of the IOVA space or
 * their number.
 */

#define DIGIT_BITS      9
#define DIGITS          4
#define DIGIT_MAX       (1U << DIGIT_BITS)

QEMU_BUILD_BUG_ON(NYX_PAGE_BITS + DIGITS * DIGIT_BITS != NYX_IOVA_BITS);

typedef struct Base {
    uint64_t r;
    uint64_t inverse;           /* of r - 1 */
    uint64_t power[DIGITS][DIGIT_MAX + 1];
} Base;

/*
 * The first 16 digits of the fractional parts of pi and e: any numbers would
 * do whose powers repeat late, and that have no small multiples.
 */
static Base bases[NYX_TABLE_SUM_PARTS] = {
    { .r = 0x243f6a8885a308d3 & MODULUS },
    { .r = 0xb7e151628aed2a6a & MODULUS },
};

static void init_base(Base *b)
{
    b->inverse = power(subtract(b->r, 1), MODULUS - 2);
    for (int digit = 0; digit < DIGITS; digit++) {
        uint64_t step = power(b->r, 1ULL << (digit * DIGIT_BITS));

        b->power[digit][0] = 1;
        for (unsigned i = 0; i < DIGIT_MAX; i++) {
            b->power[digit][i + 1] = multiply(b->power[digit][i], step);
        }
    }
}

static void __attribute__((constructor)) init_bases(void)
{
    for (int i = 0; i < NYX_TABLE_SUM_PARTS; i++) {
        init_base(&bases[i]);
    }
}

/* @exponent: 0 .. 2^36; the highest digit may be DIGIT_MAX. */
static uint64_t power_of(const Base *b, uint64_t exponent)
{
    uint64_t result = b->power[DIGITS - 1][exponent >>
                                           ((DIGITS - 1) * DIGIT_BITS)];

    for (int digit = 0; digit < DIGITS - 1; digit++) {
        unsigned value = (exponent >> (digit * DIGIT_BITS)) & (DIGIT_MAX - 1);

        result = multiply(result, b->power[digit][value]);
    }
    return result;
}

/*
 * The sum over k < n of r^k * (first + 4 * k): two geometric series,
 *
 *   S0 = (r^n - 1) / (r - 1),  S1 = (n * r^n - r * S0) / (r - 1)
 */
static uint64_t series(const Base *b, uint64_t n, uint64_t first)
{
    uint64_t r_n, s0, s1;

    if (n == 1) {
        return first;
    }
    r_n = power_of(b, n);
    s0 = multiply(subtract(r_n, 1), b->inverse);
    s1 = subtract(multiply(n, r_n), multiply(b->r, s0));
    s1 = multiply(s1, b->inverse);
    return add(multiply(first, s0), multiply(4, s1));
}

void nyx_table_sum_add(NyxTableSum *sum, uint64_t first, uint64_t last,
                       uint64_t gpa, IOMMUAccessFlags perm)
{
    uint64_t page = first >> NYX_PAGE_BITS;
    uint64_t pages = (last >> NYX_PAGE_BITS) - page + 1;
    uint64_t value = gpa >> NYX_PAGE_BITS << 2 | perm;

    sum->pages += pages;
    for (int i = 0; i < NYX_TABLE_SUM_PARTS; i++) {
        uint64_t run = multiply(power_of(&bases[i], page),
                                series(&bases[i], pages, value));

        sum->part[i] = add(sum->part[i], run);
    }
}

void nyx_table_sum_subtract(NyxTableSum *sum, const NyxTableSum *gone)
{
    sum->pages -= gone->pages;
    for (int i = 0; i < NYX_TABLE_SUM_PARTS; i++) {
        sum->part[i] = subtract(sum->part[i], gone->part[i]);
    }
}

static bool add_run(uint64_t first, uint64_t last, uint64_t gpa,
                    IOMMUAccessFlags perm, void *opaque)
{
    nyx_table_sum_add(opaque, first, last, gpa, perm);
    return true;
}

NyxTableSum nyx_table_sum_of(NyxPageTable *table, uint64_t first, uint64_t last)
{
    NyxTableSum sum = {};

    nyx_page_table_foreach_in(table, first, last, add_run, &sum);
    return sum;
}
