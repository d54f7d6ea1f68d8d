/*
 * Nyx test device on a plain Q35: registers, single DMA, interrupts, reset
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "hw/pci/pci_regs.h"
#include "libnyx.h"
#include "qobject/qlist.h"

#define SLOT    5

static NyxTestdev *start(void)
{
    NyxTest *t = nyx_test_start("q35", "-device nyx-testdev,id=td,addr=%d",
                                SLOT);

    return nyx_testdev_open(t, SLOT);
}

static void quit(NyxTestdev *dev)
{
    NyxTest *t = dev->t;

    nyx_testdev_close(dev);
    nyx_test_quit(t);
}

static void test_registers(void)
{
    static const uint32_t writable[] = {
        NTD_REG_SCRATCH, NTD_REG_ADDRESS_LO, NTD_REG_ADDRESS_HI,
        NTD_REG_LENGTH, NTD_REG_OFFSET, NTD_REG_FLAGS, NTD_REG_COUNT,
        NTD_REG_SLOTS, NTD_REG_SEED, NTD_REG_STRIDE_LO, NTD_REG_STRIDE_HI,
        NTD_REG_MSI_ADDRESS_LO, NTD_REG_MSI_ADDRESS_HI, NTD_REG_MSI_DATA,
        NTD_REG_VECTOR,
    };
    static const uint32_t read_only[] = {
        NTD_REG_ID, NTD_REG_VERSION, NTD_REG_STATUS, NTD_REG_RESULT,
        NTD_REG_RESETS, NTD_REG_DONE_LO, NTD_REG_ERRORS_HI,
        NTD_REG_FIRST_ERROR_LO, NTD_REG_ELAPSED_HI, NTD_REG_END,
        NTD_REGISTERS_SIZE - 4,
    };
    NyxTestdev *dev = start();
    unsigned i;

    g_assert_cmphex(qpci_config_readw(dev->pci, PCI_VENDOR_ID), ==,
                    NTD_VENDOR_ID);
    g_assert_cmphex(qpci_config_readw(dev->pci, PCI_DEVICE_ID), ==,
                    NTD_DEVICE_ID);
    g_assert_cmpuint(nyx_testdev_get(dev, NTD_REG_VERSION), ==, NTD_VERSION);

    for (i = 0; i < ARRAY_SIZE(writable); i++) {
        g_assert_cmphex(nyx_testdev_get(dev, writable[i]), ==, 0);
        nyx_testdev_set(dev, writable[i], 0xa5000000 + i);
    }
    for (i = 0; i < ARRAY_SIZE(writable); i++) {
        g_assert_cmphex(nyx_testdev_get(dev, writable[i]), ==, 0xa5000000 + i);
    }
    for (i = 0; i < ARRAY_SIZE(read_only); i++) {
        uint32_t before = nyx_testdev_get(dev, read_only[i]);

        nyx_testdev_set(dev, read_only[i], ~before);
        g_assert_cmphex(nyx_testdev_get(dev, read_only[i]), ==, before);
    }
    nyx_testdev_set64(dev, NTD_REG_STRIDE_LO, 0x123456789abcdef0);
    g_assert_cmphex(nyx_testdev_get(dev, NTD_REG_STRIDE_LO), ==, 0x9abcdef0);
    g_assert_cmphex(nyx_testdev_get(dev, NTD_REG_STRIDE_HI), ==, 0x12345678);
    quit(dev);
}

static void test_arguments(void)
{
    NyxTestdev *dev = start();
    uint8_t *before;

    nyx_ram_fill(dev->t);
    before = nyx_ram_copy(dev->t);
    g_assert_cmpuint(nyx_testdev_command(dev, 0), ==, NTD_RESULT_BAD_COMMAND);
    g_assert_cmpuint(nyx_testdev_command(dev, 7), ==, NTD_RESULT_BAD_COMMAND);
    g_assert_cmpuint(nyx_testdev_command(dev, UINT32_MAX), ==,
                     NTD_RESULT_BAD_COMMAND);

    g_assert_cmpuint(nyx_testdev_write(dev, MIB(2), 0), ==,
                     NTD_RESULT_BAD_ARGUMENT);
    g_assert_cmpuint(nyx_testdev_write(dev, MIB(2), NTD_BUFFER_SIZE + 1), ==,
                     NTD_RESULT_BAD_ARGUMENT);
    g_assert_cmpuint(nyx_testdev_write(dev, UINT64_MAX, 2), ==,
                     NTD_RESULT_BAD_ARGUMENT);
    nyx_testdev_set64(dev, NTD_REG_ADDRESS_LO, MIB(2));
    nyx_testdev_set(dev, NTD_REG_OFFSET, 1);
    nyx_testdev_set(dev, NTD_REG_LENGTH, NTD_BUFFER_SIZE);
    g_assert_cmpuint(nyx_testdev_command(dev, NTD_CMD_WRITE), ==,
                     NTD_RESULT_BAD_ARGUMENT);
    nyx_testdev_set(dev, NTD_REG_OFFSET, UINT32_MAX);
    g_assert_cmpuint(nyx_testdev_command(dev, NTD_CMD_READ), ==,
                     NTD_RESULT_BAD_ARGUMENT);

    /* Of these, only a bulk run takes notice. */
    nyx_testdev_set(dev, NTD_REG_OFFSET, 0);
    nyx_testdev_set(dev, NTD_REG_LENGTH, 4);
    nyx_testdev_set(dev, NTD_REG_FLAGS, NTD_FLAG_MASK + 1);
    g_assert_cmpuint(nyx_testdev_command(dev, NTD_CMD_START), ==,
                     NTD_RESULT_BAD_ARGUMENT);
    nyx_testdev_set(dev, NTD_REG_FLAGS, NTD_FLAG_WRITE);
    nyx_testdev_set(dev, NTD_REG_SLOTS, 3);
    nyx_testdev_set64(dev, NTD_REG_STRIDE_LO, 1ULL << 63);
    g_assert_cmpuint(nyx_testdev_command(dev, NTD_CMD_START), ==,
                     NTD_RESULT_BAD_ARGUMENT);
    nyx_testdev_set64(dev, NTD_REG_STRIDE_LO, INT64_MAX);
    nyx_testdev_set64(dev, NTD_REG_ADDRESS_LO, 2);
    g_assert_cmpuint(nyx_testdev_command(dev, NTD_CMD_START), ==,
                     NTD_RESULT_BAD_ARGUMENT);
    g_assert_cmpuint(nyx_testdev_get(dev, NTD_REG_STATUS), ==, 0);

    nyx_ram_assert_same(dev->t, before, 0, 0);
    g_free(before);
    quit(dev);
}

static void test_dma(void)
{
    static const struct {
        uint64_t address;
        uint32_t length;
    } writes[] = {
        { 0, 1 },
        { 0x7ff, 3 },
        { MIB(1), 8 },
        { MIB(3) - 1, 2 * PAGE + 2 },
        { MIB(8), NTD_BUFFER_SIZE },
        { NYX_RAM_SIZE - 5, 5 },
    };
    NyxTestdev *dev = start();
    g_autofree uint8_t *data = g_malloc(NTD_BUFFER_SIZE);
    uint64_t address;
    unsigned i, j;

    nyx_ram_fill(dev->t);
    /* All of RAM that the chipset does not hide below 1 MiB is readable. */
    for (address = MIB(1); address < NYX_RAM_SIZE; address += NTD_BUFFER_SIZE) {
        g_assert_cmpuint(nyx_testdev_read(dev, address, NTD_BUFFER_SIZE), ==,
                         NTD_RESULT_OK);
        nyx_testdev_get_buffer(dev, data, NTD_BUFFER_SIZE);
        g_assert(!memcmp(data, dev->t->ram + address, NTD_BUFFER_SIZE));
    }
    for (i = 0; i < ARRAY_SIZE(writes); i++) {
        uint8_t *before = nyx_ram_copy(dev->t);

        nyx_testdev_fill(dev, i + 1);
        g_assert_cmpuint(nyx_testdev_write(dev, writes[i].address,
                                           writes[i].length),
                         ==, NTD_RESULT_OK);
        nyx_ram_assert_same(dev->t, before, writes[i].address,
                            writes[i].length);
        for (j = 0; j < writes[i].length; j++) {
            g_assert_cmpuint(dev->t->ram[writes[i].address + j], ==, i + 1);
        }
        g_free(before);
    }
    quit(dev);
}

static void test_dma_refused(void)
{
    NyxTestdev *dev = start();
    uint16_t command = qpci_config_readw(dev->pci, PCI_COMMAND);

    /* Nothing is there, nor at the very end of the address space. */
    g_assert_cmpuint(nyx_testdev_write(dev, 1ULL << 46, 8), ==,
                     NTD_RESULT_DMA_ERROR);
    g_assert_cmpuint(nyx_testdev_read(dev, UINT64_MAX, 1), ==,
                     NTD_RESULT_DMA_ERROR);
    /* Half of it lies behind the end of RAM. */
    g_assert_cmpuint(nyx_testdev_write(dev, NYX_RAM_SIZE - PAGE, 2 * PAGE), ==,
                     NTD_RESULT_DMA_ERROR);
    g_assert_cmpuint(nyx_testdev_read(dev, MIB(2), 8), ==, NTD_RESULT_OK);
    qpci_config_writew(dev->pci, PCI_COMMAND, command & ~PCI_COMMAND_MASTER);
    g_assert_cmpuint(nyx_testdev_read(dev, MIB(2), 8), ==,
                     NTD_RESULT_DMA_ERROR);
    g_assert_cmpuint(nyx_testdev_message(dev, NYX_MSI_BASE, 0x55), ==,
                     NTD_RESULT_DMA_ERROR);
    g_assert_false(nyx_apic_pending(dev->t, 0x55));
    /* The device cannot program itself. */
    qpci_config_writew(dev->pci, PCI_COMMAND, command);
    g_assert_cmpuint(nyx_testdev_write(dev, dev->registers.addr +
                                       NTD_REG_SCRATCH, 4),
                     ==, NTD_RESULT_DMA_ERROR);
    quit(dev);
}

static void test_dma_to_buffer(void)
{
    NyxTest *t = nyx_test_start("q35", "-device nyx-testdev,addr=5 "
                                "-device nyx-testdev,addr=6");
    NyxTestdev *from = nyx_testdev_open(t, 5);
    NyxTestdev *to = nyx_testdev_open(t, 6);
    uint8_t data[16];

    nyx_testdev_fill(from, 0x11);
    nyx_testdev_fill(to, 0x22);
    g_assert_cmpuint(nyx_testdev_write(from, to->buffer.addr + 4, 8), ==,
                     NTD_RESULT_OK);
    nyx_testdev_get_buffer(to, data, sizeof(data));
    g_assert_cmphex(data[3], ==, 0x22);
    g_assert_cmphex(data[4], ==, 0x11);
    g_assert_cmphex(data[11], ==, 0x11);
    g_assert_cmphex(data[12], ==, 0x22);
    nyx_testdev_close(from);
    nyx_testdev_close(to);
    nyx_test_quit(t);
}

static void test_message(void)
{
    NyxTestdev *dev = start();

    g_assert_false(nyx_apic_pending(dev->t, 0x61));
    g_assert_cmpuint(nyx_testdev_message(dev, NYX_MSI_BASE, 0x61), ==,
                     NTD_RESULT_OK);
    g_assert_true(nyx_apic_pending(dev->t, 0x61));
    g_assert_false(nyx_apic_pending(dev->t, 0x60));
    quit(dev);
}

static void program_msix(NyxTestdev *dev, unsigned entry, uint8_t vector)
{
    uint64_t table = dev->pci->msix_table_off + entry * PCI_MSIX_ENTRY_SIZE;

    qpci_io_writeq(dev->pci, dev->pci->msix_table_bar, table, NYX_MSI_BASE);
    qpci_io_writel(dev->pci, dev->pci->msix_table_bar,
                   table + PCI_MSIX_ENTRY_DATA, vector);
    qpci_io_writel(dev->pci, dev->pci->msix_table_bar,
                   table + PCI_MSIX_ENTRY_VECTOR_CTRL, 0);
}

static void test_msix(void)
{
    NyxTestdev *dev = start();

    g_assert_cmpuint(nyx_testdev_command(dev, NTD_CMD_INTERRUPT), ==,
                     NTD_RESULT_DISABLED);
    qpci_msix_enable(dev->pci);
    g_assert_cmpuint(qpci_msix_table_size(dev->pci), ==, NTD_VECTORS);
    program_msix(dev, 0, 0x70);
    program_msix(dev, NTD_VECTORS - 1, 0x71);
    nyx_testdev_set(dev, NTD_REG_VECTOR, NTD_VECTORS - 1);
    g_assert_cmpuint(nyx_testdev_command(dev, NTD_CMD_INTERRUPT), ==,
                     NTD_RESULT_OK);
    g_assert_true(nyx_apic_pending(dev->t, 0x71));
    g_assert_false(nyx_apic_pending(dev->t, 0x70));
    /* Vector 1 is masked, as after power-on. */
    nyx_testdev_set(dev, NTD_REG_VECTOR, 1);
    g_assert_cmpuint(nyx_testdev_command(dev, NTD_CMD_INTERRUPT), ==,
                     NTD_RESULT_OK);
    g_assert_true(qpci_msix_pending(dev->pci, 1));
    nyx_testdev_set(dev, NTD_REG_VECTOR, NTD_VECTORS);
    g_assert_cmpuint(nyx_testdev_command(dev, NTD_CMD_INTERRUPT), ==,
                     NTD_RESULT_BAD_ARGUMENT);
    quit(dev);
}

static void test_msi(void)
{
    NyxTestdev *dev = start();
    uint8_t cap = qpci_find_capability(dev->pci, PCI_CAP_ID_MSI, 0);

    g_assert_cmphex(cap, !=, 0);
    qpci_config_writel(dev->pci, cap + PCI_MSI_ADDRESS_LO, NYX_MSI_BASE);
    qpci_config_writew(dev->pci, cap + PCI_MSI_DATA_64, 0x50);
    /* Four of the eight vectors */
    qpci_config_writew(dev->pci, cap + PCI_MSI_FLAGS,
                       PCI_MSI_FLAGS_ENABLE | 2 << 4);
    nyx_testdev_set(dev, NTD_REG_VECTOR, 3);
    g_assert_cmpuint(nyx_testdev_command(dev, NTD_CMD_INTERRUPT), ==,
                     NTD_RESULT_OK);
    g_assert_true(nyx_apic_pending(dev->t, 0x53));
    nyx_testdev_set(dev, NTD_REG_VECTOR, 4);
    g_assert_cmpuint(nyx_testdev_command(dev, NTD_CMD_INTERRUPT), ==,
                     NTD_RESULT_BAD_ARGUMENT);
    quit(dev);
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
    NyxTestdev *dev = start();

    qtest_irq_intercept_in(dev->t->qts, "ioapic");
    /* Where the chipset routes INTA# of this slot before any firmware ran */
    g_assert_cmpuint(irqs_raised(dev->t->qts), ==, 0);
    nyx_testdev_set(dev, NTD_REG_INTX, 1);
    g_assert_cmpuint(irqs_raised(dev->t->qts), ==, 1);
    nyx_testdev_set(dev, NTD_REG_INTX, 0);
    g_assert_cmpuint(irqs_raised(dev->t->qts), ==, 0);
    nyx_testdev_set(dev, NTD_REG_INTX, 1);
    nyx_testdev_flr(dev);
    g_assert_cmpuint(irqs_raised(dev->t->qts), ==, 0);
    quit(dev);
}

static void test_flr(void)
{
    NyxTestdev *dev = start();
    uint32_t resets = nyx_testdev_get(dev, NTD_REG_RESETS);
    uint8_t data[4];

    nyx_testdev_set(dev, NTD_REG_SCRATCH, 0x1234);
    nyx_testdev_set64(dev, NTD_REG_ADDRESS_LO, MIB(2));
    nyx_testdev_fill(dev, 0x77);
    nyx_testdev_flr(dev);
    g_assert_false(qpci_config_readw(dev->pci, PCI_COMMAND) &
                   PCI_COMMAND_MASTER);
    nyx_testdev_enable(dev);
    g_assert_cmpuint(nyx_testdev_get(dev, NTD_REG_RESETS), ==, resets + 1);
    g_assert_cmphex(nyx_testdev_get(dev, NTD_REG_SCRATCH), ==, 0);
    g_assert_cmphex(nyx_testdev_get64(dev, NTD_REG_ADDRESS_LO), ==, 0);
    nyx_testdev_get_buffer(dev, data, sizeof(data));
    g_assert_cmphex(data[3], ==, 0x77);
    g_assert_cmpuint(nyx_testdev_write(dev, MIB(2), 8), ==, NTD_RESULT_OK);
    quit(dev);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    qtest_add_func("/nyx/testdev/registers", test_registers);
    qtest_add_func("/nyx/testdev/arguments", test_arguments);
    qtest_add_func("/nyx/testdev/dma", test_dma);
    qtest_add_func("/nyx/testdev/dma-refused", test_dma_refused);
    qtest_add_func("/nyx/testdev/dma-to-buffer", test_dma_to_buffer);
    qtest_add_func("/nyx/testdev/message", test_message);
    qtest_add_func("/nyx/testdev/msix", test_msix);
    qtest_add_func("/nyx/testdev/msi", test_msi);
    qtest_add_func("/nyx/testdev/intx", test_intx);
    qtest_add_func("/nyx/testdev/flr", test_flr);
    return g_test_run();
}
