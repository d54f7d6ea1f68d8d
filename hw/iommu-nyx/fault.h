/*
 * Nyx IOMMU: the fault log of one endpoint
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * A ring of the last NYX_FAULT_RING records, the counters, and the decision
 * whether the endpoint is past its limit.  Times come in as arguments, so that
 * the log can be tested with any clock.  A time before an earlier one counts as
 * equal to it; the window then goes on from there.
 *
 * What counts as one fault: one refused access to one page.  QEMU cuts one
 * DMA into pieces of 8 bytes, and of 4, 2 and 1 for the rest, where it hits no
 * RAM; pieces so cut, of the same type and direction, that follow each other
 * without a gap inside one 4 KiB page (that of their first byte) are one fault,
 * unless the caller knows better (nyx_fault_log_break()).  The same access
 * again (same start address) is a new fault.  In the ring, consecutive faults
 * of one type and direction in one page share a record, whose count grows and
 * whose address and time are those of the latest.  Injected faults never mix
 * with real ones.
 *
 * Locking: the caller's (each endpoint has a lock of its own).
 */

#ifndef HW_IOMMU_NYX_FAULT_H
#define HW_IOMMU_NYX_FAULT_H

#include "qapi/qapi-types-nyx.h"
#include "steady-clock.h"

#define NYX_FAULT_RING          64
#define NYX_MAX_FAULTS_LIMIT    65535   /* largest max-faults of a policy */

typedef struct NyxFault {
    NyxFaultType type;
    NyxAccess access;
    bool injected;
    uint64_t address;
    int64_t time_ns;            /* QEMU_CLOCK_VIRTUAL by the caller's choice */
    uint64_t count;             /* faults that this record stands for */
    const char *domain;         /* that of the time; interned */
} NyxFault;

/*
 * The times of the last faults, oldest first from @first on.  There is room for
 * one more than the limit allows: the endpoint is past its limit exactly when
 * the ring is full and its oldest time lies within the window.
 */
typedef struct NyxFaultTimes {
    uint64_t *ns;               /* of the steady clock, ascending */
    uint32_t size;              /* max_faults + 1 */
    uint32_t first;
    uint32_t used;
} NyxFaultTimes;

typedef struct NyxFaultLog {
    const char *domain;         /* for the faults to come */
    NyxFault ring[NYX_FAULT_RING];
    uint32_t ring_next;         /* where the next record goes */
    uint32_t ring_used;

    /* The latest piece; meaningful while open. */
    NyxFault piece;
    uint64_t piece_end;         /* address of the byte after it */
    unsigned piece_size;        /* bytes */
    bool open;                  /* the next piece may continue it */

    uint64_t total;             /* faults, injected ones included */
    uint64_t by_type[NYX_FAULT_TYPE__MAX];  /* the same by type */
    uint64_t since_restart;     /* of these, since the window was restarted */
    int64_t last_ns;            /* -1: never */

    int64_t window_ns;          /* 0: for ever */
    uint32_t exempt;            /* bit n: type n does not count */
    NyxSteadyClock clock;
    NyxFaultTimes times;
    bool beyond;                /* the limit was passed since the restart */
} NyxFaultLog;

/* The limit is 0 faults for ever until nyx_fault_log_set_limit(). */
void nyx_fault_log_init(NyxFaultLog *log);
void nyx_fault_log_destroy(NyxFaultLog *log);

/* @domain: an interned string (g_intern_string()), or NULL */
void nyx_fault_log_set_domain(NyxFaultLog *log, const char *domain);

/*
 * @max_faults: 0..NYX_MAX_FAULTS_LIMIT; with 0 the first fault is past it.
 * @window_ns: at least 0; 0 counts for ever, that is, since the last restart.
 * Keeps the history that still matters when the limit changes: the times of the
 * last max_faults + 1 faults, and whether the limit was passed.
 */
void nyx_fault_log_set_limit(NyxFaultLog *log, uint32_t max_faults,
                             int64_t window_ns);

/* Record faults of @type, but do not count them toward the limit. */
void nyx_fault_log_exempt(NyxFaultLog *log, NyxFaultType type, bool exempt);

typedef enum NyxFaultVerdict {
    NYX_FAULT_CONTINUED,    /* a further piece of the last fault: not counted */
    NYX_FAULT_COUNTED,      /* within the limit, or exempt from it */
    NYX_FAULT_LIMIT,        /* this very fault went past the limit */
    NYX_FAULT_BEYOND,       /* the limit was passed before, not yet restarted */
} NyxFaultVerdict;

/* @size: bytes of this piece, at least 1.  O(1), no allocation. */
NyxFaultVerdict nyx_fault_log_record(NyxFaultLog *log, NyxFaultType type,
                                     NyxAccess access, uint64_t address,
                                     unsigned size, bool injected,
                                     int64_t now_ns);

/*
 * Whatever comes next begins a new access: time has passed, so it cannot be a
 * further piece of the last one.
 */
void nyx_fault_log_break(NyxFaultLog *log);

/*
 * Forget the window (after recovery, or when a limit action has been taken);
 * totals and the ring stay.
 */
void nyx_fault_log_restart(NyxFaultLog *log);

/*
 * Faults since the restart, within the window that ends now (a fault that is
 * exactly one window old is outside).  With a window, the figure ends at
 * max_faults + 1, as no more times than these are kept.
 */
uint64_t nyx_fault_log_in_window(const NyxFaultLog *log, int64_t now_ns);
uint64_t nyx_fault_log_total(const NyxFaultLog *log);
uint64_t nyx_fault_log_total_of(const NyxFaultLog *log, NyxFaultType type);
int64_t nyx_fault_log_last_ns(const NyxFaultLog *log);   /* -1: never */

/* n-th oldest of the times that count, n < times.used */
uint64_t nyx_fault_log_time(const NyxFaultLog *log, uint32_t n);

/*
 * Taking over a log of another process: begin, then its records, oldest first,
 * and its times, ascending.  More than fit push out the oldest.  Limit, domain
 * and exemptions stay as they are; the rest is for the caller to set.
 */
void nyx_fault_log_load_begin(NyxFaultLog *log);
void nyx_fault_log_load_record(NyxFaultLog *log, const NyxFault *fault);
void nyx_fault_log_load_time(NyxFaultLog *log, uint64_t steady_ns);

/* n-th newest record, n = 0 .. ; NULL past the oldest. */
const NyxFault *nyx_fault_log_get(const NyxFaultLog *log, unsigned n);

#endif
