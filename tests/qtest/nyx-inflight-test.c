/*
 * Nyx IOMMU: mappings go away under a device that does DMA without a pause
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * When the command has returned, no access through the old mapping lands in
 * memory, whether the DMA runs in the main loop or in a thread without the BQL.
 */

#include "qemu/osdep.h"
#include "libnyx.h"

#define WINDOW          MIB(8)
#define WINDOW_PAGES    64
#define ROUNDS          25

static NyxTestdev *start(const char *domain)
{
    NyxTest *t = nyx_test_start("nyx-pc,on-fault-limit=report",
                                "-object nyx-domain,id=dom%s "
                                "-object nyx-domain,id=other,isolation=shared,"
                                "default-map=none "
                                "-device nyx-testdev,id=td,addr=5,"
                                "nyx-domain=dom", domain);

    nyx_ram_fill(t);
    return nyx_testdev_open(t, 5);
}

static void quit(NyxTestdev *dev)
{
    NyxTest *t = dev->t;

    nyx_testdev_command(dev, NTD_CMD_STOP);
    nyx_testdev_await_idle(dev);
    nyx_testdev_close(dev);
    nyx_test_quit(t);
}

static uint32_t mode_of(const void *data)
{
    return GPOINTER_TO_UINT(data);
}

static void run(NyxTestdev *dev, const void *data, uint32_t length)
{
    nyx_testdev_fill(dev, 0xdd);
    nyx_testdev_run(dev, WINDOW, length, 0, WINDOW_PAGES, PAGE,
                    NTD_FLAG_WRITE | NTD_FLAG_RANDOM | mode_of(data));
}

/* The device goes on, and what it writes must not arrive. */
static void assert_untouched(NyxTestdev *dev, uint64_t gpa, uint64_t size)
{
    memset(dev->t->ram + gpa, 0x66, size);
    nyx_testdev_await_done(dev, nyx_testdev_get64(dev, NTD_REG_DONE_LO) + 3000);
    for (uint64_t i = 0; i < size; i++) {
        if (dev->t->ram[gpa + i] != 0x66) {
            g_error("stale write to 0x%" PRIx64, gpa + i);
        }
    }
}

/* Until what the device writes has arrived. */
static void await_touched(NyxTestdev *dev, uint64_t gpa)
{
    int64_t end = g_get_monotonic_time() + 30 * G_TIME_SPAN_SECOND;

    dev->t->ram[gpa] = 0;
    while (qatomic_read(&dev->t->ram[gpa]) != 0xdd) {
        /* A round trip, so that the main loop of QEMU gets on. */
        nyx_testdev_get(dev, NTD_REG_STATUS);
        g_assert_cmpint(g_get_monotonic_time(), <, end);
    }
}

static void map(NyxTestdev *dev, uint64_t iova, uint64_t gpa, uint64_t size)
{
    nyx_qmp(dev->t, "{ 'execute': 'nyx-map', 'arguments': { 'domain': 'dom',"
            "  'iova': %" PRIu64 ", 'gpa': %" PRIu64 ", 'size': %" PRIu64 ","
            "  'access': 'rw' } }", iova, gpa, size);
}

static void unmap(NyxTestdev *dev, uint64_t iova, uint64_t size)
{
    nyx_qmp(dev->t, "{ 'execute': 'nyx-unmap', 'arguments': {"
            "  'domain': 'dom', 'iova': %" PRIu64 ", 'size': %" PRIu64 " } }",
            iova, size);
}

static void check_unmap(const void *data, const char *domain, uint64_t size)
{
    NyxTestdev *dev = start(domain);
    unsigned round;

    if (strstr(domain, "none")) {
        map(dev, WINDOW, WINDOW, WINDOW_PAGES * PAGE);
    }
    run(dev, data, 64);
    for (round = 0; round < ROUNDS; round++) {
        uint64_t at = WINDOW + (round * PAGE) % (WINDOW_PAGES * PAGE - size);

        await_touched(dev, at);
        unmap(dev, at, size);
        assert_untouched(dev, at, size);
        map(dev, at, at, size);
    }
    quit(dev);
}

static void test_unmap_page(const void *data)
{
    check_unmap(data, ",default-map=none", PAGE);
}

static void test_unmap_many(const void *data)
{
    check_unmap(data, ",default-map=none,large-pages=off", 32 * PAGE);
}

/* The first unmap takes the domain from pass-through to a table. */
static void test_unmap_pass_through(const void *data)
{
    check_unmap(data, "", PAGE);
}

/* The page moves about in RAM; it must be in one place only. */
static void test_move_page(const void *data)
{
    NyxTestdev *dev = start(",default-map=none");
    unsigned round;

    run(dev, data, 64);
    for (round = 0; round < ROUNDS; round++) {
        uint64_t gpa = MIB(32) + round * PAGE;

        map(dev, WINDOW, gpa, PAGE);
        await_touched(dev, gpa);
        unmap(dev, WINDOW, PAGE);
        assert_untouched(dev, MIB(32), ROUNDS * PAGE);
    }
    quit(dev);
}

static void assign(NyxTestdev *dev, const char *domain)
{
    nyx_qmp(dev->t, "{ 'execute': 'nyx-assign-device',"
            "  'arguments': { 'device': 'td', 'domain': %s } }", domain);
}

static void check_assign(const void *data, const char *domain)
{
    NyxTestdev *dev = start(domain);
    unsigned round;

    if (strstr(domain, "none")) {
        map(dev, WINDOW, WINDOW, WINDOW_PAGES * PAGE);
    }
    run(dev, data, 64);
    for (round = 0; round < ROUNDS; round++) {
        await_touched(dev, WINDOW);
        assign(dev, "other");
        assert_untouched(dev, WINDOW, WINDOW_PAGES * PAGE);
        assign(dev, "dom");
    }
    await_touched(dev, WINDOW);
    quit(dev);
}

static void test_assign(const void *data)
{
    check_assign(data, ",default-map=none");
}

static void test_assign_pass_through(const void *data)
{
    check_assign(data, "");
}

static void test_assign_unmanaged(const void *data)
{
    check_assign(data, ",isolation=unmanaged");
}

/* What both domains allow is never refused, not even on the way. */
static void check_allowed_by_both(const void *data, const char *domain)
{
    NyxTestdev *dev = start(domain);
    unsigned round;

    nyx_qmp(dev->t, "{ 'execute': 'nyx-map', 'arguments': {"
            "  'domain': 'other', 'iova': %llu, 'gpa': %llu, 'size': %llu,"
            "  'access': 'rw' } }", WINDOW, WINDOW, WINDOW_PAGES * PAGE);
    run(dev, data, 64);
    for (round = 0; round < 8 * ROUNDS; round++) {
        assign(dev, "other");
        assign(dev, "dom");
    }
    await_touched(dev, WINDOW);
    g_assert_cmpuint(nyx_testdev_get64(dev, NTD_REG_ERRORS_LO), ==, 0);
    quit(dev);
}

static void test_both_pass_through(const void *data)
{
    check_allowed_by_both(data, "");
}

static void test_both_unmanaged(const void *data)
{
    check_allowed_by_both(data, ",isolation=unmanaged");
}

static void test_quarantine(const void *data)
{
    NyxTestdev *dev = start("");
    unsigned round;

    nyx_qmp(dev->t, "{ 'execute': 'nyx-set-policy', 'arguments': {"
            "  'device': 'td', 'max-recoveries': 255 } }");
    for (round = 0; round < ROUNDS / 2; round++) {
        g_autofree uint8_t *before = NULL;

        run(dev, data, PAGE);
        await_touched(dev, WINDOW);
        nyx_qmp(dev->t, "{ 'execute': 'nyx-quarantine-device',"
                "  'arguments': { 'device': 'td' } }");
        /* Its registers are out of sight: look at memory until it is reset. */
        before = nyx_ram_copy(dev->t);
        memset(before + WINDOW, 0x66, WINDOW_PAGES * PAGE);
        memset(dev->t->ram + WINDOW, 0x66, WINDOW_PAGES * PAGE);
        g_assert_cmphex(nyx_testdev_get(dev, NTD_REG_STATUS), ==, UINT32_MAX);
        nyx_ram_assert_same(dev->t, before, 0, 0);
        nyx_qmp(dev->t, "{ 'execute': 'nyx-recover-device',"
                "  'arguments': { 'device': 'td' } }");
        nyx_ram_assert_same(dev->t, before, 0, 0);
        nyx_testdev_enable(dev);
        g_assert_cmphex(nyx_testdev_get(dev, NTD_REG_STATUS), ==, 0);
    }
    quit(dev);
}

static void add(const char *name, GTestDataFunc func)
{
    g_autofree char *loop = g_strdup_printf("/nyx/inflight/%s/main-loop",
                                            name);
    g_autofree char *thread = g_strdup_printf("/nyx/inflight/%s/thread",
                                              name);

    qtest_add_data_func(loop, GUINT_TO_POINTER(0), func);
    qtest_add_data_func(thread, GUINT_TO_POINTER(NTD_FLAG_THREAD), func);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    add("unmap-page", test_unmap_page);
    add("unmap-many", test_unmap_many);
    add("unmap-pass-through", test_unmap_pass_through);
    add("move-page", test_move_page);
    add("assign", test_assign);
    add("assign-pass-through", test_assign_pass_through);
    add("assign-unmanaged", test_assign_unmanaged);
    add("both-pass-through", test_both_pass_through);
    add("both-unmanaged", test_both_unmanaged);
    add("quarantine", test_quarantine);
    return g_test_run();
}
