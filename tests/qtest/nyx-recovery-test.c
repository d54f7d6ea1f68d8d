/*
 * Nyx IOMMU: what recovery gives back, to whom, and who may not be recovered
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "hw/pci/pci_regs.h"
#include "libnyx-extra.h"

#define CONFIG_SIZE     256
#define HOLE            MIB(512)    /* no RAM is there */
#define VECTOR          0x40        /* that of the first MSI */

static NyxTestdev *start(const char *machine)
{
    NyxTest *t = nyx_test_start(machine, "-device nyx-testdev,id=td,addr=5");

    return nyx_testdev_open(t, 5);
}

static void quit(NyxTestdev *dev)
{
    NyxTest *t = dev->t;

    nyx_testdev_close(dev);
    nyx_test_quit(t);
}

static void assert_works(NyxTestdev *dev)
{
    g_assert_cmphex(nyx_testdev_get(dev, NTD_REG_ID), ==, NTD_ID);
    g_assert_cmpuint(nyx_testdev_write(dev, MIB(2), 64), ==, NTD_RESULT_OK);
}

static uint8_t capability(NyxTestdev *dev, uint8_t id)
{
    uint8_t offset = qpci_find_capability(dev->pci, id, 0);

    g_assert_cmphex(offset, !=, 0);
    return offset;
}

static uint16_t command_register(NyxTestdev *dev)
{
    return qpci_config_readw(dev->pci, PCI_COMMAND);
}

static uint16_t msix_flags(NyxTestdev *dev)
{
    return qpci_config_readw(dev->pci, capability(dev, PCI_CAP_ID_MSIX) +
                             PCI_MSIX_FLAGS);
}

static void set_msix_flags(NyxTestdev *dev, uint16_t flags)
{
    qpci_config_writew(dev->pci, capability(dev, PCI_CAP_ID_MSIX) +
                       PCI_MSIX_FLAGS, flags);
}

/* Whether vector number @n of the device arrives at the interrupt controller */
static void assert_interrupt(NyxTestdev *dev, unsigned n, bool arrives)
{
    QDict *info = nyx_query_device(dev->t, "td");
    uint64_t delivered = qdict_get_uint(qdict_get_qdict(info, "interrupts"),
                                        "delivered");

    qobject_unref(info);
    nyx_testdev_set(dev, NTD_REG_VECTOR, n);
    g_assert_cmpuint(nyx_testdev_command(dev, NTD_CMD_INTERRUPT), ==,
                     NTD_RESULT_OK);
    info = nyx_query_device(dev->t, "td");
    g_assert_cmpuint(qdict_get_uint(qdict_get_qdict(info, "interrupts"),
                                    "delivered"), ==, delivered + arrives);
    qobject_unref(info);
}

/* As a driver does, which does not look whether bus mastering is on. */
static void enable_quarantined(NyxTestdev *dev)
{
    nyx_testdev_place_bars(dev);
    qpci_config_writew(dev->pci, PCI_COMMAND, PCI_COMMAND_IO |
                       PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
    g_assert_cmphex(command_register(dev) & PCI_COMMAND_MASTER, ==, 0);
    g_assert_cmphex(nyx_testdev_get(dev, NTD_REG_ID), ==, UINT32_MAX);
}

static void quarantine_and_recover(NyxTestdev *dev)
{
    nyx_quarantine(dev->t, "td");
    nyx_recover(dev->t, "td");
}

/* What the driver set up */

/* Every setting of the first 256 bytes that a driver or firmware makes */
static void test_config(void)
{
    NyxTestdev *dev = start("nyx-pc");
    uint8_t express = capability(dev, PCI_CAP_ID_EXP);
    g_autofree uint8_t *before = NULL;

    qpci_config_writeb(dev->pci, PCI_CACHE_LINE_SIZE, 16);
    qpci_config_writeb(dev->pci, PCI_INTERRUPT_LINE, 11);
    qpci_config_writew(dev->pci, PCI_COMMAND, PCI_COMMAND_MEMORY |
                       PCI_COMMAND_MASTER | PCI_COMMAND_SERR);
    qpci_config_writew(dev->pci, express + PCI_EXP_DEVCTL,
                       PCI_EXP_DEVCTL_CERE | PCI_EXP_DEVCTL_NFERE);
    before = nyx_config_copy(dev->pci, CONFIG_SIZE);
    quarantine_and_recover(dev);
    nyx_config_assert_same(dev->pci, before, CONFIG_SIZE);
    assert_works(dev);
    quit(dev);
}

/* A model with an I/O BAR and a ROM, of a conventional bus */
static void test_config_e1000(void)
{
    NyxTest *t = nyx_test_start("nyx-pc", "-device e1000,id=nic,addr=5");
    QPCIDevice *pci = nyx_pci_open(t, 5);
    QPCIBar registers = qpci_iomap(pci, 0, NULL);
    g_autofree uint8_t *before = NULL;
    uint32_t status;

    qpci_iomap(pci, 1, NULL);
    qpci_config_writel(pci, PCI_ROM_ADDRESS, 0xf0000000);
    before = nyx_config_copy(pci, CONFIG_SIZE);
    status = qpci_io_readl(pci, registers, 8);
    nyx_quarantine(t, "nic");
    g_assert_cmphex(qpci_io_readl(pci, registers, 8), ==, UINT32_MAX);
    nyx_recover(t, "nic");
    nyx_config_assert_same(pci, before, CONFIG_SIZE);
    g_assert_cmphex(qpci_io_readl(pci, registers, 8), ==, status);
    g_free(pci);
    nyx_test_quit(t);
}

static void setup_msix(NyxTestdev *dev)
{
    QPCIBar table;
    unsigned i;

    qpci_msix_enable(dev->pci);
    table = dev->pci->msix_table_bar;
    for (i = 0; i < NTD_VECTORS; i++) {
        uint64_t entry = dev->pci->msix_table_off + i * PCI_MSIX_ENTRY_SIZE;

        qpci_io_writel(dev->pci, table, entry, NYX_MSI_BASE);
        qpci_io_writel(dev->pci, table, entry + 4, 0);
        qpci_io_writel(dev->pci, table, entry + 8, VECTOR + i);
        qpci_io_writel(dev->pci, table, entry + 12, i == NTD_VECTORS - 1);
    }
}

static void test_msix(void)
{
    NyxTestdev *dev = start("nyx-pc");
    uint8_t before[NTD_VECTORS * PCI_MSIX_ENTRY_SIZE], after[sizeof(before)];
    uint64_t table;
    uint16_t flags;

    setup_msix(dev);
    table = dev->pci->msix_table_bar.addr + dev->pci->msix_table_off;
    flags = msix_flags(dev);
    g_assert_cmphex(flags & PCI_MSIX_FLAGS_ENABLE, !=, 0);
    qtest_memread(dev->t->qts, table, before, sizeof(before));
    quarantine_and_recover(dev);
    qtest_memread(dev->t->qts, table, after, sizeof(after));
    g_assert_cmpmem(before, sizeof(before), after, sizeof(after));
    g_assert_cmphex(msix_flags(dev), ==, flags);
    assert_interrupt(dev, 0, true);
    g_assert_true(nyx_apic_pending(dev->t, VECTOR));
    assert_interrupt(dev, NTD_VECTORS - 1, false);

    /* All masked at once */
    set_msix_flags(dev, flags | PCI_MSIX_FLAGS_MASKALL);
    quarantine_and_recover(dev);
    g_assert_cmphex(msix_flags(dev), ==, flags | PCI_MSIX_FLAGS_MASKALL);
    assert_interrupt(dev, 1, false);
    quit(dev);
}

static void test_msi(void)
{
    NyxTestdev *dev = start("nyx-pc");
    uint8_t msi = capability(dev, PCI_CAP_ID_MSI);
    uint16_t flags = qpci_config_readw(dev->pci, msi + PCI_MSI_FLAGS);
    g_autofree uint8_t *before = NULL;

    g_assert_cmphex(flags & PCI_MSI_FLAGS_64BIT, !=, 0);
    g_assert_cmphex(flags & PCI_MSI_FLAGS_MASKBIT, !=, 0);
    qpci_config_writel(dev->pci, msi + PCI_MSI_ADDRESS_LO, NYX_MSI_BASE);
    qpci_config_writel(dev->pci, msi + PCI_MSI_ADDRESS_HI, 0);
    qpci_config_writew(dev->pci, msi + PCI_MSI_DATA_64, VECTOR);
    qpci_config_writel(dev->pci, msi + PCI_MSI_MASK_64, 1 << 2);
    /* Four vectors */
    qpci_config_writew(dev->pci, msi + PCI_MSI_FLAGS,
                       flags | PCI_MSI_FLAGS_ENABLE | 2 << 4);
    before = nyx_config_copy(dev->pci, CONFIG_SIZE);
    quarantine_and_recover(dev);
    nyx_config_assert_same(dev->pci, before, CONFIG_SIZE);
    assert_interrupt(dev, 3, true);
    g_assert_true(nyx_apic_pending(dev->t, VECTOR + 3));
    assert_interrupt(dev, 2, false);
    quit(dev);
}

/* What the guest does meanwhile: not in force, and not forgotten. */

static void test_turned_off(void)
{
    NyxTestdev *dev = start("nyx-pc");

    setup_msix(dev);
    nyx_quarantine(dev->t, "td");
    qpci_config_writew(dev->pci, PCI_COMMAND, PCI_COMMAND_MEMORY);
    set_msix_flags(dev, 0);
    nyx_recover(dev->t, "td");
    g_assert_cmphex(command_register(dev), ==, PCI_COMMAND_MEMORY);
    g_assert_cmphex(msix_flags(dev) & PCI_MSIX_FLAGS_ENABLE, ==, 0);
    g_assert_cmphex(nyx_testdev_get(dev, NTD_REG_ID), ==, NTD_ID);
    quit(dev);
}

static void test_turned_on(void)
{
    NyxTestdev *dev = start("nyx-pc");
    uint16_t wanted = PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER |
                      PCI_COMMAND_INTX_DISABLE;

    setup_msix(dev);
    set_msix_flags(dev, 0);
    qpci_config_writew(dev->pci, PCI_COMMAND, PCI_COMMAND_MEMORY);
    nyx_quarantine(dev->t, "td");
    qpci_config_writew(dev->pci, PCI_COMMAND, wanted);
    set_msix_flags(dev, PCI_MSIX_FLAGS_ENABLE);
    g_assert_cmphex(command_register(dev) & PCI_COMMAND_MASTER, ==, 0);
    g_assert_cmphex(msix_flags(dev) & PCI_MSIX_FLAGS_ENABLE, ==, 0);
    nyx_recover(dev->t, "td");
    g_assert_cmphex(command_register(dev), ==, wanted);
    g_assert_cmphex(msix_flags(dev) & PCI_MSIX_FLAGS_ENABLE, !=, 0);
    assert_interrupt(dev, 0, true);
    quit(dev);
}

/* By bytes, and the last write counts. */
static void test_turned_off_and_on(void)
{
    NyxTestdev *dev = start("nyx-pc");
    uint16_t before = command_register(dev);

    nyx_quarantine(dev->t, "td");
    qpci_config_writeb(dev->pci, PCI_COMMAND, 0);
    qpci_config_writel(dev->pci, PCI_COMMAND, PCI_COMMAND_INTX_DISABLE);
    qpci_config_writeb(dev->pci, PCI_COMMAND, before);
    qpci_config_writeb(dev->pci, PCI_COMMAND + 1, before >> 8);
    nyx_recover(dev->t, "td");
    g_assert_cmphex(command_register(dev), ==, before);
    assert_works(dev);
    quit(dev);
}

static void check_reset_forgets(void (*reset)(NyxTestdev *dev))
{
    NyxTestdev *dev = start("nyx-pc");

    setup_msix(dev);
    nyx_quarantine(dev->t, "td");
    reset(dev);
    nyx_assert_state(dev->t, "td", "quarantined");
    nyx_recover(dev->t, "td");
    g_assert_cmphex(command_register(dev) & PCI_COMMAND_MASTER, ==, 0);
    g_assert_cmphex(msix_flags(dev) & PCI_MSIX_FLAGS_ENABLE, ==, 0);

    /* What comes after the reset is remembered as ever, and only that. */
    nyx_testdev_enable(dev);
    set_msix_flags(dev, PCI_MSIX_FLAGS_ENABLE);
    nyx_quarantine(dev->t, "td");
    reset(dev);
    enable_quarantined(dev);
    nyx_recover(dev->t, "td");
    g_assert_cmphex(command_register(dev) & PCI_COMMAND_MASTER, !=, 0);
    g_assert_cmphex(msix_flags(dev) & PCI_MSIX_FLAGS_ENABLE, ==, 0);
    assert_works(dev);
    quit(dev);
}

static void test_flr_forgets(void)
{
    check_reset_forgets(nyx_testdev_flr);
}

static void system_reset(NyxTestdev *dev)
{
    qtest_system_reset(dev->t->qts);
}

static void test_system_reset_forgets(void)
{
    check_reset_forgets(system_reset);
}

/* Bridges and the chipset */

static void refuse_bridge(NyxTest *t, const char *id)
{
    nyx_qmp_refused(t, "is a bridge or part of the chipset; name a device "
                    "behind it", "{ 'execute': 'nyx-quarantine-device',"
                    "  'arguments': { 'device': %s } }", id);
    nyx_qmp_refused(t, "is a bridge or part of the chipset",
                    "{ 'execute': 'nyx-inject-fault', 'arguments': {"
                    "  'device': %s, 'address': 0, 'access': 'r',"
                    "  'count': 100 } }", id);
    nyx_qmp_refused(t, "is operational",
                    "{ 'execute': 'nyx-recover-device',"
                    "  'arguments': { 'device': %s, 'force': true } }", id);
    nyx_assert_state(t, id, "operational");
}

static void check_bridge(const void *data)
{
    const char *bridge = data;
    NyxTest *t = nyx_test_start("nyx-pc", "-device %s,id=br,addr=6 "
                                "-device nyx-testdev,id=td,bus=br%s", bridge,
                                strstr(bridge, "port") ? "" : ",addr=2");
    QPCIDevice *br = nyx_bridge_open(t, 6, 1);
    NyxTestdev *dev = nyx_testdev_open(t, NYX_SLOT(1, strstr(bridge, "port")
                                                      ? 0 : 2));
    g_autofree uint8_t *of_bridge = nyx_config_copy(br, CONFIG_SIZE);
    g_autofree uint8_t *of_device = nyx_config_copy(dev->pci, CONFIG_SIZE);

    nyx_testdev_set(dev, NTD_REG_SCRATCH, 0x1234);
    refuse_bridge(t, "br");
    nyx_settle(t);
    nyx_config_assert_same(br, of_bridge, CONFIG_SIZE);
    nyx_config_assert_same(dev->pci, of_device, CONFIG_SIZE);
    g_assert_cmphex(nyx_testdev_get(dev, NTD_REG_SCRATCH), ==, 0x1234);
    assert_works(dev);

    /* The device behind it can be recovered, and its bridge stays. */
    quarantine_and_recover(dev);
    nyx_config_assert_same(br, of_bridge, CONFIG_SIZE);
    nyx_config_assert_same(dev->pci, of_device, CONFIG_SIZE);
    g_assert_cmphex(nyx_testdev_get(dev, NTD_REG_SCRATCH), ==, 0);
    assert_works(dev);
    g_free(br);
    quit(dev);
}

/* As Q35 firmware does; these are lost by a reset. */
#define HOST_PCIEXBAR   0x60
#define LPC_PMBASE      0x40

static void test_chipset(void)
{
    /* All in one domain, whose quarantine takes in everyone. */
    NyxTestdev *dev = start("nyx-pc,default-isolation=shared,scope=domain,"
                            "on-fault-limit=reset-device,max-faults=0");
    NyxTest *t = dev->t;
    QPCIDevice *host = qpci_device_find(t->bus, QPCI_DEVFN(0, 0));
    QPCIDevice *lpc = qpci_device_find(t->bus, QPCI_DEVFN(31, 0));
    static const char *const addresses[] = { "0000:00:00.0", "0000:00:1f.0" };
    g_autofree uint8_t *of_host = NULL;
    g_autofree uint8_t *of_lpc = NULL;
    unsigned i;

    qpci_config_writel(host, HOST_PCIEXBAR, 0xb0000001);
    qpci_config_writel(lpc, LPC_PMBASE, 0x601);
    of_host = nyx_config_copy(host, CONFIG_SIZE);
    of_lpc = nyx_config_copy(lpc, CONFIG_SIZE);
    for (i = 0; i < ARRAY_SIZE(addresses); i++) {
        g_autofree char *name = nyx_device_at(t, addresses[i]);

        refuse_bridge(t, name);
    }
    nyx_testdev_write(dev, HOLE, 8);
    nyx_await_state(t, "td", "recovering", "operational");
    for (i = 0; i < ARRAY_SIZE(addresses); i++) {
        g_autofree char *name = nyx_device_at(t, addresses[i]);

        nyx_assert_state(t, name, "operational");
        nyx_assert_number(t, name, "recoveries", 0);
    }
    nyx_config_assert_same(host, of_host, CONFIG_SIZE);
    nyx_config_assert_same(lpc, of_lpc, CONFIG_SIZE);
    g_free(host);
    g_free(lpc);
    quit(dev);
}

/*
 * Behind this bridge devices have the bridge's own requester ID: all three are
 * one endpoint.
 */
static void test_group(void)
{
    NyxTest *t = nyx_test_start("nyx-pc",
                                "-device i82801b11-bridge,id=br,addr=6 "
                                "-device e1000,id=nic,bus=br,addr=1 "
                                "-device nyx-testdev,id=td,bus=br,addr=2");
    QPCIDevice *pci[3];
    g_autofree uint8_t *before[3] = {};
    NyxTestdev *dev;
    unsigned i;

    pci[0] = nyx_bridge_open(t, 6, 1);
    dev = nyx_testdev_open(t, NYX_SLOT(1, 2));
    pci[1] = dev->pci;
    pci[2] = nyx_pci_open(t, NYX_SLOT(1, 1));
    qpci_iomap(pci[2], 0, NULL);
    for (i = 0; i < 3; i++) {
        before[i] = nyx_config_copy(pci[i], CONFIG_SIZE);
    }
    refuse_bridge(t, "br");
    nyx_quarantine(t, "nic");
    nyx_assert_state(t, "td", "quarantined");
    g_assert_cmphex(nyx_testdev_get(dev, NTD_REG_ID), ==, UINT32_MAX);
    nyx_recover(t, "td");
    nyx_assert_state(t, "nic", "operational");
    for (i = 0; i < 3; i++) {
        nyx_config_assert_same(pci[i], before[i], CONFIG_SIZE);
    }
    assert_works(dev);
    g_free(pci[0]);
    g_free(pci[2]);
    for (i = 1; i < 3; i++) {
        g_free(before[i]);
    }
    quit(dev);
}

/* A device that has failed is as cut off, and comes back as whole. */
static void test_failed(void)
{
    NyxTestdev *dev = start("nyx-pc,max-recoveries=0");
    g_autofree uint8_t *before = NULL;

    setup_msix(dev);
    before = nyx_config_copy(dev->pci, CONFIG_SIZE);
    nyx_quarantine(dev->t, "td");
    nyx_qmp_refused(dev->t, "recover it with force=true",
                    "{ 'execute': 'nyx-recover-device',"
                    "  'arguments': { 'device': 'td' } }");
    nyx_assert_state(dev->t, "td", "failed");
    qtest_system_reset(dev->t->qts);
    nyx_assert_state(dev->t, "td", "failed");
    enable_quarantined(dev);
    set_msix_flags(dev, PCI_MSIX_FLAGS_ENABLE);
    nyx_qmp(dev->t, "{ 'execute': 'nyx-recover-device',"
            "  'arguments': { 'device': 'td', 'force': true } }");
    nyx_assert_state(dev->t, "td", "operational");
    nyx_config_assert_same(dev->pci, before, CONFIG_SIZE);
    assert_works(dev);
    quit(dev);
}

/* Faults of a device that is cut off already have no consequences. */
static void check_no_action(const void *data)
{
    static const char *const never[] = {
        "NYX_FAULT_LIMIT", "NYX_DEVICE_STATE", "STOP", "RESET", "SHUTDOWN",
    };
    g_autofree char *machine = g_strdup_printf("nyx-pc,max-faults=3,"
        "on-fault-limit=%s", (const char *)data);
    NyxTestdev *dev = start(machine);
    NyxEvents *events;
    unsigned i;

    /* Of the real ones, too: a run that goes on. */
    nyx_testdev_run(dev, MIB(4), 64, 0, 16, PAGE,
                    NTD_FLAG_WRITE | NTD_FLAG_THREAD);
    nyx_quarantine(dev->t, "td");
    nyx_await_state(dev->t, "td", "operational", "quarantined");
    events = nyx_events_start(dev->t);
    for (i = 0; i < 3; i++) {
        nyx_inject(dev->t, "td", 24);
        nyx_settle(dev->t);
    }
    g_assert_cmpuint(nyx_events_count(events, "NYX_DMA_FAULT"), >, 0);
    for (i = 0; i < ARRAY_SIZE(never); i++) {
        if (nyx_events_count(events, never[i])) {
            g_error("%s of a quarantined device", never[i]);
        }
    }
    nyx_events_stop(events);
    nyx_assert_state(dev->t, "td", "quarantined");
    nyx_assert_number(dev->t, "td", "recoveries", 0);
    nyx_recover(dev->t, "td");
    assert_works(dev);
    quit(dev);
}

/* Whoever was taken in with the domain is let go with it. */
static void test_scope_domain(void)
{
    NyxTest *t = nyx_test_start("nyx-pc",
        "-object nyx-domain,id=dom,isolation=shared,scope=domain,"
        "on-fault-limit=reset-device,max-faults=2 "
        "-device nyx-testdev,id=a,addr=5,nyx-domain=dom "
        "-device nyx-testdev,id=b,addr=6,nyx-domain=dom "
        "-device nyx-testdev,id=c,addr=7,nyx-domain=dom "
        "-device nyx-testdev,id=alone,addr=8");
    NyxTestdev *dev[] = {
        nyx_testdev_open(t, 5), nyx_testdev_open(t, 6), nyx_testdev_open(t, 7),
        nyx_testdev_open(t, 8),
    };
    static const char *const ids[] = { "a", "b", "c", "alone" };
    unsigned i;

    /* Not this one: the operator did it, to this one only. */
    nyx_qmp(t, "{ 'execute': 'nyx-set-policy', 'arguments': {"
            "  'device': 'c', 'scope': 'device' } }");
    nyx_quarantine(t, "c");
    nyx_assert_state(t, "a", "operational");
    for (i = 0; i < 3; i++) {
        nyx_testdev_write(dev[0], HOLE + i * PAGE, 8);
    }
    nyx_await_state(t, "b", "operational", "quarantined");
    nyx_await_state(t, "b", "recovering", "operational");
    nyx_assert_state(t, "c", "quarantined");
    nyx_recover(t, "c");
    for (i = 0; i < ARRAY_SIZE(dev); i++) {
        nyx_assert_state(t, ids[i], "operational");
        nyx_assert_number(t, ids[i], "recoveries", i < 3);
        assert_works(dev[i]);
        nyx_testdev_close(dev[i]);
    }
    nyx_test_quit(t);
}

/* However many faults: an event of each kind a second. */
static void check_flood(const void *data)
{
    NyxTestdev *dev = start("nyx-pc,max-faults=0,on-fault-limit=report");
    NyxEvents *events = nyx_events_start(dev->t);
    unsigned second;

    for (second = 1; second <= 3; second++) {
        nyx_testdev_run(dev, HOLE, 8, 3000, 16, 16 * PAGE,
                        NTD_FLAG_WRITE | GPOINTER_TO_UINT(data));
        nyx_testdev_await_idle(dev);
        qtest_clock_step(dev->t->qts, 1001 * 1000000LL);
        nyx_assert_state(dev->t, "td", "operational");
        g_assert_cmpuint(nyx_events_count(events, "NYX_DMA_FAULT"), <=,
                         second + 1);
        g_assert_cmpuint(nyx_events_count(events, "NYX_FAULT_LIMIT"), <=,
                         second + 1);
    }
    g_assert_cmpuint(nyx_events_count(events, "NYX_DMA_FAULT"), >, 0);
    g_assert_cmpuint(nyx_events_count(events, "NYX_FAULT_LIMIT"), >, 0);
    nyx_events_stop(events);
    quit(dev);
}

int main(int argc, char **argv)
{
    static const char *const bridges[] = {
        "pcie-root-port", "pcie-pci-bridge", "i82801b11-bridge",
        "pci-bridge,chassis_nr=1",
    };
    static const char *const actions[] = {
        "quarantine", "report", "reset-device", "pause-vm", "reset-vm",
        "shutdown",
    };
    unsigned i;

    g_test_init(&argc, &argv, NULL);
    qtest_add_func("/nyx/recovery/config", test_config);
    qtest_add_func("/nyx/recovery/config-e1000", test_config_e1000);
    qtest_add_func("/nyx/recovery/msix", test_msix);
    qtest_add_func("/nyx/recovery/msi", test_msi);
    qtest_add_func("/nyx/recovery/turned-off", test_turned_off);
    qtest_add_func("/nyx/recovery/turned-on", test_turned_on);
    qtest_add_func("/nyx/recovery/turned-off-and-on", test_turned_off_and_on);
    qtest_add_func("/nyx/recovery/flr-forgets", test_flr_forgets);
    qtest_add_func("/nyx/recovery/system-reset-forgets",
                   test_system_reset_forgets);
    for (i = 0; i < ARRAY_SIZE(bridges); i++) {
        g_autofree char *path = g_strdup_printf("/nyx/recovery/bridge/%.*s",
                                                (int)strcspn(bridges[i], ","),
                                                bridges[i]);

        qtest_add_data_func(path, bridges[i], check_bridge);
    }
    qtest_add_func("/nyx/recovery/chipset", test_chipset);
    qtest_add_func("/nyx/recovery/group", test_group);
    qtest_add_func("/nyx/recovery/failed", test_failed);
    for (i = 0; i < ARRAY_SIZE(actions); i++) {
        g_autofree char *path = g_strdup_printf("/nyx/recovery/no-action/%s",
                                                actions[i]);

        qtest_add_data_func(path, actions[i], check_no_action);
    }
    qtest_add_func("/nyx/recovery/scope-domain", test_scope_domain);
    qtest_add_data_func("/nyx/recovery/flood/main-loop", GUINT_TO_POINTER(0),
                        check_flood);
    qtest_add_data_func("/nyx/recovery/flood/thread",
                        GUINT_TO_POINTER(NTD_FLAG_THREAD), check_flood);
    return g_test_run();
}
