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
 * configuration space (MMCONFIG) stays open where it was, until the next reset.
 * SeaBIOS sets up the chipset again by it, but opens it at a cold start only;
 * and it then closes it, to go on by what it has closed.  Without it the guest
 * wakes to a machine that has lost its ACPI registers (PMBASE), and with them
 * all further events, and extended configuration space.
 */
void nyx_wakeup(MachineState *machine, const MachineClass *q35);

#endif
