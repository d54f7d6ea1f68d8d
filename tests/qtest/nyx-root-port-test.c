/*
 * nyx-root-port: test of downstream port containment
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "hw/pci/pci_regs.h"
#include "libnyx-extra.h"

#define PORT_SLOT   6
#define BUS         2
#define DPC         0x180
#define SW_TRIGGER  0x40        /* of the control register */

#define ENABLED     (PCI_EXP_DPC_CTL_EN_FATAL | PCI_EXP_DPC_CTL_INT_EN)
#define CONTAINED   (PCI_EXP_DPC_STATUS_TRIGGER | PCI_EXP_DPC_STATUS_INTERRUPT)
#define FATAL       PCI_EXP_DPC_STATUS_TRIGGER_RSN_FE

typedef struct Port {
    NyxTest *t;
    QPCIDevice *pci;
    unsigned express;           /* offset of the PCI Express capability */
} Port;

static Port start(const char *machine, const char *more)
{
    Port p = {
        /* With native hotplug the port reports whether its link is active. */
        .t = nyx_test_start(machine,
                            "-global ICH9-LPC."
                            "acpi-pci-hotplug-with-bridge-support=off "
                            "-device nyx-root-port,id=rp,chassis=1,addr=%d "
                            "-device nyx-testdev,id=td,bus=rp,addr=0.0,"
                            "multifunction=on %s", PORT_SLOT, more),
    };

    p.pci = nyx_bridge_open(p.t, PORT_SLOT, BUS);
    p.express = qpci_find_capability(p.pci, PCI_CAP_ID_EXP, 0);
    return p;
}

static void end(Port *p)
{
    g_free(p->pci);
    nyx_test_quit(p->t);
}

static uint16_t reg(Port *p, unsigned offset)
{
    return nyx_ecam_readw(p->t, PORT_SLOT, DPC + offset);
}

static void set_reg(Port *p, unsigned offset, uint16_t value)
{
    nyx_ecam_writew(p->t, PORT_SLOT, DPC + offset, value);
}

static bool link_active(Port *p)
{
    return qpci_config_readw(p->pci, p->express + PCI_EXP_LNKSTA) &
           PCI_EXP_LNKSTA_DLLLA;
}

static void test_capability(void)
{
    Port p = start("nyx-pc", "");
    uint32_t header = nyx_ecam_readl(p.t, PORT_SLOT, DPC);

    g_assert_cmphex(PCI_EXT_CAP_ID(header), ==, PCI_EXT_CAP_ID_DPC);
    g_assert_cmpuint(PCI_EXT_CAP_VER(header), ==, 1);
    g_assert_true(reg(&p, PCI_EXP_DPC_CAP) & PCI_EXP_DPC_CAP_RP_EXT);
    g_assert_cmphex(reg(&p, PCI_EXP_DPC_CTL), ==, 0);
    g_assert_cmphex(reg(&p, PCI_EXP_DPC_STATUS), ==, 0);
    g_assert_true(link_active(&p));
    end(&p);
}

/* Nobody asked for containment: AER it is. */
static void test_not_enabled(void)
{
    Port p = start("nyx-pc,recovery=auto", "");

    nyx_quarantine(p.t, "td");
    g_assert_cmphex(reg(&p, PCI_EXP_DPC_STATUS), ==, 0);
    g_assert_true(link_active(&p));
    nyx_assert_state(p.t, "td", "quarantined");
    end(&p);
}

static void check_contained(Port *p)
{
    g_assert_cmphex(reg(p, PCI_EXP_DPC_STATUS), ==, CONTAINED | FATAL);
    g_assert_cmphex(reg(p, PCI_EXP_DPC_SOURCE_ID), ==, BUS << 8);
    g_assert_false(link_active(p));
}

static void release(Port *p)
{
    set_reg(p, PCI_EXP_DPC_STATUS, PCI_EXP_DPC_STATUS_INTERRUPT);
    g_assert_cmphex(reg(p, PCI_EXP_DPC_STATUS), ==,
                    PCI_EXP_DPC_STATUS_TRIGGER | FATAL);
    g_assert_false(link_active(p));
    set_reg(p, PCI_EXP_DPC_STATUS, PCI_EXP_DPC_STATUS_TRIGGER);
    g_assert_cmphex(reg(p, PCI_EXP_DPC_STATUS), ==, 0);
    nyx_settle(p->t);
    g_assert_true(link_active(p));
}

static void test_automatic(void)
{
    Port p = start("nyx-pc,recovery=auto", "");

    set_reg(&p, PCI_EXP_DPC_CTL, ENABLED);
    nyx_quarantine(p.t, "td");
    check_contained(&p);
    nyx_assert_state(p.t, "td", "quarantined");
    release(&p);
    nyx_assert_state(p.t, "td", "operational");
    end(&p);
}

/* The driver is told when the operator has the device back. */
static void test_manual(void)
{
    Port p = start("nyx-pc", "");

    set_reg(&p, PCI_EXP_DPC_CTL, ENABLED);
    nyx_quarantine(p.t, "td");
    g_assert_cmphex(reg(&p, PCI_EXP_DPC_STATUS), ==, 0);
    nyx_recover(p.t, "td");
    check_contained(&p);
    nyx_assert_state(p.t, "td", "operational");
    release(&p);
    end(&p);
}

/* What is spent is spent: the port comes up with a device that has failed. */
static void test_budget(void)
{
    Port p = start("nyx-pc,recovery=auto,max-recoveries=0", "");

    set_reg(&p, PCI_EXP_DPC_CTL, ENABLED);
    nyx_quarantine(p.t, "td");
    check_contained(&p);
    release(&p);
    nyx_assert_state(p.t, "td", "failed");
    end(&p);
}

/* A port contains all that is below it, so it must all be cut off. */
static void check_neighbour(const char *devices)
{
    Port p = start("nyx-pc,recovery=auto", devices);

    set_reg(&p, PCI_EXP_DPC_CTL, ENABLED);
    nyx_quarantine(p.t, "td");
    g_assert_cmphex(reg(&p, PCI_EXP_DPC_STATUS), ==, 0);
    nyx_quarantine(p.t, "other");
    g_assert_true(reg(&p, PCI_EXP_DPC_STATUS) & PCI_EXP_DPC_STATUS_TRIGGER);
    set_reg(&p, PCI_EXP_DPC_STATUS, CONTAINED);
    nyx_settle(p.t);
    nyx_assert_state(p.t, "td", "operational");
    nyx_assert_state(p.t, "other", "operational");
    end(&p);
}

static void test_neighbour_works_on(void)
{
    check_neighbour("-device nyx-testdev,id=other,bus=rp,addr=0.1");
}

static void test_neighbour_behind_bridge(void)
{
    check_neighbour("-device pcie-pci-bridge,id=br,bus=rp,addr=0.1 "
                    "-device nyx-testdev,id=other,bus=br,addr=2");
}

/* No link without a device: the guest would look for one. */
static void test_empty_slot(void)
{
    Port p = start("nyx-pc,recovery=auto,unplug-timeout-ms=0", "");

    set_reg(&p, PCI_EXP_DPC_CTL, ENABLED);
    nyx_quarantine(p.t, "td");
    check_contained(&p);
    qtest_qmp_device_del_send(p.t->qts, "td");
    qtest_qmp_eventwait(p.t->qts, "DEVICE_DELETED");
    set_reg(&p, PCI_EXP_DPC_STATUS, CONTAINED);
    nyx_settle(p.t);
    g_assert_cmphex(reg(&p, PCI_EXP_DPC_STATUS), ==, 0);
    g_assert_false(link_active(&p));
    end(&p);
}

/* What the guest has asked for is done when the VM runs. */
static void test_stopped(void)
{
    Port p = start("nyx-pc,recovery=auto", "");

    set_reg(&p, PCI_EXP_DPC_CTL, ENABLED);
    nyx_quarantine(p.t, "td");
    nyx_qmp(p.t, "{ 'execute': 'stop' }");
    set_reg(&p, PCI_EXP_DPC_STATUS, CONTAINED);
    nyx_settle(p.t);
    g_assert_false(link_active(&p));
    nyx_assert_state(p.t, "td", "quarantined");
    nyx_qmp(p.t, "{ 'execute': 'cont' }");
    nyx_settle(p.t);
    g_assert_true(link_active(&p));
    nyx_assert_state(p.t, "td", "operational");
    end(&p);
}

static uint64_t messages(Port *p)
{
    QDict *info = nyx_query_device(p->t, "rp");
    uint64_t n = qdict_get_uint(qdict_get_qdict(info, "interrupts"),
                                "delivered");

    qobject_unref(info);
    return n;
}

static void setup_message(Port *p)
{
    QPCIBar table;
    uint64_t entry;

    qpci_msix_enable(p->pci);
    table = p->pci->msix_table_bar;
    entry = p->pci->msix_table_off;
    qpci_io_writel(p->pci, table, entry, NYX_MSI_BASE);
    qpci_io_writel(p->pci, table, entry + 4, 0);
    qpci_io_writel(p->pci, table, entry + 8, 0x40);
    qpci_io_writel(p->pci, table, entry + 12, 0);
}

/* 6.2.11.1: one message whenever "enabled and pending" becomes true */
static void test_interrupt(void)
{
    Port p = start("nyx-pc,recovery=auto", "");
    uint64_t before;

    setup_message(&p);
    before = messages(&p);
    set_reg(&p, PCI_EXP_DPC_CTL, PCI_EXP_DPC_CTL_EN_FATAL);
    nyx_quarantine(p.t, "td");
    check_contained(&p);
    g_assert_cmpuint(messages(&p), ==, before);
    set_reg(&p, PCI_EXP_DPC_CTL, ENABLED);
    g_assert_cmpuint(messages(&p), ==, before + 1);
    set_reg(&p, PCI_EXP_DPC_CTL, ENABLED);
    g_assert_cmpuint(messages(&p), ==, before + 1);
    release(&p);
    g_assert_cmpuint(messages(&p), ==, before + 1);
    set_reg(&p, PCI_EXP_DPC_CTL, ENABLED | SW_TRIGGER);
    g_assert_cmpuint(messages(&p), ==, before + 2);
    end(&p);
}

static void test_software_trigger(void)
{
    Port p = start("nyx-pc", "");

    set_reg(&p, PCI_EXP_DPC_CTL, SW_TRIGGER);
    g_assert_cmphex(reg(&p, PCI_EXP_DPC_STATUS), ==, 0);
    set_reg(&p, PCI_EXP_DPC_CTL, ENABLED | SW_TRIGGER);
    g_assert_cmphex(reg(&p, PCI_EXP_DPC_CTL), ==, ENABLED);
    g_assert_cmphex(reg(&p, PCI_EXP_DPC_STATUS), ==,
                    CONTAINED | PCI_EXP_DPC_STATUS_TRIGGER_RSN_IN_EXT |
                    PCI_EXP_DPC_STATUS_TRIGGER_RSN_SW_TRIGGER);
    g_assert_false(link_active(&p));
    set_reg(&p, PCI_EXP_DPC_STATUS, CONTAINED);
    nyx_settle(p.t);
    g_assert_true(link_active(&p));
    end(&p);
}

static void test_reset(void)
{
    Port p = start("nyx-pc,recovery=auto", "");

    set_reg(&p, PCI_EXP_DPC_CTL, ENABLED);
    nyx_quarantine(p.t, "td");
    check_contained(&p);
    nyx_qmp(p.t, "{ 'execute': 'system_reset' }");
    qtest_qmp_eventwait(p.t->qts, "RESET");
    g_assert_cmphex(reg(&p, PCI_EXP_DPC_CTL), ==, 0);
    g_assert_cmphex(reg(&p, PCI_EXP_DPC_STATUS), ==, 0);
    g_assert_true(link_active(&p));
    /* A guest frees no device by rebooting. */
    nyx_assert_state(p.t, "td", "quarantined");
    end(&p);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    qtest_add_func("/nyx/root-port/capability", test_capability);
    qtest_add_func("/nyx/root-port/not-enabled", test_not_enabled);
    qtest_add_func("/nyx/root-port/automatic", test_automatic);
    qtest_add_func("/nyx/root-port/manual", test_manual);
    qtest_add_func("/nyx/root-port/budget", test_budget);
    qtest_add_func("/nyx/root-port/neighbour-works-on",
                   test_neighbour_works_on);
    qtest_add_func("/nyx/root-port/neighbour-behind-bridge",
                   test_neighbour_behind_bridge);
    qtest_add_func("/nyx/root-port/empty-slot", test_empty_slot);
    qtest_add_func("/nyx/root-port/stopped", test_stopped);
    qtest_add_func("/nyx/root-port/interrupt", test_interrupt);
    qtest_add_func("/nyx/root-port/software-trigger", test_software_trigger);
    qtest_add_func("/nyx/root-port/reset", test_reset);
    return g_test_run();
}
