/*
 * Nyx IOMMU: properties of a domain
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "coalesce.h"
#include "domain-properties.h"
#include "domain.h"
#include "qapi/error.h"
#include "qapi/visitor.h"

/* What decides what kind of domain it is */

static bool nyx_domain_can_change(NyxDomain *domain, const char *name,
                                  Error **errp)
{
    if (domain->iommu) {
        error_setg(errp, "'%s' of domain '%s' cannot change while it is in use",
                   name, domain->id);
        return false;
    }
    return true;
}

static int nyx_domain_get_isolation(Object *obj, Error **errp)
{
    return NYX_DOMAIN(obj)->isolation;
}

static void nyx_domain_set_isolation(Object *obj, int value, Error **errp)
{
    if (nyx_domain_can_change(NYX_DOMAIN(obj), "isolation", errp)) {
        NYX_DOMAIN(obj)->isolation = value;
    }
}

static int nyx_domain_get_default_map(Object *obj, Error **errp)
{
    return NYX_DOMAIN(obj)->default_map;
}

static void nyx_domain_set_default_map(Object *obj, int value, Error **errp)
{
    if (nyx_domain_can_change(NYX_DOMAIN(obj), "default-map", errp)) {
        NYX_DOMAIN(obj)->default_map = value;
    }
}

static bool nyx_domain_get_peer_to_peer(Object *obj, Error **errp)
{
    return NYX_DOMAIN(obj)->peer_to_peer;
}

static void nyx_domain_set_peer_to_peer(Object *obj, bool value, Error **errp)
{
    if (nyx_domain_can_change(NYX_DOMAIN(obj), "peer-to-peer", errp)) {
        NYX_DOMAIN(obj)->peer_to_peer = value;
    }
}

static bool nyx_domain_get_large_pages(Object *obj, Error **errp)
{
    return NYX_DOMAIN(obj)->large_pages;
}

static void nyx_domain_set_large_pages(Object *obj, bool value, Error **errp)
{
    if (nyx_domain_can_change(NYX_DOMAIN(obj), "large-pages", errp)) {
        NYX_DOMAIN(obj)->large_pages = value;
    }
}

static bool nyx_domain_get_contained(Object *obj, Error **errp)
{
    return NYX_DOMAIN(obj)->contained;
}

static void nyx_domain_set_contained(Object *obj, bool value, Error **errp)
{
    if (nyx_domain_can_change(NYX_DOMAIN(obj), "contained", errp)) {
        NYX_DOMAIN(obj)->contained = value;
    }
}

/* How its devices are served; may change at any time */

static void nyx_domain_get_irq_coalescing(Object *obj, Visitor *v,
                                          const char *name, void *opaque,
                                          Error **errp)
{
    visit_type_uint32(v, name, &NYX_DOMAIN(obj)->irq_coalescing, errp);
}

static void nyx_domain_set_irq_coalescing(Object *obj, Visitor *v,
                                          const char *name, void *opaque,
                                          Error **errp)
{
    uint32_t us;

    if (!visit_type_uint32(v, name, &us, errp)) {
        return;
    }
    if (us > NYX_COALESCE_US_MAX) {
        error_setg(errp, "irq-coalescing must be at most %d (microseconds)",
                   NYX_COALESCE_US_MAX);
        return;
    }
    NYX_DOMAIN(obj)->irq_coalescing = us;
}

static bool nyx_domain_get_batch_invalidation(Object *obj, Error **errp)
{
    return NYX_DOMAIN(obj)->batch_invalidation;
}

static void nyx_domain_set_batch_invalidation(Object *obj, bool value,
                                              Error **errp)
{
    NYX_DOMAIN(obj)->batch_invalidation = value;
}

static NyxPolicyOverride *nyx_domain_policy_override(Object *obj)
{
    return &NYX_DOMAIN(obj)->policy;
}

static NyxPolicy nyx_domain_policy_effective(Object *obj)
{
    return nyx_domain_policy(NYX_DOMAIN(obj));
}

static void nyx_domain_property_changed(Object *obj)
{
    nyx_domain_policy_changed(NYX_DOMAIN(obj));
}

static const NyxPolicyOwner nyx_domain_policy_owner = {
    .get = nyx_domain_policy_override,
    .effective = nyx_domain_policy_effective,
    .changed = nyx_domain_property_changed,
};

void nyx_domain_add_class_properties(ObjectClass *oc)
{
    object_class_property_add_enum(oc, "isolation", "NyxIsolation",
                                   &NyxIsolation_lookup,
                                   nyx_domain_get_isolation,
                                   nyx_domain_set_isolation);
    object_class_property_set_description(oc, "isolation",
        "How devices are kept apart (strict, shared, unmanaged)");
    object_class_property_add_enum(oc, "default-map", "NyxDefaultMap",
                                   &NyxDefaultMap_lookup,
                                   nyx_domain_get_default_map,
                                   nyx_domain_set_default_map);
    object_class_property_set_description(oc, "default-map",
        "What is allowed at first (ram, none)");
    object_class_property_add_bool(oc, "peer-to-peer",
                                   nyx_domain_get_peer_to_peer,
                                   nyx_domain_set_peer_to_peer);
    object_class_property_set_description(oc, "peer-to-peer",
        "Whether device memory may be accessed");
    object_class_property_add_bool(oc, "large-pages",
                                   nyx_domain_get_large_pages,
                                   nyx_domain_set_large_pages);
    object_class_property_set_description(oc, "large-pages",
        "Whether the table uses leaves of 2 MiB and 1 GiB");
    object_class_property_add_bool(oc, "contained",
                                   nyx_domain_get_contained,
                                   nyx_domain_set_contained);
    object_class_property_set_description(oc, "contained",
        "Give no backend process a descriptor of guest memory");
    object_class_property_add(oc, "irq-coalescing", "uint32",
                              nyx_domain_get_irq_coalescing,
                              nyx_domain_set_irq_coalescing, NULL, NULL);
    object_class_property_set_description(oc, "irq-coalescing",
        "Microseconds in which equal interrupts of a device become one "
        "(default: 0, off)");
    object_class_property_add_bool(oc, "batch-invalidation",
                                   nyx_domain_get_batch_invalidation,
                                   nyx_domain_set_batch_invalidation);
    object_class_property_set_description(oc, "batch-invalidation",
        "Take what the guest's IOMMU takes back out of the tables together, "
        "when a device next asks (default: off)");
    nyx_policy_add_class_properties(oc, &nyx_domain_policy_owner);
}
