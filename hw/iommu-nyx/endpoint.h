/*
 * Nyx IOMMU: an endpoint, that is, one requester ID
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Usually one PCI function; functions behind a PCIe-to-PCI bridge share the
 * bridge's requester ID, and so their endpoint.  The endpoint's address space
 * never changes identity, only content: pass-through, translating, unmanaged
 * or blocked.
 *
 * Locking: the BQL protects all but the following.
 * - DMA (any thread, RCU): reads @blocked, @domain and the view.
 * - @lock: the fault log and what is pending for @bh; taken by any thread.
 */

#ifndef HW_IOMMU_NYX_ENDPOINT_H
#define HW_IOMMU_NYX_ENDPOINT_H

#include "backend.h"
#include "coalesce.h"
#include "device-state.h"
#include "domain.h"
#include "fault.h"
#include "function.h"
#include "iotlb.h"
#include "latency.h"
#include "mirror.h"
#include "qemu/thread.h"
#include "stage1.h"

#define TYPE_NYX_ENDPOINT "nyx-endpoint"
OBJECT_DECLARE_SIMPLE_TYPE(NyxEndpoint, NYX_ENDPOINT)

/* What the main loop is to do about faults; set by whoever records one. */
typedef struct NyxPending {
    bool report;                /* emit @fault */
    bool limit;                 /* the limit was passed */
    bool restart;               /* count anew from the next report on */
    NyxLimitAction action;      /* what the policy named at that time */
    NyxFault fault;             /* the latest */
    int64_t reported_ns;        /* time of the last report; -1: none */
} NyxPending;

typedef struct NyxEndpointView {
    MemoryRegion root;          /* contains the others */
    MemoryRegion ram;           /* pass-through: guest RAM */
    MemoryRegion devices;       /* the same with peer-to-peer: their memory */
    MemoryRegion system;        /* unmanaged: all of system memory */
    MemoryRegion stage1;        /* the same behind stage 1, if there is one */
    IOMMUMemoryRegion translate;
    MemoryRegion msi;           /* the interrupt filter */
    MemoryRegion unmapped;      /* below all others: what hits nothing */
    MemoryRegion block;         /* above all others: quarantine */
} NyxEndpointView;

/* Why an endpoint refuses everything */
enum {
    NYX_BLOCKED_CONTAINED = 1,  /* set at once, cleared by recovery */
    NYX_BLOCKED_RESET = 2,      /* while one of its functions is being reset */
};

struct NyxEndpoint {
    Object parent_obj;

    NyxIommu *iommu;
    PCIBus *bus;                /* with @devfn, the requester */
    int devfn;
    QTAILQ_HEAD(, NyxFunction) functions;
    NyxDomain *domain;          /* NULL until a device is attached */
    QTAILQ_ENTRY(NyxEndpoint) domain_link;
    QTAILQ_ENTRY(NyxEndpoint) link;     /* in NyxIommu.endpoints */

    AddressSpace as;            /* what the devices see */
    NyxEndpointView view;
    NyxDmaMode shown;           /* what the view shows */
    MemoryRegion trap;          /* refuses and records every access */
    AddressSpace trap_as;       /* where refused translations lead */
    IOMMUMemoryRegion gate;     /* leads there whatever comes */
    /* The memory of PCI devices above the trap, for peer-to-peer */
    MemoryRegion peers;
    MemoryRegion peers_memory;
    MemoryRegion peers_trap;
    AddressSpace peers_as;      /* if ever needed */
    MemoryRegion stage1_trap;   /* if there is a stage 1: as the trap above, */
    AddressSpace stage1_trap_as;        /* for what that refuses */
    unsigned blocked;           /* atomic; NYX_BLOCKED_..., 0: it works */
    NyxBackendDma backend_dma;  /* of the most demanding of its devices */
    bool backend_caches;        /* that of any is NYX_BACKEND_DMA_CACHES */
    NyxStage1Link stage1;
    NyxMirror mirror;
    NyxIotlb iotlb;
    /*
     * Under which what is in @iotlb is right, whatever the stages are at this
     * moment; NULL: nothing is.  RCU; see nyx_endpoint_update_cached().
     */
    const uint64_t *generation;

    NyxPolicyOverride override;
    NyxPolicy policy;           /* in force; @lock for writing */
    NyxDeviceState state;
    NyxRecoveryBudget budget;

    QemuMutex lock;
    NyxFaultLog log;
    int64_t piece_host_ns;      /* host's clock after the latest piece */
    NyxPending pending;
    QEMUBH *bh;
    QEMUTimer *timer;
    QEMUTimer *free_timer;      /* while it waits for its end; else NULL */

    uint64_t msi_delivered;     /* atomic */
    uint64_t msi_refused;       /* atomic */
    NyxCoalescer coalescer;
    NyxLatency latency;
    struct rcu_head rcu;
};

/*
 * A requester that is not in a domain yet: all it does is refused.  @bus NULL:
 * it is no requester.
 */
NyxEndpoint *nyx_endpoint_new(NyxIommu *iommu, PCIBus *bus, int devfn);

/* No device, no domain any more.  Freed when no DMA is under way. */
void nyx_endpoint_free(NyxEndpoint *ep);

/* Add or remove a function; the endpoint is in a domain before the first. */
void nyx_endpoint_add_function(NyxEndpoint *ep, NyxFunction *fn);
void nyx_endpoint_remove_function(NyxEndpoint *ep, NyxFunction *fn);

/* The function that stands for the endpoint in events; NULL if it has none. */
NyxFunction *nyx_endpoint_leader(NyxEndpoint *ep);

/* Name of that function. */
char *nyx_endpoint_name(NyxEndpoint *ep);

/* A device that is about to be realized, or is, has a backend of that kind. */
void nyx_endpoint_expect_backend(NyxEndpoint *ep, NyxBackendDma dma);

/*
 * Does an access need to be translated, or can it go to RAM directly?  Any
 * thread.
 */
static inline bool nyx_endpoint_needs_translation(NyxEndpoint *ep,
                                                  NyxDomain *domain)
{
    return nyx_domain_translates(domain) || qatomic_read(&ep->stage1.mr) ||
           ep->backend_caches;
}

/* A stage has changed: what was cached of both is void. */
void nyx_endpoint_forget_translations(NyxEndpoint *ep);

/* After a change of @domain, or of stage1.mr. */
void nyx_endpoint_update_cached(NyxEndpoint *ep);

/*
 * Show what @domain (NULL: none) allows, without being one of its members: see
 * NyxDomain.common.
 */
void nyx_endpoint_show_domain(NyxEndpoint *ep, NyxDomain *domain);

/* NULL: leave the domain. */
void nyx_endpoint_set_domain(NyxEndpoint *ep, NyxDomain *domain);

/* PCIe Base 6.0, section 2.2.6.2: requester ID, as the guest numbers buses */
uint16_t nyx_endpoint_requester_id(const NyxEndpoint *ep);

/* endpoint-view.c: make the address space and all that is in it, disabled. */
void nyx_endpoint_init_regions(NyxEndpoint *ep);
void nyx_endpoint_init_stage1_regions(NyxEndpoint *ep);

/* interrupt-window.c: make the region view.msi. */
void nyx_endpoint_init_msi_window(NyxEndpoint *ep);

NyxDmaMode nyx_endpoint_dma_mode(NyxEndpoint *ep);

/* Make the address space show what @domain allows, or nothing if blocked. */
void nyx_endpoint_show(NyxEndpoint *ep, NyxDomain *domain);

/* The same for the domain that it is in. */
void nyx_endpoint_update_view(NyxEndpoint *ep);

/*
 * Make what translations for @domain may lead to besides RAM and the trap.  It
 * must be there before DMA can see the domain or the translating region.
 */
void nyx_endpoint_need_peers(NyxEndpoint *ep, NyxDomain *domain);

/* Cut off, as contained, or not; any thread.  The view is the caller's. */
static inline void nyx_endpoint_set_contained(NyxEndpoint *ep, bool contained)
{
    if (contained) {
        qatomic_or(&ep->blocked, NYX_BLOCKED_CONTAINED);
    } else {
        qatomic_and(&ep->blocked, ~NYX_BLOCKED_CONTAINED);
    }
}

static inline bool nyx_endpoint_is_contained(NyxEndpoint *ep)
{
    return qatomic_read(&ep->blocked) & NYX_BLOCKED_CONTAINED;
}

/*
 * NyxFunction.resets of one of its functions has changed: refuse what it does,
 * or do so no more.  Backends that map keep what they have; their hardware is
 * what ends DMA when it is reset.
 */
void nyx_endpoint_update_reset(NyxEndpoint *ep);

/* The policy of the domain, the endpoint's own or the machine's changed. */
void nyx_endpoint_update_policy(NyxEndpoint *ep);

/*
 * Does a device of the endpoint reach memory past it?  Then nothing that is
 * done to the endpoint stops it.  @errp names the device and says why.
 */
bool nyx_endpoint_bypassed(NyxEndpoint *ep, Error **errp);

/* Has it no function but bridges (see quarantine.h)? */
bool nyx_endpoint_is_bridge(NyxEndpoint *ep);

/* Has block I/O of its devices begun that is not finished? */
bool nyx_endpoint_io_under_way(NyxEndpoint *ep);

/*
 * What the devices may access has changed: no request goes on by the old
 * translation.  Takes as long as their storage does; the VM stands still
 * meanwhile.  DMA that other threads do is not waited for.
 */
void nyx_endpoint_renew(NyxEndpoint *ep);

/*
 * What is due with the device because of faults so far is done when it returns,
 * and interrupts that were held back are delivered.  What is due with the VM
 * stays pending.
 */
void nyx_endpoint_settle(NyxEndpoint *ep);

/*
 * Take over what the endpoint was elsewhere: its state, whether a report of its
 * newest fault is due, whether the count begins anew with that, and when the
 * last one was (-1: never).  Its log is there already.
 */
void nyx_endpoint_resume(NyxEndpoint *ep, NyxDeviceState state, bool report,
                         bool restart, int64_t reported_ns);

/* The same for a limit that was passed elsewhere, with @action still due. */
void nyx_endpoint_resume_limit(NyxEndpoint *ep, NyxLimitAction action);

/* Virtual clock, ns */
int64_t nyx_endpoint_now(void);

/*
 * Record a refused access; any thread.  If it is past the limit and the policy
 * contains the device, the next access is refused already.
 */
void nyx_endpoint_fault(NyxEndpoint *ep, NyxFaultType type, NyxAccess access,
                        uint64_t address, unsigned size, bool injected);

#endif
