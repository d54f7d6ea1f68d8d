/*
 * Drives a nyx-testdev from user space, through its sysfs files
 *
 * nyx-dma PCI-ADDRESS read  ADDRESS LENGTH        memory to device
 * nyx-dma PCI-ADDRESS write ADDRESS LENGTH BYTE   device to memory
 * nyx-dma PCI-ADDRESS fill  BYTE                  the device's buffer, no DMA
 * nyx-dma PCI-ADDRESS window ADDRESS LENGTH       both ways, compared with
 *                                                 what /dev/mem shows
 * nyx-dma PCI-ADDRESS sweep ADDRESS LENGTH COUNT write into so many pages, at
 *                                                 the same place in each
 * nyx-dma PCI-ADDRESS run   ADDRESS LENGTH COUNT  the same, by the device
 *                                                 itself, in a thread of its
 *                                                 own
 *
 * Prints "RESULT HEX COUNT": ok, refused, gone (the registers read all-ones)
 * or error, the first 32 bytes of the device's buffer, and how many accesses
 * the device said were refused. Status 0 for ok, 3 for refused, 4 for gone.
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "hw/nyx/testdev.h"

#define PCI_COMMAND 4
#define PCI_COMMAND_MEMORY_MASTER 6
#define SHOWN 32
#define PAGE 4096
#define POLL_US 10000

enum { STATUS_OK = 0, STATUS_ERROR = 1, STATUS_REFUSED = 3, STATUS_GONE = 4 };

/* Both are memory of the device, not RAM: hence volatile, here and below. */
typedef struct Device {
    volatile uint32_t *regs;
    volatile uint64_t *buffer;
    unsigned refused;
} Device;

static void die(const char *what)
{
    fprintf(stderr, "nyx-dma: %s: %s\n", what, strerror(errno));
    exit(STATUS_ERROR);
}

static int open_file(const char *address, const char *name)
{
    char path[128];
    int fd;

    snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/%s", address, name);
    fd = open(path, O_RDWR | O_SYNC);
    if (fd < 0) {
        die(path);
    }
    return fd;
}

static volatile void *map(int fd, size_t size, off_t at)
{
    void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, at);

    if (p == MAP_FAILED) {
        die("mmap");
    }
    close(fd);
    return p;
}

/* No driver of the kernel does this for us. */
static void enable(const char *address)
{
    int fd = open_file(address, "enable");
    uint16_t command;

    if (write(fd, "1", 1) != 1 && errno != EBUSY) {
        die("enable");
    }
    close(fd);
    fd = open_file(address, "config");
    if (pread(fd, &command, 2, PCI_COMMAND) != 2) {
        die("config");
    }
    command |= PCI_COMMAND_MEMORY_MASTER;
    if (pwrite(fd, &command, 2, PCI_COMMAND) != 2) {
        die("config");
    }
    close(fd);
}

static Device open_device(const char *address)
{
    Device dev = { .refused = 0 };

    enable(address);
    dev.regs = map(open_file(address, "resource0"), NTD_REGISTERS_SIZE, 0);
    dev.buffer = map(open_file(address, "resource2"), NTD_BUFFER_SIZE, 0);
    return dev;
}

static uint32_t reg(Device *dev, unsigned number)
{
    return dev->regs[number / 4];
}

static void set_reg(Device *dev, unsigned number, uint32_t value)
{
    dev->regs[number / 4] = value;
}

static void fill(Device *dev, uint8_t byte)
{
    for (size_t i = 0; i < NTD_BUFFER_SIZE / 8; i++) {
        dev->buffer[i] = byte * 0x0101010101010101ull;
    }
}

static int finish(Device *dev, int status)
{
    static const char *const names[] = { "ok", "error", "error", "refused",
                                         "gone" };
    volatile uint8_t *bytes = (volatile uint8_t *)dev->buffer;

    printf("%s ", names[status]);
    for (int i = 0; i < SHOWN; i++) {
        printf("%02x", bytes[i]);
    }
    printf(" %u\n", dev->refused);
    return status;
}

/* One DMA at the start of the buffer. */
static int dma(Device *dev, uint32_t command, uint64_t address, uint32_t len)
{
    if (reg(dev, NTD_REG_ID) != NTD_ID) {
        return STATUS_GONE;
    }
    set_reg(dev, NTD_REG_ADDRESS_LO, address);
    set_reg(dev, NTD_REG_ADDRESS_HI, address >> 32);
    set_reg(dev, NTD_REG_LENGTH, len);
    set_reg(dev, NTD_REG_OFFSET, 0);
    set_reg(dev, NTD_REG_COMMAND, command);
    switch (reg(dev, NTD_REG_RESULT)) {
    case NTD_RESULT_OK:
        return STATUS_OK;
    case NTD_RESULT_DMA_ERROR:
        dev->refused++;
        return STATUS_REFUSED;
    case UINT32_MAX:
        return STATUS_GONE;
    default:
        return STATUS_ERROR;
    }
}

static int same(volatile uint64_t *a, volatile uint64_t *b, uint32_t len)
{
    for (uint32_t i = 0; i < len / 8; i++) {
        if (a[i] != b[i]) {
            return 0;
        }
    }
    return 1;
}

/* Memory must arrive in the buffer, and the buffer in memory, as it is. */
static int window(Device *dev, uint64_t address, uint32_t len)
{
    int fd = open("/dev/mem", O_RDWR | O_SYNC);
    volatile uint64_t *memory;
    int status;

    if (fd < 0) {
        die("/dev/mem");
    }
    memory = map(fd, len, address);
    for (uint32_t i = 0; i < len / 8; i++) {
        memory[i] = (address + i) * 0x9e3779b97f4a7c15ull;
    }
    fill(dev, 0);
    status = dma(dev, NTD_CMD_READ, address, len);
    if (status == STATUS_OK && !same(memory, dev->buffer, len)) {
        return STATUS_ERROR;
    }
    for (uint32_t i = 0; i < len / 8 && status == STATUS_OK; i++) {
        dev->buffer[i] = (address - i) * 0xc2b2ae3d27d4eb4full;
    }
    if (status == STATUS_OK) {
        status = dma(dev, NTD_CMD_WRITE, address, len);
    }
    if (status == STATUS_OK && !same(memory, dev->buffer, len)) {
        return STATUS_ERROR;
    }
    return status;
}

static int sweep(Device *dev, uint64_t address, uint32_t len, uint64_t count)
{
    int status = STATUS_OK;

    for (uint64_t i = 0; i < count && status != STATUS_GONE; i++) {
        status = dma(dev, NTD_CMD_WRITE, address + i * PAGE, len);
    }
    return status;
}

/* The device says how many it did, and how many of them were refused. */
static int run(Device *dev, uint64_t address, uint32_t len, uint64_t count)
{
    set_reg(dev, NTD_REG_ADDRESS_LO, address);
    set_reg(dev, NTD_REG_ADDRESS_HI, address >> 32);
    set_reg(dev, NTD_REG_LENGTH, len);
    set_reg(dev, NTD_REG_OFFSET, 0);
    set_reg(dev, NTD_REG_COUNT, count);
    set_reg(dev, NTD_REG_SLOTS, count);
    set_reg(dev, NTD_REG_STRIDE_LO, PAGE);
    set_reg(dev, NTD_REG_STRIDE_HI, 0);
    set_reg(dev, NTD_REG_FLAGS, NTD_FLAG_WRITE | NTD_FLAG_THREAD);
    set_reg(dev, NTD_REG_COMMAND, NTD_CMD_START);
    if (reg(dev, NTD_REG_RESULT) != NTD_RESULT_OK) {
        return STATUS_ERROR;
    }
    while (reg(dev, NTD_REG_STATUS) == NTD_STATUS_BUSY) {
        usleep(POLL_US);
    }
    dev->refused = reg(dev, NTD_REG_ERRORS_LO);
    if (dev->refused == UINT32_MAX) {
        return STATUS_GONE;
    }
    if (reg(dev, NTD_REG_DONE_LO) != count) {
        return STATUS_ERROR;
    }
    return dev->refused ? STATUS_REFUSED : STATUS_OK;
}

static int usage(void)
{
    fprintf(stderr, "Usage: nyx-dma PCI-ADDRESS read ADDRESS LENGTH | "
            "write ADDRESS LENGTH BYTE | fill BYTE | window ADDRESS LENGTH | "
            "sweep ADDRESS LENGTH COUNT | run ADDRESS LENGTH COUNT\n");
    return 2;
}

int main(int argc, char **argv)
{
    uint64_t n[3] = { 0 };
    const char *verb = argc > 2 ? argv[2] : "";
    Device dev;

    if (argc < 4 || argc > 6) {
        return usage();
    }
    for (int i = 3; i < argc; i++) {
        n[i - 3] = strtoull(argv[i], NULL, 0);
    }
    dev = open_device(argv[1]);
    if (!strcmp(verb, "fill")) {
        fill(&dev, n[0]);
        return finish(&dev, STATUS_OK);
    }
    if (n[1] > NTD_BUFFER_SIZE) {
        return usage();
    }
    if (!strcmp(verb, "read")) {
        fill(&dev, 0);
        return finish(&dev, dma(&dev, NTD_CMD_READ, n[0], n[1]));
    }
    if (!strcmp(verb, "write")) {
        fill(&dev, n[2]);
        return finish(&dev, dma(&dev, NTD_CMD_WRITE, n[0], n[1]));
    }
    if (!strcmp(verb, "window")) {
        return finish(&dev, window(&dev, n[0], n[1]));
    }
    if (!strcmp(verb, "sweep")) {
        return finish(&dev, sweep(&dev, n[0], n[1], n[2]));
    }
    if (!strcmp(verb, "run")) {
        return finish(&dev, run(&dev, n[0], n[1], n[2]));
    }
    return usage();
}
