/*
 * Nyx IOMMU: what follows when a device goes past its limit
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "hw/pci/pci_regs.h"
#include "libnyx-extra.h"

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

static void test_quarantine(void)
{
    NyxTestdev *dev = start("quarantine");

    faults(dev, MAX_FAULTS);
    nyx_assert_state(dev->t, "td", "operational");
    g_assert_null(qtest_qmp_event_ref(dev->t->qts, "NYX_FAULT_LIMIT"));
    faults(dev, 1);
    await_limit(dev, "quarantine");
    nyx_await_state(dev->t, "td", "operational", "quarantined");
    nyx_await_action(dev->t, "td", "faults", "quarantine", NULL);
    nyx_assert_state(dev->t, "other", "operational");
    nyx_assert_vm_status(dev->t, "running");
    quit(dev);
}

typedef struct CutOff {
    const char *action;
    uint32_t flags;
} CutOff;

/* Nothing that follows the fault past the limit arrives, within one run. */
static void check_cut_off(const void *data)
{
    const CutOff *how = data;
    NyxTestdev *dev = start(how->action);
    uint64_t hole = MIB(8), size = (MAX_FAULTS + 1) * PAGE;
    uint64_t after = hole + size;
    unsigned i;

    nyx_qmp(dev->t, "{ 'execute': 'nyx-unmap', 'arguments': {"
            "  'domain': 'auto:td', 'iova': %" PRIu64 ", 'size': %" PRIu64
            " } }", hole, size);
    memset(dev->t->ram, 0, NYX_RAM_SIZE);
    nyx_testdev_fill(dev, 0x77);
    nyx_testdev_plan(dev, hole, 8, 20, 20, PAGE,
                     NTD_FLAG_WRITE | how->flags);
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
    nyx_await_action(dev->t, "td", "faults", "report", NULL);
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
        nyx_await_action(dev->t, "td", "faults", "reset-device", NULL);
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
    nyx_await_action(dev->t, "td", "faults", "reset-device",
                     "has had 2 recoveries");
    g_assert_cmphex(nyx_testdev_get(dev, NTD_REG_ID), ==, UINT32_MAX);
    quit(dev);
}

static void test_pause_vm(void)
{
    NyxTestdev *dev = start("pause-vm");

    faults(dev, MAX_FAULTS + 1);
    await_limit(dev, "pause-vm");
    qtest_qmp_eventwait(dev->t->qts, "STOP");
    nyx_await_action(dev->t, "td", "faults", "pause-vm", NULL);
    nyx_assert_vm_status(dev->t, "paused");
    nyx_assert_state(dev->t, "td", "operational");
    nyx_qmp(dev->t, "{ 'execute': 'cont' }");
    nyx_assert_vm_status(dev->t, "running");
    faults(dev, MAX_FAULTS);
    nyx_assert_vm_status(dev->t, "running");
    quit(dev);
}

static void test_reset_vm(void)
{
    NyxTestdev *dev = start("reset-vm");

    faults(dev, MAX_FAULTS + 1);
    await_limit(dev, "reset-vm");
    nyx_await_action(dev->t, "td", "faults", "reset-vm", NULL);
    qtest_qmp_eventwait(dev->t->qts, "RESET");
    nyx_assert_vm_status(dev->t, "running");
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
    nyx_await_action(dev->t, "td", "faults", "shutdown", NULL);
    qtest_qmp_eventwait(dev->t->qts, "SHUTDOWN");
    qtest_wait_qemu(dev->t->qts);
    quit(dev);
}

/* Unplug */

#define PORT_SLOT   8
#define BUS         1

/* Below a port, with @more devices */
static NyxTestdev *start_below_port(const char *more)
{
    g_autofree char *machine = g_strdup_printf(
        "nyx-pc,max-faults=%u,on-fault-limit=unplug", MAX_FAULTS);
    NyxTest *t = nyx_test_start(machine, "-device pcie-root-port,id=rp,"
                                "addr=%u,chassis=1,slot=1 -device nyx-testdev,"
                                "id=td,bus=rp %s", PORT_SLOT, more);

    g_free(nyx_bridge_open(t, PORT_SLOT, BUS));
    return nyx_testdev_open(t, NYX_SLOT(BUS, 0));
}

/* The guest lets go of it in a reset, if it was asked to. */
static void await_gone(NyxTestdev *dev)
{
    QDict *info;

    qtest_system_reset_nowait(dev->t->qts);
    qtest_qmp_eventwait(dev->t->qts, "DEVICE_DELETED");
    info = qtest_qmp(dev->t->qts, "{ 'execute': 'query-nyx-devices',"
                     "  'arguments': { 'device': 'td' } }");
    g_assert_true(qdict_haskey(info, "error"));
    qobject_unref(info);
}

static void test_unplug(void)
{
    NyxTestdev *dev = start_below_port("");

    faults(dev, MAX_FAULTS + 1);
    await_limit(dev, "unplug");
    nyx_await_state(dev->t, "td", "operational", "quarantined");
    nyx_await_action(dev->t, "td", "faults", "unplug", NULL);
    /* Cut off for as long as it is still there */
    g_assert_cmphex(nyx_testdev_get(dev, NTD_REG_ID), ==, UINT32_MAX);
    await_gone(dev);
    quit(dev);
}

/*
 * Who has been asked already is not asked again: a button that is pressed twice
 * calls the removal off.
 */
static void test_unplug_asked_already(void)
{
    NyxTestdev *dev = start_below_port(
        "-global ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off");
    QPCIDevice *port = qpci_device_find(dev->t->bus, QPCI_DEVFN(PORT_SLOT, 0));
    unsigned status = qpci_find_capability(port, PCI_CAP_ID_EXP, 0) +
                      PCI_EXP_SLTSTA;

    qtest_qmp_device_del_send(dev->t->qts, "td");
    g_assert_true(qpci_config_readw(port, status) & PCI_EXP_SLTSTA_ABP);
    qpci_config_writew(port, status, PCI_EXP_SLTSTA_ABP);
    faults(dev, MAX_FAULTS + 1);
    nyx_await_state(dev->t, "td", "operational", "quarantined");
    nyx_await_action(dev->t, "td", "faults", "unplug", NULL);
    g_assert_false(qpci_config_readw(port, status) & PCI_EXP_SLTSTA_ABP);
    g_free(port);
    quit(dev);
}

/* A quarantine takes in the domain; only who misbehaved has to leave. */
static void test_unplug_scope(void)
{
    NyxTestdev *dev = start_below_port(
        "-object nyx-domain,id=both,isolation=shared,scope=domain "
        "-device pcie-root-port,id=rp2,addr=9,chassis=2,slot=2 "
        "-device nyx-testdev,id=other,bus=rp2");

    nyx_assign(dev->t, "td", "both");
    nyx_assign(dev->t, "other", "both");
    faults(dev, MAX_FAULTS + 1);
    nyx_await_state(dev->t, "other", "operational", "quarantined");
    nyx_await_action(dev->t, "td", "faults", "unplug", NULL);
    await_gone(dev);
    nyx_assert_state(dev->t, "other", "quarantined");
    quit(dev);
}

static void test_unplug_impossible(void)
{
    NyxTestdev *dev = start("unplug");

    faults(dev, MAX_FAULTS + 1);
    await_limit(dev, "unplug");
    nyx_await_state(dev->t, "td", "operational", "quarantined");
    nyx_await_action(dev->t, "td", "faults", "unplug",
                     "does not support hotplugging");
    nyx_assert_state(dev->t, "td", "quarantined");
    g_assert_cmphex(nyx_testdev_get(dev, NTD_REG_ID), ==, UINT32_MAX);
    nyx_assert_vm_status(dev->t, "running");
    nyx_recover(dev->t, "td");
    quit(dev);
}

/* QEMU does not, as the destination has the device. */
static void test_unplug_migrating(void)
{
    NyxTestdev *dev = start_below_port("");

    nyx_migrate_for_ever(dev->t);
    faults(dev, MAX_FAULTS + 1);
    nyx_await_state(dev->t, "td", "operational", "quarantined");
    nyx_await_action(dev->t, "td", "faults", "unplug",
                     "not allowed while migrating");
    nyx_assert_state(dev->t, "td", "quarantined");
    nyx_qmp(dev->t, "{ 'execute': 'migrate_cancel' }");
    quit(dev);
}

/* They cannot be told apart, so both have to leave. */
static void test_unplug_behind_bridge(void)
{
    NyxTest *t = nyx_test_start(
        "nyx-pc,max-faults=4,on-fault-limit=unplug",
        "-device pcie-pci-bridge,id=br,addr=8 "
        "-device e1000,id=a,bus=br,addr=1,romfile= "
        "-device e1000,id=b,bus=br,addr=2,romfile=");

    nyx_inject(t, "b", 5);
    nyx_await_action(t, "a", "faults", "unplug", NULL);
    nyx_await_action(t, "b", "faults", "unplug", NULL);
    nyx_test_quit(t);
}

int main(int argc, char **argv)
{
    static const CutOff cut_off[] = {
        { "quarantine", 0 },
        { "quarantine", NTD_FLAG_THREAD },
        { "unplug", 0 },
        { "unplug", NTD_FLAG_THREAD },
        { "restore-snapshot", 0 },
        { "restore-snapshot", NTD_FLAG_THREAD },
    };

    g_test_init(&argc, &argv, NULL);
    qtest_add_func("/nyx/action/quarantine", test_quarantine);
    for (int i = 0; i < ARRAY_SIZE(cut_off); i++) {
        g_autofree char *name = g_strdup_printf(
            "/nyx/action/cut-off/%s/%s", cut_off[i].action,
            cut_off[i].flags ? "thread" : "main-loop");

        qtest_add_data_func(name, &cut_off[i], check_cut_off);
    }
    qtest_add_func("/nyx/action/cut-off-pass-through",
                   test_cut_off_pass_through);
    qtest_add_func("/nyx/action/report", test_report);
    qtest_add_func("/nyx/action/reset-device", test_reset_device);
    qtest_add_func("/nyx/action/pause-vm", test_pause_vm);
    qtest_add_func("/nyx/action/reset-vm", test_reset_vm);
    qtest_add_func("/nyx/action/shutdown", test_shutdown);
    qtest_add_func("/nyx/action/unplug", test_unplug);
    qtest_add_func("/nyx/action/unplug-asked-already",
                   test_unplug_asked_already);
    qtest_add_func("/nyx/action/unplug-scope", test_unplug_scope);
    qtest_add_func("/nyx/action/unplug-impossible", test_unplug_impossible);
    qtest_add_func("/nyx/action/unplug-migrating", test_unplug_migrating);
    qtest_add_func("/nyx/action/unplug-behind-bridge",
                   test_unplug_behind_bridge);
    return g_test_run();
}
