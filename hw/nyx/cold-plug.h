/*
 * nyx-pc: views of memory while the devices of the command line come
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Each device has a view of memory of its own, and QEMU renders all of them
 * anew when one has changed: for each device that comes, those of all that are
 * there.  So the views are held until the last one has come.  Nobody looks into
 * them before that, but for those for whom the holding is interrupted.
 *
 * Locking: BQL.
 */

#ifndef HW_NYX_COLD_PLUG_H
#define HW_NYX_COLD_PLUG_H

#include "qemu/notify.h"

typedef enum NyxColdPlugState {
    NYX_COLD_PLUG_OFF,          /* the machine is not there yet, or done */
    NYX_COLD_PLUG_HELD,
    NYX_COLD_PLUG_INTERRUPTED,
} NyxColdPlugState;

/* OFF -begin-> HELD <-interrupt, resume-> INTERRUPTED; -machine done-> OFF */
typedef struct NyxColdPlug {
    NyxColdPlugState state;
    Notifier machine_done;
} NyxColdPlug;

/* Before there is any bus. */
void nyx_cold_plug_init(NyxColdPlug *c);

/* The machine is there; the user's devices come next. */
void nyx_cold_plug_begin(NyxColdPlug *c);

/*
 * Around the realization of a device that looks at memory as it is.  Nothing
 * while nothing is held.
 */
void nyx_cold_plug_interrupt(NyxColdPlug *c);
void nyx_cold_plug_resume(NyxColdPlug *c);

#endif
