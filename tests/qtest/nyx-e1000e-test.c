/*
 * Nyx IOMMU: confinement of an e1000e with real rings and packets
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The other end of the wire is a socket of the test.
 */

#include "qemu/osdep.h"
#include "hw/net/e1000_regs.h"
#include "libnyx.h"
#include "qemu/bswap.h"

#define WINDOW          MIB(8)
#define WINDOW_SIZE     MIB(1)
#define TX_RING         (WINDOW)
#define RX_RING         (WINDOW + PAGE)
#define DATA            (WINDOW + 2 * PAGE)
#define OUTSIDE         MIB(16)
#define ENTRIES         8
#define RING_BYTES      128
#define PACKET          128
#define TIMEOUT         (30 * G_TIME_SPAN_SECOND)

typedef struct Nic {
    NyxTest *t;
    QPCIDevice *pci;
    QPCIBar bar;
    int wire;
    unsigned tx, rx;
} Nic;

static uint32_t get(Nic *nic, uint32_t reg)
{
    return qpci_io_readl(nic->pci, nic->bar, reg);
}

static void set(Nic *nic, uint32_t reg, uint32_t value)
{
    qpci_io_writel(nic->pci, nic->bar, reg, value);
}

static void start_driver(Nic *nic)
{
    memset(nic->t->ram + TX_RING, 0, PAGE);
    memset(nic->t->ram + RX_RING, 0, PAGE);
    nic->tx = 0;
    nic->rx = 0;
    set(nic, E1000_CTRL, get(nic, E1000_CTRL) | E1000_CTRL_RST);
    set(nic, E1000_CTRL, get(nic, E1000_CTRL) | E1000_CTRL_SLU);
    set(nic, E1000_CTRL_EXT, get(nic, E1000_CTRL_EXT) |
        E1000_CTRL_EXT_DRV_LOAD);
    set(nic, E1000_TDBAL, TX_RING);
    set(nic, E1000_TDLEN, RING_BYTES);
    set(nic, E1000_TCTL, E1000_TCTL_EN);
    set(nic, E1000_RDBAL, RX_RING);
    set(nic, E1000_RDLEN, RING_BYTES);
    set(nic, E1000_RCTL, E1000_RCTL_EN | E1000_RCTL_UPE | E1000_RCTL_MPE);
}

static Nic start(void)
{
    Nic nic = {};
    int pair[2];

    g_assert_cmpint(socketpair(PF_UNIX, SOCK_STREAM, 0, pair), ==, 0);
    nic.wire = pair[0];
    nic.t = nyx_test_start("nyx-pc,on-fault-limit=report",
                           "-object nyx-domain,id=dom,default-map=none "
                           "-netdev socket,id=net,fd=%d "
                           "-device e1000e,id=dev,addr=5,nyx-domain=dom,"
                           "netdev=net,romfile=", pair[1]);
    close(pair[1]);
    nyx_ram_fill(nic.t);
    nyx_qmp(nic.t, "{ 'execute': 'nyx-map', 'arguments': { 'domain': 'dom',"
            "  'iova': %" PRIu64 ", 'gpa': %" PRIu64 ", 'size': %" PRIu64 ","
            "  'access': 'rw' } }", (uint64_t)WINDOW, (uint64_t)WINDOW,
            (uint64_t)WINDOW_SIZE);
    nic.pci = nyx_pci_open(nic.t, 5);
    nic.bar = qpci_iomap(nic.pci, 0, NULL);
    start_driver(&nic);
    return nic;
}

static void quit(Nic *nic)
{
    g_free(nic->pci);
    nyx_test_quit(nic->t);
    close(nic->wire);
}

static void send_packet(Nic *nic, uint64_t address)
{
    struct e1000_tx_desc desc = {
        .buffer_addr = cpu_to_le64(address),
        .lower.data = cpu_to_le32(PACKET | E1000_TXD_CMD_EOP |
                                  E1000_TXD_CMD_RS | E1000_TXD_CMD_IFCS),
    };

    memcpy(nic->t->ram + TX_RING + nic->tx * sizeof(desc), &desc,
           sizeof(desc));
    nic->tx = (nic->tx + 1) % ENTRIES;
    set(nic, E1000_TDT, nic->tx);
}

/* A packet on the wire has its length in front. */
static void expect_packet(Nic *nic, uint8_t packet[PACKET])
{
    uint32_t length;

    g_assert_cmpint(recv(nic->wire, &length, 4, MSG_WAITALL), ==, 4);
    g_assert_cmpuint(ntohl(length), ==, PACKET);
    g_assert_cmpint(recv(nic->wire, packet, PACKET, MSG_WAITALL), ==, PACKET);
}

/* Offer a buffer, and send a packet that goes there. */
static void receive_packet(Nic *nic, uint64_t address, uint8_t value)
{
    uint64_t buffer = cpu_to_le64(address);
    uint8_t packet[4 + PACKET];
    uint32_t length = htonl(PACKET);

    memcpy(packet, &length, 4);
    memset(packet + 4, value, PACKET);
    memset(nic->t->ram + RX_RING + nic->rx * 16, 0, 16);
    memcpy(nic->t->ram + RX_RING + nic->rx * 16, &buffer, 8);
    nic->rx = (nic->rx + 1) % ENTRIES;
    set(nic, E1000_RDT, nic->rx);
    g_assert_cmpint(send(nic->wire, packet, sizeof(packet), 0), ==,
                    sizeof(packet));
}

static bool rx_done(Nic *nic)
{
    unsigned entry = (nic->rx + ENTRIES - 1) % ENTRIES;

    return nic->t->ram[RX_RING + entry * 16 + 12] & E1000_RXD_STAT_DD;
}

static void await_rx(Nic *nic)
{
    int64_t end = g_get_monotonic_time() + TIMEOUT;

    while (!rx_done(nic)) {
        qtest_clock_step(nic->t->qts, 100000);
        g_assert_cmpint(g_get_monotonic_time(), <, end);
    }
}

static void check_traffic(Nic *nic, uint8_t value)
{
    uint8_t packet[PACKET];

    memset(nic->t->ram + DATA, value, PACKET);
    send_packet(nic, DATA);
    expect_packet(nic, packet);
    g_assert(!memcmp(packet, nic->t->ram + DATA, PACKET));
    receive_packet(nic, DATA + PAGE, value + 1);
    await_rx(nic);
    g_assert_cmphex(nic->t->ram[DATA + PAGE], ==, (uint8_t)(value + 1));
    g_assert_cmphex(nic->t->ram[DATA + PAGE + PACKET - 1], ==,
                    (uint8_t)(value + 1));
}

static void test_window(void)
{
    Nic nic = start();
    g_autofree uint8_t *before = nyx_ram_copy(nic.t);
    unsigned i;

    for (i = 0; i < 3 * ENTRIES; i++) {
        check_traffic(&nic, i);
    }
    nyx_ram_assert_same(nic.t, before, WINDOW, WINDOW_SIZE);
    nyx_assert_number(nic.t, "dev", "total-faults", 0);
    quit(&nic);
}

static void test_receive_to_outside(void)
{
    Nic nic = start();
    g_autofree uint8_t *before = nyx_ram_copy(nic.t);

    receive_packet(&nic, OUTSIDE, 0x66);
    await_rx(&nic);
    nyx_ram_assert_same(nic.t, before, WINDOW, WINDOW_SIZE);
    nyx_assert_fault_within(nic.t, "dev", "unmapped", OUTSIDE, PACKET, "w");
    check_traffic(&nic, 0x11);
    quit(&nic);
}

/* Memory that is not the NIC's must not get on the wire. */
static void test_send_from_outside(void)
{
    Nic nic = start();
    uint8_t packet[PACKET];
    unsigned i;

    send_packet(&nic, OUTSIDE);
    nyx_assert_fault_within(nic.t, "dev", "unmapped", OUTSIDE, PACKET, "r");
    /* What comes is either that packet without its content, or the next. */
    memset(nic.t->ram + DATA, 0x11, PACKET);
    send_packet(&nic, DATA);
    expect_packet(&nic, packet);
    if (packet[0] != 0x11) {
        for (i = 0; i < PACKET; i++) {
            g_assert_cmphex(packet[i], ==, 0xff);
        }
        expect_packet(&nic, packet);
    }
    g_assert_cmphex(packet[PACKET - 1], ==, 0x11);
    quit(&nic);
}

static void test_rings_outside(void)
{
    Nic nic = start();
    g_autofree uint8_t *before = NULL;

    set(&nic, E1000_RDBAL, OUTSIDE);
    set(&nic, E1000_TDBAL, OUTSIDE);
    before = nyx_ram_copy(nic.t);
    set(&nic, E1000_TDT, 1);
    /* It can neither read the descriptor nor write back that it is done. */
    nyx_assert_fault(nic.t, "dev", "unmapped", OUTSIDE + 12, "w", 1);
    nyx_ram_assert_same(nic.t, before, 0, 0);
    quit(&nic);
}

static void test_quarantine(void)
{
    Nic nic = start();
    g_autofree uint8_t *before = NULL;

    check_traffic(&nic, 0x11);
    nyx_qmp(nic.t, "{ 'execute': 'nyx-quarantine-device',"
            "  'arguments': { 'device': 'dev' } }");
    g_assert_cmphex(get(&nic, E1000_STATUS), ==, UINT32_MAX);
    receive_packet(&nic, DATA, 0x22);
    before = nyx_ram_copy(nic.t);
    qtest_clock_step(nic.t->qts, 1000000);
    nyx_assert_state(nic.t, "dev", "quarantined");
    g_assert_false(rx_done(&nic));
    nyx_ram_assert_same(nic.t, before, 0, 0);
    nyx_qmp(nic.t, "{ 'execute': 'nyx-recover-device',"
            "  'arguments': { 'device': 'dev' } }");
    start_driver(&nic);
    check_traffic(&nic, 0x33);
    quit(&nic);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    if (qtest_has_device("e1000e")) {
        qtest_add_func("/nyx/e1000e/window", test_window);
        qtest_add_func("/nyx/e1000e/receive-to-outside",
                       test_receive_to_outside);
        qtest_add_func("/nyx/e1000e/send-from-outside", test_send_from_outside);
        qtest_add_func("/nyx/e1000e/rings-outside", test_rings_outside);
        qtest_add_func("/nyx/e1000e/quarantine", test_quarantine);
    }
    return g_test_run();
}
