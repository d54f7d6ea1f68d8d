/*
 * nyx-pc: failing storage in a program that has no such machine
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "nyx/include/hw/nyx/error-policy.h"

void nyx_block_error(BlockBackend *blk, BlockErrorAction action, bool is_read,
                     int error)
{
}
