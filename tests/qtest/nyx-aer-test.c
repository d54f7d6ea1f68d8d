/*
 * Nyx IOMMU: the port above a quarantined device reports an error
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
#define AER_CAP     0x100       /* of pcie-root-port */

static NyxTest *start(const char *second)
{
    return nyx_test_start("nyx-pc",
                          "-device pcie-root-port,id=rp,chassis=1,addr=%d "
                          "-object nyx-domain,id=cage,default-map=none "
                          "-device nyx-testdev,id=td,bus=rp,addr=0.0,"
                          "multifunction=on,nyx-domain=cage %s",
                          PORT_SLOT, second);
}

static uint32_t uncorrectable(NyxTest *t)
{
    return nyx_ecam_readl(t, PORT_SLOT, AER_CAP + PCI_ERR_UNCOR_STATUS);
}

static uint32_t header(NyxTest *t, unsigned word)
{
    return nyx_ecam_readl(t, PORT_SLOT,
                          AER_CAP + PCI_ERR_HEADER_LOG + 4 * word);
}

/* The header is that of the request, not of a later one that is blocked. */
static void test_header(void)
{
    NyxTest *t = start("");
    QPCIDevice *port = nyx_bridge_open(t, PORT_SLOT, BUS);
    NyxTestdev *dev = nyx_testdev_open(t, NYX_SLOT(BUS, 0));

    g_assert_cmphex(uncorrectable(t), ==, 0);
    nyx_testdev_read(dev, 0x123456000ULL, 8);
    g_assert_cmphex(uncorrectable(t), ==, 0);
    nyx_quarantine(t, "td");
    g_assert_cmphex(uncorrectable(t), ==, PCI_ERR_UNC_UNSUP);
    g_assert_cmphex(header(t, 0), ==, 0x20000001);
    g_assert_cmphex(header(t, 1), ==, BUS << 24 | 0xf);
    g_assert_cmphex(header(t, 2), ==, 0x1);
    g_assert_cmphex(header(t, 3), ==, 0x23456000);
    nyx_testdev_close(dev);
    g_free(port);
    nyx_test_quit(t);
}

/* A driver may reset all below the port, so it must all be cut off. */
static void test_neighbour_works_on(void)
{
    NyxTest *t = start("-device nyx-testdev,id=other,bus=rp,addr=0.1");
    QPCIDevice *port = nyx_bridge_open(t, PORT_SLOT, BUS);

    nyx_quarantine(t, "td");
    g_assert_cmphex(uncorrectable(t), ==, 0);
    nyx_quarantine(t, "other");
    g_assert_cmphex(uncorrectable(t), ==, PCI_ERR_UNC_UNSUP);
    g_free(port);
    nyx_test_quit(t);
}

/* What comes back at once is no error to report. */
static void test_reset_device(void)
{
    NyxTest *t = start("");
    QPCIDevice *port = nyx_bridge_open(t, PORT_SLOT, BUS);

    nyx_qmp(t, "{ 'execute': 'nyx-set-policy', 'arguments': {"
            "  'device': 'td', 'on-fault-limit': 'reset-device',"
            "  'max-recoveries': 1 } }");
    nyx_inject(t, "td", 11);
    nyx_settle(t);
    g_assert_cmphex(uncorrectable(t), ==, 0);
    nyx_inject(t, "td", 11);
    nyx_settle(t);
    g_assert_cmphex(uncorrectable(t), ==, PCI_ERR_UNC_UNSUP);
    g_free(port);
    nyx_test_quit(t);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    qtest_add_func("/nyx/aer/header", test_header);
    qtest_add_func("/nyx/aer/neighbour-works-on", test_neighbour_works_on);
    qtest_add_func("/nyx/aer/reset-device", test_reset_device);
    return g_test_run();
}
