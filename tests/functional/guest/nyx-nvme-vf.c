/*
 * Virtualization management of an NVMe controller: what a VF needs to work
 *
 * nyx-nvme-vf DEVICE release       the flexible resources leave the controller;
 *                                  it must be reset before VFs are enabled
 * nyx-nvme-vf DEVICE online VFS    each VF gets 2 queues and 1 interrupt
 *
 * NVMe Base 2.0: 5.29 (virtualization management), 5.17.2.16 (secondary
 * controller list).
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>
#include <fcntl.h>
#include <linux/nvme_ioctl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

enum {
    IDENTIFY = 0x06,
    IDENTIFY_CONTROLLER = 0x01,
    IDENTIFY_SECONDARY = 0x15,
    IDENTIFY_SIZE = 4096,
    CONTROLLER_ID = 78,         /* of the identify controller data */
    SECONDARY_HEADER = 32,
    SECONDARY_SIZE = 32,
    SECONDARY_VF = 8,           /* VF number within an entry */

    VIRT_MANAGEMENT = 0x1c,
    ASSIGN_PRIMARY = 1,
    ASSIGN_SECONDARY = 8,
    SET_ONLINE = 9,
    QUEUES = 0,
    INTERRUPTS = 1,
};

static void admin(int fd, struct nvme_admin_cmd *cmd, const char *what)
{
    int status = ioctl(fd, NVME_IOCTL_ADMIN_CMD, cmd);

    if (status) {
        fprintf(stderr, "nyx-nvme-vf: %s: %s 0x%x\n", what,
                status < 0 ? strerror(errno) : "NVMe status", status);
        exit(1);
    }
}

static void identify(int fd, unsigned what, uint8_t *data)
{
    struct nvme_admin_cmd cmd = {
        .opcode = IDENTIFY,
        .addr = (uintptr_t)data,
        .data_len = IDENTIFY_SIZE,
        .cdw10 = what,
    };

    admin(fd, &cmd, "identify");
}

static uint16_t word(const uint8_t *data)
{
    return data[0] | data[1] << 8;
}

static void manage(int fd, uint16_t controller, unsigned action,
                   unsigned resource, unsigned number)
{
    struct nvme_admin_cmd cmd = {
        .opcode = VIRT_MANAGEMENT,
        .cdw10 = action | resource << 8 | (uint32_t)controller << 16,
        .cdw11 = number,
    };

    admin(fd, &cmd, "virtualization management");
}

static void release(int fd)
{
    uint8_t data[IDENTIFY_SIZE] = {};
    uint16_t id;

    identify(fd, IDENTIFY_CONTROLLER, data);
    id = word(data + CONTROLLER_ID);
    manage(fd, id, ASSIGN_PRIMARY, INTERRUPTS, 0);
    manage(fd, id, ASSIGN_PRIMARY, QUEUES, 0);
}

static void set_online(int fd, unsigned vfs)
{
    uint8_t data[IDENTIFY_SIZE] = {};

    identify(fd, IDENTIFY_SECONDARY, data);
    for (unsigned i = 0; i < data[0]; i++) {
        const uint8_t *entry = data + SECONDARY_HEADER + i * SECONDARY_SIZE;
        uint16_t vf = word(entry + SECONDARY_VF);

        if (vf >= 1 && vf <= vfs) {
            manage(fd, word(entry), ASSIGN_SECONDARY, INTERRUPTS, 1);
            manage(fd, word(entry), ASSIGN_SECONDARY, QUEUES, 2);
            manage(fd, word(entry), SET_ONLINE, 0, 0);
        }
    }
}

int main(int argc, char **argv)
{
    int fd = argc > 2 ? open(argv[1], O_RDWR) : -1;

    if (fd < 0) {
        fprintf(stderr, "usage: nyx-nvme-vf DEVICE release | online VFS\n");
        return 2;
    }
    if (!strcmp(argv[2], "release")) {
        release(fd);
    } else {
        set_online(fd, argc > 3 ? atoi(argv[3]) : 1);
    }
    return 0;
}
