/*
 * Nyx IOMMU: tests of the fault log
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Time is an argument here; nothing waits.
 */

#include "qemu/osdep.h"
#include "../../hw/iommu-nyx/fault.h"

#define PAGE    4096ULL
#define MS      1000000LL

/* A whole access of at most 8 bytes by the device, in one piece. */
static NyxFaultVerdict record_at(NyxFaultLog *log, uint64_t address,
                                 int64_t now_ns)
{
    return nyx_fault_log_record(log, NYX_FAULT_TYPE_UNMAPPED, NYX_ACCESS_W,
                                address, 4, false, now_ns);
}

/* A DMA as QEMU cuts it where it hits no RAM: pieces of 8 bytes. */
static unsigned record_dma(NyxFaultLog *log, NyxAccess access,
                           uint64_t address, uint64_t length, int64_t now_ns)
{
    uint64_t done;
    unsigned counted = 0;

    for (done = 0; done < length; done += 8) {
        counted += nyx_fault_log_record(log, NYX_FAULT_TYPE_UNMAPPED, access,
                                        address + done, MIN(8, length - done),
                                        false, now_ns) != NYX_FAULT_CONTINUED;
    }
    return counted;
}

static void test_empty(void)
{
    NyxFaultLog log;

    nyx_fault_log_init(&log);
    g_assert_null(nyx_fault_log_get(&log, 0));
    g_assert_cmpuint(nyx_fault_log_total(&log), ==, 0);
    g_assert_cmpuint(nyx_fault_log_in_window(&log, 0), ==, 0);
    g_assert_cmpint(nyx_fault_log_last_ns(&log), ==, -1);

    /* The very first fault must not pass for a piece of one before it. */
    g_assert_cmpint(nyx_fault_log_record(&log, 0, 0, 0, 8, false, 5), ==,
                    NYX_FAULT_LIMIT);
    g_assert_cmpint(nyx_fault_log_last_ns(&log), ==, 5);
    nyx_fault_log_destroy(&log);
}

static void test_ring_order(void)
{
    NyxFaultLog log;
    const NyxFault *fault;
    unsigned n, faults = NYX_FAULT_RING + 10;

    nyx_fault_log_init(&log);
    for (n = 0; n < faults; n++) {
        record_at(&log, n * PAGE + 4, n);
        fault = nyx_fault_log_get(&log, 0);
        g_assert_cmphex(fault->address, ==, n * PAGE + 4);
        g_assert_cmpint(fault->time_ns, ==, n);
    }
    for (n = 0; n < NYX_FAULT_RING; n++) {
        fault = nyx_fault_log_get(&log, n);
        g_assert_cmphex(fault->address, ==, (faults - 1 - n) * PAGE + 4);
        g_assert_cmpint(fault->type, ==, NYX_FAULT_TYPE_UNMAPPED);
        g_assert_cmpint(fault->access, ==, NYX_ACCESS_W);
        g_assert_cmpuint(fault->count, ==, 1);
        g_assert_false(fault->injected);
    }
    g_assert_null(nyx_fault_log_get(&log, NYX_FAULT_RING));
    g_assert_null(nyx_fault_log_get(&log, UINT_MAX));
    g_assert_cmpuint(nyx_fault_log_total(&log), ==, faults);
    nyx_fault_log_destroy(&log);
}

static void test_ring_shares_record(void)
{
    NyxFaultLog log;
    const NyxFault *fault;

    nyx_fault_log_init(&log);
    record_at(&log, 0x1000, 1);
    record_at(&log, 0x1800, 2);
    record_at(&log, 0x1000, 3);
    fault = nyx_fault_log_get(&log, 0);
    g_assert_cmpuint(fault->count, ==, 3);
    g_assert_cmphex(fault->address, ==, 0x1000);
    g_assert_cmpint(fault->time_ns, ==, 3);
    g_assert_null(nyx_fault_log_get(&log, 1));

    /* Each of page, direction, type and injection starts a record. */
    record_at(&log, 0x2000, 4);
    nyx_fault_log_record(&log, NYX_FAULT_TYPE_UNMAPPED, NYX_ACCESS_R, 0x2000,
                         4, false, 5);
    nyx_fault_log_record(&log, NYX_FAULT_TYPE_BLOCKED, NYX_ACCESS_R, 0x2000,
                         4, false, 6);
    nyx_fault_log_record(&log, NYX_FAULT_TYPE_BLOCKED, NYX_ACCESS_R, 0x2000,
                         4, true, 7);
    g_assert_cmpint(nyx_fault_log_get(&log, 0)->injected, ==, true);
    g_assert_cmpint(nyx_fault_log_get(&log, 1)->type, ==,
                    NYX_FAULT_TYPE_BLOCKED);
    g_assert_cmpint(nyx_fault_log_get(&log, 2)->access, ==, NYX_ACCESS_R);
    g_assert_cmphex(nyx_fault_log_get(&log, 3)->address, ==, 0x2000);
    g_assert_cmpuint(nyx_fault_log_get(&log, 4)->count, ==, 3);
    g_assert_cmpuint(nyx_fault_log_total(&log), ==, 7);
    nyx_fault_log_destroy(&log);
}

static void test_pieces(void)
{
    NyxFaultLog log;
    const NyxFault *fault;

    nyx_fault_log_init(&log);
    /* A DMA inside one page is one fault, named by its start. */
    g_assert_cmpuint(record_dma(&log, NYX_ACCESS_W, 0x1010, 0xff0, 1), ==, 1);
    fault = nyx_fault_log_get(&log, 0);
    g_assert_cmphex(fault->address, ==, 0x1010);
    g_assert_cmpuint(fault->count, ==, 1);
    /* The same once more is another one. */
    g_assert_cmpuint(record_dma(&log, NYX_ACCESS_W, 0x1010, 0xff0, 2), ==, 1);
    g_assert_cmpuint(fault->count, ==, 2);
    g_assert_cmpint(fault->time_ns, ==, 2);
    /* One fault for each page touched. */
    g_assert_cmpuint(record_dma(&log, NYX_ACCESS_R, 0x5ff0, 0x2020, 3), ==, 4);
    g_assert_cmphex(nyx_fault_log_get(&log, 0)->address, ==, 0x8000);
    g_assert_cmphex(nyx_fault_log_get(&log, 3)->address, ==, 0x5ff0);
    /* A piece belongs to the page of its first byte. */
    g_assert_cmpuint(record_dma(&log, NYX_ACCESS_W, 0xaffc, 16, 4), ==, 2);
    g_assert_cmphex(nyx_fault_log_get(&log, 0)->address, ==, 0xb004);
    g_assert_cmpuint(nyx_fault_log_total(&log), ==, 8);
    /* Nothing lies behind the last address. */
    g_assert_cmpuint(record_dma(&log, NYX_ACCESS_W, UINT64_MAX - 7, 16, 5),
                     ==, 2);
    nyx_fault_log_destroy(&log);
}

static void test_pieces_apart(void)
{
    NyxFaultLog log;

    nyx_fault_log_init(&log);
    nyx_fault_log_record(&log, NYX_FAULT_TYPE_UNMAPPED, NYX_ACCESS_W, 0x1000,
                         8, false, 1);
    /* Contiguous, but of another direction, type or origin; or with a gap. */
    g_assert_cmpint(nyx_fault_log_record(&log, NYX_FAULT_TYPE_UNMAPPED,
                                         NYX_ACCESS_R, 0x1008, 8, false, 1),
                    !=, NYX_FAULT_CONTINUED);
    g_assert_cmpint(nyx_fault_log_record(&log, NYX_FAULT_TYPE_BLOCKED,
                                         NYX_ACCESS_R, 0x1010, 8, false, 1),
                    !=, NYX_FAULT_CONTINUED);
    g_assert_cmpint(nyx_fault_log_record(&log, NYX_FAULT_TYPE_BLOCKED,
                                         NYX_ACCESS_R, 0x1018, 8, true, 1),
                    !=, NYX_FAULT_CONTINUED);
    g_assert_cmpint(nyx_fault_log_record(&log, NYX_FAULT_TYPE_BLOCKED,
                                         NYX_ACCESS_R, 0x1021, 8, true, 1),
                    !=, NYX_FAULT_CONTINUED);
    g_assert_cmpint(nyx_fault_log_record(&log, NYX_FAULT_TYPE_BLOCKED,
                                         NYX_ACCESS_R, 0x1029, 8, true, 1),
                    ==, NYX_FAULT_CONTINUED);
    g_assert_cmpuint(nyx_fault_log_total(&log), ==, 5);
    /* A restart of the window does not cut a DMA in two. */
    nyx_fault_log_restart(&log);
    g_assert_cmpint(nyx_fault_log_record(&log, NYX_FAULT_TYPE_BLOCKED,
                                         NYX_ACCESS_R, 0x1031, 1, true, 1),
                    ==, NYX_FAULT_CONTINUED);
    g_assert_cmpuint(nyx_fault_log_in_window(&log, 1), ==, 0);
    /* No DMA goes on after its rest, nor one of 4 bytes with 4 more. */
    g_assert_cmpint(nyx_fault_log_record(&log, NYX_FAULT_TYPE_BLOCKED,
                                         NYX_ACCESS_R, 0x1032, 8, true, 1),
                    !=, NYX_FAULT_CONTINUED);
    record_at(&log, 0x2000, 1);
    g_assert_cmpint(record_at(&log, 0x2004, 1), !=, NYX_FAULT_CONTINUED);
    nyx_fault_log_destroy(&log);
}

/* DMA that goes on where another one ended, but later, is one of its own. */
static void test_break(void)
{
    NyxFaultLog log;

    nyx_fault_log_init(&log);
    nyx_fault_log_break(&log);
    g_assert_cmpuint(record_dma(&log, NYX_ACCESS_W, 0x1000, 64, 0), ==, 1);
    nyx_fault_log_break(&log);
    g_assert_cmpuint(record_dma(&log, NYX_ACCESS_W, 0x1040, 64, 0), ==, 1);
    g_assert_cmpuint(record_dma(&log, NYX_ACCESS_W, 0x1080, 64, 0), ==, 0);
    g_assert_cmpuint(nyx_fault_log_total(&log), ==, 2);
    g_assert_cmpuint(nyx_fault_log_get(&log, 0)->count, ==, 2);
    nyx_fault_log_destroy(&log);
}

/* Only what QEMU cuts itself goes together: 8s, then the rest. */
static void test_cut(void)
{
    static const struct {
        unsigned size;
        bool continued;
    } pieces[] = {
        { 8, false }, { 8, true }, { 4, true }, { 2, true }, { 1, true },
        { 1, false }, { 8, false }, { 2, true }, { 2, false }, { 1, true },
        { 4, false }, { 8, false }, { 8, true },
    };
    uint64_t address = 0x1000;
    NyxFaultLog log;
    unsigned i;

    nyx_fault_log_init(&log);
    for (i = 0; i < ARRAY_SIZE(pieces); i++) {
        NyxFaultVerdict verdict;

        verdict = nyx_fault_log_record(&log, NYX_FAULT_TYPE_UNMAPPED,
                                       NYX_ACCESS_W, address, pieces[i].size,
                                       false, 1);
        g_assert_cmpint(verdict == NYX_FAULT_CONTINUED, ==,
                        pieces[i].continued);
        address += pieces[i].size;
    }
    nyx_fault_log_destroy(&log);
}

static void test_window_edges(void)
{
    NyxFaultLog log;

    nyx_fault_log_init(&log);
    nyx_fault_log_set_limit(&log, 2, 100 * MS);
    g_assert_cmpint(record_at(&log, 0, 0), ==, NYX_FAULT_COUNTED);
    g_assert_cmpint(record_at(&log, 0, 1), ==, NYX_FAULT_COUNTED);
    g_assert_cmpuint(nyx_fault_log_in_window(&log, 100 * MS - 1), ==, 2);
    g_assert_cmpuint(nyx_fault_log_in_window(&log, 100 * MS), ==, 1);
    g_assert_cmpuint(nyx_fault_log_in_window(&log, 100 * MS + 1), ==, 0);
    /* The first fault has just left the window: the third is within. */
    g_assert_cmpint(record_at(&log, 0, 100 * MS), ==, NYX_FAULT_COUNTED);
    /* Those at 1, 100 ms and now are inside. */
    g_assert_cmpint(record_at(&log, 0, 100 * MS), ==, NYX_FAULT_LIMIT);
    g_assert_cmpint(record_at(&log, 0, 100 * MS), ==, NYX_FAULT_BEYOND);
    /* Beyond stays beyond, however late, until restarted. */
    g_assert_cmpint(record_at(&log, 0, 10000 * MS), ==, NYX_FAULT_BEYOND);
    nyx_fault_log_restart(&log);
    g_assert_cmpuint(nyx_fault_log_in_window(&log, 10000 * MS), ==, 0);
    g_assert_cmpint(record_at(&log, 0, 10000 * MS), ==, NYX_FAULT_COUNTED);
    g_assert_cmpuint(nyx_fault_log_total(&log), ==, 7);
    g_assert_cmpuint(nyx_fault_log_get(&log, 0)->count, ==, 7);
    nyx_fault_log_destroy(&log);
}

static void test_for_ever(void)
{
    NyxFaultLog log;
    int64_t n;

    nyx_fault_log_init(&log);
    nyx_fault_log_set_limit(&log, 3, 0);
    for (n = 0; n < 3; n++) {
        g_assert_cmpint(record_at(&log, 0, n * (INT64_MAX / 4)), ==,
                        NYX_FAULT_COUNTED);
    }
    g_assert_cmpint(record_at(&log, 0, INT64_MAX), ==, NYX_FAULT_LIMIT);
    for (n = 0; n < 100; n++) {
        g_assert_cmpint(record_at(&log, 0, INT64_MAX), ==, NYX_FAULT_BEYOND);
    }
    g_assert_cmpuint(nyx_fault_log_in_window(&log, INT64_MAX), ==, 104);
    nyx_fault_log_restart(&log);
    g_assert_cmpint(record_at(&log, 0, 0), ==, NYX_FAULT_COUNTED);
    nyx_fault_log_destroy(&log);
}

static void test_limit_zero(void)
{
    NyxFaultLog log;

    nyx_fault_log_init(&log);
    nyx_fault_log_set_limit(&log, 0, MS);
    g_assert_cmpint(record_at(&log, 0, 7), ==, NYX_FAULT_LIMIT);
    g_assert_cmpint(record_at(&log, 0, 7), ==, NYX_FAULT_BEYOND);
    nyx_fault_log_restart(&log);
    g_assert_cmpint(record_at(&log, 0, 7), ==, NYX_FAULT_LIMIT);
    nyx_fault_log_destroy(&log);
}

static void test_largest_limit(void)
{
    NyxFaultLog log;
    uint32_t n;

    nyx_fault_log_init(&log);
    nyx_fault_log_set_limit(&log, NYX_MAX_FAULTS_LIMIT,
                            NYX_MAX_FAULTS_LIMIT * MS);
    /* One fault each millisecond: the limit is reached, not passed. */
    for (n = 0; n < 3 * NYX_MAX_FAULTS_LIMIT; n++) {
        g_assert_cmpint(record_at(&log, 0, n * MS), ==, NYX_FAULT_COUNTED);
    }
    g_assert_cmpint(record_at(&log, 0, (n - 1) * MS), ==, NYX_FAULT_LIMIT);
    g_assert_cmpuint(nyx_fault_log_in_window(&log, 0), ==,
                     NYX_MAX_FAULTS_LIMIT + 1);
    nyx_fault_log_destroy(&log);
}

static void test_limit_changes(void)
{
    NyxFaultLog log;
    unsigned n;

    nyx_fault_log_init(&log);
    nyx_fault_log_set_limit(&log, 10, 0);
    for (n = 0; n < 5; n++) {
        record_at(&log, 0, n * MS);
    }
    /* A narrower window looks at the same history, as does a wider one. */
    nyx_fault_log_set_limit(&log, 10, 2 * MS);
    g_assert_cmpuint(nyx_fault_log_in_window(&log, 4 * MS), ==, 2);
    nyx_fault_log_set_limit(&log, 20, 1000 * MS);
    g_assert_cmpuint(nyx_fault_log_in_window(&log, 4 * MS), ==, 5);
    /* A lower limit is passed by the next fault. */
    nyx_fault_log_set_limit(&log, 3, 1000 * MS);
    g_assert_cmpuint(nyx_fault_log_in_window(&log, 4 * MS), ==, 4);
    g_assert_cmpint(record_at(&log, 0, 4 * MS), ==, NYX_FAULT_LIMIT);
    /* A higher one does not undo what has happened. */
    nyx_fault_log_set_limit(&log, 100, 1000 * MS);
    g_assert_cmpint(record_at(&log, 0, 4 * MS), ==, NYX_FAULT_BEYOND);
    nyx_fault_log_set_limit(&log, 100, 0);
    g_assert_cmpuint(nyx_fault_log_in_window(&log, 4 * MS), ==, 7);
    nyx_fault_log_destroy(&log);
}

static void test_time_goes_back(void)
{
    NyxFaultLog log;

    nyx_fault_log_init(&log);
    nyx_fault_log_set_limit(&log, 2, 10 * MS);
    record_at(&log, 0, 1000 * MS);
    /* As after loading a snapshot: no fault leaves the window early ... */
    g_assert_cmpint(record_at(&log, 0, 5 * MS), ==, NYX_FAULT_COUNTED);
    g_assert_cmpuint(nyx_fault_log_in_window(&log, 0), ==, 2);
    g_assert_cmpint(nyx_fault_log_last_ns(&log), ==, 5 * MS);
    /* ... and none stays for longer than the window. */
    g_assert_cmpuint(nyx_fault_log_in_window(&log, 15 * MS - 1), ==, 2);
    g_assert_cmpuint(nyx_fault_log_in_window(&log, 15 * MS), ==, 0);
    g_assert_cmpint(record_at(&log, 0, 14 * MS), ==, NYX_FAULT_LIMIT);
    nyx_fault_log_destroy(&log);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/nyx/fault/empty", test_empty);
    g_test_add_func("/nyx/fault/ring-order", test_ring_order);
    g_test_add_func("/nyx/fault/ring-shares-record", test_ring_shares_record);
    g_test_add_func("/nyx/fault/pieces", test_pieces);
    g_test_add_func("/nyx/fault/pieces-apart", test_pieces_apart);
    g_test_add_func("/nyx/fault/break", test_break);
    g_test_add_func("/nyx/fault/cut", test_cut);
    g_test_add_func("/nyx/fault/window-edges", test_window_edges);
    g_test_add_func("/nyx/fault/for-ever", test_for_ever);
    g_test_add_func("/nyx/fault/limit-zero", test_limit_zero);
    g_test_add_func("/nyx/fault/largest-limit", test_largest_limit);
    g_test_add_func("/nyx/fault/limit-changes", test_limit_changes);
    g_test_add_func("/nyx/fault/time-goes-back", test_time_goes_back);
    return g_test_run();
}
