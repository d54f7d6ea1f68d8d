/*
 * Nyx IOMMU: an isolation domain
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * A domain says what its devices may touch.  As long as that is all guest RAM
 * at its own addresses it needs no table, and its endpoints pass through; the
 * first nyx-map or nyx-unmap gives it one.
 *
 * Locking: BQL, but for @table and @generation, which endpoints read under RCU.
 */

#ifndef HW_IOMMU_NYX_DOMAIN_H
#define HW_IOMMU_NYX_DOMAIN_H

#include "nyx/include/hw/iommu-nyx/nyx-iommu.h"
#include "page-table.h"
#include "policy.h"
#include "qemu/queue.h"
#include "qemu/rcu.h"
#include "table-stamp.h"

#define TYPE_NYX_DOMAIN "nyx-domain"
OBJECT_DECLARE_SIMPLE_TYPE(NyxDomain, NYX_DOMAIN)

typedef struct NyxEndpoint NyxEndpoint;

struct NyxDomain {
    Object parent_obj;

    char *id;
    bool automatic;             /* made for devices that name no domain */
    NyxIsolation isolation;
    NyxDefaultMap default_map;
    bool peer_to_peer;
    bool large_pages;
    bool contained;             /* no backend process gets guest RAM */
    uint32_t irq_coalescing;    /* microseconds; 0: off */
    bool batch_invalidation;    /* of what stage 1 takes back */
    NyxPolicyOverride policy;

    /* NULL while there is no machine yet; then its kind cannot change */
    NyxIommu *iommu;
    NyxPageTable *table;        /* NULL: pass-through or unmanaged */
    /*
     * No two states of any two tables share a value, so a cached translation
     * is valid for exactly the table content that it was taken from.
     */
    uint64_t generation;
    uint64_t invalidations;
    NyxTableStamp stamp;

    QTAILQ_HEAD(, NyxEndpoint) endpoints;
    /*
     * What VFIO devices of a shared domain have in common, so that they are in
     * one container of the host: an endpoint that is no requester, made when
     * the first of them comes.  Not in @endpoints.
     */
    NyxEndpoint *common;
    QTAILQ_ENTRY(NyxDomain) link;       /* in NyxIommu.domains */
    struct rcu_head rcu;
};

/* A domain for devices that name none; @iommu holds the reference. */
NyxDomain *nyx_domain_new_automatic(NyxIommu *iommu, const char *id,
                                    NyxIsolation isolation);

/* Make a user's domain known to the IOMMU.  Idempotent. */
void nyx_domain_bind(NyxDomain *domain, NyxIommu *iommu);

/* The domain leaves the IOMMU's list; it has no endpoint any more. */
void nyx_domain_unbind(NyxDomain *domain);

/* Once for each domain: DMA that is under way may still look at it. */
void nyx_domain_unref_later(NyxDomain *domain);

/* May @joining (NULL: a device that has no endpoint yet) be in the domain? */
bool nyx_domain_admits(NyxDomain *domain, NyxEndpoint *joining, Error **errp);

static inline bool nyx_domain_translates(NyxDomain *domain)
{
    return qatomic_read(&domain->table);
}

/*
 * Allow or forbid a range.  Page aligned, within NYX_IOVA_LAST, not in the
 * interrupt window.  On error nothing changes.  After nyx_domain_unmap() new
 * accesses are refused; nyx_domain_quiesce() waits for those under way.
 */
bool nyx_domain_map(NyxDomain *domain, uint64_t iova, uint64_t gpa,
                    uint64_t size, IOMMUAccessFlags perm, Error **errp);
bool nyx_domain_unmap(NyxDomain *domain, uint64_t iova, uint64_t size,
                      Error **errp);

/* Let @table (NULL: none, all RAM) be what a managed domain allows; owns it. */
void nyx_domain_replace_table(NyxDomain *domain, NyxPageTable *table);

/*
 * Wait until no access of the domain's devices that began earlier is under
 * way.  Drops and retakes the BQL; not to be called from a device's DMA path.
 */
void nyx_domain_quiesce(NyxDomain *domain);

/* RAM at its own address was plugged or unplugged. */
void nyx_domain_ram_changed(NyxDomain *domain, uint64_t first, uint64_t last,
                            bool plugged);

/* The endpoint above. */
NyxEndpoint *nyx_domain_common_endpoint(NyxDomain *domain);

/* Visit what the domain allows, whether by table or by pass-through. */
void nyx_domain_foreach_mapping(NyxDomain *domain, NyxPageTableVisit fn,
                                void *opaque);

/* The machine's policy with what the domain overrides. */
NyxPolicy nyx_domain_policy(NyxDomain *domain);

/* @policy has changed: let the domain's endpoints know. */
void nyx_domain_policy_changed(NyxDomain *domain);

#endif
