/*
 * Nyx IOMMU: its state, as it travels
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * What is in the migration stream, apart from the live state, so that all of it
 * can be checked before any of it is taken over.  New fields go in subsections.
 *
 * Locking: BQL.
 */

#ifndef HW_IOMMU_NYX_SAVED_STATE_H
#define HW_IOMMU_NYX_SAVED_STATE_H

#include "device-state.h"
#include "fault.h"
#include "migration/vmstate.h"
#include "policy.h"
#include "qemu/queue.h"
#include "quarantine.h"
#include "table-stamp.h"

typedef struct NyxSavedPolicy {
    uint32_t set;               /* as in NyxPolicyOverride */
    uint32_t max_faults;
    uint32_t fault_window_ms;
    uint32_t on_fault_limit;
    uint32_t max_recoveries;
    uint32_t scope;
    bool count_stage1;
    uint32_t recovery;
    /* In a subsection, which is there if @set names it */
    bool has_on_recovery_limit;
    uint32_t on_recovery_limit;
} NyxSavedPolicy;

typedef struct NyxSavedDomain {
    GByteArray *id;             /* a string with its NUL, as all others here */
    bool automatic;
    uint32_t isolation;
    uint32_t default_map;
    bool peer_to_peer;
    bool large_pages;
    bool contained;
    NyxSavedPolicy policy;
    uint64_t invalidations;
    bool has_table;
    NyxDigest table;            /* of it, unless there is the sum */
    bool has_sum;
    NyxTableSum sum;            /* of it; see travelling-table.h */
    QTAILQ_ENTRY(NyxSavedDomain) next;
} NyxSavedDomain;

typedef struct NyxSavedFault {
    uint32_t type;
    uint32_t access;
    bool injected;
    uint64_t address;
    int64_t time_ns;
    uint64_t count;
    GByteArray *domain;
    QTAILQ_ENTRY(NyxSavedFault) next;
} NyxSavedFault;

typedef struct NyxSavedEndpoint {
    GByteArray *device;         /* path of one of its functions */
    GByteArray *domain;
    uint32_t state;
    NyxSavedPolicy policy;

    QTAILQ_HEAD(, NyxSavedFault) faults;    /* oldest first */
    uint64_t total_faults;
    uint64_t faults_by_type[NYX_FAULT_TYPE__MAX];   /* 0 from an older QEMU */
    uint64_t faults_since_restart;
    int64_t last_fault_ns;
    NyxSteadyClock fault_clock;
    GArray *fault_times;        /* of uint64_t */
    bool beyond_limit;

    bool report_pending;
    bool restart_pending;
    int64_t reported_ns;
    bool limit_pending;
    uint32_t limit_action;

    NyxSteadyClock recovery_clock;
    GArray *recovery_times;     /* of uint64_t */
    uint64_t msi_delivered;
    uint64_t msi_refused;
    QTAILQ_ENTRY(NyxSavedEndpoint) next;
} NyxSavedEndpoint;

typedef struct NyxSavedIommu {
    uint32_t stage1;
    uint32_t default_isolation;
    NyxSavedPolicy policy;
    uint64_t quarantines;
    uint64_t recoveries;
    uint64_t past_faults;
    uint64_t past_msi_delivered;
    uint64_t past_msi_refused;
    QTAILQ_HEAD(, NyxSavedDomain) domains;
    QTAILQ_HEAD(, NyxSavedEndpoint) endpoints;
} NyxSavedIommu;

typedef struct NyxSavedTable {
    GByteArray *id;             /* of the domain */
    bool large_pages;
    GByteArray *table;          /* see table-codec.h */
    GByteArray *changed;        /* all that it tells of; NULL: everything */
    QTAILQ_ENTRY(NyxSavedTable) next;
} NyxSavedTable;

typedef struct NyxSavedTables {
    QTAILQ_HEAD(, NyxSavedTable) list;
} NyxSavedTables;

/* A function in quarantine; loaded after the device itself. */
typedef struct NyxSavedFunction {
    GByteArray *device;
    uint32_t locks;
    NyxConfigLock lock[NYX_CONFIG_LOCKS];
    QTAILQ_ENTRY(NyxSavedFunction) next;
} NyxSavedFunction;

typedef struct NyxSavedFunctions {
    QTAILQ_HEAD(, NyxSavedFunction) list;
} NyxSavedFunctions;

/* Of the part before the PCI devices, of that after them, and the other's */
typedef struct NyxDigests {
    NyxDigest iommu;
    NyxDigest functions;
    NyxDigest joined;
} NyxDigests;

extern const VMStateDescription nyx_vmstate_saved_iommu;
extern const VMStateDescription nyx_vmstate_saved_functions;
extern const VMStateDescription nyx_vmstate_saved_tables;

/* Empty them: before use, and after it. */
void nyx_saved_iommu_init(NyxSavedIommu *saved);
void nyx_saved_iommu_clear(NyxSavedIommu *saved);
void nyx_saved_functions_init(NyxSavedFunctions *saved);
void nyx_saved_functions_clear(NyxSavedFunctions *saved);

void nyx_saved_tables_init(NyxSavedTables *saved);
void nyx_saved_tables_clear(NyxSavedTables *saved);

GByteArray *nyx_saved_string(const char *string);

/*
 * What the stream had, as a string: NULL and @errp if it is none.  @what names
 * it.
 */
const char *nyx_saved_get_string(const GByteArray *saved, const char *what,
                                 Error **errp);

NyxSavedPolicy nyx_saved_policy(const NyxPolicyOverride *policy);
bool nyx_saved_get_policy(const NyxSavedPolicy *saved,
                          NyxPolicyOverride *policy, Error **errp);

#endif
