/*
 * Nyx IOMMU: tests of what a vfio-user server may say
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Buffers are as long as what they hold, so that ASan sees who reads on.
 */

#include "qemu/osdep.h"
#include <linux/vfio.h>
#include "hw/pci/pci_regs.h"
#include "nyx-random.h"
#include "qemu/bswap.h"
#include "qemu/memfd.h"
#include "../../hw/iommu-nyx/vfio-user-check.h"

#define CONFIG_SIZE     256
#define EXPRESS_SIZE    4096

/* The channel */

static void make_pair(VuChannel *ours, int *theirs)
{
    int pair[2];

    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), ==, 0);
    nyx_vu_channel_init(ours, pair[0]);
    *theirs = pair[1];
}

/* A message comes whole, however its bytes come, with its descriptors. */
static void test_receive(void)
{
    VuMessage *sent = nyx_vu_message_new(40), *got;
    const char *broken = NULL;
    VuChannel from, to;
    int fd;

    make_pair(&to, &fd);
    nyx_vu_channel_init(&from, fd);
    sent->hdr->id = 7;
    memset(sent->hdr + 1, 0x5a, 24);
    sent->fd[sent->fds++] = dup(0);
    g_assert_null(nyx_vu_receive(&to, &broken));
    nyx_vu_send(&from, sent);
    g_assert_true(nyx_vu_flush(&from));
    g_assert_false(nyx_vu_sending(&from));
    got = nyx_vu_receive(&to, &broken);
    g_assert_nonnull(got);
    g_assert_null(broken);
    g_assert_cmpuint(got->hdr->id, ==, 7);
    g_assert_cmpuint(got->fds, ==, 1);
    g_assert_cmpint(((char *)got->hdr)[39], ==, 0x5a);
    nyx_vu_message_free(got);
    nyx_vu_channel_close(&from);
    g_assert_null(nyx_vu_receive(&to, &broken));
    g_assert_nonnull(broken);
    nyx_vu_channel_close(&to);
}

static void test_dribble(void)
{
    VFIOUserHdr hdr = { .id = 3, .size = sizeof(hdr) + 5 };
    char bytes[sizeof(hdr) + 5] = {};
    const char *broken = NULL;
    VuMessage *got = NULL;
    VuChannel to;
    int fd;

    make_pair(&to, &fd);
    memcpy(bytes, &hdr, sizeof(hdr));
    for (unsigned i = 0; i < sizeof(bytes); i++) {
        g_assert_null(got);
        g_assert_cmpint(write(fd, &bytes[i], 1), ==, 1);
        got = nyx_vu_receive(&to, &broken);
        g_assert_null(broken);
    }
    g_assert_nonnull(got);
    g_assert_cmpuint(got->hdr->size, ==, sizeof(bytes));
    nyx_vu_message_free(got);
    close(fd);
    nyx_vu_channel_close(&to);
}

static void test_sizes(void)
{
    static const uint32_t sizes[] = { 0, 15, VU_SIZE_MAX + 1, UINT32_MAX };

    for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++) {
        VFIOUserHdr hdr = { .size = sizes[i] };
        const char *broken = NULL;
        VuChannel to;
        int fd;

        make_pair(&to, &fd);
        g_assert_cmpint(write(fd, &hdr, sizeof(hdr)), ==, sizeof(hdr));
        g_assert_null(nyx_vu_receive(&to, &broken));
        g_assert_nonnull(broken);
        close(fd);
        nyx_vu_channel_close(&to);
    }
}

/* Configuration space */

static const VuDevice with_bar = { .bar_size = { 0x1000 } };

/* As QEMU's VFIO code walks it; false if that would never end, or overrun. */
static bool can_walk(const uint8_t *config, size_t size)
{
    unsigned at, steps = 0;

    if (lduw_le_p(config + PCI_STATUS) & PCI_STATUS_CAP_LIST) {
        for (at = config[PCI_CAPABILITY_LIST]; at; at = config[at + 1]) {
            if (++steps > CONFIG_SIZE / 4 || at < 0x40 || at > 0xfc) {
                return false;
            }
        }
    }
    if (size == EXPRESS_SIZE && ldl_le_p(config + 0x100)) {
        for (at = 0x100, steps = 0; at;
             at = PCI_EXT_CAP_NEXT(ldl_le_p(config + at))) {
            if (++steps > EXPRESS_SIZE / 4 || at < 0x100 || at > 0xff8) {
                return false;
            }
        }
    }
    return true;
}

static const char *check(const uint8_t *config, size_t size)
{
    g_autofree uint8_t *copy = g_memdup2(config, size);
    VuDevice dev = with_bar;

    return nyx_vu_check_config(&dev, copy, size);
}

static void test_sound_config(void)
{
    uint8_t config[EXPRESS_SIZE] = {};

    g_assert_null(check(config, CONFIG_SIZE));
    g_assert_null(check(config, EXPRESS_SIZE));
    config[PCI_STATUS] = PCI_STATUS_CAP_LIST;
    config[PCI_CAPABILITY_LIST] = 0x40;
    memcpy(config + 0x40, (uint8_t[]) { PCI_CAP_ID_MSIX, 0x50, 3, 0, 0, 8, 0, 0,
                                        0, 0xc, 0, 0 }, 12);
    memcpy(config + 0x50, (uint8_t[]) { PCI_CAP_ID_EXP, 0x80 }, 2);
    memcpy(config + 0x80, (uint8_t[]) { PCI_CAP_ID_MSI, 0, 5 << 1 }, 3);
    stl_le_p(config + 0x100, 0x14810001);
    stl_le_p(config + 0x148, 0x00010003);
    g_assert_null(check(config, CONFIG_SIZE));
    g_assert_null(check(config, EXPRESS_SIZE));
    config[0x82] = 6 << 1;
    g_assert_nonnull(check(config, CONFIG_SIZE));
}

/* Whatever is accepted can be walked, and some of it is accepted. */
static void test_random_config(void)
{
    NyxRandom rng = nyx_random_start();
    g_autofree uint8_t *config = g_malloc0(EXPRESS_SIZE);
    unsigned accepted = 0, refused = 0;

    for (unsigned round = 0; round < 200000; round++) {
        size_t size = nyx_random_below(&rng, 2) ? CONFIG_SIZE : EXPRESS_SIZE;
        unsigned caps = nyx_random_below(&rng, 5);
        unsigned at = PCI_CAPABILITY_LIST;

        memset(config, 0, EXPRESS_SIZE);
        config[PCI_STATUS] = PCI_STATUS_CAP_LIST;
        for (unsigned i = 0; i < caps; i++) {
            uint8_t to = 0x3c + 4 * nyx_random_below(&rng, 49) +
                         !nyx_random_below(&rng, 40);

            config[at] = to;
            config[to] = nyx_random_below(&rng, 0x15);
            at = to + 1 < CONFIG_SIZE ? to + 1 : to;
        }
        at = 0x100;
        for (unsigned i = 0; i < caps; i++) {
            unsigned to = 0xf8 + 4 * nyx_random_below(&rng, 0x3c2);

            stl_le_p(config + at, (to & 0xffc) << 20 | 0x10000 |
                                  nyx_random_below(&rng, 0x20));
            at = to <= EXPRESS_SIZE - 4 ? to : 0x100;
        }
        if (check(config, size)) {
            refused++;
        } else {
            accepted++;
            g_assert_true(can_walk(config, size));
        }
    }
    g_assert_cmpuint(accepted, >, 1000);
    g_assert_cmpuint(refused, >, 1000);
}

/* Answers */

static VuMessage *new_reply(uint16_t command, size_t size)
{
    VuMessage *msg = nyx_vu_message_new(size);

    msg->hdr->command = command;
    msg->hdr->flags = VFIO_USER_REPLY;
    return msg;
}

static void test_random_reply(void)
{
    NyxRandom rng = nyx_random_start();
    unsigned accepted = 0;

    for (unsigned round = 0; round < 300000; round++) {
        VuRequest req = {
            .command = 1 + nyx_random_below(&rng, 16),
            .region = nyx_random_below(&rng, 9),
            .offset = nyx_random_below(&rng, 2) ? 0x30 : 0,
            .count = nyx_random_below(&rng, 300),
            .reply_max = 16 + nyx_random_below(&rng, 400),
        };
        size_t size = 16 + nyx_random_below(&rng, 400);
        VuMessage *msg = new_reply(req.command, size);
        VuDevice dev = { .sizing_rom = nyx_random_below(&rng, 2),
                         .msi = nyx_random_below(&rng, 2) ? 0x2e : 0 };
        uint8_t *body = (uint8_t *)(msg->hdr + 1);

        for (size_t i = 0; i < size - sizeof(*msg->hdr); i++) {
            body[i] = nyx_random_below(&rng, 3) ? 0
                                                : nyx_random_below(&rng, 256);
        }
        if (req.command == VFIO_USER_DEVICE_GET_REGION_INFO && size >= 48) {
            VFIOUserRegionInfo *info = (VFIOUserRegionInfo *)msg->hdr;

            info->index = req.region;
            info->argsz = nyx_random_below(&rng, 400);
            info->cap_offset = nyx_random_below(&rng, 400);
            info->size = nyx_random_below(&rng, 2) ? 4096 : 256;
            msg->fd[msg->fds++] = dup(0);
        }
        if (!nyx_vu_check_reply(&dev, &req, msg)) {
            accepted++;
            g_assert_cmpuint(size, <=, req.reply_max);
            if (req.command == VFIO_USER_DEVICE_GET_REGION_INFO) {
                VFIOUserRegionInfo *info = (VFIOUserRegionInfo *)msg->hdr;

                g_assert_cmpuint(msg->fds, ==, 0);
                g_assert_true(info->argsz > req.reply_max - 16 ||
                              !(info->flags & VFIO_REGION_INFO_FLAG_CAPS));
            }
        }
        nyx_vu_message_free(msg);
    }
    g_assert_cmpuint(accepted, >, 10000);
}

/* Is a region that is backed by a file of 8 KiB offered for mapping? */
static bool is_offered(int fd, uint64_t size, uint64_t next, bool trusted)
{
    size_t bytes = sizeof(VFIOUserRegionInfo) +
                   sizeof(struct vfio_region_info_cap_sparse_mmap) + 16;
    VuMessage *msg = new_reply(VFIO_USER_DEVICE_GET_REGION_INFO, bytes);
    VFIOUserRegionInfo *info = (VFIOUserRegionInfo *)msg->hdr;
    VuRequest req = {
        .command = VFIO_USER_DEVICE_GET_REGION_INFO, .reply_max = bytes,
    };
    struct vfio_region_info_cap_sparse_mmap sparse = {
        .header = { .id = VFIO_REGION_INFO_CAP_SPARSE_MMAP, .next = next },
        .nr_areas = 1,
    };
    VuDevice dev = { .map_unsealed = trusted };
    const char *why;
    bool offered;

    info->argsz = bytes - sizeof(VFIOUserHdr);
    info->flags = VFIO_REGION_INFO_FLAG_MMAP | VFIO_REGION_INFO_FLAG_CAPS;
    info->cap_offset = sizeof(*info) - sizeof(VFIOUserHdr);
    info->size = size;
    memcpy(info + 1, &sparse, sizeof(sparse));
    msg->fd[msg->fds++] = dup(fd);
    why = nyx_vu_check_reply(&dev, &req, msg);
    offered = !why && (info->flags & VFIO_REGION_INFO_FLAG_MMAP);
    g_assert_cmpint(offered, ==, !why && msg->fds);
    nyx_vu_message_free(msg);
    return offered;
}

static void test_mapping(void)
{
    int fd = memfd_create("test", MFD_ALLOW_SEALING);

    g_assert_cmpint(ftruncate(fd, 8192), ==, 0);
    g_assert_false(is_offered(fd, 8192, 0, false));
    g_assert_true(is_offered(fd, 8192, 0, true));
    g_assert_cmpint(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK), ==, 0);
    g_assert_true(is_offered(fd, 8192, 0, false));
    /* Not past the end of the file, and not with capabilities in a circle. */
    g_assert_false(is_offered(fd, 16384, 0, true));
    g_assert_false(is_offered(fd, 8192, 32, false));
    g_assert_false(is_offered(fd, 8192, 60, false));
    close(fd);
}

static void test_dma(void)
{
    VFIOUserDMARW rw = {
        .hdr = { .command = VFIO_USER_DMA_READ, .size = sizeof(rw) },
        .count = VFIO_USER_DEF_MAX_XFER,
    };

    g_assert_null(nyx_vu_check_dma(&rw));
    rw.count++;
    g_assert_nonnull(nyx_vu_check_dma(&rw));
    rw.count = UINT64_MAX;
    g_assert_nonnull(nyx_vu_check_dma(&rw));
    rw.hdr.command = VFIO_USER_DMA_WRITE;
    rw.count = 8;
    g_assert_nonnull(nyx_vu_check_dma(&rw));
    rw.hdr.size += 8;
    g_assert_null(nyx_vu_check_dma(&rw));
    rw.hdr.flags = VFIO_USER_REPLY;
    g_assert_nonnull(nyx_vu_check_dma(&rw));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/nyx/vfio-user/receive", test_receive);
    g_test_add_func("/nyx/vfio-user/dribble", test_dribble);
    g_test_add_func("/nyx/vfio-user/sizes", test_sizes);
    g_test_add_func("/nyx/vfio-user/config", test_sound_config);
    g_test_add_func("/nyx/vfio-user/random-config", test_random_config);
    g_test_add_func("/nyx/vfio-user/random-reply", test_random_reply);
    g_test_add_func("/nyx/vfio-user/mapping", test_mapping);
    g_test_add_func("/nyx/vfio-user/dma", test_dma);
    return g_test_run();
}
