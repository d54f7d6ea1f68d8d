/*
 * A vfio-user server with a PCI device that does DMA on command
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * nyx-vfio-user-server SOCKET
 *
 * Says on stdout, a line each, what it is told: "listening", "attached",
 * "dma-map FIRST SIZE ACCESS DESCRIPTOR", "dma-unmap FIRST SIZE", "reset",
 * "detached".  ACCESS is r, rw or, for a window without descriptor of which
 * libvfio-user does not say, -; DESCRIPTOR is 1 or 0.  Ends when QEMU leaves.
 *
 * BAR 0, registers of 64 bits (little endian):
 *   0x00 r   identification
 *   0x08 rw  address of DMA
 *   0x10 rw  size of DMA in bytes, 1 MiB at most
 *   0x18 rw  data: a word to write all over; what a read found first
 *   0x20 w   command: 1 read, 2 write, 3 interrupt (data: MSI-X vector),
 *            4 leave without a word, 5 never return
 *   0x28 r   result of the last command: 0, or an errno
 *   0x30 r   how the last DMA went: 1 through a mapping, 2 by message
 *   0x38 r   read memory now, while QEMU waits for the register: the word that
 *            is at the address; all-ones if it cannot be read
 * BAR 1: MSI-X table at 0, PBA at 0x800.
 */

#include <err.h>
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "libvfio-user.h"
#include "pci_caps/msix.h"

#define IDENTIFICATION  0x6e79782d76667573ULL
#define VECTORS         4
#define SIZE_MAX_DMA    (1 << 20)
#define BAR_SIZE        4096
#define PBA_OFFSET      0x800

enum {
    REG_ID = 0x00,
    REG_ADDRESS = 0x08,
    REG_SIZE = 0x10,
    REG_DATA = 0x18,
    REG_COMMAND = 0x20,
    REG_RESULT = 0x28,
    REG_WAY = 0x30,
    REG_READ_NOW = 0x38,
};

enum { COMMAND_READ = 1, COMMAND_WRITE, COMMAND_IRQ, COMMAND_LEAVE,
       COMMAND_HANG };
enum { WAY_MAPPING = 1, WAY_MESSAGE };

typedef struct Device {
    uint64_t address, size, data, result, way;
} Device;

/* One piece of guest memory, inside one window */
static int transfer_piece(vfu_ctx_t *ctx, Device *dev, dma_sg_t *sg,
                          void *buffer, size_t size, bool write)
{
    struct iovec iov;

    if (vfu_sgl_get(ctx, sg, &iov, 1, 0) == 0) {
        dev->way = WAY_MAPPING;
        if (write) {
            memcpy(iov.iov_base, buffer, size);
        } else {
            memcpy(buffer, iov.iov_base, size);
        }
        vfu_sgl_put(ctx, sg, &iov, 1);
        return 0;
    }
    dev->way = WAY_MESSAGE;
    return write ? vfu_sgl_write(ctx, sg, 1, buffer, 0)
                 : vfu_sgl_read(ctx, sg, 1, buffer, 0);
}

/* 0 or an errno; DMA that crosses windows is not this device's. */
static int transfer(vfu_ctx_t *ctx, Device *dev, void *buffer, size_t size,
                    bool write)
{
    dma_sg_t *sg = calloc(1, dma_sg_size());
    int ret = 0;

    if (!sg) {
        return ENOMEM;
    }
    if (vfu_addr_to_sgl(ctx, (vfu_dma_addr_t)(uintptr_t)dev->address, size, sg,
                        1, write ? PROT_WRITE : PROT_READ) != 1 ||
        transfer_piece(ctx, dev, sg, buffer, size, write)) {
        ret = errno ? errno : EFAULT;
    }
    free(sg);
    return ret;
}

static int run_dma(vfu_ctx_t *ctx, Device *dev, bool write)
{
    uint64_t *buffer;
    int ret;

    if (!dev->size || dev->size > SIZE_MAX_DMA) {
        return EINVAL;
    }
    buffer = malloc((dev->size + 7) & ~7ULL);
    if (!buffer) {
        return ENOMEM;
    }
    for (uint64_t i = 0; i < (dev->size + 7) / 8; i++) {
        buffer[i] = dev->data;
    }
    ret = transfer(ctx, dev, buffer, dev->size, write);
    if (!ret && !write) {
        dev->data = buffer[0];
    }
    free(buffer);
    return ret;
}

static uint64_t read_now(vfu_ctx_t *ctx, Device *dev)
{
    uint64_t word = UINT64_MAX;

    dev->result = transfer(ctx, dev, &word, sizeof(word), false);
    return dev->result ? UINT64_MAX : word;
}

static void run_command(vfu_ctx_t *ctx, Device *dev, uint64_t command)
{
    switch (command) {
    case COMMAND_READ:
    case COMMAND_WRITE:
        dev->result = run_dma(ctx, dev, command == COMMAND_WRITE);
        break;
    case COMMAND_IRQ:
        dev->result = vfu_irq_trigger(ctx, dev->data) < 0 ? errno : 0;
        break;
    case COMMAND_LEAVE:
        _exit(0);
    case COMMAND_HANG:
        for (;;) {
            pause();
        }
    default:
        dev->result = EINVAL;
    }
}

static void write_register(vfu_ctx_t *ctx, Device *dev, uint64_t offset,
                           uint64_t value)
{
    switch (offset) {
    case REG_ADDRESS:
        dev->address = value;
        break;
    case REG_SIZE:
        dev->size = value;
        break;
    case REG_DATA:
        dev->data = value;
        break;
    case REG_COMMAND:
        run_command(ctx, dev, value);
        break;
    }
}

static uint64_t read_register(vfu_ctx_t *ctx, Device *dev, uint64_t offset)
{
    switch (offset) {
    case REG_ID:
        return IDENTIFICATION;
    case REG_ADDRESS:
        return dev->address;
    case REG_SIZE:
        return dev->size;
    case REG_DATA:
        return dev->data;
    case REG_RESULT:
        return dev->result;
    case REG_WAY:
        return dev->way;
    case REG_READ_NOW:
        return read_now(ctx, dev);
    default:
        return 0;
    }
}

static ssize_t access_bar0(vfu_ctx_t *ctx, char *buf, size_t count,
                           loff_t offset, bool is_write)
{
    Device *dev = vfu_get_private(ctx);
    uint64_t value = 0;

    if (count > sizeof(value)) {
        errno = EINVAL;
        return -1;
    }
    if (is_write) {
        memcpy(&value, buf, count);
        write_register(ctx, dev, offset, value);
    } else {
        value = read_register(ctx, dev, offset);
        memcpy(buf, &value, count);
    }
    return count;
}

/* QEMU keeps the table; nobody is left to read it here. */
static ssize_t access_bar1(vfu_ctx_t *ctx, char *buf, size_t count,
                           loff_t offset, bool is_write)
{
    if (!is_write) {
        memset(buf, 0, count);
    }
    return count;
}

static void on_map(vfu_ctx_t *ctx, vfu_dma_info_t *info)
{
    const char *access = !info->prot ? "-" :
                         info->prot & PROT_WRITE ? "rw" : "r";

    printf("dma-map 0x%lx 0x%zx %s %d\n", (unsigned long)info->iova.iov_base,
           info->iova.iov_len, access, info->vaddr != NULL);
}

static void on_unmap(vfu_ctx_t *ctx, vfu_dma_info_t *info)
{
    printf("dma-unmap 0x%lx 0x%zx\n", (unsigned long)info->iova.iov_base,
           info->iova.iov_len);
}

static int on_reset(vfu_ctx_t *ctx, vfu_reset_type_t type)
{
    if (type != VFU_RESET_LOST_CONN) {
        memset(vfu_get_private(ctx), 0, sizeof(Device));
        printf("reset\n");
    }
    return 0;
}

static void on_log(vfu_ctx_t *ctx, int level, const char *text)
{
    fprintf(stderr, "libvfio-user: %s\n", text);
}

static bool set_up_pci(vfu_ctx_t *ctx)
{
    struct msixcap msix = {
        .hdr.id = PCI_CAP_ID_MSIX,
        .mxc.ts = VECTORS - 1,
        .mtab = { .tbir = 1 },
        .mpba = { .pbir = 1, .pbao = PBA_OFFSET >> 3 },
    };
    int flags = VFU_REGION_FLAG_RW | VFU_REGION_FLAG_MEM;

    if (vfu_pci_init(ctx, VFU_PCI_TYPE_CONVENTIONAL, PCI_HEADER_TYPE_NORMAL,
                     0) < 0) {
        return false;
    }
    vfu_pci_set_id(ctx, 0x1b36, 0x7678, 0x1af4, 0x1100);
    vfu_pci_set_class(ctx, 0xff, 0, 0);
    return !vfu_setup_region(ctx, VFU_PCI_DEV_BAR0_REGION_IDX, BAR_SIZE,
                             access_bar0, flags, NULL, 0, -1, 0) &&
           !vfu_setup_region(ctx, VFU_PCI_DEV_BAR1_REGION_IDX, BAR_SIZE,
                             access_bar1, flags, NULL, 0, -1, 0) &&
           vfu_pci_add_capability(ctx, 0, 0, &msix) > 0 &&
           !vfu_setup_device_nr_irqs(ctx, VFU_DEV_INTX_IRQ, 1) &&
           !vfu_setup_device_nr_irqs(ctx, VFU_DEV_MSIX_IRQ, VECTORS);
}

int main(int argc, char **argv)
{
    static Device dev;
    vfu_ctx_t *ctx;

    if (argc != 2) {
        errx(1, "usage: nyx-vfio-user-server SOCKET");
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    ctx = vfu_create_ctx(VFU_TRANS_SOCK, argv[1], 0, &dev, VFU_DEV_TYPE_PCI);
    if (!ctx || vfu_setup_log(ctx, on_log, 3 /* LOG_ERR */) < 0 ||
        !set_up_pci(ctx) || vfu_setup_device_reset_cb(ctx, on_reset) < 0 ||
        vfu_setup_device_dma(ctx, LIBVFIO_USER_MAX_DMA_REGIONS, on_map,
                             on_unmap) < 0 ||
        vfu_realize_ctx(ctx) < 0) {
        err(1, "%s", argv[1]);
    }
    printf("listening\n");
    if (vfu_attach_ctx(ctx) < 0) {
        err(1, "no client");
    }
    printf("attached\n");
    while (vfu_run_ctx(ctx) >= 0 || errno == EAGAIN) {
        ;
    }
    printf("detached\n");
    vfu_destroy_ctx(ctx);
    return 0;
}
