/*
 * Nyx test device on a plain Q35: bulk runs of DMA
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Every test is run in the main loop and in the device's own thread.
 */

#include "qemu/osdep.h"
#include "hw/pci/pci_regs.h"
#include "libnyx.h"

#define BASE        MIB(4)
#define NOWHERE     (1ULL << 46)

static NyxTestdev *start(void)
{
    NyxTest *t = nyx_test_start("q35", "-device nyx-testdev,id=td,addr=5");

    return nyx_testdev_open(t, 5);
}

static void quit(NyxTestdev *dev)
{
    NyxTest *t = dev->t;

    nyx_testdev_close(dev);
    nyx_test_quit(t);
}

static uint32_t mode_of(const void *data)
{
    return GPOINTER_TO_UINT(data);
}

static void test_slots(const void *data)
{
    NyxTestdev *dev = start();
    uint8_t *before;
    unsigned slot, byte;

    nyx_ram_fill(dev->t);
    before = nyx_ram_copy(dev->t);
    nyx_testdev_fill(dev, 0xee);
    /* Ten slots of 6 bytes, one each page: all are written, no gap is. */
    nyx_testdev_run(dev, BASE + 3, 6, 10, 10, PAGE,
                    NTD_FLAG_WRITE | mode_of(data));
    nyx_testdev_await_idle(dev);
    g_assert_cmpuint(nyx_testdev_get64(dev, NTD_REG_DONE_LO), ==, 10);
    g_assert_cmpuint(nyx_testdev_get64(dev, NTD_REG_ERRORS_LO), ==, 0);
    g_assert_cmpuint(nyx_testdev_get64(dev, NTD_REG_ELAPSED_LO), >, 0);
    for (slot = 0; slot < 10; slot++) {
        for (byte = 0; byte < 6; byte++) {
            g_assert_cmphex(dev->t->ram[BASE + 3 + slot * PAGE + byte], ==,
                            0xee);
            /* Undo it, so that only the gaps are left to compare. */
            dev->t->ram[BASE + 3 + slot * PAGE + byte] =
                before[BASE + 3 + slot * PAGE + byte];
        }
    }
    nyx_ram_assert_same(dev->t, before, 0, 0);
    g_free(before);
    quit(dev);
}

/* Both directions, also across the end of a page */
static void test_map(const void *data)
{
    uint32_t flags = NTD_FLAG_MAP | mode_of(data);
    NyxTestdev *dev = start();
    uint8_t buffer[2 * PAGE];
    uint8_t *before;

    nyx_ram_fill(dev->t);
    nyx_testdev_run(dev, BASE + 5, sizeof(buffer), 2, 1, 0, flags);
    nyx_testdev_await_idle(dev);
    nyx_testdev_get_buffer(dev, buffer, sizeof(buffer));
    g_assert(!memcmp(buffer, dev->t->ram + BASE + 5, sizeof(buffer)));

    before = nyx_ram_copy(dev->t);
    nyx_testdev_fill(dev, 0xee);
    nyx_testdev_run(dev, BASE + 5, sizeof(buffer), 1, 1, 0,
                    flags | NTD_FLAG_WRITE);
    nyx_testdev_await_idle(dev);
    memset(buffer, 0xee, sizeof(buffer));
    g_assert(!memcmp(buffer, dev->t->ram + BASE + 5, sizeof(buffer)));
    nyx_ram_assert_same(dev->t, before, BASE + 5, sizeof(buffer));
    g_assert_cmpuint(nyx_testdev_get64(dev, NTD_REG_ERRORS_LO), ==, 0);
    g_free(before);
    quit(dev);
}

static void test_random(const void *data)
{
    NyxTestdev *dev = start();
    unsigned slot;

    memset(dev->t->ram, 0, NYX_RAM_SIZE);
    nyx_testdev_fill(dev, 0xee);
    nyx_testdev_set(dev, NTD_REG_SEED, 1);
    nyx_testdev_run(dev, BASE, 1, 20000, 64, PAGE,
                    NTD_FLAG_WRITE | NTD_FLAG_RANDOM | mode_of(data));
    nyx_testdev_await_idle(dev);
    g_assert_cmpuint(nyx_testdev_get64(dev, NTD_REG_DONE_LO), ==, 20000);
    for (slot = 0; slot < 64; slot++) {
        g_assert_cmphex(dev->t->ram[BASE + slot * PAGE], ==, 0xee);
    }
    g_assert_cmphex(dev->t->ram[BASE + 64 * PAGE], ==, 0);
    quit(dev);
}

static void test_read(const void *data)
{
    NyxTestdev *dev = start();
    uint8_t buffer[PAGE];

    nyx_ram_fill(dev->t);
    /* The last DMA is from slot 2. */
    nyx_testdev_run(dev, BASE, PAGE, 3000, 3, PAGE, mode_of(data));
    nyx_testdev_await_idle(dev);
    nyx_testdev_get_buffer(dev, buffer, sizeof(buffer));
    g_assert(!memcmp(buffer, dev->t->ram + BASE + 2 * PAGE, sizeof(buffer)));
    quit(dev);
}

static void test_errors(const void *data)
{
    NyxTestdev *dev = start();

    /* The last 2 of 8 slots lie behind the end of RAM. */
    nyx_testdev_run(dev, NYX_RAM_SIZE - 6 * PAGE, 8, 4000, 8, PAGE,
                    NTD_FLAG_WRITE | mode_of(data));
    nyx_testdev_await_idle(dev);
    g_assert_cmpuint(nyx_testdev_get64(dev, NTD_REG_DONE_LO), ==, 4000);
    g_assert_cmpuint(nyx_testdev_get64(dev, NTD_REG_ERRORS_LO), ==, 1000);
    g_assert_cmphex(nyx_testdev_get64(dev, NTD_REG_FIRST_ERROR_LO), ==,
                    NYX_RAM_SIZE);

    nyx_testdev_run(dev, NYX_RAM_SIZE - 6 * PAGE, 8, 4000, 8, PAGE,
                    NTD_FLAG_STOP_ON_ERROR | mode_of(data));
    nyx_testdev_await_idle(dev);
    g_assert_cmpuint(nyx_testdev_get64(dev, NTD_REG_DONE_LO), ==, 7);
    g_assert_cmpuint(nyx_testdev_get64(dev, NTD_REG_ERRORS_LO), ==, 1);
    quit(dev);
}

static void test_stop(const void *data)
{
    NyxTestdev *dev = start();
    uint64_t done;

    nyx_testdev_run(dev, BASE, 64, 0, 16, PAGE, NTD_FLAG_WRITE | mode_of(data));
    nyx_testdev_await_done(dev, 10000);
    g_assert_cmpuint(nyx_testdev_command(dev, NTD_CMD_START), ==,
                     NTD_RESULT_BUSY);
    /* Single commands go on meanwhile. */
    g_assert_cmpuint(nyx_testdev_read(dev, MIB(1), 8), ==, NTD_RESULT_OK);
    g_assert_cmpuint(nyx_testdev_command(dev, NTD_CMD_STOP), ==,
                     NTD_RESULT_OK);
    nyx_testdev_await_idle(dev);
    done = nyx_testdev_get64(dev, NTD_REG_DONE_LO);
    g_assert_cmpuint(done, >=, 10000);
    nyx_testdev_run(dev, BASE, 64, 5, 1, 0, mode_of(data));
    nyx_testdev_await_idle(dev);
    g_assert_cmpuint(nyx_testdev_get64(dev, NTD_REG_DONE_LO), ==, 5);
    quit(dev);
}

/* Some DMA then is on its way to memory that needs the big lock. */
static void test_reset(const void *data)
{
    static const uint64_t where[] = { BASE, NOWHERE };
    NyxTestdev *dev = start();
    g_autofree uint8_t *before = NULL;
    unsigned i, round;

    for (i = 0; i < ARRAY_SIZE(where); i++) {
        for (round = 0; round < 20; round++) {
            nyx_testdev_fill(dev, round);
            nyx_testdev_run(dev, where[i], PAGE, 0, 16, PAGE,
                            NTD_FLAG_WRITE | mode_of(data));
            nyx_testdev_await_done(dev, 1);
            nyx_testdev_flr(dev);
            /* From now on nothing may land. */
            before = nyx_ram_copy(dev->t);
            memset(before + BASE, 0xa5, 16 * PAGE);
            memset(dev->t->ram + BASE, 0xa5, 16 * PAGE);
            nyx_testdev_enable(dev);
            g_assert_cmpuint(nyx_testdev_get(dev, NTD_REG_STATUS), ==, 0);
            g_assert_cmpuint(nyx_testdev_get64(dev, NTD_REG_DONE_LO), ==, 0);
            nyx_ram_assert_same(dev->t, before, 0, 0);
            g_clear_pointer(&before, g_free);
        }
    }
    quit(dev);
}

static void test_vm_stop(const void *data)
{
    NyxTestdev *dev = start();
    uint64_t done;
    g_autofree uint8_t *before = NULL;

    nyx_testdev_run(dev, BASE, 64, 0, 16, PAGE, NTD_FLAG_WRITE | mode_of(data));
    nyx_testdev_await_done(dev, 1);
    nyx_qmp(dev->t, "{ 'execute': 'stop' }");
    done = nyx_testdev_get64(dev, NTD_REG_DONE_LO);
    before = nyx_ram_copy(dev->t);
    memset(before + BASE, 0x5a, 16 * PAGE);
    memset(dev->t->ram + BASE, 0x5a, 16 * PAGE);
    nyx_testdev_fill(dev, 0xff);
    g_assert_cmpuint(nyx_testdev_get64(dev, NTD_REG_DONE_LO), ==, done);
    nyx_ram_assert_same(dev->t, before, 0, 0);
    nyx_qmp(dev->t, "{ 'execute': 'cont' }");
    nyx_testdev_await_done(dev, done + 5000);
    g_assert_cmphex(dev->t->ram[BASE + 15 * PAGE], ==, 0xff);
    quit(dev);
}

/* A bridge with bus 1 behind it, which passes on what lies at 0xe0000000 */
static void setup_port(NyxTest *t, unsigned slot)
{
    QPCIDevice *port = nyx_pci_open(t, slot);

    qpci_config_writeb(port, PCI_SECONDARY_BUS, 1);
    qpci_config_writeb(port, PCI_SUBORDINATE_BUS, 1);
    qpci_config_writew(port, PCI_MEMORY_BASE, 0xe000);
    qpci_config_writew(port, PCI_MEMORY_LIMIT, 0xeff0);
    g_free(port);
}

static void test_unplug(const void *data)
{
    NyxTest *t = nyx_test_start("q35", "-device pcie-root-port,id=rp,addr=5 "
                                "-device nyx-testdev,id=td,bus=rp");
    unsigned round;

    for (round = 0; round < 4; round++) {
        NyxTestdev *dev;

        setup_port(t, 5);
        dev = nyx_testdev_open(t, 1 << 5);      /* bus 1, device 0 */
        nyx_testdev_run(dev, NOWHERE, PAGE, 0, 16, PAGE, mode_of(data));
        nyx_testdev_await_done(dev, 1);
        /* The guest does not answer; a reset completes the removal. */
        qtest_qmp_device_del_send(t->qts, "td");
        qtest_system_reset_nowait(t->qts);
        qtest_qmp_eventwait(t->qts, "DEVICE_DELETED");
        nyx_testdev_close(dev);
        qtest_qmp_device_add(t->qts, "nyx-testdev", "td", "{ 'bus': 'rp' }");
    }
    nyx_test_quit(t);
}

static void await_migrated(QTestState *qts)
{
    for (;;) {
        QDict *info = qtest_qmp_assert_success_ref(qts,
                          "{ 'execute': 'query-migrate' }");
        const char *status = qdict_get_try_str(info, "status");
        bool completed = status && g_str_equal(status, "completed");

        g_assert(!status || !g_str_equal(status, "failed"));
        qobject_unref(info);
        if (completed) {
            return;
        }
    }
}

static void test_migrate(const void *data)
{
    NyxTestdev *from = start();
    NyxTestdev to;
    g_autofree char *path = NULL;
    g_autofree char *uri = NULL;
    uint8_t byte;

    close(g_file_open_tmp("nyx-migrate-XXXXXX", &path, NULL));
    uri = g_strdup_printf("file:%s", path);
    nyx_testdev_set(from, NTD_REG_SCRATCH, 0x4321);
    nyx_testdev_fill(from, 0x5b);
    nyx_testdev_run(from, BASE, 64, 0, 16, PAGE,
                    NTD_FLAG_WRITE | mode_of(data));
    nyx_testdev_await_done(from, 1);
    nyx_qmp(from->t, "{ 'execute': 'migrate', 'arguments': { 'uri': %s } }",
            uri);
    await_migrated(from->t->qts);

    to = *from;
    to.t = nyx_test_start("q35", "-device nyx-testdev,id=td,addr=5 "
                          "-incoming %s", uri);
    to.pci = qpci_device_find(to.t->bus, QPCI_DEVFN(5, 0));
    await_migrated(to.t->qts);
    g_assert_cmphex(nyx_testdev_get(&to, NTD_REG_SCRATCH), ==, 0x4321);
    nyx_testdev_get_buffer(&to, &byte, 1);
    g_assert_cmphex(byte, ==, 0x5b);
    memset(to.t->ram + BASE, 0, 16 * PAGE);
    nyx_testdev_await_done(&to, nyx_testdev_get64(&to, NTD_REG_DONE_LO) + 5000);
    g_assert_cmphex(to.t->ram[BASE + 15 * PAGE], ==, 0x5b);
    g_free(to.pci);
    nyx_test_quit(to.t);
    unlink(path);
    quit(from);
}

static void add(const char *name, GTestDataFunc func)
{
    g_autofree char *loop = g_strdup_printf("/nyx/testdev-run/%s/main-loop",
                                            name);
    g_autofree char *thread = g_strdup_printf("/nyx/testdev-run/%s/thread",
                                              name);

    qtest_add_data_func(loop, GUINT_TO_POINTER(0), func);
    qtest_add_data_func(thread, GUINT_TO_POINTER(NTD_FLAG_THREAD), func);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    add("slots", test_slots);
    add("map", test_map);
    add("random", test_random);
    add("read", test_read);
    add("errors", test_errors);
    add("stop", test_stop);
    add("reset", test_reset);
    add("vm-stop", test_vm_stop);
    add("unplug", test_unplug);
    add("migrate", test_migrate);
    return g_test_run();
}
