/*
 * Nyx IOMMU: test of tables as strings of bytes
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qemu/units.h"
#include "nyx/hw/iommu-nyx/table-codec.h"
#include "nyx-page-table-helpers.h"
#include "nyx-random.h"

static GByteArray *encode(NyxPageTable *pt)
{
    GByteArray *bytes = g_byte_array_new();

    nyx_table_encode(pt, bytes);
    return bytes;
}

static GByteArray *pack(NyxPageTable *pt)
{
    GByteArray *bytes = g_byte_array_new();

    nyx_table_pack(pt, NULL, bytes);
    return bytes;
}

static bool count_pages(uint64_t first, uint64_t last, uint64_t gpa,
                        IOMMUAccessFlags perm, void *opaque)
{
    *(uint64_t *)opaque += last - first + 1;
    return true;
}

/* NULL: they say nothing that there can be. */
static NyxPageTable *try_decode(const uint8_t *bytes, size_t size, Error **errp)
{
    NyxPageTable *pt = nyx_page_table_new(true);
    uint64_t mapped = 0;

    if (!nyx_table_decode(pt, bytes, size, count_pages, &mapped, errp)) {
        nyx_page_table_free(pt);
        return NULL;
    }
    g_assert_cmpuint(mapped, ==, nyx_page_table_mapped_bytes(pt));
    return pt;
}

static NyxPageTable *decode(GByteArray *bytes)
{
    return try_decode(bytes->data, bytes->len, &error_abort);
}

static void refuse(const uint8_t *bytes, size_t size)
{
    Error *err = NULL;

    g_assert_null(try_decode(bytes, size, &err));
    g_assert_nonnull(strstr(error_get_pretty(err), "is damaged at byte"));
    error_free(err);
}

/* Does @opaque allow the very same? */
static bool same_run(uint64_t first, uint64_t last, uint64_t gpa,
                     IOMMUAccessFlags perm, void *opaque)
{
    NyxPageTable *other = opaque;
    uint64_t iova = first;

    while (true) {
        NyxTranslation t;
        uint64_t end;

        g_assert_true(nyx_page_table_lookup(other, iova, &t));
        g_assert_cmphex(t.gpa | (iova & t.mask), ==, gpa + (iova - first));
        g_assert_cmpuint(t.perm, ==, perm);
        end = iova | t.mask;
        if (end >= last) {
            return true;
        }
        iova = end + 1;
    }
}

static void check_copy(NyxPageTable *pt, NyxPageTable *copy)
{
    g_autoptr(GByteArray) bytes = encode(pt);
    g_autoptr(GByteArray) again = encode(copy);

    g_assert_cmpuint(nyx_page_table_mapped_bytes(copy), ==,
                     nyx_page_table_mapped_bytes(pt));
    nyx_page_table_foreach(pt, same_run, copy);
    g_assert_cmpmem(bytes->data, bytes->len, again->data, again->len);
    nyx_page_table_free(copy);
}

static void check_round_trip(NyxPageTable *pt)
{
    g_autoptr(GByteArray) bytes = encode(pt);
    g_autoptr(GByteArray) packed = pack(pt);

    check_copy(pt, decode(bytes));
    check_copy(pt, decode(packed));
}

static void test_empty(void)
{
    NyxPageTable *pt = nyx_page_table_new(true);
    g_autoptr(GByteArray) none = encode(NULL);
    g_autoptr(GByteArray) empty = encode(pt);

    g_assert_cmpmem(none->data, none->len, "", 1);
    g_assert_cmpmem(empty->data, empty->len, "", 1);
    check_round_trip(pt);
    free_and_check(pt);
}

static void test_extremes(void)
{
    NyxPageTable *pt = nyx_page_table_new(true);

    map_ok(pt, 0, PAGE, NYX_GPA_LAST + 1 - PAGE, IOMMU_RO);
    map_ok(pt, PAGE, PAGE, 0, IOMMU_WO);
    map_ok(pt, NYX_IOVA_LAST + 1 - PAGE, PAGE, NYX_GPA_LAST + 1 - 2 * PAGE,
           IOMMU_RW);
    check_round_trip(pt);
    free_and_check(pt);

    pt = nyx_page_table_new(true);
    map_ok(pt, 0, NYX_IOVA_LAST + 1, 0, IOMMU_RW);
    check_round_trip(pt);
    free_and_check(pt);
}

static void fill_at_random(NyxPageTable *pt, NyxRandom *r)
{
    for (unsigned i = nyx_random_below(r, 60); i > 0; i--) {
        unsigned bits = nyx_random_below(r, 12);
        uint64_t pages = 1 + nyx_random_below(r, 1ULL << bits);
        uint64_t iova = nyx_random_below(r, 1ULL << (8 + bits)) * PAGE;
        uint64_t gpa = nyx_random_below(r, 2)
                       ? iova : nyx_random_below(r, 1ULL << 38) * PAGE;

        if (nyx_random_below(r, 4)) {
            nyx_page_table_map(pt, iova, iova + pages * PAGE - 1, gpa,
                               1 + nyx_random_below(r, 3));
        } else {
            nyx_page_table_clear(pt, iova, iova + pages * PAGE - 1);
        }
    }
}

static void test_random(void)
{
    NyxRandom r = nyx_random_start();

    for (unsigned i = 0; i < 1000; i++) {
        NyxPageTable *pt = nyx_page_table_new(nyx_random_below(&r, 2));

        fill_at_random(pt, &r);
        check_round_trip(pt);
        free_and_check(pt);
    }
}

/* Only what lies in the ranges, and what that is worth in the whole */
static void test_parts(void)
{
    NyxRandom r = nyx_random_start();

    for (unsigned i = 0; i < 300; i++) {
        NyxPageTable *pt = nyx_page_table_new(true);
        NyxPageTable *copy = nyx_page_table_new(true);
        g_autoptr(GByteArray) part = g_byte_array_new();
        g_autoptr(GByteArray) rest = g_byte_array_new();
        uint64_t end = nyx_random_below(&r, 1 << 20) * PAGE + 4 * PAGE;
        NyxPageRanges low = {}, high = {};

        fill_at_random(pt, &r);
        nyx_page_ranges_add(&low, PAGE, 2 * PAGE - 1);
        nyx_page_ranges_add(&low, 3 * PAGE, end - 1);
        nyx_page_ranges_add(&high, 0, PAGE - 1);
        nyx_page_ranges_add(&high, 2 * PAGE, 3 * PAGE - 1);
        nyx_page_ranges_add(&high, end, NYX_IOVA_LAST);
        nyx_table_pack(pt, &high, rest);
        nyx_table_pack(pt, &low, part);
        g_assert_true(nyx_table_decode(copy, rest->data, rest->len, NULL, NULL,
                                       &error_abort));
        g_assert_true(nyx_table_decode(copy, part->data, part->len, NULL, NULL,
                                       &error_abort));
        check_copy(pt, copy);
        nyx_page_ranges_clear(&low);
        nyx_page_ranges_clear(&high);
        free_and_check(pt);
    }
}

#define MILLION         1000000
#define GUEST_PAGES     (1ULL << 22)    /* 16 GiB */

/* A page of the guest's that no other @i below GUEST_PAGES has */
static uint64_t scattered(uint64_t i)
{
    return (i * 2654435761ULL + 12345) % GUEST_PAGES;
}

/* What a stream may cost: a million pages, none of which continues another */
static void check_size(const char *what, uint64_t stride, bool scatter,
                       double limit)
{
    NyxPageTable *pt = nyx_page_table_new(true);
    g_autoptr(GByteArray) bytes = NULL;
    int64_t began, packed, decoded;
    NyxPageTable *copy;

    for (uint64_t i = 0; i < MILLION; i++) {
        map_ok(pt, stride * i * PAGE, PAGE,
               (scatter ? scattered(i) : i ^ 1) * PAGE, IOMMU_RW);
    }
    began = g_get_monotonic_time();
    bytes = pack(pt);
    packed = g_get_monotonic_time();
    copy = decode(bytes);
    decoded = g_get_monotonic_time();
    g_test_message("%s: %.2f bytes each; packed in %" PRId64 " us, decoded in %"
                   PRId64 " us", what, bytes->len / (double)MILLION,
                   packed - began, decoded - packed);
    g_assert_cmpfloat(bytes->len, <=, limit * MILLION);
    check_copy(pt, copy);
    free_and_check(pt);
}

static void test_size(void)
{
    check_size("neighbours exchanged, with gaps", 2, false, 1.3);
    check_size("scattered over 16 GiB", 1, true, 2.8);
    /* 22 bits of target and 2 of gap, which is all that there is to know */
    check_size("scattered over 16 GiB, with gaps", 3, true, 3.05);
}

static void test_damaged(void)
{
    static const struct {
        const char *what;
        uint8_t bytes[12];
        size_t size;
    } cases[] = {
        { "nothing", { }, 0 },
        { "no end", { 3, 0 }, 2 },
        { "more after the end", { 3, 0, 0, 0 }, 4 },
        { "a gap and no run", { 8, 0 }, 2 },
        { "a number that ends", { 0x83 }, 1 },
        { "a number of 70 bits", { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
                                   0xff, 0xff, 0x7f, 0, 0 }, 12 },
        { "no length", { 7 }, 1 },
        { "no target", { 3 }, 1 },
        { "a target below 0", { 3, 1, 0 }, 3 },
        { "a gap too far", { 0x83, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01, 0,
                             0 }, 10 },
        { "a length too long", { 7, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, 0, 0 },
          9 },
        { "a target too far", { 3, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01,
                                0 }, 9 },
        { "a block that ends", { 4, 0, 0, 2, 0, 0 }, 6 },
        { "a block with too many runs", { 0x84, 0x10, 0, 0, 0, 1, 0, 0, 0 },
          9 },
        { "a block with too few bits", { 8, 0, 0, 0, 1, 0, 8, 0, 0 }, 9 },
        { "a block with bits to spare", { 4, 0, 0, 2, 0, 0, 0, 7, 0 }, 9 },
        { "a block of pages without permission", { 4, 0, 0, 2, 0, 0, 0, 0, 0 },
          9 },
        { "widths that there are not", { 4, 0, 0, 1, 0, 0, 0, 1, 0 }, 9 },
        { "a gap too wide", { 4, 0, 0, 0, 37, 0, 0, 0 }, 8 },
        { "a base below 0", { 4, 0, 1, 0, 0, 0, 0, 0 }, 8 },
    };

    for (int i = 0; i < ARRAY_SIZE(cases); i++) {
        g_test_message("%s", cases[i].what);
        refuse(cases[i].bytes, cases[i].size);
    }
}

/* Whatever comes: an error, or a table that encodes to the same meaning. */
static void decode_hostile(const uint8_t *bytes, size_t size)
{
    NyxPageTable *pt = try_decode(bytes, size, NULL);

    if (pt) {
        check_round_trip(pt);
        free_and_check(pt);
    }
}

static void test_hostile(void)
{
    NyxRandom r = nyx_random_start();

    for (unsigned i = 0; i < 1000; i++) {
        NyxPageTable *pt = nyx_page_table_new(true);
        g_autoptr(GByteArray) bytes = NULL;

        fill_at_random(pt, &r);
        bytes = i & 1 ? encode(pt) : pack(pt);
        free_and_check(pt);
        for (unsigned n = 1 + nyx_random_below(&r, 3); n > 0; n--) {
            bytes->data[nyx_random_below(&r, bytes->len)] ^=
                1 << nyx_random_below(&r, 8);
        }
        decode_hostile(bytes->data, bytes->len);
        decode_hostile(bytes->data, nyx_random_below(&r, bytes->len));
    }
    drain_call_rcu();
    g_assert_cmpuint(nyx_page_table_live_tables(), ==, 0);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/nyx/table-codec/empty", test_empty);
    g_test_add_func("/nyx/table-codec/extremes", test_extremes);
    g_test_add_func("/nyx/table-codec/random", test_random);
    g_test_add_func("/nyx/table-codec/parts", test_parts);
    g_test_add_func("/nyx/table-codec/size", test_size);
    g_test_add_func("/nyx/table-codec/damaged", test_damaged);
    g_test_add_func("/nyx/table-codec/hostile", test_hostile);
    return g_test_run();
}
