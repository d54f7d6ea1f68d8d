/*
 * nyx-pc: the end of S3
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef NYX_WAKEUP_H
#define NYX_WAKEUP_H

#include "hw/core/boards.h"

/*
 * MachineClass.wakeup, around that of QEMU's @q35: the host bridge's window to
 * configuration space stays where it was.  SeaBIOS needs it to set up the
 * chipset again, but sets it up itself at a cold start only; without it the
 * guest wakes to a machine that has lost its ACPI registers (PMBASE), and with
 * them all further events.
 */
void nyx_wakeup(MachineState *machine, const MachineClass *q35);

#endif
