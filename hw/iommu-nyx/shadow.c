/*
 * Nyx IOMMU: translations of both stages together, as they were found
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/lockable.h"
#include "iotlb.h"
#include "shadow.h"

/* From here on it is cheaper to begin anew than to look for what goes. */
#define FORGET_ALL_BYTES    (1ULL << 30)

void nyx_shadow_init(NyxShadow *shadow)
{
    qemu_mutex_init(&shadow->lock);
    shadow->table = nyx_page_table_new(true);
    shadow->generation = nyx_iotlb_next_generation();
    shadow->deferred = 0;
}

void nyx_shadow_destroy(NyxShadow *shadow)
{
    nyx_page_table_free(shadow->table);
    qemu_mutex_destroy(&shadow->lock);
}

/* Under @lock. */
static void take_out_deferred(NyxShadow *shadow)
{
    for (unsigned i = 0; i < shadow->deferred; i++) {
        nyx_page_table_wipe(shadow->table, shadow->range[i].first,
                            shadow->range[i].last);
    }
    qatomic_store_release(&shadow->deferred, 0);
}

bool nyx_shadow_lookup(NyxShadow *shadow, uint64_t iova, NyxTranslation *t)
{
    if (unlikely(qatomic_load_acquire(&shadow->deferred))) {
        QEMU_LOCK_GUARD(&shadow->lock);
        take_out_deferred(shadow);
    }
    return nyx_page_table_lookup(qatomic_rcu_read(&shadow->table), iova, t);
}

/* Under @lock. */
static void begin_generation(NyxShadow *shadow)
{
    qatomic_store_release(&shadow->generation, nyx_iotlb_next_generation());
}

/* Under @lock. */
static void begin_anew(NyxShadow *shadow)
{
    NyxPageTable *old = shadow->table;

    if (nyx_page_table_mapped_bytes(old)) {
        qatomic_rcu_set(&shadow->table, nyx_page_table_new(true));
        nyx_page_table_free(old);
    }
    qatomic_store_release(&shadow->deferred, 0);
    begin_generation(shadow);
}

/* What else is known to be allowed for the same translation */
static IOMMUAccessFlags known_perm(NyxPageTable *table, uint64_t iova,
                                   const NyxTranslation *t)
{
    NyxTranslation old;

    if (nyx_page_table_lookup(table, iova, &old) &&
        (old.gpa | (iova & old.mask)) == (t->gpa | (iova & t->mask))) {
        return old.perm;
    }
    return IOMMU_NONE;
}

void nyx_shadow_fill(NyxShadow *shadow, uint64_t generation, uint64_t iova,
                     const NyxTranslation *t)
{
    uint64_t first = iova & ~t->mask;
    uint64_t last = iova | t->mask;
    IOMMUAccessFlags perm;

    if (last > NYX_IOVA_LAST || !(t->perm & IOMMU_RW)) {
        return;
    }
    QEMU_LOCK_GUARD(&shadow->lock);
    if (shadow->generation != generation) {
        return;
    }
    take_out_deferred(shadow);
    perm = (t->perm & IOMMU_RW) | known_perm(shadow->table, iova, t);
    nyx_page_table_wipe(shadow->table, first, last);
    nyx_page_table_map(shadow->table, first, last, t->gpa, perm);
    if (nyx_page_table_table_bytes(shadow->table) > NYX_SHADOW_BYTES_MAX) {
        begin_anew(shadow);
    }
}

void nyx_shadow_forget(NyxShadow *shadow, uint64_t first, uint64_t last)
{
    QEMU_LOCK_GUARD(&shadow->lock);
    if (last - first >= FORGET_ALL_BYTES - 1) {
        begin_anew(shadow);
        return;
    }
    /*
     * Guests use the same addresses again and again: tables that were freed
     * and made anew each time would cost RCU's thread the BQL.
     * The table before the generation: see nyx_iotlb_fill().
     */
    nyx_page_table_wipe(shadow->table, first, last);
    begin_generation(shadow);
}

/* Guests often take back one page after the other. */
static bool continues(const NyxShadowRange *before, uint64_t first)
{
    return before->last + 1 == first;
}

void nyx_shadow_defer(NyxShadow *shadow, uint64_t first, uint64_t last)
{
    unsigned n;
    bool alone;

    QEMU_LOCK_GUARD(&shadow->lock);
    n = shadow->deferred;
    if (n && continues(&shadow->range[n - 1], first)) {
        first = shadow->range[--n].first;
    }
    if (last - first >= FORGET_ALL_BYTES - 1) {
        begin_anew(shadow);
        return;
    }
    if (n == NYX_SHADOW_BATCH) {
        take_out_deferred(shadow);
        n = 0;
    }
    /*
     * What is still deferred says that nobody has looked since it was, so that
     * nothing of the current generation has been remembered: it can go on.
     * Who reads a new one finds that something is deferred.
     */
    alone = !shadow->deferred;
    shadow->range[n] = (NyxShadowRange) { first, last };
    qatomic_set(&shadow->deferred, n + 1);
    if (alone) {
        begin_generation(shadow);
    }
}

void nyx_shadow_forget_all(NyxShadow *shadow)
{
    QEMU_LOCK_GUARD(&shadow->lock);
    begin_anew(shadow);
}
