/*
 * Bare-metal payload: nyx-testdev and its PCI function
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "console.h"
#include "testdev.h"

#define PCI_ADDRESS         0xcf8
#define PCI_DATA            0xcfc

#define PCI_ID              0x00
#define PCI_COMMAND         0x04
#define PCI_COMMAND_MEMORY  (1u << 1)
#define PCI_COMMAND_MASTER  (1u << 2)
#define PCI_BAR(n)          (0x10 + 4 * (n))
#define PCI_BAR_64          (1u << 2)
#define PCI_CAPABILITIES    0x34
#define PCI_CAP_MSIX        0x11
#define PCI_MSIX_ENABLE     (1u << 31)  /* with the capability's first word */

/* Q35: INTA# of a device on bus 0 that is not one of the chipset's */
#define GSI_OF_SLOT(slot)   (20 + (slot) % 4)

static uint32_t config_read(uint16_t requester, uint8_t offset)
{
    out32(PCI_ADDRESS, 1u << 31 | requester << 8 | (offset & ~3));
    return in32(PCI_DATA);
}

static void config_write(uint16_t requester, uint8_t offset, uint32_t value)
{
    out32(PCI_ADDRESS, 1u << 31 | requester << 8 | (offset & ~3));
    out32(PCI_DATA, value);
}

static uint64_t bar(uint16_t requester, unsigned i)
{
    uint32_t low = config_read(requester, PCI_BAR(i));
    uint64_t address = low & ~0xfu;

    if (low & PCI_BAR_64) {
        address |= (uint64_t)config_read(requester, PCI_BAR(i + 1)) << 32;
    }
    check(address && address < 1ULL << 32, "BAR %d at 0x%x", (uint64_t)i,
          address);
    return address;
}

Testdev testdev_find(void)
{
    Testdev dev = {};
    uint16_t r;

    for (r = 0; r < 256; r++) {
        if (config_read(r, PCI_ID) ==
            (NTD_VENDOR_ID | (uint32_t)NTD_DEVICE_ID << 16)) {
            break;
        }
    }
    check(r < 256, "no nyx-testdev on bus 0");
    dev.requester = r;
    dev.registers = bar(r, NTD_BAR_REGISTERS);
    dev.buffer = bar(r, NTD_BAR_BUFFER);
    dev.msix = bar(r, NTD_BAR_MSIX);
    dev.gsi = GSI_OF_SLOT(r >> 3);
    config_write(r, PCI_COMMAND, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
    check(testdev_get(&dev, NTD_REG_ID) == NTD_ID, "no registers");
    return dev;
}

uint32_t testdev_get(const Testdev *dev, uint32_t reg)
{
    return read32(dev->registers + reg);
}

uint64_t testdev_get64(const Testdev *dev, uint32_t reg)
{
    return read64(dev->registers + reg);
}

void testdev_set(const Testdev *dev, uint32_t reg, uint32_t value)
{
    write32(dev->registers + reg, value);
}

void testdev_set64(const Testdev *dev, uint32_t reg, uint64_t value)
{
    write64(dev->registers + reg, value);
}

uint32_t testdev_command(const Testdev *dev, uint32_t command)
{
    testdev_set(dev, NTD_REG_COMMAND, command);
    return testdev_get(dev, NTD_REG_RESULT);
}

static uint32_t dma(const Testdev *dev, uint32_t command, uint64_t iova,
                    uint32_t length)
{
    testdev_set64(dev, NTD_REG_ADDRESS_LO, iova);
    testdev_set(dev, NTD_REG_LENGTH, length);
    testdev_set(dev, NTD_REG_OFFSET, 0);
    return testdev_command(dev, command);
}

uint32_t testdev_read(const Testdev *dev, uint64_t iova, uint32_t length)
{
    return dma(dev, NTD_CMD_READ, iova, length);
}

uint32_t testdev_write(const Testdev *dev, uint64_t iova, uint32_t length)
{
    return dma(dev, NTD_CMD_WRITE, iova, length);
}

uint32_t testdev_message(const Testdev *dev, uint64_t address, uint32_t data)
{
    testdev_set64(dev, NTD_REG_MSI_ADDRESS_LO, address);
    testdev_set(dev, NTD_REG_MSI_DATA, data);
    return testdev_command(dev, NTD_CMD_MESSAGE);
}

void testdev_set_vector(const Testdev *dev, unsigned vector, uint64_t address,
                        uint32_t data)
{
    uint64_t entry = dev->msix + 16 * vector;

    write32(entry, address);
    write32(entry + 4, address >> 32);
    write32(entry + 8, data);
    write32(entry + 12, 0);
}

void testdev_enable_msix(const Testdev *dev)
{
    uint8_t cap = config_read(dev->requester, PCI_CAPABILITIES);

    while (cap && (config_read(dev->requester, cap) & 0xff) != PCI_CAP_MSIX) {
        cap = config_read(dev->requester, cap) >> 8;
    }
    check(cap, "no MSI-X");
    config_write(dev->requester, cap,
                 config_read(dev->requester, cap) | PCI_MSIX_ENABLE);
}

uint32_t testdev_raise(const Testdev *dev, unsigned vector)
{
    testdev_set(dev, NTD_REG_VECTOR, vector);
    return testdev_command(dev, NTD_CMD_INTERRUPT);
}
