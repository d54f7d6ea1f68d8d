/*
 * Nyx IOMMU: what a vfio-user server may say
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * QEMU's VFIO code trusts what a device says of itself, as the kernel has
 * checked it; here nobody has.  These functions do.
 */

#ifndef HW_IOMMU_NYX_VFIO_USER_CHECK_H
#define HW_IOMMU_NYX_VFIO_USER_CHECK_H

#include "hw/pci/pci_device.h"
#include "vfio-user-channel.h"

/* A request that QEMU has sent and that is not answered yet */
typedef struct VuRequest {
    QTAILQ_ENTRY(VuRequest) next;
    uint16_t id;
    uint16_t command;
    uint32_t size;              /* of the request */
    uint32_t reply_max;         /* what QEMU has room for */
    uint32_t region;            /* REGION_READ, _WRITE, GET_REGION_INFO */
    uint64_t offset;            /* REGION_READ, _WRITE; DMA_MAP: the IOVA */
    uint64_t count;             /* same; DMA_MAP: the size */
    bool settled;               /* the server has not got it */
    bool ours;                  /* QEMU has not asked, nor waits, for it */
    int64_t sent_ns;            /* host's clock */
} VuRequest;

/* What the server has said of the device so far */
typedef struct VuDevice {
    bool resets;
    uint64_t bar_size[PCI_ROM_SLOT];
    unsigned msi;               /* offset of the MSI capability; 0: none */
    bool sizing_rom;            /* QEMU has written ones to the ROM's BAR */
    bool map_unsealed;          /* let QEMU map files that may be truncated */
} VuDevice;

/* @msg: a request of QEMU's, which is trusted. */
void nyx_vu_request_init(VuRequest *req, const VuMessage *msg);

/* QEMU writes to a region. */
void nyx_vu_note_write(VuDevice *dev, const VuMessage *msg);

/*
 * NULL, or what is wrong with the answer.  Takes from it what QEMU is not to
 * have: the offer to map a file that the server could truncate.
 */
const char *nyx_vu_check_reply(VuDevice *dev, const VuRequest *req,
                               VuMessage *reply);

/* The same for a request of the server's, of which @head is the beginning. */
const char *nyx_vu_check_dma(const VFIOUserDMARW *head);

/* vfio-user-config.c: PCI configuration space of @size bytes, 256 or 4096. */
const char *nyx_vu_check_config(VuDevice *dev, const uint8_t *config,
                                size_t size);

/* Its MSI capability's message control register, or the first byte of it */
const char *nyx_vu_check_msi(const uint8_t *control, size_t size);

#endif
