/*
 * Drives a nyx-testdev from user space by VFIO, in an IOMMU domain of its own
 *
 * nyx-vfio PCI-ADDRESS GROUP
 *
 * Maps memory of its own for the device, has the device read and write there,
 * and compares. Prints "refused ADDRESS r|w" for each access that had to be
 * refused and was. Status 0 if all went as it must; otherwise 1, and the first
 * thing that did not.
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/vfio.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "hw/nyx/testdev.h"

#define PAGE 4096
#define LARGE_PAGE 0x200000
#define PCI_COMMAND 4
#define PCI_COMMAND_MEMORY_MASTER 6

#define WINDOW 0x40000000ull    /* IOVA */
#define WINDOW_SIZE 0x10000ull
#define READ_ONLY 0x50000000ull
#define LARGE 0x60000000ull
#define CHURN 0x70000000ull
#define ROUNDS 20
#define INTERRUPT_MS 10000

static int container, group, device;
/* Both are memory of the device, not RAM. */
static volatile uint32_t *regs;
static volatile uint64_t *buffer;

static void fail(const char *what)
{
    printf("failed: %s\n", what);
    exit(1);
}

static void fail_errno(const char *what)
{
    printf("failed: %s: %s\n", what, strerror(errno));
    exit(1);
}

/* VFIO */

static int open_file(const char *path)
{
    int fd = open(path, O_RDWR);

    if (fd < 0) {
        fail_errno(path);
    }
    return fd;
}

static void open_group(const char *number)
{
    struct vfio_group_status status = { .argsz = sizeof(status) };
    char path[64];

    container = open_file("/dev/vfio/vfio");
    if (ioctl(container, VFIO_GET_API_VERSION) != VFIO_API_VERSION) {
        fail("version of VFIO");
    }
    snprintf(path, sizeof(path), "/dev/vfio/%s", number);
    group = open_file(path);
    if (ioctl(group, VFIO_GROUP_GET_STATUS, &status) ||
        !(status.flags & VFIO_GROUP_FLAGS_VIABLE)) {
        fail("the group is not viable");
    }
    if (ioctl(group, VFIO_GROUP_SET_CONTAINER, &container)) {
        fail_errno("VFIO_GROUP_SET_CONTAINER");
    }
    if (ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU)) {
        fail_errno("VFIO_SET_IOMMU");
    }
}

static struct vfio_region_info region(unsigned index)
{
    struct vfio_region_info info = { .argsz = sizeof(info), .index = index };

    if (ioctl(device, VFIO_DEVICE_GET_REGION_INFO, &info)) {
        fail_errno("VFIO_DEVICE_GET_REGION_INFO");
    }
    return info;
}

static volatile void *map_region(unsigned index)
{
    struct vfio_region_info info = region(index);
    void *p = mmap(NULL, info.size, PROT_READ | PROT_WRITE, MAP_SHARED, device,
                   info.offset);

    if (p == MAP_FAILED) {
        fail_errno("mmap of a BAR");
    }
    return p;
}

static void open_device(const char *address)
{
    struct vfio_region_info config;
    uint16_t command = PCI_COMMAND_MEMORY_MASTER;

    device = ioctl(group, VFIO_GROUP_GET_DEVICE_FD, address);
    if (device < 0) {
        fail_errno("VFIO_GROUP_GET_DEVICE_FD");
    }
    config = region(VFIO_PCI_CONFIG_REGION_INDEX);
    if (pwrite(device, &command, 2, config.offset + PCI_COMMAND) != 2) {
        fail_errno("PCI command register");
    }
    regs = map_region(NTD_BAR_REGISTERS);
    buffer = map_region(NTD_BAR_BUFFER);
    if (regs[NTD_REG_ID / 4] != NTD_ID) {
        fail("it is no nyx-testdev");
    }
}

static void map_dma(void *memory, uint64_t iova, uint64_t size, uint32_t flags)
{
    struct vfio_iommu_type1_dma_map map = {
        .argsz = sizeof(map), .flags = flags, .vaddr = (uintptr_t)memory,
        .iova = iova, .size = size,
    };

    if (ioctl(container, VFIO_IOMMU_MAP_DMA, &map)) {
        fail_errno("VFIO_IOMMU_MAP_DMA");
    }
}

static void unmap_dma(uint64_t iova, uint64_t size)
{
    struct vfio_iommu_type1_dma_unmap unmap = {
        .argsz = sizeof(unmap), .iova = iova, .size = size,
    };

    if (ioctl(container, VFIO_IOMMU_UNMAP_DMA, &unmap) || unmap.size != size) {
        fail_errno("VFIO_IOMMU_UNMAP_DMA");
    }
}

#define BOTH (VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE)

/* The device */

static void fill(volatile uint64_t *words, uint64_t seed, size_t len)
{
    for (size_t i = 0; i < len / 8; i++) {
        words[i] = (seed + i) * 0x9e3779b97f4a7c15ull;
    }
}

static bool holds(volatile uint64_t *words, uint64_t seed, size_t len)
{
    for (size_t i = 0; i < len / 8; i++) {
        if (words[i] != (seed + i) * 0x9e3779b97f4a7c15ull) {
            return false;
        }
    }
    return true;
}

static uint32_t dma(uint32_t command, uint64_t iova, uint32_t len)
{
    regs[NTD_REG_ADDRESS_LO / 4] = iova;
    regs[NTD_REG_ADDRESS_HI / 4] = iova >> 32;
    regs[NTD_REG_LENGTH / 4] = len;
    regs[NTD_REG_OFFSET / 4] = 0;
    regs[NTD_REG_COMMAND / 4] = command;
    return regs[NTD_REG_RESULT / 4];
}

/* Memory at @words, which the device sees at @iova, is reached both ways. */
static void must_work(void *words, uint64_t iova, size_t len, const char *what)
{
    fill(words, iova, len);
    fill(buffer, 0, len);
    if (dma(NTD_CMD_READ, iova, len) != NTD_RESULT_OK ||
        !holds(buffer, iova, len)) {
        fail(what);
    }
    fill(buffer, iova + 1, len);
    if (dma(NTD_CMD_WRITE, iova, len) != NTD_RESULT_OK ||
        !holds(words, iova + 1, len)) {
        fail(what);
    }
}

static void must_be_refused(uint32_t command, uint64_t iova, const char *what)
{
    if (dma(command, iova, 8) != NTD_RESULT_DMA_ERROR) {
        fail(what);
    }
    printf("refused %#" PRIx64 " %c\n", iova,
           command == NTD_CMD_READ ? 'r' : 'w');
}

/* Checks */

static void *memory(size_t size, int flags)
{
    void *p = mmap(NULL, size, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);

    if (p == MAP_FAILED) {
        fail_errno("memory");
    }
    return p;
}

static void check_window(void)
{
    uint8_t *own = memory(WINDOW_SIZE, 0);

    must_be_refused(NTD_CMD_WRITE, WINDOW, "DMA before anything is mapped");
    map_dma(own, WINDOW, WINDOW_SIZE, BOTH);
    must_work(own, WINDOW, WINDOW_SIZE, "DMA in the window");
    must_work(own + PAGE - 64, WINDOW + PAGE - 64, 128,
              "DMA from one page to the next");
    must_be_refused(NTD_CMD_READ, WINDOW - 8, "DMA before the window");
    must_be_refused(NTD_CMD_WRITE, WINDOW + WINDOW_SIZE,
                    "DMA after the window");
    unmap_dma(WINDOW, WINDOW_SIZE);
    fill((void *)own, 1, PAGE);
    must_be_refused(NTD_CMD_WRITE, WINDOW, "DMA after the mapping is gone");
    if (!holds((void *)own, 1, PAGE)) {
        fail("memory changed after the mapping was gone");
    }
}

static void check_read_only(void)
{
    uint64_t *own = memory(PAGE, 0);

    fill(own, 2, PAGE);
    map_dma(own, READ_ONLY, PAGE, VFIO_DMA_MAP_FLAG_READ);
    if (dma(NTD_CMD_READ, READ_ONLY, PAGE) != NTD_RESULT_OK ||
        !holds(buffer, 2, PAGE)) {
        fail("reading by DMA of what may be read");
    }
    fill(buffer, 3, PAGE);
    must_be_refused(NTD_CMD_WRITE, READ_ONLY, "writing to what may be read");
    if (!holds(own, 2, PAGE)) {
        fail("memory changed that may only be read");
    }
    unmap_dma(READ_ONLY, PAGE);
}

static void check_large_page(void)
{
    uint8_t *own = memory(LARGE_PAGE, MAP_HUGETLB);

    map_dma(own, LARGE, LARGE_PAGE, BOTH);
    must_work(own, LARGE, PAGE, "DMA at the begin of a large page");
    must_work(own + LARGE_PAGE - PAGE, LARGE + LARGE_PAGE - PAGE, PAGE,
              "DMA at the end of a large page");
    unmap_dma(LARGE, LARGE_PAGE);
    must_be_refused(NTD_CMD_READ, LARGE + LARGE_PAGE - PAGE,
                    "DMA after the large page is gone");
}

/* The same IOVA leads now here, now there, now nowhere. */
static void check_churn(void)
{
    uint8_t *own = memory(ROUNDS * PAGE, 0);

    for (int i = 0; i < ROUNDS; i++) {
        map_dma(own + i * PAGE, CHURN, PAGE, BOTH);
        must_work(own + i * PAGE, CHURN, PAGE, "DMA by a mapping anew");
        if (i && !holds((void *)(own + (i - 1) * PAGE), CHURN + 1, PAGE)) {
            fail("DMA went by a mapping that is gone");
        }
        unmap_dma(CHURN, PAGE);
        if (i % 4 == 0) {
            must_be_refused(NTD_CMD_WRITE, CHURN, "DMA between two mappings");
        }
    }
}

static void check_interrupt(void)
{
    struct {
        struct vfio_irq_set set;
        int32_t fd;
    } irq = {
        .set = {
            .argsz = sizeof(irq), .index = VFIO_PCI_MSIX_IRQ_INDEX, .count = 1,
            .flags = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER,
        },
        .fd = eventfd(0, EFD_CLOEXEC),
    };
    struct pollfd wait = { .fd = irq.fd, .events = POLLIN };

    if (irq.fd < 0 || ioctl(device, VFIO_DEVICE_SET_IRQS, &irq)) {
        fail_errno("VFIO_DEVICE_SET_IRQS");
    }
    regs[NTD_REG_VECTOR / 4] = 0;
    regs[NTD_REG_COMMAND / 4] = NTD_CMD_INTERRUPT;
    if (regs[NTD_REG_RESULT / 4] != NTD_RESULT_OK ||
        poll(&wait, 1, INTERRUPT_MS) != 1) {
        fail("the device's interrupt");
    }
}

int main(int argc, char **argv)
{
    if (argc != 3) {
        fprintf(stderr, "Usage: nyx-vfio PCI-ADDRESS GROUP\n");
        return 2;
    }
    open_group(argv[2]);
    open_device(argv[1]);
    check_window();
    check_read_only();
    check_large_page();
    check_churn();
    check_interrupt();
    return 0;
}
