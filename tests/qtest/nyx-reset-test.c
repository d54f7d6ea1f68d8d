/*
 * Nyx IOMMU: every kind of reset, with the device in each of its states
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The cells of the table in docs/nyx/lifecycle.rst.  The device is a
 * nyx-testdev alone behind a root port.
 */

#include "qemu/osdep.h"
#include "hw/pci/pci_regs.h"
#include "libnyx-extra.h"
#include "qobject/qjson.h"
#include "qobject/qlist.h"

#define PORT_SLOT       5
#define BUS             1
#define DPC             0x180   /* nyx-root-port */
#define DPC_ENABLED     1       /* triggered by fatal errors */
#define DPC_SW_TRIGGER  0x40

#define WINDOW          MIB(2)  /* what domain "win" maps */
#define WINDOW_SIZE     MIB(1)
#define HOLE            MIB(512)

/* ICH9 LPC, function 0 of slot 31 */
#define LPC_SLOT        31
#define LPC_PMBASE      0x40
#define LPC_ACPI_CNTL   0x44
#define ACPI_EN         0x80
#define PM_PORT         0x600
#define PM1_CONTROL     (PM_PORT + 4)
#define SLEEP(type)     ((type) << 10 | 1 << 13)
#define SLEEP_OFF       0
#define SLEEP_RAM       1       /* S3 */

typedef struct Rig {
    NyxTest *t;
    QPCIDevice *port;
    NyxTestdev *dev;
    uint64_t window;            /* address of the BARs */
} Rig;

/* As firmware does after a reset, with the same window for the BARs */
static void open_port(Rig *r)
{
    g_free(r->port);
    r->t->bus->mmio_alloc_ptr = r->window;
    r->port = nyx_bridge_open(r->t, PORT_SLOT, BUS);
}

static void open_device(Rig *r)
{
    open_port(r);
    if (r->dev) {
        nyx_testdev_close(r->dev);
    }
    r->dev = nyx_testdev_open(r->t, NYX_SLOT(BUS, 0));
}

static Rig start(const char *machine, const char *domain)
{
    Rig r = {
        .t = nyx_test_start(machine,
                            "-no-shutdown -global ICH9-LPC."
                            "acpi-pci-hotplug-with-bridge-support=off "
                            "-object nyx-domain,id=win,default-map=none "
                            "-object nyx-domain,id=all "
                            "-object nyx-domain,id=free,isolation=unmanaged "
                            "-device nyx-root-port,id=rp,chassis=1,addr=%d "
                            "-device nyx-testdev,id=td,bus=rp,nyx-domain=%s",
                            PORT_SLOT, domain),
    };

    nyx_qmp(r.t, "{ 'execute': 'nyx-map', 'arguments': { 'domain': 'win',"
            "  'iova': %" PRIu64 ", 'gpa': %" PRIu64 ", 'size': %" PRIu64 ","
            "  'access': 'rw' } }", (uint64_t)WINDOW, (uint64_t)WINDOW,
            (uint64_t)WINDOW_SIZE);
    r.window = r.t->bus->mmio_alloc_ptr;
    open_device(&r);
    return r;
}

static void end(Rig *r)
{
    nyx_testdev_close(r->dev);
    g_free(r->port);
    nyx_test_quit(r->t);
}

static uint16_t port_reg(Rig *r, unsigned reg)
{
    uint8_t express = qpci_find_capability(r->port, PCI_CAP_ID_EXP, 0);

    return qpci_config_readw(r->port, express + reg);
}

static void set_port_reg(Rig *r, unsigned reg, uint16_t value)
{
    uint8_t express = qpci_find_capability(r->port, PCI_CAP_ID_EXP, 0);

    qpci_config_writew(r->port, express + reg, value);
}

/* The resets */

static void warm(Rig *r)
{
    qtest_system_reset(r->t->qts);
}

static void sleep_as(Rig *r, unsigned type)
{
    QPCIDevice *lpc = qpci_device_find(r->t->bus, QPCI_DEVFN(LPC_SLOT, 0));

    g_assert_nonnull(lpc);
    qpci_config_writel(lpc, LPC_PMBASE, PM_PORT | 1);
    qpci_config_writeb(lpc, LPC_ACPI_CNTL, ACPI_EN);
    qtest_outw(r->t->qts, PM1_CONTROL, SLEEP(type));
    g_free(lpc);
}

/* The guest turns the VM off, the operator turns it on again. */
static void power(Rig *r)
{
    sleep_as(r, SLEEP_OFF);
    qtest_qmp_eventwait(r->t->qts, "SHUTDOWN");
    qtest_qmp_eventwait(r->t->qts, "STOP");
    warm(r);
    nyx_qmp(r->t, "{ 'execute': 'cont' }");
}

static void suspend_to_ram(Rig *r)
{
    sleep_as(r, SLEEP_RAM);
    qtest_qmp_eventwait(r->t->qts, "SUSPEND");
    nyx_qmp(r->t, "{ 'execute': 'system_wakeup' }");
    qtest_qmp_eventwait(r->t->qts, "WAKEUP");
}

static void function_level(Rig *r)
{
    nyx_testdev_flr(r->dev);
}

static void secondary_bus(Rig *r)
{
    uint16_t control = qpci_config_readw(r->port, PCI_BRIDGE_CONTROL);

    qpci_config_writew(r->port, PCI_BRIDGE_CONTROL,
                       control | PCI_BRIDGE_CTL_BUS_RESET);
    qpci_config_writew(r->port, PCI_BRIDGE_CONTROL, control);
}

/* With the indicator off, too, the port would let go of the device. */
static void slot_power(Rig *r)
{
    uint16_t control = port_reg(r, PCI_EXP_SLTCTL) & ~PCI_EXP_SLTCTL_PIC;

    set_port_reg(r, PCI_EXP_SLTCTL, control | PCI_EXP_SLTCTL_PWR_IND_ON |
                                    PCI_EXP_SLTCTL_PWR_OFF);
    set_port_reg(r, PCI_EXP_SLTCTL, control | PCI_EXP_SLTCTL_PWR_IND_ON);
}

/* Downstream port containment, by software: the link goes down and up. */
static void link_down(Rig *r)
{
    nyx_ecam_writew(r->t, PORT_SLOT, DPC + PCI_EXP_DPC_CTL,
                    DPC_ENABLED | DPC_SW_TRIGGER);
    g_assert_true(nyx_ecam_readw(r->t, PORT_SLOT, DPC + PCI_EXP_DPC_STATUS) &
                  PCI_EXP_DPC_STATUS_TRIGGER);
    nyx_ecam_writew(r->t, PORT_SLOT, DPC + PCI_EXP_DPC_STATUS,
                    PCI_EXP_DPC_STATUS_TRIGGER | PCI_EXP_DPC_STATUS_INTERRUPT);
    nyx_settle(r->t);
}

typedef struct Reset {
    const char *name;
    void (*run)(Rig *r);
    /* DMA that is under way comes to the IOMMU: neither VM nor slot is off */
    bool meets_dma;
} Reset;

static const Reset resets[] = {
    { "warm", warm, .meets_dma = true },
    { "power", power },
    { "suspend", suspend_to_ram },
    { "flr", function_level, .meets_dma = true },
    { "secondary-bus", secondary_bus, .meets_dma = true },
    { "slot-power", slot_power },
    { "link", link_down, .meets_dma = true },
};

/* What has to stay */

static char *json(QObject *obj)
{
    GString *text = qobject_to_json(obj);

    qobject_unref(obj);
    return g_string_free(text, false);
}

static char *one_member(QDict *dict, const char *member)
{
    QObject *value = qobject_ref(qdict_get(dict, member));

    g_assert_nonnull(value);
    return json(value);
}

/* All that the operator sees of the device, but for what a guest sets up */
static char *picture(Rig *r)
{
    static const char *members[] = {
        "domain", "state", "fault-count", "total-faults", "last-fault-ns",
        "recoveries", "policy", "dma",
    };
    QDict *info = nyx_query_device(r->t, "td");
    QDict *domain = nyx_query_domain(r->t, qdict_get_str(info, "domain"));
    GString *all = g_string_new(NULL);

    for (unsigned i = 0; i < ARRAY_SIZE(members); i++) {
        g_autofree char *value = one_member(info, members[i]);

        g_string_append_printf(all, "%s %s\n", members[i], value);
    }
    qobject_unref(info);
    for (unsigned i = 0; i < 2; i++) {
        const char *member = i ? "mappings" : "mapped-bytes";
        g_autofree char *value = one_member(domain, member);

        g_string_append_printf(all, "%s %s\n", member, value);
    }
    qobject_unref(domain);
    {
        g_autofree char *faults = json(QOBJECT(nyx_query_faults(r->t, "td")));

        g_string_append(all, faults);
    }
    return g_string_free(all, false);
}

static void assert_same_picture(Rig *r, const char *before)
{
    g_autofree char *now = picture(r);

    g_assert_cmpstr(now, ==, before);
}

/* One state and one reset */

static uint16_t msix_flags(Rig *r)
{
    return qpci_config_readw(r->dev->pci,
                             qpci_find_capability(r->dev->pci, PCI_CAP_ID_MSIX,
                                                  0) + PCI_MSIX_FLAGS);
}

static void enable_msix(Rig *r)
{
    qpci_config_writew(r->dev->pci,
                       qpci_find_capability(r->dev->pci, PCI_CAP_ID_MSIX, 0) +
                       PCI_MSIX_FLAGS, PCI_MSIX_FLAGS_ENABLE);
}

static uint16_t command_register(Rig *r)
{
    return qpci_config_readw(r->dev->pci, PCI_COMMAND);
}

/* Stage 2 is as it was: what the domain has, and nothing else. */
static void assert_confined(Rig *r)
{
    open_device(r);
    g_assert_cmpuint(nyx_testdev_write(r->dev, WINDOW, 64), ==, NTD_RESULT_OK);
    g_assert_cmpuint(nyx_testdev_write(r->dev, WINDOW + WINDOW_SIZE, 8), ==,
                     NTD_RESULT_DMA_ERROR);
    nyx_assert_fault(r->t, "td", "unmapped", WINDOW + WINDOW_SIZE, "w", 1);
}

static void recover(Rig *r, bool force)
{
    nyx_qmp(r->t, "{ 'execute': 'nyx-recover-device',"
            "  'arguments': { 'device': 'td', 'force': %i } }", force);
}

/* Something for the log, whose rest the limit leaves alone */
static Rig start_with_fault(const char *machine)
{
    Rig r = start(machine, "win");

    enable_msix(&r);
    g_assert_cmpuint(nyx_testdev_write(r.dev, HOLE, 8), ==,
                     NTD_RESULT_DMA_ERROR);
    nyx_settle(r.t);
    return r;
}

static void test_operational(const void *data)
{
    const Reset *reset = data;
    Rig r = start_with_fault("nyx-pc");
    g_autofree char *before = picture(&r);

    reset->run(&r);
    assert_same_picture(&r, before);
    open_port(&r);
    g_assert_cmphex(command_register(&r) & PCI_COMMAND_MASTER, ==, 0);
    g_assert_cmphex(msix_flags(&r) & PCI_MSIX_FLAGS_ENABLE, ==, 0);
    assert_confined(&r);
    nyx_assert_number(r.t, "td", "fault-count", 2);
    end(&r);
}

/*
 * Still cut off, and what its driver had enabled is void: a driver that is not
 * there any more gets neither DMA nor interrupts.
 */
static void assert_cut_off(Rig *r)
{
    open_port(r);
    nyx_testdev_place_bars(r->dev);
    qpci_config_writew(r->dev->pci, PCI_COMMAND, PCI_COMMAND_MEMORY);
    g_assert_cmphex(nyx_testdev_get(r->dev, NTD_REG_ID), ==, UINT32_MAX);
}

static void assert_recovered_bare(Rig *r)
{
    nyx_assert_state(r->t, "td", "operational");
    g_assert_cmphex(command_register(r) & PCI_COMMAND_MASTER, ==, 0);
    g_assert_cmphex(msix_flags(r) & PCI_MSIX_FLAGS_ENABLE, ==, 0);
    assert_confined(r);
}

static void test_quarantined(const void *data)
{
    const Reset *reset = data;
    Rig r = start_with_fault("nyx-pc");
    g_autofree char *before = NULL;

    nyx_quarantine(r.t, "td");
    nyx_settle(r.t);
    before = picture(&r);
    reset->run(&r);
    assert_same_picture(&r, before);
    assert_cut_off(&r);
    recover(&r, false);
    assert_recovered_bare(&r);
    end(&r);
}

static void test_failed(const void *data)
{
    const Reset *reset = data;
    Rig r = start_with_fault("nyx-pc,max-recoveries=0");
    g_autofree char *before = NULL;

    nyx_quarantine(r.t, "td");
    nyx_qmp_refused(r.t, "recover it with force=true",
                    "{ 'execute': 'nyx-recover-device',"
                    "  'arguments': { 'device': 'td' } }");
    nyx_assert_state(r.t, "td", "failed");
    nyx_settle(r.t);
    before = picture(&r);
    reset->run(&r);
    assert_same_picture(&r, before);
    assert_cut_off(&r);
    nyx_qmp_refused(r.t, "has failed", "{ 'execute': 'nyx-recover-device',"
                    "  'arguments': { 'device': 'td' } }");
    recover(&r, true);
    assert_recovered_bare(&r);
    end(&r);
}

/*
 * A driver that comes after the reset of a device that is cut off: what it sets
 * up is in force when the device is recovered.
 */
static void test_set_up_again(const void *data)
{
    const Reset *reset = data;
    Rig r = start_with_fault("nyx-pc");

    nyx_quarantine(r.t, "td");
    reset->run(&r);
    assert_cut_off(&r);
    qpci_config_writew(r.dev->pci, PCI_COMMAND,
                       PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
    recover(&r, false);
    g_assert_cmphex(command_register(&r) & PCI_COMMAND_MASTER, !=, 0);
    g_assert_cmphex(msix_flags(&r) & PCI_MSIX_FLAGS_ENABLE, ==, 0);
    g_assert_cmpuint(nyx_testdev_write(r.dev, WINDOW, 64), ==, NTD_RESULT_OK);
    end(&r);
}

/* With DMA under way */

static uint64_t number(Rig *r, const char *member)
{
    QDict *info = nyx_query_device(r->t, "td");
    uint64_t value = qdict_get_uint(info, member);

    qobject_unref(info);
    return value;
}

/*
 * The thread of the device ends only after a number of DMAs, and its reset
 * waits for that: these are refused.  None of them counts, or the device would
 * be cut off.
 */
static void check_blocked(const Reset *reset, const char *domain)
{
    Rig r = start("nyx-pc,max-faults=0", domain);
    unsigned round;

    for (round = 0; round < 100 && !number(&r, "total-faults"); round++) {
        nyx_testdev_run(r.dev, WINDOW, 64, 0, 16, PAGE,
                        NTD_FLAG_WRITE | NTD_FLAG_THREAD);
        nyx_testdev_await_done(r.dev, 1);
        reset->run(&r);
        open_device(&r);
        g_assert_cmpuint(nyx_testdev_get(r.dev, NTD_REG_STATUS), ==, 0);
    }
    nyx_assert_fault_within(r.t, "td", "blocked", WINDOW, 16 * PAGE, "w");
    nyx_settle(r.t);
    nyx_assert_state(r.t, "td", "operational");
    nyx_assert_number(r.t, "td", "fault-count", 0);
    g_assert_cmpuint(nyx_testdev_write(r.dev, WINDOW, 64), ==, NTD_RESULT_OK);
    end(&r);
}

/* A reset is no news: what it refuses is in the log, and no event. */
static void test_no_event(void)
{
    Rig r = start("nyx-pc,max-faults=0", "all");
    NyxEvents *events = nyx_events_start(r.t);
    unsigned round;

    for (round = 0; round < 100 && !number(&r, "total-faults"); round++) {
        nyx_testdev_run(r.dev, WINDOW, 64, 0, 16, PAGE,
                        NTD_FLAG_WRITE | NTD_FLAG_THREAD);
        nyx_testdev_await_done(r.dev, 1);
        function_level(&r);
        open_device(&r);
    }
    nyx_settle(r.t);
    g_assert_cmpuint(number(&r, "total-faults"), >, 0);
    g_assert_cmpuint(nyx_events_count(events, "NYX_DMA_FAULT"), ==, 0);
    /* The next fault of another kind is, and with it the device is cut off. */
    nyx_testdev_write(r.dev, HOLE, 8);
    nyx_settle(r.t);
    g_assert_cmpuint(nyx_events_count(events, "NYX_DMA_FAULT"), ==, 1);
    nyx_assert_state(r.t, "td", "quarantined");
    nyx_events_stop(events);
    end(&r);
}

static void test_blocked_passing(const void *data)
{
    check_blocked(data, "all");
}

static void test_blocked_translated(const void *data)
{
    check_blocked(data, "win");
}

static void test_blocked_unmanaged(const void *data)
{
    check_blocked(data, "free");
}

/* A root port, a bridge to conventional PCI, and the device */
static void open_below_bridge(Rig *r)
{
    QPCIDevice *bridge;

    open_port(r);
    qpci_config_writeb(r->port, PCI_SUBORDINATE_BUS, BUS + 1);
    bridge = nyx_bridge_open(r->t, NYX_SLOT(BUS, 0), BUS + 1);
    qpci_config_writew(r->port, PCI_MEMORY_LIMIT,
                       qpci_config_readw(bridge, PCI_MEMORY_LIMIT));
    if (r->dev) {
        nyx_testdev_close(r->dev);
    }
    r->dev = nyx_testdev_open(r->t, NYX_SLOT(BUS + 1, 2));
    g_free(bridge);
}

/* The reset of a bus is that of the buses below, and ends for these, too. */
static void test_below_bridge(const void *data)
{
    const Reset *reset = data;
    Rig r = {
        .t = nyx_test_start("nyx-pc,max-faults=0",
                            "-device pcie-root-port,id=rp,addr=%d "
                            "-device pcie-pci-bridge,id=br,bus=rp "
                            "-device nyx-testdev,id=td,bus=br,addr=2",
                            PORT_SLOT),
    };
    unsigned round;

    r.window = r.t->bus->mmio_alloc_ptr;
    open_below_bridge(&r);
    for (round = 0; round < 100 && !number(&r, "total-faults"); round++) {
        nyx_testdev_run(r.dev, WINDOW, 64, 0, 16, PAGE,
                        NTD_FLAG_WRITE | NTD_FLAG_THREAD);
        nyx_testdev_await_done(r.dev, 1);
        reset->run(&r);
        open_below_bridge(&r);
        g_assert_cmpuint(nyx_testdev_write(r.dev, WINDOW, 64), ==,
                         NTD_RESULT_OK);
    }
    nyx_assert_fault_within(r.t, "td", "blocked", WINDOW, 16 * PAGE, "w");
    nyx_assert_state(r.t, "td", "operational");
    end(&r);
}

/* Its own recovery's reset is no reason to forget what the driver set up. */
static void test_recovery(void)
{
    Rig r = start_with_fault("nyx-pc");
    uint16_t before = command_register(&r);

    nyx_quarantine(r.t, "td");
    recover(&r, false);
    g_assert_cmphex(command_register(&r), ==, before);
    g_assert_cmphex(msix_flags(&r) & PCI_MSIX_FLAGS_ENABLE, !=, 0);
    end(&r);
}

/* Models that are idle leave no fault, whatever resets them. */
static void test_idle_models(void)
{
    NyxTest *t = nyx_test_start("nyx-pc",
        "-blockdev null-co,node-name=b0 -blockdev null-co,node-name=b1 "
        "-blockdev null-co,node-name=b2 -device nvme,serial=n,drive=b0 "
        "-device virtio-blk-pci,drive=b1 -device virtio-scsi-pci,id=s "
        "-device scsi-hd,bus=s.0,drive=b2 -device virtio-net-pci "
        "-device virtio-rng-pci -device virtio-gpu-pci -device e1000 "
        "-device e1000e -device rtl8139 -device ich9-ahci -device qemu-xhci "
        "-device ich9-usb-ehci1 -device intel-hda -device edu "
        "-device pvscsi -device megasas -device lsi53c895a "
        "-device pcie-pci-bridge,id=br -device nyx-testdev,bus=br,addr=1");
    QDict *info;

    for (unsigned i = 0; i < 3; i++) {
        qtest_system_reset(t->qts);
    }
    nyx_settle(t);
    info = nyx_query_iommu(t);
    g_assert_cmpuint(qdict_get_uint(info, "fault-events"), ==, 0);
    qobject_unref(info);
    nyx_test_quit(t);
}

static void add(const char *state, const Reset *reset, GTestDataFunc test)
{
    g_autofree char *path = g_strdup_printf("/nyx/reset/%s/%s", state,
                                            reset->name);

    qtest_add_data_func(path, reset, test);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    for (unsigned i = 0; i < ARRAY_SIZE(resets); i++) {
        add("operational", &resets[i], test_operational);
        add("quarantined", &resets[i], test_quarantined);
        add("failed", &resets[i], test_failed);
        add("set-up-again", &resets[i], test_set_up_again);
        if (resets[i].run == warm || resets[i].run == secondary_bus) {
            add("below-bridge", &resets[i], test_below_bridge);
        }
        if (resets[i].meets_dma) {
            add("blocked/passing", &resets[i], test_blocked_passing);
            add("blocked/translated", &resets[i], test_blocked_translated);
            add("blocked/unmanaged", &resets[i], test_blocked_unmanaged);
        }
    }
    qtest_add_func("/nyx/reset/no-event", test_no_event);
    qtest_add_func("/nyx/reset/recovery", test_recovery);
    qtest_add_func("/nyx/reset/idle-models", test_idle_models);
    return g_test_run();
}
