/*
 * Nyx IOMMU: what follows when a device fails
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "hw/pci/pci_regs.h"
#include "libnyx-extra.h"
#include "qobject/qlist.h"

#define MAX_FAULTS  4

/* On the root bus; one recovery an hour */
static NyxTest *start(const char *options)
{
    g_autofree char *machine = g_strdup_printf(
        "nyx-pc,max-faults=%u,max-recoveries=1,%s", MAX_FAULTS, options);

    return nyx_test_start(machine, "-device nyx-testdev,id=td,addr=5 "
                          "-device nyx-testdev,id=other,addr=6");
}

/* The operator wants it back once more than its policy allows. */
static void fail_by_operator(NyxTest *t, const char *id)
{
    nyx_quarantine(t, id);
    nyx_recover(t, id);
    nyx_quarantine(t, id);
    nyx_qmp_refused(t, "within the last hour, and fails",
                    "{ 'execute': 'nyx-recover-device',"
                    "  'arguments': { 'device': %s } }", id);
    nyx_await_state(t, id, "quarantined", "failed");
}

static void assert_no_action(NyxTest *t)
{
    nyx_settle(t);
    g_assert_null(qtest_qmp_event_ref(t->qts, "NYX_LIMIT_ACTION"));
}

static void test_fail(void)
{
    NyxTest *t = start("on-recovery-limit=fail");

    fail_by_operator(t, "td");
    assert_no_action(t);
    nyx_assert_state(t, "td", "failed");
    nyx_assert_vm_status(t, "running");
    nyx_test_quit(t);
}

static void test_pause_vm(void)
{
    NyxTest *t = start("on-recovery-limit=pause-vm");

    fail_by_operator(t, "td");
    qtest_qmp_eventwait(t->qts, "STOP");
    nyx_await_action(t, "td", "recoveries", "pause-vm", NULL);
    nyx_assert_vm_status(t, "paused");
    nyx_assert_state(t, "td", "failed");
    nyx_assert_state(t, "other", "operational");
    nyx_test_quit(t);
}

static void test_reset_vm(void)
{
    NyxTest *t = start("on-recovery-limit=reset-vm");

    fail_by_operator(t, "td");
    nyx_await_action(t, "td", "recoveries", "reset-vm", NULL);
    qtest_qmp_eventwait(t->qts, "RESET");
    /* A reset is no way out. */
    nyx_assert_state(t, "td", "failed");
    nyx_test_quit(t);
}

static void test_shutdown(void)
{
    NyxTest *t = start("on-recovery-limit=shutdown");

    fail_by_operator(t, "td");
    nyx_await_action(t, "td", "recoveries", "shutdown", NULL);
    qtest_qmp_eventwait(t->qts, "SHUTDOWN");
    qtest_wait_qemu(t->qts);
    nyx_test_quit(t);
}

/* The chain: faults lead to a reset, no resets left to what comes next. */
static void test_chain(void)
{
    NyxTest *t = start("on-fault-limit=reset-device,"
                       "on-recovery-limit=pause-vm");

    nyx_inject(t, "td", MAX_FAULTS + 1);
    nyx_await_action(t, "td", "faults", "reset-device", NULL);
    nyx_assert_vm_status(t, "running");
    nyx_inject(t, "td", MAX_FAULTS + 1);
    nyx_await_state(t, "td", "quarantined", "failed");
    qtest_qmp_eventwait(t->qts, "STOP");
    nyx_await_action(t, "td", "recoveries", "pause-vm", NULL);
    nyx_await_action(t, "td", "faults", "reset-device",
                     "has had 1 recoveries");
    nyx_assert_vm_status(t, "paused");
    nyx_test_quit(t);
}

/* What the operator forces is nobody else's business. */
static void test_forced(void)
{
    NyxTest *t = start("on-recovery-limit=pause-vm");

    fail_by_operator(t, "td");
    nyx_await_action(t, "td", "recoveries", "pause-vm", NULL);
    nyx_qmp(t, "{ 'execute': 'cont' }");
    nyx_qmp_refused(t, "has failed", "{ 'execute': 'nyx-recover-device',"
                    "  'arguments': { 'device': 'td' } }");
    assert_no_action(t);
    nyx_qmp(t, "{ 'execute': 'nyx-recover-device',"
            "  'arguments': { 'device': 'td', 'force': true } }");
    assert_no_action(t);
    nyx_assert_state(t, "td", "operational");
    nyx_assert_vm_status(t, "running");
    nyx_test_quit(t);
}

/* Below ports */

#define PORT_SLOT   4
#define BUS         1
#define DPC         0x180
#define DPC_ENABLED (PCI_EXP_DPC_CTL_EN_FATAL | PCI_EXP_DPC_CTL_INT_EN)

static NyxTest *start_below_port(const char *options)
{
    g_autofree char *machine = g_strdup_printf("nyx-pc,max-recoveries=0,%s",
                                               options);

    return nyx_test_start(machine, "-device nyx-root-port,id=rp,addr=%u,"
                          "chassis=1 -device nyx-testdev,id=td,bus=rp",
                          PORT_SLOT);
}

static void test_unplug(void)
{
    NyxTest *t = start_below_port("on-recovery-limit=unplug");

    nyx_quarantine(t, "td");
    nyx_qmp_refused(t, "and fails", "{ 'execute': 'nyx-recover-device',"
                    "  'arguments': { 'device': 'td' } }");
    nyx_await_action(t, "td", "recoveries", "unplug", NULL);
    /* The guest lets go of it in a reset, if it was asked to. */
    qtest_system_reset_nowait(t->qts);
    qtest_qmp_eventwait(t->qts, "DEVICE_DELETED");
    nyx_test_quit(t);
}

static void test_unplug_impossible(void)
{
    NyxTest *t = start("on-recovery-limit=unplug");

    fail_by_operator(t, "td");
    nyx_await_action(t, "td", "recoveries", "unplug",
                     "does not support hotplugging");
    nyx_assert_state(t, "td", "failed");
    nyx_test_quit(t);
}

static uint16_t dpc_status(NyxTest *t)
{
    return nyx_ecam_readw(t, PORT_SLOT, DPC + PCI_EXP_DPC_STATUS);
}

/* No recovery is left to lead the guest to. */
static void test_nothing_left(void)
{
    NyxTest *t = start_below_port("recovery=auto,on-recovery-limit=pause-vm");

    nyx_ecam_writew(t, PORT_SLOT, DPC + PCI_EXP_DPC_CTL, DPC_ENABLED);
    nyx_qmp(t, "{ 'execute': 'nyx-quarantine-device',"
            "  'arguments': { 'device': 'td' } }");
    nyx_await_state(t, "td", "quarantined", "failed");
    qtest_qmp_eventwait(t->qts, "STOP");
    nyx_await_action(t, "td", "recoveries", "pause-vm", NULL);
    g_assert_cmphex(dpc_status(t), ==, 0);
    nyx_test_quit(t);
}

/* Where no recovery would begin by itself, none fails by itself. */
static void test_nothing_left_no_dpc(void)
{
    NyxTest *t = start_below_port("recovery=auto,on-recovery-limit=pause-vm");

    nyx_quarantine(t, "td");
    assert_no_action(t);
    nyx_assert_state(t, "td", "quarantined");
    nyx_test_quit(t);
}

/* The guest wants it back, and it is too late for that. */
static void test_released(void)
{
    NyxTest *t = start_below_port("recovery=auto,on-recovery-limit=pause-vm");

    nyx_qmp(t, "{ 'execute': 'nyx-set-policy', 'arguments': {"
            "  'device': 'td', 'max-recoveries': 1 } }");
    nyx_ecam_writew(t, PORT_SLOT, DPC + PCI_EXP_DPC_CTL, DPC_ENABLED);
    nyx_quarantine(t, "td");
    g_assert_true(dpc_status(t) & PCI_EXP_DPC_STATUS_TRIGGER);
    nyx_qmp(t, "{ 'execute': 'nyx-set-policy', 'arguments': {"
            "  'device': 'td', 'max-recoveries': 0 } }");
    nyx_ecam_writew(t, PORT_SLOT, DPC + PCI_EXP_DPC_STATUS,
                    PCI_EXP_DPC_STATUS_TRIGGER | PCI_EXP_DPC_STATUS_INTERRUPT);
    nyx_await_state(t, "td", "quarantined", "failed");
    qtest_qmp_eventwait(t->qts, "STOP");
    nyx_await_action(t, "td", "recoveries", "pause-vm", NULL);
    nyx_test_quit(t);
}

/* Who is to leave is not let in again by the guest. */
static void test_released_while_leaving(void)
{
    NyxTest *t = nyx_test_start("nyx-pc,recovery=auto", "-device nyx-root-port,"
                                "id=rp,addr=%u,chassis=1 "
                                "-device nyx-testdev,id=td,bus=rp", PORT_SLOT);

    nyx_ecam_writew(t, PORT_SLOT, DPC + PCI_EXP_DPC_CTL, DPC_ENABLED);
    nyx_quarantine(t, "td");
    qtest_qmp_device_del_send(t->qts, "td");
    nyx_ecam_writew(t, PORT_SLOT, DPC + PCI_EXP_DPC_STATUS,
                    PCI_EXP_DPC_STATUS_TRIGGER | PCI_EXP_DPC_STATUS_INTERRUPT);
    nyx_settle(t);
    nyx_assert_state(t, "td", "quarantined");
    nyx_test_quit(t);
}

/* The policy's field, wherever it can be set and seen */

static void assert_policy(NyxTest *t, const char *action)
{
    QDict *device = nyx_query_device(t, "td");

    g_assert_cmpstr(qdict_get_str(qdict_get_qdict(device, "policy"),
                                  "on-recovery-limit"), ==, action);
    qobject_unref(device);
}

static void test_policy(void)
{
    NyxTest *t = nyx_test_start("nyx-pc", "-object nyx-domain,id=d,"
                                "on-recovery-limit=reset-vm "
                                "-device nyx-testdev,id=td,addr=5");
    g_autofree char *domains = NULL;

    assert_policy(t, "fail");
    nyx_qmp(t, "{ 'execute': 'qom-set', 'arguments': { 'path': '/machine',"
            "  'property': 'on-recovery-limit', 'value': 'shutdown' } }");
    assert_policy(t, "shutdown");
    nyx_assign(t, "td", "d");
    assert_policy(t, "reset-vm");
    nyx_qmp(t, "{ 'execute': 'nyx-set-policy', 'arguments': {"
            "  'device': 'td', 'on-recovery-limit': 'restore-snapshot' } }");
    assert_policy(t, "restore-snapshot");
    domains = qtest_hmp(t->qts, "info nyx-domains");
    g_assert_nonnull(strstr(domains, "5 recoveries an hour, then reset-vm"));
    nyx_qmp_refused(t, "does not accept value 'report'",
                    "{ 'execute': 'nyx-set-policy', 'arguments': {"
                    "  'device': 'td', 'on-recovery-limit': 'report' } }");
    nyx_test_quit(t);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    qtest_add_func("/nyx/escalation/fail", test_fail);
    qtest_add_func("/nyx/escalation/pause-vm", test_pause_vm);
    qtest_add_func("/nyx/escalation/reset-vm", test_reset_vm);
    qtest_add_func("/nyx/escalation/shutdown", test_shutdown);
    qtest_add_func("/nyx/escalation/chain", test_chain);
    qtest_add_func("/nyx/escalation/forced", test_forced);
    qtest_add_func("/nyx/escalation/unplug", test_unplug);
    qtest_add_func("/nyx/escalation/unplug-impossible",
                   test_unplug_impossible);
    qtest_add_func("/nyx/escalation/nothing-left", test_nothing_left);
    qtest_add_func("/nyx/escalation/nothing-left-no-dpc",
                   test_nothing_left_no_dpc);
    qtest_add_func("/nyx/escalation/released", test_released);
    qtest_add_func("/nyx/escalation/released-while-leaving",
                   test_released_while_leaving);
    qtest_add_func("/nyx/escalation/policy", test_policy);
    return g_test_run();
}
