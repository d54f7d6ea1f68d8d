/*
 * Nyx IOMMU: what follows when a device goes past its limit
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "libnyx.h"

#define HOLE        MIB(512)
#define MAX_FAULTS  4

static NyxTestdev *start(const char *action)
{
    g_autofree char *machine = g_strdup_printf(
        "nyx-pc,max-faults=%u,max-recoveries=2,on-fault-limit=%s", MAX_FAULTS,
        action);
    NyxTest *t = nyx_test_start(machine,
                                "-device nyx-testdev,id=td,addr=5 "
                                "-device nyx-testdev,id=other,addr=6 "
                                "-device VGA,addr=7,romfile=");

    return nyx_testdev_open(t, 5);
}

static void quit(NyxTestdev *dev)
{
    NyxTest *t = dev->t;

    nyx_testdev_close(dev);
    nyx_test_quit(t);
}

static void faults(NyxTestdev *dev, unsigned count)
{
    while (count--) {
        nyx_testdev_write(dev, HOLE, 8);
    }
}

static void await_limit(NyxTestdev *dev, const char *action)
{
    QDict *event = qtest_qmp_eventwait_ref(dev->t->qts, "NYX_FAULT_LIMIT");
    QDict *data = qdict_get_qdict(event, "data");

    g_assert_cmpstr(qdict_get_str(data, "device"), ==, "td");
    g_assert_cmpstr(qdict_get_str(data, "domain"), ==, "auto:td");
    g_assert_cmpstr(qdict_get_str(data, "action"), ==, action);
    g_assert_cmpuint(qdict_get_uint(data, "faults"), ==, MAX_FAULTS + 1);
    qobject_unref(event);
}

static void assert_vm_status(NyxTest *t, const char *status)
{
    QDict *info = qtest_qmp_assert_success_ref(t->qts,
                      "{ 'execute': 'query-status' }");

    g_assert_cmpstr(qdict_get_str(info, "status"), ==, status);
    qobject_unref(info);
}

static void test_quarantine(void)
{
    NyxTestdev *dev = start("quarantine");

    faults(dev, MAX_FAULTS);
    nyx_assert_state(dev->t, "td", "operational");
    g_assert_null(qtest_qmp_event_ref(dev->t->qts, "NYX_FAULT_LIMIT"));
    faults(dev, 1);
    await_limit(dev, "quarantine");
    nyx_await_state(dev->t, "td", "operational", "quarantined");
    nyx_assert_state(dev->t, "other", "operational");
    assert_vm_status(dev->t, "running");
    quit(dev);
}

/* Nothing that follows the fault past the limit arrives, within one run. */
static void check_cut_off(const void *data)
{
    NyxTestdev *dev = start("quarantine");
    uint64_t hole = MIB(8), size = (MAX_FAULTS + 1) * PAGE;
    uint64_t after = hole + size;
    unsigned i;

    nyx_qmp(dev->t, "{ 'execute': 'nyx-unmap', 'arguments': {"
            "  'domain': 'auto:td', 'iova': %" PRIu64 ", 'size': %" PRIu64
            " } }", hole, size);
    memset(dev->t->ram, 0, NYX_RAM_SIZE);
    nyx_testdev_fill(dev, 0x77);
    nyx_testdev_plan(dev, hole, 8, 20, 20, PAGE,
                     NTD_FLAG_WRITE | GPOINTER_TO_UINT(data));
    nyx_testdev_set(dev, NTD_REG_COMMAND, NTD_CMD_START);
    nyx_await_state(dev->t, "td", "operational", "quarantined");
    for (i = 0; i < 20; i++) {
        g_assert_cmphex(dev->t->ram[after + i * PAGE], ==, 0);
    }
    nyx_assert_state(dev->t, "other", "operational");
    quit(dev);
}

/* The same without a table: the memory of the VGA, then RAM. */
static void test_cut_off_pass_through(void)
{
    NyxTestdev *dev = start("quarantine");

    nyx_qmp(dev->t, "{ 'execute': 'nyx-set-policy', 'arguments': {"
            "  'device': 'td', 'max-faults': 0 } }");
    memset(dev->t->ram, 0, NYX_RAM_SIZE);
    nyx_testdev_fill(dev, 0x77);
    nyx_testdev_plan(dev, 0xa0000, 8, 2, 2, MIB(1) - 0xa0000, NTD_FLAG_WRITE);
    nyx_testdev_set(dev, NTD_REG_COMMAND, NTD_CMD_START);
    nyx_await_state(dev->t, "td", "operational", "quarantined");
    g_assert_cmphex(dev->t->ram[MIB(1)], ==, 0);
    nyx_assert_fault(dev->t, "td", "blocked", MIB(1), "w", 1);
    quit(dev);
}

static void test_report(void)
{
    NyxTestdev *dev = start("report");

    faults(dev, MAX_FAULTS + 1);
    await_limit(dev, "report");
    nyx_assert_state(dev->t, "td", "operational");
    nyx_assert_number(dev->t, "td", "total-faults", MAX_FAULTS + 1);
    g_assert_cmpuint(nyx_testdev_write(dev, MIB(1), 8), ==, NTD_RESULT_OK);
    /* Once a second at most */
    faults(dev, 5 * MAX_FAULTS);
    nyx_assert_state(dev->t, "td", "operational");
    g_assert_null(qtest_qmp_event_ref(dev->t->qts, "NYX_FAULT_LIMIT"));
    /* Then it counts anew. */
    qtest_clock_step(dev->t->qts, 1001 * 1000000LL);
    nyx_assert_number(dev->t, "td", "fault-count", 0);
    faults(dev, MAX_FAULTS);
    nyx_assert_number(dev->t, "td", "fault-count", MAX_FAULTS);
    g_assert_null(qtest_qmp_event_ref(dev->t->qts, "NYX_FAULT_LIMIT"));
    faults(dev, 1);
    await_limit(dev, "report");
    quit(dev);
}

static void test_reset_device(void)
{
    NyxTestdev *dev = start("reset-device");
    uint32_t resets = nyx_testdev_get(dev, NTD_REG_RESETS);
    unsigned round;

    for (round = 1; round <= 2; round++) {
        nyx_testdev_set(dev, NTD_REG_SCRATCH, 1);
        faults(dev, MAX_FAULTS + 1);
        await_limit(dev, "reset-device");
        nyx_await_state(dev->t, "td", "operational", "quarantined");
        nyx_await_state(dev->t, "td", "quarantined", "recovering");
        nyx_await_state(dev->t, "td", "recovering", "operational");
        nyx_assert_number(dev->t, "td", "recoveries", round);
        nyx_assert_number(dev->t, "td", "fault-count", 0);
        nyx_testdev_enable(dev);
        g_assert_cmpuint(nyx_testdev_get(dev, NTD_REG_RESETS), ==,
                         resets + round);
        g_assert_cmphex(nyx_testdev_get(dev, NTD_REG_SCRATCH), ==, 0);
        g_assert_cmpuint(nyx_testdev_write(dev, MIB(1), 8), ==, NTD_RESULT_OK);
    }
    /* No recoveries are left. */
    faults(dev, MAX_FAULTS + 1);
    nyx_await_state(dev->t, "td", "quarantined", "failed");
    g_assert_cmphex(nyx_testdev_get(dev, NTD_REG_ID), ==, UINT32_MAX);
    quit(dev);
}

static void test_pause_vm(void)
{
    NyxTestdev *dev = start("pause-vm");

    faults(dev, MAX_FAULTS + 1);
    await_limit(dev, "pause-vm");
    qtest_qmp_eventwait(dev->t->qts, "STOP");
    assert_vm_status(dev->t, "paused");
    nyx_assert_state(dev->t, "td", "operational");
    nyx_qmp(dev->t, "{ 'execute': 'cont' }");
    assert_vm_status(dev->t, "running");
    faults(dev, MAX_FAULTS);
    assert_vm_status(dev->t, "running");
    quit(dev);
}

static void test_reset_vm(void)
{
    NyxTestdev *dev = start("reset-vm");

    faults(dev, MAX_FAULTS + 1);
    await_limit(dev, "reset-vm");
    qtest_qmp_eventwait(dev->t->qts, "RESET");
    assert_vm_status(dev->t, "running");
    nyx_assert_state(dev->t, "td", "operational");
    nyx_assert_number(dev->t, "td", "total-faults", MAX_FAULTS + 1);
    nyx_assert_number(dev->t, "td", "fault-count", 0);
    quit(dev);
}

static void test_shutdown(void)
{
    NyxTestdev *dev = start("shutdown");

    faults(dev, MAX_FAULTS);
    /* QEMU may be gone before it could be asked for the result. */
    nyx_testdev_set(dev, NTD_REG_COMMAND, NTD_CMD_WRITE);
    await_limit(dev, "shutdown");
    qtest_qmp_eventwait(dev->t->qts, "SHUTDOWN");
    qtest_wait_qemu(dev->t->qts);
    quit(dev);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    qtest_add_func("/nyx/action/quarantine", test_quarantine);
    qtest_add_data_func("/nyx/action/cut-off/main-loop", GUINT_TO_POINTER(0),
                        check_cut_off);
    qtest_add_data_func("/nyx/action/cut-off/thread",
                        GUINT_TO_POINTER(NTD_FLAG_THREAD), check_cut_off);
    qtest_add_func("/nyx/action/cut-off-pass-through",
                   test_cut_off_pass_through);
    qtest_add_func("/nyx/action/report", test_report);
    qtest_add_func("/nyx/action/reset-device", test_reset_device);
    qtest_add_func("/nyx/action/pause-vm", test_pause_vm);
    qtest_add_func("/nyx/action/reset-vm", test_reset_vm);
    qtest_add_func("/nyx/action/shutdown", test_shutdown);
    return g_test_run();
}
