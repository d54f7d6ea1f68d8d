/*
 * Nyx ACPI devices: passive cooling
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * A guest cools a thermal zone passively by throttling states of its
 * processors (ACPI 6.5, 8.4.5).  A vCPU in such a state rests for that part of
 * its time: the host gets less heat to carry off, not only the guest's figures.
 *
 * All functions need the BQL.
 */

#ifndef NYX_ACPI_THROTTLE_H
#define NYX_ACPI_THROTTLE_H

#include "hw/core/cpu.h"
#include "qemu/timer.h"

#define NYX_THROTTLE_STATES     8

typedef struct NyxThrottle {
    uint8_t *states;            /* of each vCPU that there can be */
    CPUState **resting;         /* has been told to rest */
    int64_t *rested_ns;         /* when it did so last, of get_clock() */
    uint32_t cpus;
    QEMUTimer *timer;
} NyxThrottle;

/* For @cpus vCPUs, with indices from 0, hot-plugged ones included. */
void nyx_throttle_init(NyxThrottle *t, uint32_t cpus);
void nyx_throttle_finalize(NyxThrottle *t);

/* Everything at full speed. */
void nyx_throttle_reset(NyxThrottle *t);

/* A state of 0 is full speed; others than there are change nothing. */
void nyx_throttle_set(NyxThrottle *t, unsigned cpu, uint8_t state);
uint8_t nyx_throttle_get(const NyxThrottle *t, unsigned cpu);

/* Speed in a state, in percent. */
unsigned nyx_throttle_percent(uint8_t state);

/* Is what a stream brought in order?  Then it has effect. */
bool nyx_throttle_loaded(NyxThrottle *t, Error **errp);

#endif
