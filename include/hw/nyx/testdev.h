/*
 * Nyx test device: register file
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Described in docs/nyx/testdev.rst.  Plain numbers only, so that tests and
 * programs inside a guest can include this file.
 */

#ifndef HW_NYX_TESTDEV_H
#define HW_NYX_TESTDEV_H

#define TYPE_NYX_TESTDEV        "nyx-testdev"

/*
 * Red Hat's vendor ID, of which 0000 to 00ff is QEMU's range for its own
 * devices.  00f0 is not assigned to any (docs/specs/pci-ids.rst of QEMU).
 */
#define NTD_VENDOR_ID           0x1b36
#define NTD_DEVICE_ID           0x00f0

/* BAR 0: registers; BAR 2: buffer (RAM); BAR 4: MSI-X */
#define NTD_BAR_REGISTERS       0
#define NTD_BAR_BUFFER          2
#define NTD_BAR_MSIX            4

#define NTD_REGISTERS_SIZE      0x1000
#define NTD_BUFFER_SIZE         0x100000
#define NTD_VECTORS             8       /* of MSI and of MSI-X */

/* Registers: 32 bits each, LO and HI are halves of one value */
#define NTD_REG_ID              0x000   /* RO */
#define NTD_REG_VERSION         0x004   /* RO */
#define NTD_REG_COMMAND         0x008   /* WO: runs a command */
#define NTD_REG_STATUS          0x00c   /* RO */
#define NTD_REG_RESULT          0x010   /* RO: of the latest command */
#define NTD_REG_SCRATCH         0x014
#define NTD_REG_RESETS          0x018   /* RO: resets since power-on */
#define NTD_REG_INTX            0x01c   /* bit 0: level of INTA# */
#define NTD_REG_ADDRESS_LO      0x020   /* where DMA goes */
#define NTD_REG_ADDRESS_HI      0x024
#define NTD_REG_LENGTH          0x028   /* bytes of one DMA */
#define NTD_REG_OFFSET          0x02c   /* in the buffer */
#define NTD_REG_FLAGS           0x030   /* of a bulk run */
#define NTD_REG_COUNT           0x034   /* DMAs in a bulk run; 0: no end */
#define NTD_REG_SLOTS           0x038   /* different addresses in it; 0 as 1 */
#define NTD_REG_SEED            0x03c
#define NTD_REG_STRIDE_LO       0x040   /* from one slot to the next */
#define NTD_REG_STRIDE_HI       0x044
#define NTD_REG_DONE_LO         0x050   /* RO, of the latest bulk run: DMAs */
#define NTD_REG_DONE_HI         0x054
#define NTD_REG_ERRORS_LO       0x058   /* RO: of these, refused */
#define NTD_REG_ERRORS_HI       0x05c
#define NTD_REG_FIRST_ERROR_LO  0x060   /* RO: address of the first refused */
#define NTD_REG_FIRST_ERROR_HI  0x064
#define NTD_REG_ELAPSED_LO      0x068   /* RO: nanoseconds that they took */
#define NTD_REG_ELAPSED_HI      0x06c
#define NTD_REG_MSI_ADDRESS_LO  0x070
#define NTD_REG_MSI_ADDRESS_HI  0x074
#define NTD_REG_MSI_DATA        0x078
#define NTD_REG_VECTOR          0x07c
#define NTD_REG_END             0x080

#define NTD_ID                  0x4458594e      /* "NYXD" in memory order */
#define NTD_VERSION             1

#define NTD_STATUS_BUSY         (1u << 0)       /* a bulk run is under way */

#define NTD_FLAG_WRITE          (1u << 0)       /* else the device reads */
#define NTD_FLAG_RANDOM         (1u << 1)       /* slots in random order */
#define NTD_FLAG_THREAD         (1u << 2)       /* in a thread of its own */
#define NTD_FLAG_STOP_ON_ERROR  (1u << 3)
#define NTD_FLAG_MAP            (1u << 4)       /* map the memory, then copy */
#define NTD_FLAG_MASK           0x1fu

#define NTD_CMD_READ            1   /* memory at ADDRESS to the buffer */
#define NTD_CMD_WRITE           2   /* the buffer to memory at ADDRESS */
#define NTD_CMD_START           3   /* start a bulk run */
#define NTD_CMD_STOP            4   /* end a bulk run early */
#define NTD_CMD_MESSAGE         5   /* write MSI_DATA to MSI_ADDRESS */
#define NTD_CMD_INTERRUPT       6   /* send vector VECTOR by MSI-X or MSI */

#define NTD_RESULT_OK           0
#define NTD_RESULT_BAD_COMMAND  1   /* no such command */
#define NTD_RESULT_BAD_ARGUMENT 2   /* outside of what the registers allow */
#define NTD_RESULT_BUSY         3   /* a bulk run is under way */
#define NTD_RESULT_DMA_ERROR    4   /* the access was refused */
#define NTD_RESULT_DISABLED     5   /* neither MSI-X nor MSI is enabled */

#endif
