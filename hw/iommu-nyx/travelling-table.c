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
    NyxPageTable *table;
    NyxDigest digest;
    bool large_pages;
} Arrived;

static void free_arrived(gpointer data)
{
    Arrived *a = data;

    nyx_page_table_free(a->table);
    g_free(a);
}

/* Save */

static GByteArray *encode(NyxPageTable *table, NyxDigest *digest)
{
    GByteArray *bytes = g_byte_array_new();

    nyx_table_encode(table, bytes);
    nyx_digest_bytes(bytes->data, bytes->len, digest);
    return bytes;
}

static GByteArray *encode_domain(NyxDomain *domain)
{
    domain->stamp.sent = false;
    domain->stamp.generation = domain->generation;
    return encode(domain->table, &domain->stamp.digest);
}

static bool stamp_holds(const NyxDomain *domain)
{
    return domain->stamp.generation == domain->generation;
}

const NyxDigest *nyx_domain_table_digest(NyxDomain *domain)
{
    if (!stamp_holds(domain)) {
        g_byte_array_unref(encode_domain(domain));
    }
    return &domain->stamp.digest;
}

static void pack(NyxIommu *iommu, NyxDomain *domain)
{
    NyxSavedTable *s = g_new0(NyxSavedTable, 1);

    s->id = nyx_saved_string(domain->id);
    s->large_pages = domain->large_pages;
    s->table = encode_domain(domain);
    domain->stamp.sent = true;
    QTAILQ_INSERT_TAIL(&iommu->saved_tables.list, s, next);
}

static bool early_pre_save(void *opaque, Error **errp)
{
    NyxIommu *iommu = opaque;
    NyxDomain *domain;

    nyx_saved_tables_clear(&iommu->saved_tables);
    QTAILQ_FOREACH(domain, &iommu->domains, link) {
        if (domain->table) {
            pack(iommu, domain);
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
        if (domain->table && !(stamp_holds(domain) && domain->stamp.sent)) {
            pack(iommu, domain);
        }
    }
    return true;
}

static void tables_post_save(void *opaque)
{
    nyx_saved_tables_clear(&NYX_IOMMU(opaque)->saved_tables);
}

/* Load */

/* What it is worth is what it allows here: hence not the digest of @s->table */
static bool take_in(NyxIommu *iommu, const NyxSavedTable *s, Error **errp)
{
    const char *id = nyx_saved_get_string(s->id, "a table's domain", errp);
    NyxPageTable *table;
    Arrived *a;

    if (!id) {
        return false;
    }
    table = nyx_table_decode(s->table->data, s->table->len, s->large_pages,
                             errp);
    if (!table) {
        error_prepend(errp, "nyx-iommu: domain '%s': ", id);
        return false;
    }
    a = g_new0(Arrived, 1);
    a->table = table;
    a->large_pages = s->large_pages;
    g_byte_array_unref(encode(table, &a->digest));
    g_hash_table_replace(iommu->arrived_tables, g_strdup(id), a);
    return true;
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

static bool tables_post_load(void *opaque, int version_id, Error **errp)
{
    NyxIommu *iommu = opaque;
    const NyxSavedTable *s;
    bool ok = true;
    ERRP_GUARD();

    QTAILQ_FOREACH(s, &iommu->saved_tables.list, next) {
        ok = ok && take_in(iommu, s, errp);
    }
    nyx_saved_tables_clear(&iommu->saved_tables);
    return ok;
}

NyxPageTable *nyx_travelling_table_take(NyxIommu *iommu, const char *id,
                                        const NyxDigest *digest,
                                        bool large_pages, Error **errp)
{
    Arrived *a = g_hash_table_lookup(iommu->arrived_tables, id);

    if (!a || !a->table) {
        error_setg(errp, "the table of domain '%s' has not come", id);
        return NULL;
    }
    if (a->large_pages != large_pages ||
        memcmp(&a->digest, digest, sizeof(*digest))) {
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
        domain->stamp.sent = false;
    }
}
