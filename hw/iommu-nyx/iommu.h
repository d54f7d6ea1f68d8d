/*
 * Nyx IOMMU: the IOMMU of a VM, as its parts know it
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Locking: BQL.
 */

#ifndef HW_IOMMU_NYX_IOMMU_H
#define HW_IOMMU_NYX_IOMMU_H

#include "endpoint.h"
#include "ram-map.h"
#include "restore.h"
#include "saved-state.h"

/* Sections of the stream, in this order */
typedef enum NyxArrived {
    NYX_ARRIVED_NOTHING,
    NYX_ARRIVED_STATE,
    NYX_ARRIVED_FUNCTIONS,
    NYX_ARRIVED_DIGEST,         /* and it fits */
} NyxArrived;

typedef struct NyxIommuStats {
    uint64_t quarantines;
    uint64_t recoveries;
} NyxIommuStats;

struct NyxIommu {
    DeviceState parent_obj;

    NyxStage1 stage1;
    NyxIsolation default_isolation;
    NyxPolicyOverride policy;
    uint32_t latency_sampling;  /* one in so many is timed; 0: off; atomic */

    PCIBus *bus;                /* root bus whose devices it serves */
    NyxStage1Model stage1_model;
    NyxRamMap ram;
    NyxPageTable *ram_table;    /* stage 2 of domains that have no table; RCU */
    /* Memory of PCI devices at its addresses: no chipset, no ROM, no RAM */
    MemoryRegion peers;
    MemoryRegion peers_low;
    MemoryRegion peers_high;
    bool ready;                 /* the machine is complete: views are shown */
    Notifier machine_done;
    NotifierWithReturn migration_starts;
    NotifierList state_notifiers;
    DeviceListener device_listener;
    QTAILQ_HEAD(, NyxDomain) domains;       /* in order of creation */
    QTAILQ_HEAD(, NyxEndpoint) endpoints;   /* in order of creation */
    NyxFunction *plugging;      /* may be realized, and is not yet */
    NyxIommuStats stats;
    NyxRestore restore;         /* stays here when state is loaded */
    GPtrArray *restore_requests;    /* see limit-action.c; NULL: none */
    /* Of endpoints and domains that are gone, so that totals never go back. */
    uint64_t past_faults;
    uint64_t past_msi_delivered;
    uint64_t past_msi_refused;
    uint64_t past_iotlb_hits;
    uint64_t past_iotlb_misses;
    uint64_t past_invalidations;
    /* In use only while they are saved or loaded */
    NyxSavedIommu saved;
    NyxSavedFunctions saved_functions;
    NyxSavedTables saved_tables;
    GHashTable *arrived_tables;     /* id of a domain -> its table */
    NyxDigests digests;
    NyxArrived arrived;         /* of the stream that is being loaded */
};

/* The state of the endpoint's devices is another than before. */
void nyx_iommu_state_changed(NyxEndpoint *ep);

/* Where PCI devices may have their BARs; unused ones have last 0. */
typedef struct NyxDeviceWindow {
    uint64_t first;
    uint64_t last;
} NyxDeviceWindow;

typedef struct NyxDeviceWindows {
    NyxDeviceWindow range[2];
} NyxDeviceWindows;

/* The machine's: what holds where no domain and no device says otherwise. */
NyxPolicy nyx_iommu_policy(NyxIommu *iommu);

/* By the PCI host bridge; the 64-bit one depends on the BARs of the moment. */
NyxDeviceWindows nyx_iommu_device_windows(NyxIommu *iommu);

/* That of the requester; made when there is none. */
NyxEndpoint *nyx_iommu_claim_endpoint(NyxIommu *iommu, PCIBus *bus, int devfn);

/*
 * The domain whose VFIO devices are all in one container, if such a device is
 * being realized and asks where its mappings are; else NULL.
 */
NyxDomain *nyx_iommu_claim_container(NyxIommu *iommu);

void nyx_iommu_add_domain(NyxIommu *iommu, NyxDomain *domain);
void nyx_iommu_remove_domain(NyxIommu *iommu, NyxDomain *domain);

/* By id.  The error names the remedy. */
NyxDomain *nyx_iommu_find_domain(NyxIommu *iommu, const char *id, Error **errp);

/* By qdev id or QOM path. */
NyxFunction *nyx_iommu_find_function(NyxIommu *iommu, const char *name,
                                     Error **errp);

/* A device goes away, perhaps one that could not be realized. */
void nyx_iommu_forget_function(NyxFunction *fn);

/* Automatic domains that have no endpoint go. */
void nyx_iommu_drop_unused_domains(NyxIommu *iommu);

/* Move an endpoint; an automatic domain that is empty then goes away. */
void nyx_iommu_move_endpoint(NyxIommu *iommu, NyxEndpoint *ep,
                             NyxDomain *domain);

#endif
