/*
 * Nyx IOMMU: a clock that never goes back
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The virtual clock can be read slightly out of order by two threads, and goes
 * far back when a snapshot is loaded.  Windows need times in order: this clock
 * stands still while its source goes back, and then goes on from where it was.
 */

#ifndef HW_IOMMU_NYX_STEADY_CLOCK_H
#define HW_IOMMU_NYX_STEADY_CLOCK_H

typedef struct NyxSteadyClock {
    bool started;
    int64_t source_ns;      /* the source when it was last read */
    uint64_t steady_ns;     /* what this clock showed then */
} NyxSteadyClock;

/* What the clock shows when its source shows @now_ns. */
static inline uint64_t nyx_steady_clock_peek(const NyxSteadyClock *clock,
                                             int64_t now_ns)
{
    if (!clock->started || now_ns <= clock->source_ns) {
        return clock->steady_ns;
    }
    /* Unsigned: the difference of any two int64_t fits. */
    return clock->steady_ns + ((uint64_t)now_ns - (uint64_t)clock->source_ns);
}

/* The same, and remember it. */
static inline uint64_t nyx_steady_clock_read(NyxSteadyClock *clock,
                                             int64_t now_ns)
{
    clock->steady_ns = nyx_steady_clock_peek(clock, now_ns);
    clock->source_ns = now_ns;
    clock->started = true;
    return clock->steady_ns;
}

#endif
