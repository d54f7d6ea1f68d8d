/*
 * Nyx IOMMU: what a vfio-user server may say
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <linux/vfio.h>
#include "hw/pci/pci.h"
#include "vfio-user-check.h"

#define BODY(msg, type) ((type *)(msg)->hdr)

#define VERSION_MAX 4096

void nyx_vu_request_init(VuRequest *req, const VuMessage *msg)
{
    const VFIOUserHdr *hdr = msg->hdr;

    *req = (VuRequest) {
        .id = hdr->id,
        .command = hdr->command,
        .size = hdr->size,
        .reply_max = hdr->size,
    };
    switch (hdr->command) {
    case VFIO_USER_VERSION:
        req->reply_max = VERSION_MAX;   /* more than what reaches QEMU */
        break;
    case VFIO_USER_DMA_MAP:
        req->offset = BODY(msg, VFIOUserDMAMap)->iova;
        req->count = BODY(msg, VFIOUserDMAMap)->size;
        break;
    case VFIO_USER_DEVICE_GET_REGION_INFO:
        req->region = BODY(msg, VFIOUserRegionInfo)->index;
        req->reply_max = sizeof(*hdr) + BODY(msg, VFIOUserRegionInfo)->argsz;
        break;
    case VFIO_USER_REGION_READ:
    case VFIO_USER_REGION_WRITE:
        req->region = BODY(msg, VFIOUserRegionRW)->region;
        req->offset = BODY(msg, VFIOUserRegionRW)->offset;
        req->count = BODY(msg, VFIOUserRegionRW)->count;
        if (hdr->command == VFIO_USER_REGION_READ) {
            req->reply_max += req->count;
        }
        break;
    }
}

void nyx_vu_note_write(VuDevice *dev, const VuMessage *msg)
{
    const VFIOUserRegionRW *rw = BODY(msg, VFIOUserRegionRW);

    if (rw->region == VFIO_PCI_CONFIG_REGION_INDEX && rw->count == 4 &&
        rw->offset == PCI_ROM_ADDRESS) {
        dev->sizing_rom = ldl_le_p(rw->data) == (uint32_t)PCI_ROM_ADDRESS_MASK;
    }
}

/* Can QEMU map the file without a SIGBUS to fear? */
static bool is_mappable(const VuDevice *dev, const VuMessage *reply)
{
    const VFIOUserRegionInfo *info = BODY(reply, VFIOUserRegionInfo);
    struct stat st;
    int seals;

    if (reply->fds != 1 || fstat(reply->fd[0], &st) ||
        info->offset > INT64_MAX - info->size ||
        info->offset + info->size > st.st_size) {
        return false;
    }
    seals = fcntl(reply->fd[0], F_GET_SEALS);
    return dev->map_unsealed || (seals >= 0 && (seals & F_SEAL_SHRINK));
}

#define CAPS_MAX    16
#define ARGSZ_MAX   4096

/* Each within the reply, and further on than the one before. */
static bool caps_are_sound(const VuMessage *reply)
{
    const VFIOUserRegionInfo *info = BODY(reply, VFIOUserRegionInfo);
    const char *base = (const char *)reply->hdr + sizeof(VFIOUserHdr);
    size_t size = MIN(reply->hdr->size - sizeof(VFIOUserHdr), info->argsz);
    struct vfio_region_info_cap_sparse_mmap sparse;
    uint32_t at = info->cap_offset, before = 0;

    for (unsigned n = 0; at; n++) {
        if (n == CAPS_MAX || at <= before || at > size ||
            size - at < sizeof(sparse.header)) {
            return false;
        }
        memcpy(&sparse.header, base + at, sizeof(sparse.header));
        if (sparse.header.id == VFIO_REGION_INFO_CAP_SPARSE_MMAP) {
            if (size - at < sizeof(sparse)) {
                return false;
            }
            memcpy(&sparse, base + at, sizeof(sparse));
            if (sparse.nr_areas > (size - at - sizeof(sparse)) /
                                  sizeof(sparse.areas[0])) {
                return false;
            }
            for (unsigned i = 0; i < sparse.nr_areas; i++) {
                struct vfio_region_sparse_mmap_area area;

                memcpy(&area, base + at + sizeof(sparse) + i * sizeof(area),
                       sizeof(area));
                if (area.offset > info->size ||
                    area.size > info->size - area.offset) {
                    return false;
                }
            }
        }
        before = at;
        at = sparse.header.next;
    }
    return true;
}

static const char *check_region_info(VuDevice *dev, const VuRequest *req,
                                     VuMessage *reply)
{
    VFIOUserRegionInfo *info = BODY(reply, VFIOUserRegionInfo);

    if (info->index != req->region) {
        return "describes another region than it was asked for";
    }
    if (info->index < PCI_ROM_SLOT) {
        /* PCI Local Bus 3.0, section 6.2.5.1 */
        if (info->size && (!is_power_of_2(info->size) || info->size < 4 ||
                           info->size > INT64_MAX)) {
            return "has a BAR whose size is no power of 2";
        }
        dev->bar_size[info->index] = info->size;
    }
    if (info->index == VFIO_PCI_CONFIG_REGION_INDEX &&
        info->size != PCI_CONFIG_SPACE_SIZE &&
        info->size != PCIE_CONFIG_SPACE_SIZE) {
        return "has a configuration space of neither 256 nor 4096 bytes";
    }
    if (info->argsz > req->reply_max - sizeof(VFIOUserHdr)) {
        /* QEMU asks again, with more room. */
        nyx_vu_message_close_fds(reply);
        return info->argsz > ARGSZ_MAX ? "has too much to say of a region"
                                       : NULL;
    }
    if (info->argsz > reply->hdr->size - sizeof(VFIOUserHdr)) {
        return "sends an answer that is too short";
    }
    if (!(info->flags & VFIO_REGION_INFO_FLAG_MMAP) ||
        !is_mappable(dev, reply)) {
        nyx_vu_message_close_fds(reply);
        info->flags &= ~(VFIO_REGION_INFO_FLAG_MMAP |
                         VFIO_REGION_INFO_FLAG_CAPS);
        info->cap_offset = 0;
    }
    if ((info->flags & VFIO_REGION_INFO_FLAG_CAPS) && !caps_are_sound(reply)) {
        return "describes a region with capabilities that cannot be";
    }
    return NULL;
}

static const char *check_rom_size(const VFIOUserRegionRW *rw)
{
    uint32_t size = -(ldl_le_p(rw->data) & (uint32_t)PCI_ROM_ADDRESS_MASK);

    return size && !is_power_of_2(size)
           ? "has an expansion ROM whose size is no power of 2" : NULL;
}

static const char *check_read(VuDevice *dev, const VuRequest *req,
                              VuMessage *reply)
{
    const VFIOUserRegionRW *rw = BODY(reply, VFIOUserRegionRW);

    if (rw->count != req->count ||
        reply->hdr->size != sizeof(*rw) + req->count) {
        return "answers with another amount of data than it was asked for";
    }
    if (req->region != VFIO_PCI_CONFIG_REGION_INDEX) {
        return NULL;
    }
    if (req->offset == PCI_ROM_ADDRESS && req->count == 4 && dev->sizing_rom) {
        return check_rom_size(rw);
    }
    if (dev->msi && req->offset == dev->msi + PCI_MSI_FLAGS) {
        return nyx_vu_check_msi((const uint8_t *)rw->data, rw->count);
    }
    if (!req->offset && req->count >= PCI_CONFIG_SPACE_SIZE) {
        return nyx_vu_check_config(dev, (const uint8_t *)rw->data, rw->count);
    }
    return NULL;
}

static size_t least_size(uint16_t command)
{
    switch (command) {
    case VFIO_USER_VERSION:
        return sizeof(VFIOUserVersion);
    case VFIO_USER_DEVICE_GET_INFO:
        return sizeof(VFIOUserDeviceInfo);
    case VFIO_USER_DEVICE_GET_REGION_INFO:
        return sizeof(VFIOUserRegionInfo);
    case VFIO_USER_DEVICE_GET_IRQ_INFO:
        return sizeof(VFIOUserIRQInfo);
    case VFIO_USER_REGION_READ:
    case VFIO_USER_REGION_WRITE:
        return sizeof(VFIOUserRegionRW);
    case VFIO_USER_DEVICE_FEATURE:
        return sizeof(VFIOUserDeviceFeature);
    default:
        return sizeof(VFIOUserHdr);
    }
}

const char *nyx_vu_check_reply(VuDevice *dev, const VuRequest *req,
                               VuMessage *reply)
{
    const VFIOUserHdr *hdr = reply->hdr;

    if (hdr->command != req->command) {
        return "answers another command than it was given";
    }
    if (hdr->size > req->reply_max) {
        return "answers with more than there is room for";
    }
    if (reply->fds && req->command != VFIO_USER_VERSION &&
        req->command != VFIO_USER_DEVICE_GET_REGION_INFO) {
        return "sends descriptors that nobody asked for";
    }
    if (hdr->flags & VFIO_USER_ERROR) {
        nyx_vu_message_close_fds(reply);
        return req->command == VFIO_USER_REGION_READ &&
               req->region == VFIO_PCI_CONFIG_REGION_INDEX
               ? "refuses to show its configuration space" : NULL;
    }
    if (hdr->size < least_size(req->command)) {
        return "sends an answer that is too short";
    }
    switch (req->command) {
    case VFIO_USER_DEVICE_GET_INFO:
        dev->resets = BODY(reply, VFIOUserDeviceInfo)->flags &
                      VFIO_DEVICE_FLAGS_RESET;
        return NULL;
    case VFIO_USER_DEVICE_GET_REGION_INFO:
        return check_region_info(dev, req, reply);
    case VFIO_USER_REGION_READ:
        return check_read(dev, req, reply);
    default:
        return NULL;
    }
}

const char *nyx_vu_check_dma(const VFIOUserDMARW *head)
{
    size_t data = head->hdr.command == VFIO_USER_DMA_WRITE ? head->count : 0;

    if ((head->hdr.flags & VFIO_USER_TYPE) != VFIO_USER_REQUEST ||
        (head->hdr.command != VFIO_USER_DMA_READ &&
         head->hdr.command != VFIO_USER_DMA_WRITE)) {
        return "sends something else than a request for DMA";
    }
    if (head->count > VFIO_USER_DEF_MAX_XFER ||
        head->hdr.size != sizeof(*head) + data) {
        return "sends a request for DMA of a size that cannot be";
    }
    return NULL;
}
