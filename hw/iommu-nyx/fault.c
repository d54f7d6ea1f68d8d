/*
 * Nyx IOMMU: the fault log of one endpoint
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bitops.h"
#include "fault.h"

#define FAULT_PAGE_SHIFT    12
#define WIDEST_PIECE        8       /* bytes */

void nyx_fault_log_init(NyxFaultLog *log)
{
    *log = (NyxFaultLog) { .last_ns = -1 };
    nyx_fault_log_set_limit(log, 0, 0);
}

void nyx_fault_log_destroy(NyxFaultLog *log)
{
    g_free(log->times.ns);
    log->times = (NyxFaultTimes) {};
}

/* n-th oldest time, n < used */
static uint64_t times_get(const NyxFaultTimes *times, uint32_t n)
{
    return times->ns[((uint64_t)times->first + n) % times->size];
}

static void times_add(NyxFaultTimes *times, uint64_t ns)
{
    if (times->used == times->size) {
        times->ns[times->first] = ns;
        times->first = (times->first + 1) % times->size;
    } else {
        times->ns[((uint64_t)times->first + times->used) % times->size] = ns;
        times->used++;
    }
}

/* Keep as many of the newest times as fit. */
static void times_resize(NyxFaultTimes *times, uint32_t size)
{
    uint64_t *ns;
    uint32_t keep, i;

    if (size == times->size) {
        return;
    }
    ns = g_new(uint64_t, size);
    keep = MIN(size, times->used);
    for (i = 0; i < keep; i++) {
        ns[i] = times_get(times, times->used - keep + i);
    }
    g_free(times->ns);
    *times = (NyxFaultTimes) { .ns = ns, .size = size, .used = keep };
}

void nyx_fault_log_set_limit(NyxFaultLog *log, uint32_t max_faults,
                             int64_t window_ns)
{
    g_assert(max_faults <= NYX_MAX_FAULTS_LIMIT);
    g_assert(window_ns >= 0);

    times_resize(&log->times, max_faults + 1);
    log->window_ns = window_ns;
}

static bool same_kind(const NyxFault *a, const NyxFault *b)
{
    return a->type == b->type && a->access == b->access &&
           a->injected == b->injected && a->domain == b->domain &&
           a->address >> FAULT_PAGE_SHIFT == b->address >> FAULT_PAGE_SHIFT;
}

void nyx_fault_log_load_record(NyxFaultLog *log, const NyxFault *fault)
{
    log->ring[log->ring_next] = *fault;
    log->ring_next = (log->ring_next + 1) % NYX_FAULT_RING;
    log->ring_used = MIN(log->ring_used + 1, NYX_FAULT_RING);
}

static void ring_add(NyxFaultLog *log, const NyxFault *fault)
{
    NyxFault *newest =
        &log->ring[(log->ring_next + NYX_FAULT_RING - 1) % NYX_FAULT_RING];

    if (log->ring_used && same_kind(newest, fault)) {
        newest->address = fault->address;
        newest->time_ns = fault->time_ns;
        newest->count++;
        return;
    }
    nyx_fault_log_load_record(log, fault);
}

static bool within_window(const NyxFaultLog *log, uint64_t fault_ns,
                          uint64_t now_ns)
{
    return now_ns - fault_ns < (uint64_t)log->window_ns;
}

static bool past_limit(const NyxFaultLog *log, uint64_t now_ns)
{
    const NyxFaultTimes *times = &log->times;

    if (log->window_ns == 0) {
        return log->since_restart >= times->size;
    }
    return times->used == times->size &&
           within_window(log, times_get(times, 0), now_ns);
}

void nyx_fault_log_exempt(NyxFaultLog *log, NyxFaultType type, bool exempt)
{
    log->exempt = deposit32(log->exempt, type, 1, exempt);
}

static NyxFaultVerdict count_fault(NyxFaultLog *log, NyxFaultType type,
                                   int64_t now_ns)
{
    uint64_t steady_ns = nyx_steady_clock_read(&log->clock, now_ns);

    log->total++;
    log->by_type[type]++;
    log->last_ns = now_ns;
    if (log->exempt & BIT(type)) {
        return NYX_FAULT_COUNTED;
    }
    log->since_restart++;
    times_add(&log->times, steady_ns);

    if (log->beyond) {
        return NYX_FAULT_BEYOND;
    }
    log->beyond = past_limit(log, steady_ns);
    return log->beyond ? NYX_FAULT_LIMIT : NYX_FAULT_COUNTED;
}

NyxFaultVerdict nyx_fault_log_record(NyxFaultLog *log, NyxFaultType type,
                                     NyxAccess access, uint64_t address,
                                     unsigned size, bool injected,
                                     int64_t now_ns)
{
    NyxFault piece = {
        .type = type,
        .access = access,
        .injected = injected,
        .address = address,
        .time_ns = now_ns,
        .count = 1,
        .domain = log->domain,
    };
    bool continued = log->open && address == log->piece_end &&
                     (log->piece_size == WIDEST_PIECE ||
                      size < log->piece_size) &&
                     same_kind(&log->piece, &piece);

    g_assert(size > 0);
    log->piece = piece;
    log->piece_end = address + size;
    log->piece_size = size;
    log->open = true;
    if (continued) {
        return NYX_FAULT_CONTINUED;
    }
    ring_add(log, &piece);
    return count_fault(log, type, now_ns);
}

void nyx_fault_log_set_domain(NyxFaultLog *log, const char *domain)
{
    log->domain = domain;
}

void nyx_fault_log_break(NyxFaultLog *log)
{
    log->open = false;
}

void nyx_fault_log_restart(NyxFaultLog *log)
{
    log->times.first = 0;
    log->times.used = 0;
    log->since_restart = 0;
    log->beyond = false;
}

uint64_t nyx_fault_log_in_window(const NyxFaultLog *log, int64_t now_ns)
{
    uint64_t steady_ns = nyx_steady_clock_peek(&log->clock, now_ns);
    uint32_t low = 0, high = log->times.used;

    if (log->window_ns == 0) {
        return log->since_restart;
    }
    /* Invariant: what is before low is outside, what is from high on inside. */
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;

        if (within_window(log, times_get(&log->times, middle), steady_ns)) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    return log->times.used - low;
}

uint64_t nyx_fault_log_total(const NyxFaultLog *log)
{
    return log->total;
}

uint64_t nyx_fault_log_total_of(const NyxFaultLog *log, NyxFaultType type)
{
    return log->by_type[type];
}

int64_t nyx_fault_log_last_ns(const NyxFaultLog *log)
{
    return log->last_ns;
}

const NyxFault *nyx_fault_log_get(const NyxFaultLog *log, unsigned n)
{
    if (n >= log->ring_used) {
        return NULL;
    }
    return &log->ring[(log->ring_next + NYX_FAULT_RING - 1 - n) %
                      NYX_FAULT_RING];
}

uint64_t nyx_fault_log_time(const NyxFaultLog *log, uint32_t n)
{
    return times_get(&log->times, n);
}

void nyx_fault_log_load_begin(NyxFaultLog *log)
{
    log->ring_next = 0;
    log->ring_used = 0;
    log->open = false;
    nyx_fault_log_restart(log);
}

void nyx_fault_log_load_time(NyxFaultLog *log, uint64_t steady_ns)
{
    times_add(&log->times, steady_ns);
}
