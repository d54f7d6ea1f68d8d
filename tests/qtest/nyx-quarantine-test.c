/*
 * Nyx IOMMU: quarantine, recovery and failure of a device
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "hw/pci/pci_regs.h"
#include "libnyx.h"

#define MS      1000000LL
#define HOUR_MS (3600 * 1000)

typedef struct Pair {
    NyxTest *t;
    NyxTestdev *td;
    NyxTestdev *other;
} Pair;

/* Both devices are in one shared domain. */
static Pair start(const char *options)
{
    Pair p = {};

    p.t = nyx_test_start("nyx-pc", "-object nyx-domain,id=dom,isolation=shared "
                         "-device nyx-testdev,id=td,addr=5,nyx-domain=dom "
                         "-device nyx-testdev,id=other,addr=6,nyx-domain=dom "
                         "%s", options);
    nyx_ram_fill(p.t);
    p.td = nyx_testdev_open(p.t, 5);
    p.other = nyx_testdev_open(p.t, 6);
    return p;
}

static void quit(Pair *p)
{
    nyx_testdev_close(p->td);
    nyx_testdev_close(p->other);
    nyx_test_quit(p->t);
}

static void quarantine(Pair *p)
{
    nyx_qmp(p->t, "{ 'execute': 'nyx-quarantine-device', 'arguments': {"
            "  'device': 'td', 'reason': 'a test' } }");
    nyx_assert_state(p->t, "td", "quarantined");
}

static void recover(Pair *p)
{
    nyx_qmp(p->t, "{ 'execute': 'nyx-recover-device',"
            "  'arguments': { 'device': 'td' } }");
    nyx_assert_state(p->t, "td", "operational");
}

static void force(Pair *p)
{
    nyx_qmp(p->t, "{ 'execute': 'nyx-recover-device',"
            "  'arguments': { 'device': 'td', 'force': true } }");
    nyx_assert_state(p->t, "td", "operational");
}

static void assert_works(NyxTestdev *dev)
{
    g_assert_cmphex(nyx_testdev_get(dev, NTD_REG_ID), ==, NTD_ID);
    g_assert_cmpuint(nyx_testdev_write(dev, MIB(2), 64), ==, NTD_RESULT_OK);
    g_assert_cmpuint(nyx_testdev_read(dev, MIB(2), 64), ==, NTD_RESULT_OK);
}

/* Where run_for_ever() writes */
#define TARGET          MIB(4)
#define TARGET_SIZE     (16 * PAGE)

/* A bulk run that is under way when the device is cut off never ends. */
static void run_for_ever(NyxTestdev *dev)
{
    nyx_testdev_fill(dev, 0x5a);
    nyx_testdev_run(dev, TARGET, PAGE, 0, TARGET_SIZE / PAGE, PAGE,
                    NTD_FLAG_WRITE);
    nyx_testdev_await_done(dev, 16);
}

/* A copy of RAM from which RAM differs if the run writes once more. */
static uint8_t *ram_copy_undone(Pair *p)
{
    uint8_t *copy = nyx_ram_copy(p->t);

    memset(copy + TARGET, 0x66, TARGET_SIZE);
    memset(p->t->ram + TARGET, 0x66, TARGET_SIZE);
    return copy;
}

static void test_event(void)
{
    Pair p = start("");
    QDict *event, *data, *info;

    quarantine(&p);
    event = qtest_qmp_eventwait_ref(p.t->qts, "NYX_DEVICE_STATE");
    data = qdict_get_qdict(event, "data");
    g_assert_cmpstr(qdict_get_str(data, "device"), ==, "td");
    g_assert_cmpstr(qdict_get_str(data, "domain"), ==, "dom");
    g_assert_cmpstr(qdict_get_str(data, "old"), ==, "operational");
    g_assert_cmpstr(qdict_get_str(data, "new"), ==, "quarantined");
    g_assert_cmpstr(qdict_get_str(data, "reason"), ==, "a test");
    qobject_unref(event);
    info = nyx_query_iommu(p.t);
    g_assert_cmpuint(qdict_get_uint(info, "quarantined"), ==, 1);
    qobject_unref(info);
    info = nyx_query_device(p.t, "td");
    g_assert_cmpstr(qdict_get_str(info, "dma"), ==, "blocked");
    qobject_unref(info);
    /* Once more changes nothing, and says nothing. */
    quarantine(&p);
    g_assert_null(qtest_qmp_event_ref(p.t->qts, "NYX_DEVICE_STATE"));
    recover(&p);
    nyx_await_state(p.t, "td", "quarantined", "recovering");
    nyx_await_state(p.t, "td", "recovering", "operational");
    quit(&p);
}

static void test_dma(void)
{
    Pair p = start("");
    g_autofree uint8_t *before = NULL;

    run_for_ever(p.td);
    quarantine(&p);
    before = ram_copy_undone(&p);
    assert_works(p.other);
    nyx_testdev_fill(p.other, 0x11);
    nyx_testdev_run(p.other, MIB(8), PAGE, 3000, 16, PAGE, NTD_FLAG_WRITE);
    nyx_testdev_await_idle(p.other);
    memcpy(before + MIB(8), p.t->ram + MIB(8), 16 * PAGE);
    memcpy(before + MIB(2), p.t->ram + MIB(2), 64);
    nyx_ram_assert_same(p.t, before, 0, 0);
    quit(&p);
}

static void test_bars(void)
{
    Pair p = start("");
    QPCIBar msix;
    uint64_t offset;

    qpci_msix_enable(p.td->pci);
    nyx_testdev_set(p.td, NTD_REG_SCRATCH, 0x1234);
    nyx_testdev_fill(p.td, 0x5a);
    quarantine(&p);
    for (offset = 0; offset < NTD_REGISTERS_SIZE; offset += 4) {
        g_assert_cmphex(nyx_testdev_get(p.td, offset), ==, UINT32_MAX);
        nyx_testdev_set(p.td, offset, 0);
    }
    for (offset = 0; offset < NTD_BUFFER_SIZE; offset += 65528) {
        g_assert_cmphex(qpci_io_readq(p.td->pci, p.td->buffer, offset), ==,
                        UINT64_MAX);
        g_assert_cmphex(qpci_io_readb(p.td->pci, p.td->buffer, offset), ==,
                        UINT8_MAX);
        qpci_io_writeq(p.td->pci, p.td->buffer, offset, 0);
    }
    msix = p.td->pci->msix_table_bar;
    g_assert_cmphex(qpci_io_readl(p.td->pci, msix, 0), ==, UINT32_MAX);
    qpci_io_writel(p.td->pci, msix, 0, 0x12345678);
    g_assert_cmphex(qpci_io_readl(p.td->pci, msix, 0), ==, UINT32_MAX);
    /* A BAR that is moved is out of sight at the new place, too. */
    qpci_config_writel(p.td->pci, PCI_BASE_ADDRESS_0 + 4 * NTD_BAR_BUFFER,
                       0xd0000000);
    g_assert_cmphex(qtest_readl(p.t->qts, 0xd0000000), ==, UINT32_MAX);
    qpci_config_writel(p.td->pci, PCI_BASE_ADDRESS_0 + 4 * NTD_BAR_BUFFER,
                       p.td->buffer.addr);
    assert_works(p.other);
    recover(&p);
    nyx_testdev_enable(p.td);
    /* What was written meanwhile has gone nowhere. */
    for (offset = 0; offset < NTD_BUFFER_SIZE; offset += 65528) {
        g_assert_cmphex(qpci_io_readb(p.td->pci, p.td->buffer, offset), ==,
                        0x5a);
    }
    quit(&p);
}

/* Bus mastering stays off, whatever the guest writes. */
static void test_bus_mastering(void)
{
    Pair p = start("");
    g_autofree uint8_t *before = NULL;

    run_for_ever(p.td);
    quarantine(&p);
    before = ram_copy_undone(&p);
    g_assert_false(qpci_config_readw(p.td->pci, PCI_COMMAND) &
                   PCI_COMMAND_MASTER);
    qpci_config_writew(p.td->pci, PCI_COMMAND, 0xffff);
    g_assert_false(qpci_config_readw(p.td->pci, PCI_COMMAND) &
                   PCI_COMMAND_MASTER);
    qpci_config_writel(p.td->pci, PCI_COMMAND, 0x0000ffff);
    qpci_config_writeb(p.td->pci, PCI_COMMAND, 0xff);
    g_assert_false(qpci_config_readw(p.td->pci, PCI_COMMAND) &
                   PCI_COMMAND_MASTER);
    /* A reset by the guest does not free it either. */
    nyx_testdev_flr(p.td);
    qpci_config_writew(p.td->pci, PCI_COMMAND, 0xffff);
    g_assert_false(qpci_config_readw(p.td->pci, PCI_COMMAND) &
                   PCI_COMMAND_MASTER);
    nyx_testdev_enable(p.other);
    assert_works(p.other);
    memcpy(before + MIB(2), p.t->ram + MIB(2), 64);
    nyx_ram_assert_same(p.t, before, 0, 0);
    nyx_assert_state(p.t, "td", "quarantined");
    quit(&p);
}

static unsigned irqs_raised(QTestState *qts)
{
    unsigned irq, raised = 0;

    for (irq = 16; irq < 24; irq++) {
        raised += qtest_get_irq(qts, irq);
    }
    return raised;
}

static void test_intx(void)
{
    Pair p = start("");

    qtest_irq_intercept_in(p.t->qts, "ioapic");
    nyx_testdev_set(p.td, NTD_REG_INTX, 1);
    g_assert_cmpuint(irqs_raised(p.t->qts), ==, 1);
    quarantine(&p);
    g_assert_cmpuint(irqs_raised(p.t->qts), ==, 0);
    /* The guest may not unmask it. */
    qpci_config_writew(p.td->pci, PCI_COMMAND, PCI_COMMAND_MEMORY);
    g_assert_cmpuint(irqs_raised(p.t->qts), ==, 0);
    nyx_testdev_set(p.other, NTD_REG_INTX, 1);
    g_assert_cmpuint(irqs_raised(p.t->qts), ==, 1);
    recover(&p);
    nyx_testdev_enable(p.td);
    nyx_testdev_set(p.td, NTD_REG_INTX, 1);
    g_assert_cmpuint(irqs_raised(p.t->qts), ==, 2);
    quit(&p);
}

/* System reset ends the DMA, not the quarantine. */
static void test_system_reset(void)
{
    Pair p = start("");

    run_for_ever(p.td);
    quarantine(&p);
    qtest_system_reset(p.t->qts);
    nyx_assert_state(p.t, "td", "quarantined");
    nyx_testdev_place_bars(p.td);
    qpci_config_writew(p.td->pci, PCI_COMMAND,
                       PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
    nyx_testdev_enable(p.other);
    g_assert_cmphex(nyx_testdev_get(p.td, NTD_REG_ID), ==, UINT32_MAX);
    g_assert_false(qpci_config_readw(p.td->pci, PCI_COMMAND) &
                   PCI_COMMAND_MASTER);
    assert_works(p.other);
    recover(&p);
    nyx_testdev_enable(p.td);
    assert_works(p.td);
    quit(&p);
}

/* The driver of the guest need not set up again what it did when it bound. */
static void test_recovery(void)
{
    Pair p = start("");
    uint32_t resets = nyx_testdev_get(p.td, NTD_REG_RESETS);
    uint64_t total;
    QDict *info;

    nyx_testdev_set(p.td, NTD_REG_SCRATCH, 0x1234);
    nyx_testdev_write(p.td, MIB(512), 8);
    quarantine(&p);
    recover(&p);
    g_assert_true(qpci_config_readw(p.td->pci, PCI_COMMAND) &
                  PCI_COMMAND_MASTER);
    g_assert_cmpuint(nyx_testdev_get(p.td, NTD_REG_RESETS), ==, resets + 1);
    g_assert_cmphex(nyx_testdev_get(p.td, NTD_REG_SCRATCH), ==, 0);
    assert_works(p.td);
    nyx_assert_number(p.t, "td", "recoveries", 1);
    nyx_assert_number(p.t, "td", "fault-count", 0);
    /* Its past is not forgotten. */
    info = nyx_query_device(p.t, "td");
    total = qdict_get_uint(info, "total-faults");
    g_assert_cmpuint(total, >=, 1);
    qobject_unref(info);
    nyx_assert_fault(p.t, "td", "unmapped", MIB(512), "w", 1);
    quit(&p);
}

static void test_mappings_stay(void)
{
    Pair p = start("");

    nyx_qmp(p.t, "{ 'execute': 'nyx-unmap', 'arguments': { 'domain': 'dom',"
            "  'iova': 4194304, 'size': 4096 } }");
    quarantine(&p);
    nyx_qmp(p.t, "{ 'execute': 'nyx-unmap', 'arguments': { 'domain': 'dom',"
            "  'iova': 8388608, 'size': 4096 } }");
    recover(&p);
    assert_works(p.td);
    g_assert_cmpuint(nyx_testdev_write(p.td, 4194304, 8), ==,
                     NTD_RESULT_DMA_ERROR);
    g_assert_cmpuint(nyx_testdev_write(p.td, 8388608, 8), ==,
                     NTD_RESULT_DMA_ERROR);
    quit(&p);
}

static void test_budget(void)
{
    Pair p = start("-M max-recoveries=2");

    quarantine(&p);
    recover(&p);
    qtest_clock_step(p.t->qts, 1000 * MS);
    quarantine(&p);
    recover(&p);
    nyx_assert_number(p.t, "td", "recoveries", 2);
    quarantine(&p);
    nyx_qmp_refused(p.t, "recoveries within the last hour",
                    "{ 'execute': 'nyx-recover-device',"
                    "  'arguments': { 'device': 'td' } }");
    nyx_await_state(p.t, "td", "quarantined", "failed");
    nyx_assert_state(p.t, "td", "failed");
    g_assert_cmphex(nyx_testdev_get(p.td, NTD_REG_ID), ==, UINT32_MAX);

    /* Failed stays failed, also when the hour is over, until it is forced. */
    qtest_clock_step(p.t->qts, 2 * HOUR_MS * MS);
    nyx_qmp_refused(p.t, "has failed",
                    "{ 'execute': 'nyx-recover-device',"
                    "  'arguments': { 'device': 'td' } }");
    nyx_qmp(p.t, "{ 'execute': 'nyx-quarantine-device',"
            "  'arguments': { 'device': 'td' } }");
    nyx_assert_state(p.t, "td", "failed");
    force(&p);
    nyx_await_state(p.t, "td", "failed", "recovering");
    assert_works(p.td);
    nyx_assert_number(p.t, "td", "recoveries", 1);
    assert_works(p.other);
    quit(&p);
}

static void test_budget_hour(void)
{
    Pair p = start("-M max-recoveries=1");

    quarantine(&p);
    recover(&p);
    quarantine(&p);
    qtest_clock_step(p.t->qts, HOUR_MS * MS - 1);
    nyx_assert_number(p.t, "td", "recoveries", 1);
    qtest_clock_step(p.t->qts, 1);
    nyx_assert_number(p.t, "td", "recoveries", 0);
    recover(&p);
    /* Forced, it works without a budget. */
    quarantine(&p);
    force(&p);
    nyx_assert_number(p.t, "td", "recoveries", 2);
    quit(&p);
}

static void test_no_recoveries(void)
{
    Pair p = start("-M max-recoveries=0");

    quarantine(&p);
    nyx_qmp_refused(p.t, "", "{ 'execute': 'nyx-recover-device',"
                    "  'arguments': { 'device': 'td' } }");
    nyx_assert_state(p.t, "td", "failed");
    quit(&p);
}

static void test_nothing_to_recover(void)
{
    Pair p = start("");

    nyx_qmp_refused(p.t, "is operational", "{ 'execute': 'nyx-recover-device',"
                    "  'arguments': { 'device': 'td' } }");
    nyx_qmp_refused(p.t, "is operational", "{ 'execute': 'nyx-recover-device',"
                    "  'arguments': { 'device': 'td', 'force': true } }");
    nyx_assert_number(p.t, "td", "recoveries", 0);
    assert_works(p.td);
    quit(&p);
}

static void test_scope_domain(void)
{
    Pair p = start("-device nyx-testdev,id=alone,addr=7");
    NyxTestdev *alone = nyx_testdev_open(p.t, 7);

    nyx_qmp(p.t, "{ 'execute': 'nyx-set-policy', 'arguments': {"
            "  'domain': 'dom', 'scope': 'domain', 'max-faults': 0 } }");
    nyx_testdev_write(p.td, MIB(512), 8);
    nyx_await_state(p.t, "td", "operational", "quarantined");
    nyx_assert_state(p.t, "td", "quarantined");
    nyx_assert_state(p.t, "other", "quarantined");
    nyx_assert_state(p.t, "alone", "operational");
    g_assert_cmphex(nyx_testdev_get(p.other, NTD_REG_ID), ==, UINT32_MAX);
    assert_works(alone);
    recover(&p);
    assert_works(p.td);
    nyx_assert_state(p.t, "other", "quarantined");
    nyx_testdev_close(alone);
    quit(&p);
}

static void test_unplug(void)
{
    NyxTest *t = nyx_test_start("nyx-pc", "-object nyx-domain,id=dom "
                                "-device pcie-root-port,id=rp,addr=5 "
                                "-device nyx-testdev,id=td,bus=rp,"
                                "nyx-domain=dom");

    nyx_qmp(t, "{ 'execute': 'nyx-quarantine-device',"
            "  'arguments': { 'device': 'td' } }");
    qtest_qmp_device_del_send(t->qts, "td");
    qtest_system_reset_nowait(t->qts);
    qtest_qmp_eventwait(t->qts, "DEVICE_DELETED");
    nyx_qmp_refused(t, "no PCI device 'td'",
                    "{ 'execute': 'query-nyx-devices',"
                    "  'arguments': { 'device': 'td' } }");
    /* A new device of that name, in that place, starts with a clean slate. */
    qtest_qmp_device_add(t->qts, "nyx-testdev", "td",
                         "{ 'bus': 'rp', 'nyx-domain': 'dom' }");
    nyx_assert_state(t, "td", "operational");
    nyx_assert_number(t, "td", "recoveries", 0);
    nyx_test_quit(t);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    qtest_add_func("/nyx/quarantine/event", test_event);
    qtest_add_func("/nyx/quarantine/dma", test_dma);
    qtest_add_func("/nyx/quarantine/bars", test_bars);
    qtest_add_func("/nyx/quarantine/bus-mastering", test_bus_mastering);
    qtest_add_func("/nyx/quarantine/intx", test_intx);
    qtest_add_func("/nyx/quarantine/system-reset", test_system_reset);
    qtest_add_func("/nyx/quarantine/recovery", test_recovery);
    qtest_add_func("/nyx/quarantine/mappings-stay", test_mappings_stay);
    qtest_add_func("/nyx/quarantine/budget", test_budget);
    qtest_add_func("/nyx/quarantine/budget-hour", test_budget_hour);
    qtest_add_func("/nyx/quarantine/no-recoveries", test_no_recoveries);
    qtest_add_func("/nyx/quarantine/nothing-to-recover",
                   test_nothing_to_recover);
    qtest_add_func("/nyx/quarantine/scope-domain", test_scope_domain);
    qtest_add_func("/nyx/quarantine/unplug", test_unplug);
    return g_test_run();
}
