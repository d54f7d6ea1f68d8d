/*
 * Nyx IOMMU: state that has arrived, and what this side makes of it
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "arrival.h"
#include "hw/core/qdev.h"
#include "hw/pci/pci.h"
#include "qapi/error.h"
#include "travelling-table.h"

char *nyx_arrival_path(NyxFunction *fn)
{
    return qdev_get_dev_path(DEVICE(fn->dev));
}

NyxFunction *nyx_arrival_find_device(NyxIommu *iommu, const char *path)
{
    NyxEndpoint *ep;
    NyxFunction *fn;

    QTAILQ_FOREACH(ep, &iommu->endpoints, link) {
        QTAILQ_FOREACH(fn, &ep->functions, link) {
            g_autofree char *own = nyx_arrival_path(fn);

            if (g_str_equal(own, path)) {
                return fn;
            }
        }
    }
    return NULL;
}

static void free_arrival(gpointer data)
{
    Arrival *a = data;

    nyx_page_table_free(a->table);
    g_free(a);
}

static bool check_alike(bool alike, const char *what, const char *id,
                        Error **errp)
{
    if (!alike) {
        error_setg(errp, "%s of domain '%s' is not as on the source", what, id);
    }
    return alike;
}

static bool check_kind(const Arrival *a, Error **errp)
{
    const NyxSavedDomain *s = a->saved;
    const NyxDomain *d = a->domain;

    return check_alike(d->isolation == s->isolation, "isolation", a->id,
                       errp) &&
           check_alike(d->default_map == s->default_map, "default-map", a->id,
                       errp) &&
           check_alike(d->peer_to_peer == s->peer_to_peer, "peer-to-peer",
                       a->id, errp) &&
           check_alike(d->large_pages == s->large_pages, "large-pages", a->id,
                       errp) &&
           check_alike(d->contained == s->contained, "contained", a->id, errp);
}

static Arrival *check_domain(NyxIommu *iommu, const NyxSavedDomain *s,
                             Error **errp)
{
    Arrival *a = g_new0(Arrival, 1);
    bool managed = s->isolation != NYX_ISOLATION_UNMANAGED;

    a->saved = s;
    a->id = nyx_saved_get_string(s->id, "a domain's id", errp);
    if (!a->id || !nyx_saved_get_policy(&s->policy, &a->policy, errp)) {
        goto fail;
    }
    a->domain = nyx_iommu_find_domain(iommu, a->id, NULL);
    if (!a->domain && (!s->automatic || s->isolation >= NYX_ISOLATION__MAX)) {
        error_setg(errp, "there is no domain '%s' here; add -object nyx-domain,"
                   "id=%s as on the source", a->id, a->id);
        goto fail;
    }
    if (a->domain && !check_kind(a, errp)) {
        goto fail;
    }
    if (s->has_table && !managed) {
        error_setg(errp, "domain '%s' is unmanaged and has a table", a->id);
        goto fail;
    }
    /* Without one it would allow all RAM. */
    if (managed && !s->has_table && s->default_map == NYX_DEFAULT_MAP_NONE) {
        error_setg(errp, "domain '%s' has default-map=none and no table",
                   a->id);
        goto fail;
    }
    if (s->has_table) {
        a->table = nyx_travelling_table_take(iommu, s, errp);
        if (!a->table) {
            goto fail;
        }
    }
    return a;

fail:
    free_arrival(a);
    return NULL;
}

Arrival *nyx_arrival_find(GPtrArray *arrivals, const char *id)
{
    for (guint i = 0; i < arrivals->len; i++) {
        Arrival *a = arrivals->pdata[i];

        if (g_str_equal(a->id, id)) {
            return a;
        }
    }
    return NULL;
}

static bool check_fault(const NyxSavedFault *fault, Error **errp)
{
    if (fault->type >= NYX_FAULT_TYPE__MAX ||
        fault->access >= NYX_ACCESS__MAX || !fault->count) {
        error_setg(errp, "a fault's record has values that there are not");
        return false;
    }
    return nyx_saved_get_string(fault->domain, "a fault's domain", errp);
}

static bool check_faults(const NyxSavedEndpoint *s, Error **errp)
{
    const NyxSavedFault *fault;
    unsigned records = 0;

    QTAILQ_FOREACH(fault, &s->faults, next) {
        if (!check_fault(fault, errp)) {
            return false;
        }
        records++;
    }
    if (records > NYX_FAULT_RING ||
        s->recovery_times->len > NYX_MAX_RECOVERIES_LIMIT) {
        error_setg(errp, "the records of a device are more than there can be");
        return false;
    }
    if (s->limit_action >= NYX_LIMIT_ACTION__MAX) {
        error_setg(errp, "a device is past its limit, with an action that "
                   "there is not");
        return false;
    }
    if (s->state >= NYX_DEVICE_STATE__MAX ||
        s->state == NYX_DEVICE_STATE_RECOVERING) {
        error_setg(errp, "a device has a state that does not travel");
        return false;
    }
    return true;
}

/* What stands behind a device here may be other than on the source. */
static bool check_backends(NyxEndpoint *ep, const Arrival *a, Error **errp)
{
    NyxFunction *fn;

    QTAILQ_FOREACH(fn, &ep->functions, link) {
        if (nyx_backend_dma(fn->dev) == NYX_BACKEND_DMA_ALL_RAM && a->table) {
            g_autofree char *name = nyx_function_name(fn);

            error_setg(errp, "device '%s' cannot be in domain '%s', which has "
                       "a table that its backend does not see", name, a->id);
            return false;
        }
        if (ep->domain != a->domain &&
            !nyx_backend_can_join(fn->dev, a->domain, errp)) {
            return false;
        }
    }
    return true;
}

static bool check_endpoint(NyxIommu *iommu, GPtrArray *arrivals,
                           const NyxSavedEndpoint *s, GHashTable *seen,
                           Error **errp)
{
    const char *device = nyx_saved_get_string(s->device, "a device", errp);
    const char *domain;
    NyxPolicyOverride policy;
    NyxFunction *fn;
    Arrival *a;

    if (!device) {
        return false;
    }
    domain = nyx_saved_get_string(s->domain, "a device's domain", errp);
    if (!domain || !nyx_saved_get_policy(&s->policy, &policy, errp) ||
        !check_faults(s, errp)) {
        return false;
    }
    fn = nyx_arrival_find_device(iommu, device);
    if (!fn || !g_hash_table_add(seen, fn->endpoint)) {
        error_setg(errp, fn ? "device %s comes twice"
                            : "there is no device %s here", device);
        return false;
    }
    a = nyx_arrival_find(arrivals, domain);
    if (!a) {
        error_setg(errp, "device %s is in domain '%s', which does not come",
                   device, domain);
        return false;
    }
    return check_backends(fn->endpoint, a, errp);
}

static bool check_settings(NyxIommu *iommu, Error **errp)
{
    const NyxSavedIommu *s = &iommu->saved;

    if (s->stage1 != iommu->stage1) {
        error_setg(errp, "stage1 is %s here, and not so on the source",
                   NyxStage1_str(iommu->stage1));
        return false;
    }
    if (s->default_isolation != iommu->default_isolation) {
        error_setg(errp, "default-isolation is %s here, and not so on the "
                   "source", NyxIsolation_str(iommu->default_isolation));
        return false;
    }
    return true;
}

static GPtrArray *check_domains(NyxIommu *iommu, Error **errp)
{
    g_autoptr(GPtrArray) arrivals =
        g_ptr_array_new_with_free_func(free_arrival);
    const NyxSavedDomain *s;

    QTAILQ_FOREACH(s, &iommu->saved.domains, next) {
        Arrival *a = check_domain(iommu, s, errp);

        if (!a) {
            return NULL;
        }
        if (nyx_arrival_find(arrivals, a->id)) {
            error_setg(errp, "domain '%s' comes twice", a->id);
            free_arrival(a);
            return NULL;
        }
        g_ptr_array_add(arrivals, a);
    }
    return g_steal_pointer(&arrivals);
}

/* Each endpoint of this side comes once, and a strict domain has one. */
static bool check_endpoints(NyxIommu *iommu, GPtrArray *arrivals, Error **errp)
{
    g_autoptr(GHashTable) seen = g_hash_table_new(NULL, NULL);
    g_autoptr(GHashTable) strict = g_hash_table_new(NULL, NULL);
    const NyxSavedEndpoint *s;
    NyxEndpoint *ep;

    QTAILQ_FOREACH(s, &iommu->saved.endpoints, next) {
        Arrival *a;

        if (!check_endpoint(iommu, arrivals, s, seen, errp)) {
            return false;
        }
        a = nyx_arrival_find(arrivals, (const char *)s->domain->data);
        if (a->saved->isolation == NYX_ISOLATION_STRICT &&
            !g_hash_table_add(strict, a)) {
            error_setg(errp, "strict domain '%s' has two devices", a->id);
            return false;
        }
    }
    QTAILQ_FOREACH(ep, &iommu->endpoints, link) {
        if (!g_hash_table_contains(seen, ep)) {
            g_autofree char *name = nyx_endpoint_name(ep);

            error_setg(errp, "device '%s' is not on the source", name);
            return false;
        }
    }
    return true;
}

GPtrArray *nyx_arrival_check(NyxIommu *iommu, Error **errp)
{
    g_autoptr(GPtrArray) arrivals = NULL;
    NyxPolicyOverride policy;

    if (!check_settings(iommu, errp) ||
        !nyx_saved_get_policy(&iommu->saved.policy, &policy, errp)) {
        return NULL;
    }
    arrivals = check_domains(iommu, errp);
    if (!arrivals || !check_endpoints(iommu, arrivals, errp)) {
        return NULL;
    }
    return g_steal_pointer(&arrivals);
}
