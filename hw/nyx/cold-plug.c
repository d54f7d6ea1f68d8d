/*
 * nyx-pc: views of memory while the devices of the command line come
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "cold-plug.h"
#include "system/memory.h"
#include "system/system.h"

static void hold(NyxColdPlug *c)
{
    c->state = NYX_COLD_PLUG_HELD;
    memory_region_transaction_begin();
}

static void let_go(NyxColdPlug *c, NyxColdPlugState state)
{
    if (c->state == NYX_COLD_PLUG_HELD) {
        memory_region_transaction_commit();
    }
    c->state = state;
}

/*
 * Buses let their devices see memory when the machine is done.  The latest
 * notifier is called first: after those of all buses, before that of the PC,
 * which was there before the board.
 */
static void machine_done(Notifier *notifier, void *data)
{
    let_go(container_of(notifier, NyxColdPlug, machine_done),
           NYX_COLD_PLUG_OFF);
}

void nyx_cold_plug_init(NyxColdPlug *c)
{
    c->machine_done.notify = machine_done;
    qemu_add_machine_init_done_notifier(&c->machine_done);
}

void nyx_cold_plug_begin(NyxColdPlug *c)
{
    hold(c);
}

void nyx_cold_plug_interrupt(NyxColdPlug *c)
{
    if (c->state == NYX_COLD_PLUG_HELD) {
        let_go(c, NYX_COLD_PLUG_INTERRUPTED);
    }
}

void nyx_cold_plug_resume(NyxColdPlug *c)
{
    if (c->state == NYX_COLD_PLUG_INTERRUPTED) {
        hold(c);
    }
}
