/*
 * Nyx IOMMU: a device touches what its domain maps, and not one byte more
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "libnyx.h"

#define MACHINE     "nyx-pc,on-fault-limit=report"
#define WINDOW      MIB(8)
#define WINDOW_SIZE (16 * PAGE)

static NyxTestdev *start(const char *domain)
{
    NyxTest *t = nyx_test_start(MACHINE, "-object nyx-domain,id=dom%s "
                                "-device nyx-testdev,id=td,addr=5,"
                                "nyx-domain=dom", domain);

    nyx_ram_fill(t);
    return nyx_testdev_open(t, 5);
}

static void quit(NyxTestdev *dev)
{
    NyxTest *t = dev->t;

    nyx_testdev_close(dev);
    nyx_test_quit(t);
}

static void map(NyxTest *t, uint64_t iova, uint64_t gpa, uint64_t size,
                const char *access)
{
    nyx_qmp(t, "{ 'execute': 'nyx-map', 'arguments': { 'domain': 'dom',"
            "  'iova': %" PRIu64 ", 'gpa': %" PRIu64 ", 'size': %" PRIu64 ","
            "  'access': %s } }", iova, gpa, size, access);
}

static void unmap(NyxTest *t, uint64_t iova, uint64_t size)
{
    nyx_qmp(t, "{ 'execute': 'nyx-unmap', 'arguments': { 'domain': 'dom',"
            "  'iova': %" PRIu64 ", 'size': %" PRIu64 " } }", iova, size);
}

static bool can_read(NyxTestdev *dev, uint64_t address, uint32_t length)
{
    return nyx_testdev_read(dev, address, length) == NTD_RESULT_OK;
}

static bool can_write(NyxTestdev *dev, uint64_t address, uint32_t length)
{
    return nyx_testdev_write(dev, address, length) == NTD_RESULT_OK;
}

static void assert_dma_mode(NyxTestdev *dev, const char *mode)
{
    QDict *device = nyx_query_device(dev->t, "td");

    g_assert_cmpstr(qdict_get_str(device, "dma"), ==, mode);
    qobject_unref(device);
}

/* Every page of RAM that the chipset does not hide reads right and writes. */
static void check_all_ram(NyxTestdev *dev)
{
    g_autofree uint8_t *data = g_malloc(NTD_BUFFER_SIZE);
    uint64_t address;

    for (address = MIB(1); address < NYX_RAM_SIZE; address += NTD_BUFFER_SIZE) {
        g_assert_true(can_read(dev, address, NTD_BUFFER_SIZE));
        nyx_testdev_get_buffer(dev, data, NTD_BUFFER_SIZE);
        g_assert(!memcmp(data, dev->t->ram + address, NTD_BUFFER_SIZE));
        g_assert_true(can_write(dev, address, NTD_BUFFER_SIZE));
    }
    g_assert_true(can_write(dev, 0, 0xa0000));
    nyx_assert_number(dev->t, "td", "total-faults", 0);
}

/* What is no RAM is refused: holes, chipset, flash, addresses too wide. */
static void check_no_devices(NyxTestdev *dev)
{
    static const struct {
        uint64_t address;
        const char *type;
    } refused[] = {
        { NYX_RAM_SIZE, "unmapped" },
        { 0xfec00000, "unmapped" },         /* IOAPIC */
        { 0xfed00000, "unmapped" },         /* HPET */
        { 0xfffff000, "unmapped" },         /* flash */
        { 1ULL << 32, "unmapped" },
        { (1ULL << 48) - 8, "unmapped" },
        { 1ULL << 48, "address-width" },
        { (1ULL << 48) | MIB(1), "address-width" },
        { 1ULL << 63, "address-width" },
        { UINT64_MAX - 8, "address-width" },
    };
    unsigned i;

    for (i = 0; i < ARRAY_SIZE(refused); i++) {
        g_assert_false(can_write(dev, refused[i].address, 8));
        nyx_assert_fault(dev->t, "td", refused[i].type, refused[i].address,
                         "w", 1);
        g_assert_false(can_read(dev, refused[i].address, 8));
        nyx_assert_fault(dev->t, "td", refused[i].type, refused[i].address,
                         "r", 1);
    }
    nyx_assert_number(dev->t, "td", "total-faults", 2 * i);
}

static void test_all_ram(void)
{
    NyxTestdev *dev = start(",isolation=strict");

    assert_dma_mode(dev, "pass-through");
    check_all_ram(dev);
    check_no_devices(dev);
    /* With a table, it is the same but for the page that is taken away. */
    unmap(dev->t, MIB(16), PAGE);
    assert_dma_mode(dev, "translating");
    g_assert_false(can_read(dev, MIB(16), 8));
    g_assert_false(can_read(dev, MIB(16) + PAGE - 1, 1));
    g_assert_true(can_read(dev, MIB(16) - 8, 8));
    g_assert_true(can_read(dev, MIB(16) + PAGE, 8));
    quit(dev);
}

static void test_all_ram_by_table(void)
{
    NyxTestdev *dev = start("");

    unmap(dev->t, MIB(16), PAGE);
    map(dev->t, MIB(16), MIB(16), PAGE, "rw");
    assert_dma_mode(dev, "translating");
    check_all_ram(dev);
    check_no_devices(dev);
    quit(dev);
}

static void test_nothing(void)
{
    NyxTestdev *dev = start(",default-map=none");
    g_autofree uint8_t *before = nyx_ram_copy(dev->t);
    uint8_t data[PAGE];
    QDict *device;
    unsigned i;

    nyx_testdev_fill(dev, 0);
    nyx_testdev_run(dev, 0, PAGE, NYX_RAM_SIZE / PAGE, NYX_RAM_SIZE / PAGE,
                    PAGE, NTD_FLAG_WRITE);
    nyx_testdev_await_idle(dev);
    g_assert_cmpuint(nyx_testdev_get64(dev, NTD_REG_ERRORS_LO), ==,
                     NYX_RAM_SIZE / PAGE);
    nyx_ram_assert_same(dev->t, before, 0, 0);
    /* A DMA that the host interrupts for long counts as two. */
    device = nyx_query_device(dev->t, "td");
    g_assert_cmpuint(qdict_get_uint(device, "total-faults"), >=,
                     NYX_RAM_SIZE / PAGE);
    g_assert_cmpuint(qdict_get_uint(device, "total-faults"), <,
                     2 * NYX_RAM_SIZE / PAGE);
    qobject_unref(device);

    /* Refused reads give all-ones, not what was in the buffer before. */
    g_assert_false(can_read(dev, MIB(1), PAGE));
    nyx_testdev_get_buffer(dev, data, PAGE);
    for (i = 0; i < PAGE; i++) {
        g_assert_cmphex(data[i], ==, 0xff);
    }
    quit(dev);
}

static void check_writes_around_window(NyxTestdev *dev, uint64_t first,
                                       uint64_t gpa, uint64_t size)
{
    const struct {
        uint64_t address;
        uint32_t length;
        bool allowed;
    } writes[] = {
        { first, size, true },
        { first, 1, true },
        { first + size - 1, 1, true },
        { first + PAGE - 3, 7, true },
        { first - 1, 1, false },
        { first + size, 1, false },
        { first - 1, 2, false },
        { first + size - 1, 2, false },
        { first - PAGE, size + 2 * PAGE, false },
        { first + size + PAGE, 64, false },
    };
    g_autofree uint8_t *before = nyx_ram_copy(dev->t);
    unsigned i;

    for (i = 0; i < ARRAY_SIZE(writes); i++) {
        nyx_testdev_fill(dev, i);
        g_assert_cmpint(can_write(dev, writes[i].address, writes[i].length),
                        ==, writes[i].allowed);
        nyx_ram_assert_same(dev->t, before, gpa, size);
        if (writes[i].allowed) {
            uint64_t at = gpa + (writes[i].address - first);

            g_assert_cmphex(dev->t->ram[at], ==, i);
            g_assert_cmphex(dev->t->ram[at + writes[i].length - 1], ==, i);
        }
    }
    nyx_testdev_fill(dev, 0x99);
    nyx_testdev_run(dev, first - MIB(1), 64, 50000, MIB(2) / PAGE + size / PAGE,
                    PAGE, NTD_FLAG_WRITE | NTD_FLAG_RANDOM);
    nyx_testdev_await_idle(dev);
    nyx_ram_assert_same(dev->t, before, gpa, size);
    g_assert_cmpuint(nyx_testdev_get64(dev, NTD_REG_ERRORS_LO), >, 0);
    g_assert_cmpuint(nyx_testdev_get64(dev, NTD_REG_ERRORS_LO), <, 50000);
}

static void test_window(void)
{
    NyxTestdev *dev = start(",default-map=none");

    map(dev->t, WINDOW, WINDOW, WINDOW_SIZE, "rw");
    check_writes_around_window(dev, WINDOW, WINDOW, WINDOW_SIZE);
    quit(dev);
}

static void test_window_elsewhere(void)
{
    NyxTestdev *dev = start(",default-map=none");
    uint64_t iova = (1ULL << 48) - MIB(4);

    map(dev->t, iova, WINDOW, WINDOW_SIZE, "rw");
    check_writes_around_window(dev, iova, WINDOW, WINDOW_SIZE);
    g_assert_false(can_read(dev, WINDOW, 8));
    quit(dev);
}

static void test_directions(void)
{
    NyxTestdev *dev = start(",default-map=none");
    g_autofree uint8_t *before = nyx_ram_copy(dev->t);

    map(dev->t, WINDOW, WINDOW, PAGE, "r");
    map(dev->t, WINDOW + PAGE, WINDOW + PAGE, PAGE, "w");
    g_assert_true(can_read(dev, WINDOW, PAGE));
    g_assert_false(can_write(dev, WINDOW + 16, 4));
    nyx_assert_fault(dev->t, "td", "permission", WINDOW + 16, "w", 1);
    nyx_ram_assert_same(dev->t, before, 0, 0);
    g_assert_true(can_write(dev, WINDOW + PAGE, PAGE));
    g_assert_false(can_read(dev, WINDOW + PAGE + 16, 4));
    nyx_assert_fault(dev->t, "td", "permission", WINDOW + PAGE + 16, "r", 1);
    nyx_ram_assert_same(dev->t, before, WINDOW + PAGE, PAGE);
    quit(dev);
}

/* Pages are taken out of the middle of large leaves, one by one. */
static void check_holes(const char *options)
{
    NyxTestdev *dev = start(options);
    static const uint64_t holes[] = {
        MIB(4), MIB(6) - PAGE, MIB(6), MIB(7) + 5 * PAGE,
    };
    g_autofree uint8_t *before = NULL;
    uint64_t page;
    unsigned i;

    map(dev->t, MIB(4), MIB(32), MIB(8), "rw");
    for (i = 0; i < ARRAY_SIZE(holes); i++) {
        unmap(dev->t, holes[i], PAGE);
    }
    before = nyx_ram_copy(dev->t);
    nyx_testdev_fill(dev, 0x33);
    for (page = MIB(4); page < MIB(12); page += PAGE) {
        bool hole = false;

        for (i = 0; i < ARRAY_SIZE(holes); i++) {
            hole |= page == holes[i];
        }
        g_assert_cmpint(can_write(dev, page, PAGE), ==, !hole);
        if (hole) {
            uint64_t gpa = page - MIB(4) + MIB(32);

            g_assert(!memcmp(dev->t->ram + gpa, before + gpa, PAGE));
        }
    }
    nyx_ram_assert_same(dev->t, before, MIB(32), MIB(8));
    quit(dev);
}

static void test_holes_large_pages(void)
{
    check_holes(",default-map=none,large-pages=on");
}

static void test_holes_small_pages(void)
{
    check_holes(",default-map=none,large-pages=off");
}

/* A page that was reachable a moment ago is in the IOTLB. */
static void test_remap(void)
{
    NyxTestdev *dev = start(",default-map=none");
    g_autofree uint8_t *before = nyx_ram_copy(dev->t);
    unsigned i;

    for (i = 0; i < 50; i++) {
        uint64_t gpa = WINDOW + i * PAGE;

        map(dev->t, 0, gpa, PAGE, "rw");
        nyx_testdev_fill(dev, i);
        g_assert_true(can_write(dev, 0, PAGE));
        g_assert_cmphex(dev->t->ram[gpa], ==, i);
        nyx_ram_assert_same(dev->t, before, WINDOW, (i + 1) * PAGE);
        unmap(dev->t, 0, PAGE);
        g_assert_false(can_write(dev, 0, PAGE));
    }
    quit(dev);
}

static void test_shared_and_strict(void)
{
    NyxTest *t = nyx_test_start(MACHINE,
        "-object nyx-domain,id=dom,isolation=shared,default-map=none "
        "-object nyx-domain,id=own,default-map=none "
        "-device nyx-testdev,id=a,addr=5,nyx-domain=dom "
        "-device nyx-testdev,id=b,addr=6,nyx-domain=dom "
        "-device nyx-testdev,id=c,addr=7,nyx-domain=own "
        "-device nyx-testdev,id=d,addr=8");
    NyxTestdev *a = nyx_testdev_open(t, 5);
    NyxTestdev *b = nyx_testdev_open(t, 6);
    NyxTestdev *c = nyx_testdev_open(t, 7);
    NyxTestdev *d = nyx_testdev_open(t, 8);

    map(t, WINDOW, WINDOW, PAGE, "rw");
    g_assert_true(can_write(a, WINDOW, 8));
    g_assert_true(can_write(b, WINDOW, 8));
    g_assert_false(can_write(c, WINDOW, 8));
    g_assert_true(can_write(d, WINDOW, 8));
    unmap(t, WINDOW, PAGE);
    g_assert_false(can_write(a, WINDOW, 8));
    g_assert_false(can_write(b, WINDOW + 8, 4));
    /* Each fault is that of the device that caused it. */
    nyx_assert_number(t, "a", "total-faults", 1);
    nyx_assert_number(t, "b", "total-faults", 1);
    nyx_assert_number(t, "c", "total-faults", 1);
    nyx_assert_number(t, "d", "total-faults", 0);
    nyx_assert_fault(t, "b", "unmapped", WINDOW + 8, "w", 1);
    nyx_testdev_close(a);
    nyx_testdev_close(b);
    nyx_testdev_close(c);
    nyx_testdev_close(d);
    nyx_test_quit(t);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    qtest_add_func("/nyx/confine/all-ram", test_all_ram);
    qtest_add_func("/nyx/confine/all-ram-by-table", test_all_ram_by_table);
    qtest_add_func("/nyx/confine/nothing", test_nothing);
    qtest_add_func("/nyx/confine/window", test_window);
    qtest_add_func("/nyx/confine/window-elsewhere", test_window_elsewhere);
    qtest_add_func("/nyx/confine/directions", test_directions);
    qtest_add_func("/nyx/confine/holes-large-pages", test_holes_large_pages);
    qtest_add_func("/nyx/confine/holes-small-pages", test_holes_small_pages);
    qtest_add_func("/nyx/confine/remap", test_remap);
    qtest_add_func("/nyx/confine/shared-and-strict", test_shared_and_strict);
    return g_test_run();
}
