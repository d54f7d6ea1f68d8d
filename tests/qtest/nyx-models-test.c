/*
 * Nyx IOMMU: confinement of edu and of iommu-testdev
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Neither knows of Nyx: nothing but their address space confines them.
 */

#include "qemu/osdep.h"
#include "libnyx.h"
#include "tests/qtest/libqos/qos-iommu-testdev.h"

#define WINDOW          MIB(8)
#define WINDOW_SIZE     (4 * PAGE)

/* edu: docs/specs/edu.rst of QEMU */
#define EDU_SOURCE      0x80
#define EDU_TARGET      0x88
#define EDU_COUNT       0x90
#define EDU_COMMAND     0x98
#define EDU_BUFFER      0x40000
#define EDU_RUN         1
#define EDU_TO_MEMORY   2
#define EDU_DELAY_NS    (101 * 1000000LL)

static NyxTest *start(const char *device)
{
    NyxTest *t = nyx_test_start("nyx-pc,on-fault-limit=report",
                                "-object nyx-domain,id=dom,default-map=none "
                                "-device %s,id=dev,addr=5,nyx-domain=dom",
                                device);

    nyx_ram_fill(t);
    nyx_qmp(t, "{ 'execute': 'nyx-map', 'arguments': { 'domain': 'dom',"
            "  'iova': %" PRIu64 ", 'gpa': %" PRIu64 ", 'size': %" PRIu64 ","
            "  'access': 'rw' } }", (uint64_t)WINDOW, (uint64_t)WINDOW,
            (uint64_t)WINDOW_SIZE);
    return t;
}

static uint64_t total_faults(NyxTest *t)
{
    QDict *device = nyx_query_device(t, "dev");
    uint64_t total = qdict_get_uint(device, "total-faults");

    qobject_unref(device);
    return total;
}

static void edu_dma(NyxTest *t, QPCIDevice *pci, QPCIBar bar, uint64_t memory,
                    uint64_t count, bool to_memory)
{
    qpci_io_writeq(pci, bar, EDU_SOURCE, to_memory ? EDU_BUFFER : memory);
    qpci_io_writeq(pci, bar, EDU_TARGET, to_memory ? memory : EDU_BUFFER);
    qpci_io_writeq(pci, bar, EDU_COUNT, count);
    qpci_io_writeq(pci, bar, EDU_COMMAND,
                   EDU_RUN | (to_memory ? EDU_TO_MEMORY : 0));
    qtest_clock_step(t->qts, EDU_DELAY_NS);
    g_assert_cmphex(qpci_io_readq(pci, bar, EDU_COMMAND) & EDU_RUN, ==, 0);
}

static void test_edu(void)
{
    static const struct {
        uint64_t address;
        uint64_t count;
        bool allowed;
    } writes[] = {
        { WINDOW + PAGE, 4096, true },
        { WINDOW + WINDOW_SIZE - 16, 16, true },
        { WINDOW - 1, 1, false },
        { WINDOW + WINDOW_SIZE, 8, false },
        { WINDOW - 8, 16, false },
        { WINDOW + WINDOW_SIZE - 8, 4096, false },
        { 0, 4096, false },
        { NYX_RAM_SIZE - 4096, 4096, false },
        { NYX_RAM_SIZE + 4096, 4096, false },
    };
    NyxTest *t = start("edu");
    QPCIDevice *pci = nyx_pci_open(t, 5);
    QPCIBar bar = qpci_iomap(pci, 0, NULL);
    g_autofree uint8_t *before = NULL;
    unsigned i;

    /* What edu has in its buffer: the first page of the window. */
    edu_dma(t, pci, bar, WINDOW, 4096, false);
    before = nyx_ram_copy(t);
    for (i = 0; i < ARRAY_SIZE(writes); i++) {
        uint64_t faults = total_faults(t);

        edu_dma(t, pci, bar, writes[i].address, writes[i].count, true);
        nyx_ram_assert_same(t, before, WINDOW, WINDOW_SIZE);
        g_assert_cmpint(total_faults(t) == faults, ==, writes[i].allowed);
        if (writes[i].allowed) {
            g_assert(!memcmp(t->ram + writes[i].address, before + WINDOW,
                             writes[i].count));
        }
    }
    g_free(pci);
    nyx_test_quit(t);
}

/* What edu reads from outside of its window it cannot hand on. */
static void test_edu_reads_nothing(void)
{
    NyxTest *t = start("edu");
    QPCIDevice *pci = nyx_pci_open(t, 5);
    QPCIBar bar = qpci_iomap(pci, 0, NULL);
    unsigned i;

    edu_dma(t, pci, bar, MIB(16), 4096, false);
    nyx_assert_fault_within(t, "dev", "unmapped", MIB(16), 4096, "r");
    edu_dma(t, pci, bar, WINDOW, 4096, true);
    for (i = 0; i < 4096; i++) {
        g_assert_cmphex(t->ram[WINDOW + i], ==, 0xff);
    }
    g_free(pci);
    nyx_test_quit(t);
}

static void test_iommu_testdev(void)
{
    static const struct {
        uint64_t address;
        uint32_t length;
        uint32_t result;
    } dma[] = {
        { WINDOW, 4096, 0 },
        { WINDOW + 1234, 77, 0 },
        { WINDOW + WINDOW_SIZE - 4, 4, 0 },
        { WINDOW - 4, 4, ITD_DMA_ERR_TX_FAIL },
        { WINDOW - 4, 8, ITD_DMA_ERR_TX_FAIL },
        { WINDOW + WINDOW_SIZE - 4, 8, ITD_DMA_ERR_TX_FAIL },
        { MIB(1), 4096, ITD_DMA_ERR_TX_FAIL },
        { 1ULL << 52, 4096, ITD_DMA_ERR_TX_FAIL },
    };
    NyxTest *t = start("iommu-testdev");
    QPCIDevice *pci = nyx_pci_open(t, 5);
    QPCIBar bar = qpci_iomap(pci, 0, NULL);
    g_autofree uint8_t *before = nyx_ram_copy(t);
    unsigned i;

    for (i = 0; i < ARRAY_SIZE(dma); i++) {
        uint64_t faults = total_faults(t);

        g_assert_cmphex(qos_iommu_testdev_trigger_dma(pci, bar, dma[i].address,
                                                      dma[i].address,
                                                      dma[i].length, 0),
                        ==, dma[i].result);
        nyx_ram_assert_same(t, before, WINDOW, WINDOW_SIZE);
        g_assert_cmpint(total_faults(t) == faults, ==, dma[i].result == 0);
    }
    g_free(pci);
    nyx_test_quit(t);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    if (qtest_has_device("edu")) {
        qtest_add_func("/nyx/models/edu", test_edu);
        qtest_add_func("/nyx/models/edu-reads-nothing",
                       test_edu_reads_nothing);
    }
    if (qtest_has_device("iommu-testdev")) {
        qtest_add_func("/nyx/models/iommu-testdev", test_iommu_testdev);
    }
    return g_test_run();
}
