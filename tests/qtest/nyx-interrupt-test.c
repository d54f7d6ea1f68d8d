/*
 * Nyx IOMMU: the interrupt filter
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * What was delivered shows in the IRR of the local APIC.
 */

#include "qemu/osdep.h"
#include "hw/pci/pci_regs.h"
#include "libnyx.h"
#include "qemu/bswap.h"

#define MODE(n)         ((n) << 8)
#define LEVEL_TRIGGERED (1u << 15)
#define ASSERTED        (1u << 14)

static NyxTestdev *start_with(const char *stage1, const char *domain)
{
    g_autofree char *machine =
        g_strdup_printf("nyx-pc,on-fault-limit=report,stage1=%s", stage1);
    NyxTest *t = nyx_test_start(machine, "-object nyx-domain,id=dom%s "
                                "-device nyx-testdev,id=td,addr=5,"
                                "nyx-domain=dom", domain);

    return nyx_testdev_open(t, 5);
}

static NyxTestdev *start(const char *domain)
{
    return start_with("none", domain);
}

static void quit(NyxTestdev *dev)
{
    NyxTest *t = dev->t;

    nyx_testdev_close(dev);
    nyx_test_quit(t);
}

static void assert_interrupts(NyxTestdev *dev, uint64_t delivered,
                              uint64_t refused)
{
    QDict *device = nyx_query_device(dev->t, "td");
    QDict *interrupts = qdict_get_qdict(device, "interrupts");

    g_assert_cmpuint(qdict_get_uint(interrupts, "delivered"), ==, delivered);
    g_assert_cmpuint(qdict_get_uint(interrupts, "refused"), ==, refused);
    qobject_unref(device);
}

static void check_filter(const char *stage1, const char *domain)
{
    static const struct {
        uint64_t address;
        uint32_t data;
        bool delivered;
    } messages[] = {
        { NYX_MSI_BASE, 0x41, true },
        { NYX_MSI_BASE, 0xfe, true },
        { NYX_MSI_BASE, 0x10, true },
        { NYX_MSI_BASE, MODE(1) | 0x42, true },         /* lowest priority */
        { NYX_MSI_BASE, ASSERTED | 0x43, true },
        { NYX_MSI_BASE, MODE(2) | 0x51, false },        /* SMI */
        { NYX_MSI_BASE, MODE(2), false },
        { NYX_MSI_BASE, MODE(3) | 0x52, false },        /* reserved */
        { NYX_MSI_BASE, MODE(4) | 0x53, false },        /* NMI */
        { NYX_MSI_BASE, MODE(4), false },
        { NYX_MSI_BASE, MODE(5) | 0x54, false },        /* INIT */
        { NYX_MSI_BASE, MODE(5), false },
        { NYX_MSI_BASE, MODE(6) | 0x55, false },        /* reserved */
        { NYX_MSI_BASE, MODE(7) | 0x56, false },        /* ExtINT */
        { NYX_MSI_BASE, 0x00, false },                  /* exceptions */
        { NYX_MSI_BASE, 0x02, false },
        { NYX_MSI_BASE, 0x0f, false },
        { NYX_MSI_BASE, 0x10000 | 0x57, false },        /* reserved bits */
        { NYX_MSI_BASE, 0x800 | 0x58, false },
        { NYX_MSI_BASE | 1 << 4, 0x59, false },         /* remappable */
        { NYX_MSI_BASE | 2, 0x5a, false },              /* unaligned */
        { NYX_MSI_BASE + 0x80, 0x5b, true },    /* no register of the APIC */
    };
    NyxTestdev *dev = start_with(stage1, domain);
    unsigned i, delivered = 0, refused = 0;

    for (i = 0; i < ARRAY_SIZE(messages); i++) {
        uint32_t result = nyx_testdev_message(dev, messages[i].address,
                                              messages[i].data);

        g_assert_cmpuint(result, ==, messages[i].delivered
                                     ? NTD_RESULT_OK : NTD_RESULT_DMA_ERROR);
        g_assert_cmpint(nyx_apic_pending(dev->t, messages[i].data & 0xff), ==,
                        messages[i].delivered);
        delivered += messages[i].delivered;
        refused += !messages[i].delivered;
        assert_interrupts(dev, delivered, refused);
        nyx_assert_number(dev->t, "td", "total-faults", refused);
    }
    quit(dev);
}

static void test_pass_through(void)
{
    check_filter("none", "");
}

static void test_translating(void)
{
    check_filter("none", ",default-map=none");
}

static void test_peer_to_peer(void)
{
    check_filter("none", ",peer-to-peer=on");
}

/* The guest has an IOMMU, but does not use it to remap interrupts. */
static void test_not_remapped(const void *stage1)
{
    check_filter(stage1, "");
}

/* DMA into the window is an interrupt by any other name. */
static void test_dma_into_window(void)
{
    NyxTestdev *dev = start("");
    static const struct {
        uint64_t address;
        uint32_t length;
    } dma[] = {
        { NYX_MSI_BASE, 8 },
        { NYX_MSI_BASE, 2 },
        { NYX_MSI_BASE, 1 },
        { NYX_MSI_BASE + 3, 4 },
        { NYX_MSI_BASE - 4, 8 },
        { NYX_MSI_BASE, 64 },
    };
    uint32_t smi = cpu_to_le32(MODE(2)), fixed = cpu_to_le32(0x61);
    QDict *interrupts;
    unsigned i;

    for (i = 0; i < ARRAY_SIZE(dma); i++) {
        nyx_testdev_fill(dev, 0x61);
        g_assert_cmpuint(nyx_testdev_write(dev, dma[i].address, dma[i].length),
                         ==, NTD_RESULT_DMA_ERROR);
        g_assert_false(nyx_apic_pending(dev->t, 0x61));
        g_assert_cmpuint(nyx_testdev_read(dev, dma[i].address, dma[i].length),
                         ==, NTD_RESULT_DMA_ERROR);
    }
    interrupts = nyx_query_iommu(dev->t);
    g_assert_cmpuint(qdict_get_uint(qdict_get_qdict(interrupts, "interrupts"),
                                    "delivered"), ==, 0);
    g_assert_cmpuint(qdict_get_uint(qdict_get_qdict(interrupts, "interrupts"),
                                    "refused"), >=, ARRAY_SIZE(dma));
    qobject_unref(interrupts);
    qtest_memwrite(dev->t->qts, dev->buffer.addr, &smi, 4);
    g_assert_cmpuint(nyx_testdev_write(dev, NYX_MSI_BASE, 4), ==,
                     NTD_RESULT_DMA_ERROR);
    qtest_memwrite(dev->t->qts, dev->buffer.addr, &fixed, 4);
    g_assert_cmpuint(nyx_testdev_write(dev, NYX_MSI_BASE, 4), ==,
                     NTD_RESULT_OK);
    g_assert_true(nyx_apic_pending(dev->t, 0x61));
    quit(dev);
}

static void test_msix(void)
{
    NyxTestdev *dev = start("");
    QPCIDevice *pci = dev->pci;
    unsigned i;
    static const uint32_t data[] = { 0x71, MODE(4) | 0x72, MODE(2) | 0x73 };

    qpci_msix_enable(pci);
    for (i = 0; i < ARRAY_SIZE(data); i++) {
        uint64_t entry = pci->msix_table_off + i * PCI_MSIX_ENTRY_SIZE;

        qpci_io_writeq(pci, pci->msix_table_bar, entry, NYX_MSI_BASE);
        qpci_io_writel(pci, pci->msix_table_bar, entry + PCI_MSIX_ENTRY_DATA,
                       data[i]);
        qpci_io_writel(pci, pci->msix_table_bar,
                       entry + PCI_MSIX_ENTRY_VECTOR_CTRL, 0);
        nyx_testdev_set(dev, NTD_REG_VECTOR, i);
        nyx_testdev_command(dev, NTD_CMD_INTERRUPT);
    }
    g_assert_true(nyx_apic_pending(dev->t, 0x71));
    g_assert_false(nyx_apic_pending(dev->t, 0x72));
    g_assert_false(nyx_apic_pending(dev->t, 0x73));
    assert_interrupts(dev, 1, 2);
    nyx_assert_fault(dev->t, "td", "interrupt", NYX_MSI_BASE, "w", 2);
    quit(dev);
}

/* No mapping, and no other domain, opens a way around the filter. */
static void test_no_way_around(void)
{
    NyxTestdev *dev = start(",default-map=none,peer-to-peer=on");

    nyx_qmp_refused(dev->t, "interrupt window",
                    "{ 'execute': 'nyx-map', 'arguments': {"
                    "  'domain': 'dom', 'iova': 4276092928, 'gpa': 0,"
                    "  'size': 4096, 'access': 'rw' } }");
    g_assert_cmpuint(nyx_testdev_message(dev, NYX_MSI_BASE, MODE(4)), ==,
                     NTD_RESULT_DMA_ERROR);
    /* It may be mapped as what it is not, the memory of a device. */
    qobject_unref(qtest_qmp(dev->t->qts, "{ 'execute': 'nyx-map',"
                            "  'arguments': { 'domain': 'dom', 'iova': 0,"
                            "  'gpa': 4276092928, 'size': 4096,"
                            "  'access': 'rw' } }"));
    g_assert_cmpuint(nyx_testdev_message(dev, 0, 0x62), ==,
                     NTD_RESULT_DMA_ERROR);
    g_assert_false(nyx_apic_pending(dev->t, 0x62));
    quit(dev);
}

static void test_quarantined(void)
{
    NyxTestdev *dev = start("");
    QPCIDevice *pci = dev->pci;
    uint64_t entry;

    qpci_msix_enable(pci);
    entry = pci->msix_table_off;
    qpci_io_writeq(pci, pci->msix_table_bar, entry, NYX_MSI_BASE);
    qpci_io_writel(pci, pci->msix_table_bar, entry + PCI_MSIX_ENTRY_DATA, 0x77);
    /* Pending while masked, so that unmasking it would send it. */
    nyx_testdev_command(dev, NTD_CMD_INTERRUPT);
    nyx_qmp(dev->t, "{ 'execute': 'nyx-quarantine-device',"
            "  'arguments': { 'device': 'td' } }");
    qpci_io_writel(pci, pci->msix_table_bar,
                   entry + PCI_MSIX_ENTRY_VECTOR_CTRL, 0);
    qpci_config_writew(pci, qpci_find_capability(pci, PCI_CAP_ID_MSIX, 0) +
                       PCI_MSIX_FLAGS, PCI_MSIX_FLAGS_ENABLE);
    g_assert_false(nyx_apic_pending(dev->t, 0x77));
    nyx_qmp(dev->t, "{ 'execute': 'nyx-recover-device',"
            "  'arguments': { 'device': 'td' } }");
    g_assert_false(nyx_apic_pending(dev->t, 0x77));
    assert_interrupts(dev, 0, 0);
    g_assert_cmpuint(nyx_testdev_message(dev, NYX_MSI_BASE, 0x78), ==,
                     NTD_RESULT_OK);
    g_assert_true(nyx_apic_pending(dev->t, 0x78));
    quit(dev);
}

/* Window of the tests below, microseconds */
#define WINDOW_US   1000
#define COALESCING  ",irq-coalescing=1000"

static void send_messages(NyxTestdev *dev, unsigned vector, unsigned count)
{
    while (count--) {
        g_assert_cmpuint(nyx_testdev_message(dev, NYX_MSI_BASE, vector), ==,
                         NTD_RESULT_OK);
    }
}

static void assert_merged(NyxTestdev *dev, uint64_t merged)
{
    QDict *device = nyx_query_device(dev->t, "td");
    QDict *interrupts = qdict_get_qdict(device, "interrupts");

    g_assert_cmpuint(qdict_get_try_int(interrupts, "merged", 0), ==, merged);
    qobject_unref(device);
}

/* The clock stands still but for the steps: qtest has it so. */
static void step_us(NyxTestdev *dev, int64_t us)
{
    qtest_clock_step(dev->t->qts, us * 1000);
}

static void test_coalescing(void)
{
    NyxTestdev *dev = start(COALESCING);

    send_messages(dev, 0x61, 5);
    assert_interrupts(dev, 1, 0);
    /* Another message has a window of its own. */
    send_messages(dev, 0x62, 1);
    assert_interrupts(dev, 2, 0);
    step_us(dev, WINDOW_US - 1);
    assert_interrupts(dev, 2, 0);
    step_us(dev, 1);
    assert_interrupts(dev, 3, 0);
    assert_merged(dev, 3);
    /* What was delivered late is followed by a window, too. */
    send_messages(dev, 0x61, 1);
    assert_interrupts(dev, 3, 0);
    step_us(dev, WINDOW_US);
    assert_interrupts(dev, 4, 0);
    /* After a window in which nothing came, the next is delivered at once. */
    step_us(dev, WINDOW_US);
    send_messages(dev, 0x61, 1);
    assert_interrupts(dev, 5, 0);
    assert_merged(dev, 3);
    quit(dev);
}

/* More different messages than can be held: none is lost. */
static void test_coalescing_many(void)
{
    NyxTestdev *dev = start(COALESCING);
    unsigned vector;

    for (vector = 0x40; vector < 0x80; vector++) {
        send_messages(dev, vector, 2);
    }
    for (vector = 0x40; vector < 0x80; vector++) {
        g_assert_true(nyx_apic_pending(dev->t, vector));
    }
    /* All of the first of each; of the second, all but what 16 slots hold. */
    assert_interrupts(dev, 128 - 16, 0);
    step_us(dev, WINDOW_US);
    assert_interrupts(dev, 128, 0);
    assert_merged(dev, 0);
    quit(dev);
}

/* What was held before is of no use afterwards. */
static void test_coalescing_dropped(void)
{
    NyxTestdev *dev = start(COALESCING);

    send_messages(dev, 0x61, 2);
    nyx_testdev_flr(dev);
    nyx_testdev_enable(dev);
    step_us(dev, WINDOW_US);
    assert_interrupts(dev, 1, 0);

    send_messages(dev, 0x62, 2);
    nyx_qmp(dev->t, "{ 'execute': 'nyx-quarantine-device',"
            "  'arguments': { 'device': 'td' } }");
    step_us(dev, WINDOW_US);
    assert_interrupts(dev, 2, 0);
    quit(dev);
}

/* A property of the domain; 0 takes effect at once, but loses nothing. */
static void test_coalescing_switch(void)
{
    NyxTestdev *dev = start("");

    send_messages(dev, 0x61, 2);
    assert_interrupts(dev, 2, 0);
    nyx_qmp(dev->t, "{ 'execute': 'qom-set', 'arguments': {"
            " 'path': '/objects/dom', 'property': 'irq-coalescing',"
            " 'value': 1000 } }");
    send_messages(dev, 0x61, 2);
    assert_interrupts(dev, 3, 0);
    nyx_qmp(dev->t, "{ 'execute': 'qom-set', 'arguments': {"
            " 'path': '/objects/dom', 'property': 'irq-coalescing',"
            " 'value': 0 } }");
    send_messages(dev, 0x61, 1);
    assert_interrupts(dev, 4, 0);
    step_us(dev, WINDOW_US);
    assert_interrupts(dev, 5, 0);
    nyx_qmp_refused(dev->t, "must be at most 10000",
                    "{ 'execute': 'qom-set', 'arguments': {"
                    " 'path': '/objects/dom', 'property': 'irq-coalescing',"
                    " 'value': 10001 } }");
    quit(dev);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    qtest_add_func("/nyx/interrupt/pass-through", test_pass_through);
    qtest_add_func("/nyx/interrupt/translating", test_translating);
    qtest_add_func("/nyx/interrupt/peer-to-peer", test_peer_to_peer);
    qtest_add_data_func("/nyx/interrupt/not-remapped/intel", "intel",
                        test_not_remapped);
    qtest_add_data_func("/nyx/interrupt/not-remapped/amd", "amd",
                        test_not_remapped);
    qtest_add_data_func("/nyx/interrupt/not-remapped/virtio", "virtio",
                        test_not_remapped);
    qtest_add_func("/nyx/interrupt/dma-into-window", test_dma_into_window);
    qtest_add_func("/nyx/interrupt/msix", test_msix);
    qtest_add_func("/nyx/interrupt/no-way-around", test_no_way_around);
    qtest_add_func("/nyx/interrupt/quarantined", test_quarantined);
    qtest_add_func("/nyx/interrupt/coalescing/window", test_coalescing);
    qtest_add_func("/nyx/interrupt/coalescing/many", test_coalescing_many);
    qtest_add_func("/nyx/interrupt/coalescing/dropped",
                   test_coalescing_dropped);
    qtest_add_func("/nyx/interrupt/coalescing/switch", test_coalescing_switch);
    return g_test_run();
}
