/*
 * Nyx IOMMU: devices reach each other's memory only if they may
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The target is the buffer of a second nyx-testdev, which is RAM as far as QEMU
 * is concerned, and its registers, which are not.
 */

#include "qemu/osdep.h"
#include "libnyx.h"
#include "qemu/bswap.h"

#define ECAM            0xb0000000ULL
#define MCH_PCIEXBAR    0x60

typedef struct Pair {
    NyxTest *t;
    NyxTestdev *td;
    NyxTestdev *peer;
} Pair;

static Pair start(const char *domain)
{
    Pair p = {};

    p.t = nyx_test_start("nyx-pc,on-fault-limit=report",
                         "-object nyx-domain,id=dom%s "
                         "-device nyx-testdev,id=td,addr=5,nyx-domain=dom "
                         "-device nyx-testdev,id=peer,addr=6", domain);
    p.td = nyx_testdev_open(p.t, 5);
    p.peer = nyx_testdev_open(p.t, 6);
    nyx_testdev_fill(p.td, 0x11);
    nyx_testdev_fill(p.peer, 0x22);
    return p;
}

static void quit(Pair *p)
{
    nyx_testdev_close(p->td);
    nyx_testdev_close(p->peer);
    nyx_test_quit(p->t);
}

/* Have the domain translate, without a change to what it allows. */
static void use_table(Pair *p)
{
    nyx_qmp(p->t, "{ 'execute': 'nyx-unmap', 'arguments': { 'domain': 'dom',"
            "  'iova': 1048576, 'size': 4096 } }");
    nyx_qmp(p->t, "{ 'execute': 'nyx-map', 'arguments': { 'domain': 'dom',"
            "  'iova': 1048576, 'gpa': 1048576, 'size': 4096,"
            "  'access': 'rw' } }");
}

static uint8_t peer_byte(Pair *p)
{
    uint8_t byte;

    nyx_testdev_get_buffer(p->peer, &byte, 1);
    return byte;
}

static void check_refused(Pair *p)
{
    g_assert_cmpuint(nyx_testdev_write(p->td, p->peer->buffer.addr, 8), ==,
                     NTD_RESULT_DMA_ERROR);
    nyx_assert_fault(p->t, "td", "unmapped", p->peer->buffer.addr, "w", 1);
    g_assert_cmphex(peer_byte(p), ==, 0x22);
    g_assert_cmpuint(nyx_testdev_write(p->td, p->peer->registers.addr +
                                       NTD_REG_SCRATCH, 4),
                     ==, NTD_RESULT_DMA_ERROR);
    g_assert_cmphex(nyx_testdev_get(p->peer, NTD_REG_SCRATCH), ==, 0);
    g_assert_cmpuint(nyx_testdev_read(p->td, p->peer->registers.addr, 4), ==,
                     NTD_RESULT_DMA_ERROR);
    nyx_assert_number(p->t, "peer", "total-faults", 0);
}

static void check_allowed(Pair *p)
{
    uint32_t id;

    nyx_testdev_fill(p->td, 0x11);
    g_assert_cmpuint(nyx_testdev_write(p->td, p->peer->buffer.addr, 8), ==,
                     NTD_RESULT_OK);
    g_assert_cmphex(peer_byte(p), ==, 0x11);
    g_assert_cmpuint(nyx_testdev_write(p->td, p->peer->registers.addr +
                                       NTD_REG_SCRATCH, 4),
                     ==, NTD_RESULT_OK);
    g_assert_cmphex(nyx_testdev_get(p->peer, NTD_REG_SCRATCH), ==, 0x11111111);
    g_assert_cmpuint(nyx_testdev_read(p->td, p->peer->registers.addr, 4), ==,
                     NTD_RESULT_OK);
    nyx_testdev_get_buffer(p->td, &id, 4);
    g_assert_cmphex(le32_to_cpu(id), ==, NTD_ID);
}

/* Peers are devices; the chipset is none. */
static void check_chipset_refused(Pair *p)
{
    static const uint64_t chipset[] = {
        0xfec00000, 0xfed00000, 0xfffff000, ECAM, ECAM + (6 << 15),
    };
    QPCIDevice *mch = qpci_device_find(p->t->bus, 0);
    unsigned i;

    /* As firmware does: configuration space appears in memory. */
    qpci_config_writel(mch, MCH_PCIEXBAR + 4, 0);
    qpci_config_writel(mch, MCH_PCIEXBAR, ECAM | 1);
    g_assert_cmphex(qtest_readl(p->t->qts, ECAM + (6 << 15)), ==,
                    NTD_DEVICE_ID << 16 | NTD_VENDOR_ID);
    for (i = 0; i < ARRAY_SIZE(chipset); i++) {
        g_assert_cmpuint(nyx_testdev_read(p->td, chipset[i], 4), ==,
                         NTD_RESULT_DMA_ERROR);
        nyx_assert_fault(p->t, "td", "unmapped", chipset[i], "r", 1);
    }
    g_free(mch);
}

static void test_off(void)
{
    Pair p = start("");

    check_refused(&p);
    check_chipset_refused(&p);
    quit(&p);
}

static void test_off_by_table(void)
{
    Pair p = start(",peer-to-peer=off");

    use_table(&p);
    check_refused(&p);
    check_chipset_refused(&p);
    quit(&p);
}

static void test_on(void)
{
    Pair p = start(",peer-to-peer=on");

    check_allowed(&p);
    check_chipset_refused(&p);
    quit(&p);
}

static void test_on_by_table(void)
{
    Pair p = start(",peer-to-peer=on");

    use_table(&p);
    check_allowed(&p);
    check_chipset_refused(&p);
    quit(&p);
}

static void test_map(void)
{
    Pair p = start(",default-map=none,peer-to-peer=on");

    check_refused(&p);
    nyx_testdev_fill(p.td, 0x11);
    nyx_qmp(p.t, "{ 'execute': 'nyx-map', 'arguments': { 'domain': 'dom',"
            "  'iova': 65536, 'gpa': %" PRIu64 ", 'size': 4096,"
            "  'access': 'rw' } }", p.peer->buffer.addr);
    g_assert_cmpuint(nyx_testdev_write(p.td, 65536, 8), ==, NTD_RESULT_OK);
    g_assert_cmphex(peer_byte(&p), ==, 0x11);
    /* The IOAPIC is no peer, even if it is mapped as one. */
    qobject_unref(qtest_qmp(p.t->qts, "{ 'execute': 'nyx-map',"
                            "  'arguments': { 'domain': 'dom', 'iova': 0,"
                            "  'gpa': 4273995776, 'size': 4096,"
                            "  'access': 'rw' } }"));
    g_assert_cmpuint(nyx_testdev_read(p.td, 0, 4), ==, NTD_RESULT_DMA_ERROR);
    quit(&p);
}

static void test_map_off(void)
{
    Pair p = start(",default-map=none");

    nyx_qmp_refused(p.t, "is not all RAM",
                    "{ 'execute': 'nyx-map', 'arguments': { 'domain': 'dom',"
                    "  'iova': 65536, 'gpa': %" PRIu64 ", 'size': 4096,"
                    "  'access': 'rw' } }", p.peer->buffer.addr);
    check_refused(&p);
    quit(&p);
}

/* A device may be quarantined while a peer has its memory mapped. */
static void test_quarantined_peer(void)
{
    Pair p = start(",peer-to-peer=on");

    check_allowed(&p);
    nyx_qmp(p.t, "{ 'execute': 'nyx-quarantine-device',"
            "  'arguments': { 'device': 'peer' } }");
    nyx_testdev_write(p.td, p.peer->buffer.addr, 8);
    nyx_testdev_read(p.td, p.peer->buffer.addr, 8);
    g_assert_cmphex(nyx_testdev_get(p.td, NTD_REG_ID), ==, NTD_ID);
    nyx_testdev_fill(p.td, 0x44);
    nyx_testdev_write(p.td, p.peer->buffer.addr, 8);
    nyx_qmp(p.t, "{ 'execute': 'nyx-recover-device',"
            "  'arguments': { 'device': 'peer' } }");
    nyx_testdev_enable(p.peer);
    g_assert_cmphex(peer_byte(&p), ==, 0x11);
    quit(&p);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    qtest_add_func("/nyx/peer/off", test_off);
    qtest_add_func("/nyx/peer/off-by-table", test_off_by_table);
    qtest_add_func("/nyx/peer/on", test_on);
    qtest_add_func("/nyx/peer/on-by-table", test_on_by_table);
    qtest_add_func("/nyx/peer/map", test_map);
    qtest_add_func("/nyx/peer/map-off", test_map_off);
    qtest_add_func("/nyx/peer/quarantined-peer", test_quarantined_peer);
    return g_test_run();
}
