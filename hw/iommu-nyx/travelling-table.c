/*
 * Nyx IOMMU: tables in the migration stream
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "nyx/migration/digest.h"
#include "qapi/error.h"
#include "table-codec.h"
#include "travelling-table.h"

/* A table that has come, and waits for its domain */
typedef struct Arrived {
    NyxIommu *iommu;
    NyxPageTable *table;
    NyxTableSum sum;            /* of what it has, not of what was said */
    bool large_pages;
    bool peer_to_peer;          /* may it lead to other memory than RAM? */
    bool astray;                /* it may not, and did */
} Arrived;

static void free_arrived(gpointer data)
{
    Arrived *a = data;

    nyx_page_table_free(a->table);
    g_free(a);
}

static void digest_table(NyxPageTable *table, NyxDigest *digest)
{
    g_autoptr(GByteArray) bytes = g_byte_array_new();

    nyx_table_encode(table, bytes);
    nyx_digest_bytes(bytes->data, bytes->len, digest);
}

const NyxDigest *nyx_domain_table_digest(NyxDomain *domain)
{
    NyxTableStamp *stamp = &domain->stamp;

    if (stamp->generation != domain->generation) {
        stamp->generation = domain->generation;
        digest_table(domain->table, &stamp->digest);
    }
    return &stamp->digest;
}

const NyxTableSum *nyx_domain_table_sum(NyxDomain *domain)
{
    NyxTableStamp *stamp = &domain->stamp;

    if (!stamp->summed) {
        stamp->sum = nyx_table_sum_of(domain->table, 0, NYX_IOVA_LAST);
        stamp->summed = true;
    }
    return &stamp->sum;
}

/* Save */

/* @changed: NULL, all of the table */
static void pack(NyxIommu *iommu, NyxDomain *domain,
                 const NyxPageRanges *changed)
{
    NyxSavedTable *s = g_new0(NyxSavedTable, 1);

    s->id = nyx_saved_string(domain->id);
    s->large_pages = domain->large_pages;
    s->changed = changed ? nyx_page_ranges_encode(changed) : NULL;
    s->table = g_byte_array_new();
    nyx_table_pack(domain->table, changed, s->table);
    QTAILQ_INSERT_TAIL(&iommu->saved_tables.list, s, next);
}

static bool early_pre_save(void *opaque, Error **errp)
{
    NyxIommu *iommu = opaque;
    NyxDomain *domain;

    nyx_saved_tables_clear(&iommu->saved_tables);
    QTAILQ_FOREACH(domain, &iommu->domains, link) {
        if (domain->table) {
            pack(iommu, domain, NULL);
            /* Now, and not when the VM stands still */
            nyx_domain_table_sum(domain);
            nyx_table_stamp_sent(&domain->stamp, true);
        }
    }
    return true;
}

static bool late_pre_save(void *opaque, Error **errp)
{
    NyxIommu *iommu = opaque;
    NyxDomain *domain;

    nyx_saved_tables_clear(&iommu->saved_tables);
    QTAILQ_FOREACH(domain, &iommu->domains, link) {
        const NyxPageRanges *changed = &domain->stamp.changed;

        if (domain->table && !domain->stamp.sent) {
            pack(iommu, domain, NULL);
        } else if (domain->table && nyx_page_ranges_count(changed)) {
            pack(iommu, domain, changed);
        }
    }
    return true;
}

static void tables_post_save(void *opaque)
{
    nyx_saved_tables_clear(&NYX_IOMMU(opaque)->saved_tables);
}

/* Load */

/*
 * As nyx-map demands, but for what the chipset lays over RAM, whose state comes
 * later in the stream.
 */
static bool account(uint64_t first, uint64_t last, uint64_t gpa,
                    IOMMUAccessFlags perm, void *opaque)
{
    Arrived *a = opaque;

    nyx_table_sum_add(&a->sum, first, last, gpa, perm);
    a->astray = !a->peer_to_peer &&
                !nyx_ram_map_windows_cover(&a->iommu->ram, gpa,
                                           gpa + (last - first));
    return !a->astray;
}

/* What has changed is no longer as it came before. */
static bool forget_changed(Arrived *a, const NyxSavedTable *s, Error **errp)
{
    NyxPageRanges ranges = {};

    if (!nyx_page_ranges_decode(&ranges, s->changed->data, s->changed->len)) {
        error_setg(errp, "what has changed of its table are no ranges");
        return false;
    }
    for (guint i = 0; i < nyx_page_ranges_count(&ranges); i++) {
        NyxPageRange range = nyx_page_ranges_get(&ranges, i);
        NyxTableSum gone = nyx_table_sum_of(a->table, range.first, range.last);

        nyx_table_sum_subtract(&a->sum, &gone);
        nyx_page_table_clear(a->table, range.first, range.last);
    }
    nyx_page_ranges_clear(&ranges);
    return true;
}

/* The domain of that name here: users' are the same, others have no peers. */
static Arrived *arrived_new(NyxIommu *iommu, const char *id, bool large_pages)
{
    NyxDomain *domain = nyx_iommu_find_domain(iommu, id, NULL);
    Arrived *a = g_new0(Arrived, 1);

    a->iommu = iommu;
    a->table = nyx_page_table_new(large_pages);
    a->large_pages = large_pages;
    a->peer_to_peer = domain && domain->peer_to_peer;
    g_hash_table_replace(iommu->arrived_tables, g_strdup(id), a);
    return a;
}

static bool take_in(NyxIommu *iommu, const char *id, const NyxSavedTable *s,
                    Error **errp)
{
    Arrived *a;
    bool ok;
    ERRP_GUARD();

    if (s->changed) {
        a = g_hash_table_lookup(iommu->arrived_tables, id);
        if (!a) {
            error_setg(errp, "its table has changed, and has not come");
            return false;
        }
        if (!forget_changed(a, s, errp)) {
            return false;
        }
    } else {
        a = arrived_new(iommu, id, s->large_pages);
    }
    ok = nyx_table_decode(a->table, s->table->data, s->table->len, account, a,
                          errp);
    if (a->astray) {
        error_free(*errp);
        *errp = NULL;
        error_setg(errp, "a mapping of its table does not lead to RAM");
    }
    return ok;
}

static bool tables_pre_load(void *opaque, Error **errp)
{
    nyx_saved_tables_clear(&NYX_IOMMU(opaque)->saved_tables);
    return true;
}

static bool early_pre_load(void *opaque, Error **errp)
{
    g_hash_table_remove_all(NYX_IOMMU(opaque)->arrived_tables);
    return tables_pre_load(opaque, errp);
}

static bool load_tables(NyxIommu *iommu, Error **errp)
{
    const NyxSavedTable *s;
    ERRP_GUARD();

    QTAILQ_FOREACH(s, &iommu->saved_tables.list, next) {
        const char *id = nyx_saved_get_string(s->id, "a table's domain", errp);

        if (!id) {
            return false;
        }
        if (!take_in(iommu, id, s, errp)) {
            error_prepend(errp, "nyx-iommu: domain '%s': ", id);
            return false;
        }
    }
    return true;
}

static bool tables_post_load(void *opaque, int version_id, Error **errp)
{
    NyxIommu *iommu = opaque;
    bool ok = load_tables(iommu, errp);

    nyx_saved_tables_clear(&iommu->saved_tables);
    return ok;
}

static bool is_as_said(const Arrived *a, const NyxSavedDomain *s)
{
    NyxDigest digest;

    if (a->large_pages != s->large_pages) {
        return false;
    }
    if (s->has_sum) {
        return nyx_table_sum_equal(&a->sum, &s->sum);
    }
    digest_table(a->table, &digest);
    return !memcmp(&digest, &s->table, sizeof(digest));
}

NyxPageTable *nyx_travelling_table_take(NyxIommu *iommu,
                                        const NyxSavedDomain *s, Error **errp)
{
    const char *id = (const char *)s->id->data;
    Arrived *a = g_hash_table_lookup(iommu->arrived_tables, id);

    if (!a || !a->table) {
        error_setg(errp, "the table of domain '%s' has not come", id);
        return NULL;
    }
    if (!is_as_said(a, s)) {
        error_setg(errp, "the table of domain '%s' is not that of the source",
                   id);
        return NULL;
    }
    return g_steal_pointer(&a->table);
}

/* Sections */

static const VMStateField table_fields[] = {
    VMSTATE_STRUCT(saved_tables, NyxIommu, 1, nyx_vmstate_saved_tables,
                   NyxSavedTables),
    VMSTATE_END_OF_LIST()
};

static const VMStateDescription vmstate_early = {
    .name = "nyx-iommu-tables",
    .version_id = 1,
    .minimum_version_id = 1,
    .early_setup = true,
    .pre_save_errp = early_pre_save,
    .post_save = tables_post_save,
    .pre_load_errp = early_pre_load,
    .post_load_errp = tables_post_load,
    .fields = table_fields,
};

/* Before the section that names them: it is registered later. */
static const VMStateDescription vmstate_late = {
    .name = "nyx-iommu-tables-late",
    .version_id = 1,
    .minimum_version_id = 1,
    .priority = MIG_PRI_IOMMU,
    .pre_save_errp = late_pre_save,
    .post_save = tables_post_save,
    .pre_load_errp = tables_pre_load,
    .post_load_errp = tables_post_load,
    .fields = table_fields,
};

void nyx_travelling_tables_init(NyxIommu *iommu)
{
    nyx_saved_tables_init(&iommu->saved_tables);
    iommu->arrived_tables = g_hash_table_new_full(g_str_hash, g_str_equal,
                                                  g_free, free_arrived);
    vmstate_register(VMSTATE_IF(iommu), 0, &vmstate_early, iommu);
    vmstate_register(VMSTATE_IF(iommu), 0, &vmstate_late, iommu);
}

void nyx_travelling_tables_done(NyxIommu *iommu)
{
    NyxDomain *domain;

    g_hash_table_remove_all(iommu->arrived_tables);
    QTAILQ_FOREACH(domain, &iommu->domains, link) {
        nyx_table_stamp_sent(&domain->stamp, false);
    }
}
