/*
 * Nyx ACPI devices: passive cooling
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Time is cut in slices; at the start of each, a vCPU that is throttled gets
 * work that sleeps in proportion to the time that it has run since it slept
 * last.  So a host that is late changes little.
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qemu/main-loop.h"
#include "throttle.h"
#include "../trace.h"

#define SLICE_NS        (10 * SCALE_MS)
/* The guest's other timers suffer from a longer one. */
#define LONGEST_REST_NS (50 * SCALE_MS)

static const uint8_t percents[NYX_THROTTLE_STATES] = {
    100, 87, 75, 62, 50, 37, 25, 12
};

unsigned nyx_throttle_percent(uint8_t state)
{
    return percents[state];
}

/* In the vCPU's thread.  With round-robin TCG, all vCPUs rest with it. */
static void rest(CPUState *cpu, run_on_cpu_data data)
{
    NyxThrottle *t = data.host_ptr;
    int64_t *since = &t->rested_ns[cpu->cpu_index];
    int64_t percent = percents[nyx_throttle_get(t, cpu->cpu_index)];
    int64_t now = get_clock();
    int64_t run = MIN(now - *since, LONGEST_REST_NS);
    int64_t end = now + MIN(run * (100 - percent) / percent, LONGEST_REST_NS);
    int64_t left;

    while ((left = end - get_clock()) > 0 && !cpu->stop && !cpu->unplug) {
        if (left >= SCALE_MS) {
            qemu_cond_timedwait_bql(cpu->halt_cond, left / SCALE_MS);
        } else {
            bql_unlock();
            g_usleep(DIV_ROUND_UP(left, SCALE_US));
            bql_lock();
        }
    }
    *since = get_clock();
    t->resting[cpu->cpu_index] = NULL;
}

/* The timer stands still while the VM does. */
static void begin_slice(void *opaque)
{
    NyxThrottle *t = opaque;
    bool again = false;
    CPUState *cpu;

    CPU_FOREACH(cpu) {
        if (!nyx_throttle_get(t, cpu->cpu_index)) {
            continue;
        }
        again = true;
        if (t->resting[cpu->cpu_index] != cpu) {
            t->resting[cpu->cpu_index] = cpu;
            async_run_on_cpu(cpu, rest, RUN_ON_CPU_HOST_PTR(t));
        }
    }
    if (again) {
        timer_mod(t->timer, qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL_RT) +
                            SLICE_NS);
    }
}

void nyx_throttle_init(NyxThrottle *t, uint32_t cpus)
{
    t->cpus = cpus;
    t->states = g_new0(uint8_t, cpus);
    t->resting = g_new0(CPUState *, cpus);
    t->rested_ns = g_new0(int64_t, cpus);
    t->timer = timer_new_ns(QEMU_CLOCK_VIRTUAL_RT, begin_slice, t);
}

void nyx_throttle_finalize(NyxThrottle *t)
{
    timer_free(t->timer);
    g_free(t->rested_ns);
    g_free(t->resting);
    g_free(t->states);
}

void nyx_throttle_reset(NyxThrottle *t)
{
    memset(t->states, 0, t->cpus);
    timer_del(t->timer);
}

static void start(NyxThrottle *t)
{
    if (!timer_pending(t->timer)) {
        timer_mod(t->timer, qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL_RT));
    }
}

void nyx_throttle_set(NyxThrottle *t, unsigned cpu, uint8_t state)
{
    if (cpu >= t->cpus || state >= NYX_THROTTLE_STATES) {
        return;
    }
    if (t->states[cpu] != state) {
        trace_nyx_acpi_throttle(cpu, percents[state]);
    }
    t->states[cpu] = state;
    if (state) {
        start(t);
    }
}

uint8_t nyx_throttle_get(const NyxThrottle *t, unsigned cpu)
{
    return cpu < t->cpus ? t->states[cpu] : 0;
}

bool nyx_throttle_loaded(NyxThrottle *t, Error **errp)
{
    bool throttled = false;

    for (uint32_t i = 0; i < t->cpus; i++) {
        if (t->states[i] >= NYX_THROTTLE_STATES) {
            error_setg(errp, "The stream has throttling state %u for vCPU "
                       "%" PRIu32 "; the last one is %u", t->states[i], i,
                       NYX_THROTTLE_STATES - 1);
            return false;
        }
        throttled |= t->states[i];
    }
    if (throttled) {
        start(t);
    }
    return true;
}
