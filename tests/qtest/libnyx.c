/*
 * What the qtests of Nyx share: the machine, and nyx-testdev
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "hw/pci/pci_regs.h"
#include "libnyx.h"
#include "tests/qtest/libqos/malloc-pc.h"
#include "tests/qtest/libqos/pci-pc.h"

#define TIMEOUT     (30 * G_TIME_SPAN_SECOND)

static NyxTest *start(size_t ram_size, const char *machine,
                      const char *options)
{
    NyxTest *t = g_new0(NyxTest, 1);

    /* QEMU inherits it; there is no file that could be left behind. */
    t->ram_size = ram_size;
    t->ram_fd = memfd_create("nyx-qtest", 0);
    g_assert_cmpint(t->ram_fd, >=, 0);
    g_assert_cmpint(ftruncate(t->ram_fd, ram_size), ==, 0);
    t->ram = mmap(NULL, ram_size, PROT_READ | PROT_WRITE, MAP_SHARED,
                  t->ram_fd, 0);
    g_assert(t->ram != MAP_FAILED);
    t->qts = qtest_initf("-M %s,memory-backend=guest-ram -nodefaults "
                         "-m %zuM -object memory-backend-file,"
                         "id=guest-ram,mem-path=/proc/self/fd/%d,"
                         "size=%zu,share=on %s", machine,
                         ram_size / (size_t)MIB(1), t->ram_fd, ram_size,
                         options);
    pc_alloc_init(&t->alloc, t->qts, ALLOC_NO_FLAGS);
    t->bus = qpci_new_pc(t->qts, &t->alloc);
    return t;
}

NyxTest *nyx_test_start(const char *machine, const char *fmt, ...)
{
    g_autofree char *options = NULL;
    va_list ap;

    va_start(ap, fmt);
    options = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    return start(NYX_RAM_SIZE, machine, options);
}

NyxTest *nyx_test_start_sized(size_t ram_size, const char *machine,
                              const char *fmt, ...)
{
    g_autofree char *options = NULL;
    va_list ap;

    va_start(ap, fmt);
    options = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    return start(ram_size, machine, options);
}

void nyx_test_quit(NyxTest *t)
{
    qpci_free_pc(t->bus);
    alloc_destroy(&t->alloc);
    qtest_quit(t->qts);
    munmap(t->ram, t->ram_size);
    close(t->ram_fd);
    g_free(t);
}

void nyx_ram_fill(NyxTest *t)
{
    uint64_t *words = (uint64_t *)t->ram;
    size_t i;

    for (i = 0; i < t->ram_size / sizeof(*words); i++) {
        /* A product with an odd number: no two words are alike. */
        words[i] = (i + 1) * 0x9e3779b97f4a7c15ULL;
    }
}

uint8_t *nyx_ram_copy(NyxTest *t)
{
    return g_memdup2(t->ram, t->ram_size);
}

static void assert_range_same(NyxTest *t, const uint8_t *before,
                              uint64_t start, uint64_t end)
{
    uint64_t i;

    if (!memcmp(t->ram + start, before + start, end - start)) {
        return;
    }
    for (i = start; t->ram[i] == before[i]; i++) {
        /* look for the first difference */
    }
    g_error("guest memory changed at 0x%" PRIx64, i);
}

void nyx_ram_assert_same(NyxTest *t, const uint8_t *before, uint64_t start,
                         uint64_t size)
{
    g_assert_cmpuint(start + size, <=, t->ram_size);
    assert_range_same(t, before, 0, start);
    assert_range_same(t, before, start + size, t->ram_size);
}

QPCIDevice *nyx_pci_open(NyxTest *t, unsigned slot)
{
    QPCIDevice *pci = qpci_device_find(t->bus, QPCI_DEVFN(slot, 0));

    g_assert_nonnull(pci);
    qpci_device_enable(pci);
    return pci;
}

/* "info lapic" has a line "IRR\t 48 65(level)" or "IRR\t (none)". */
bool nyx_apic_pending(NyxTest *t, unsigned vector)
{
    g_autofree char *text = qtest_hmp(t->qts, "info lapic");
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    g_autofree char *pattern = g_strdup_printf("\\b%u\\b", vector);
    unsigned i;

    for (i = 0; lines[i]; i++) {
        if (g_str_has_prefix(lines[i], "IRR")) {
            return g_regex_match_simple(pattern, lines[i], 0, 0);
        }
    }
    g_error("no IRR in: %s", text);
}

NyxTestdev *nyx_testdev_open(NyxTest *t, unsigned slot)
{
    NyxTestdev *dev = g_new0(NyxTestdev, 1);

    dev->t = t;
    dev->pci = nyx_pci_open(t, slot);
    dev->registers = qpci_iomap(dev->pci, NTD_BAR_REGISTERS, NULL);
    dev->buffer = qpci_iomap(dev->pci, NTD_BAR_BUFFER, NULL);
    g_assert_cmphex(nyx_testdev_get(dev, NTD_REG_ID), ==, NTD_ID);
    return dev;
}

void nyx_testdev_close(NyxTestdev *dev)
{
    g_free(dev->pci);
    g_free(dev);
}

void nyx_testdev_place_bars(NyxTestdev *dev)
{
    qpci_config_writel(dev->pci, PCI_BASE_ADDRESS_0 + 4 * NTD_BAR_REGISTERS,
                       dev->registers.addr);
    qpci_config_writel(dev->pci, PCI_BASE_ADDRESS_0 + 4 * NTD_BAR_BUFFER,
                       dev->buffer.addr);
    if (dev->pci->msix_enabled) {
        qpci_config_writel(dev->pci, PCI_BASE_ADDRESS_0 + 4 * NTD_BAR_MSIX,
                           dev->pci->msix_table_bar.addr);
    }
}

void nyx_testdev_enable(NyxTestdev *dev)
{
    nyx_testdev_place_bars(dev);
    qpci_device_enable(dev->pci);
}

void nyx_testdev_flr(NyxTestdev *dev)
{
    uint8_t cap = qpci_find_capability(dev->pci, PCI_CAP_ID_EXP, 0);
    uint16_t control;

    g_assert_cmphex(cap, !=, 0);
    g_assert(qpci_config_readl(dev->pci, cap + PCI_EXP_DEVCAP) &
             PCI_EXP_DEVCAP_FLR);
    control = qpci_config_readw(dev->pci, cap + PCI_EXP_DEVCTL);
    qpci_config_writew(dev->pci, cap + PCI_EXP_DEVCTL,
                       control | PCI_EXP_DEVCTL_BCR_FLR);
}

uint32_t nyx_testdev_get(NyxTestdev *dev, uint32_t reg)
{
    return qpci_io_readl(dev->pci, dev->registers, reg);
}

uint64_t nyx_testdev_get64(NyxTestdev *dev, uint32_t reg)
{
    return qpci_io_readq(dev->pci, dev->registers, reg);
}

void nyx_testdev_set(NyxTestdev *dev, uint32_t reg, uint32_t value)
{
    qpci_io_writel(dev->pci, dev->registers, reg, value);
}

void nyx_testdev_set64(NyxTestdev *dev, uint32_t reg, uint64_t value)
{
    qpci_io_writeq(dev->pci, dev->registers, reg, value);
}

uint32_t nyx_testdev_command(NyxTestdev *dev, uint32_t command)
{
    nyx_testdev_set(dev, NTD_REG_COMMAND, command);
    return nyx_testdev_get(dev, NTD_REG_RESULT);
}

static uint32_t dma(NyxTestdev *dev, uint32_t command, uint64_t address,
                    uint32_t length)
{
    nyx_testdev_set64(dev, NTD_REG_ADDRESS_LO, address);
    nyx_testdev_set(dev, NTD_REG_LENGTH, length);
    nyx_testdev_set(dev, NTD_REG_OFFSET, 0);
    return nyx_testdev_command(dev, command);
}

uint32_t nyx_testdev_read(NyxTestdev *dev, uint64_t address, uint32_t length)
{
    return dma(dev, NTD_CMD_READ, address, length);
}

uint32_t nyx_testdev_write(NyxTestdev *dev, uint64_t address, uint32_t length)
{
    return dma(dev, NTD_CMD_WRITE, address, length);
}

uint32_t nyx_testdev_message(NyxTestdev *dev, uint64_t address, uint32_t data)
{
    nyx_testdev_set64(dev, NTD_REG_MSI_ADDRESS_LO, address);
    nyx_testdev_set(dev, NTD_REG_MSI_DATA, data);
    return nyx_testdev_command(dev, NTD_CMD_MESSAGE);
}

void nyx_testdev_fill(NyxTestdev *dev, uint8_t value)
{
    qtest_memset(dev->t->qts, dev->buffer.addr, value, NTD_BUFFER_SIZE);
}

void nyx_testdev_get_buffer(NyxTestdev *dev, void *data, size_t size)
{
    qtest_bufread(dev->t->qts, dev->buffer.addr, data, size);
}

void nyx_testdev_plan(NyxTestdev *dev, uint64_t address, uint32_t length,
                      uint32_t count, uint32_t slots, uint64_t stride,
                      uint32_t flags)
{
    nyx_testdev_set64(dev, NTD_REG_ADDRESS_LO, address);
    nyx_testdev_set(dev, NTD_REG_LENGTH, length);
    nyx_testdev_set(dev, NTD_REG_OFFSET, 0);
    nyx_testdev_set(dev, NTD_REG_COUNT, count);
    nyx_testdev_set(dev, NTD_REG_SLOTS, slots);
    nyx_testdev_set64(dev, NTD_REG_STRIDE_LO, stride);
    nyx_testdev_set(dev, NTD_REG_FLAGS, flags);
}

void nyx_testdev_run(NyxTestdev *dev, uint64_t address, uint32_t length,
                     uint32_t count, uint32_t slots, uint64_t stride,
                     uint32_t flags)
{
    nyx_testdev_plan(dev, address, length, count, slots, stride, flags);
    g_assert_cmpuint(nyx_testdev_command(dev, NTD_CMD_START), ==,
                     NTD_RESULT_OK);
}

void nyx_testdev_await_idle(NyxTestdev *dev)
{
    int64_t end = g_get_monotonic_time() + TIMEOUT;

    while (nyx_testdev_get(dev, NTD_REG_STATUS) & NTD_STATUS_BUSY) {
        g_assert_cmpint(g_get_monotonic_time(), <, end);
    }
}

void nyx_testdev_await_done(NyxTestdev *dev, uint64_t count)
{
    int64_t end = g_get_monotonic_time() + TIMEOUT;

    while (nyx_testdev_get64(dev, NTD_REG_DONE_LO) < count) {
        g_assert_cmpint(g_get_monotonic_time(), <, end);
    }
}
