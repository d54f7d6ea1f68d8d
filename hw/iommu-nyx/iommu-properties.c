/*
 * Nyx IOMMU: properties of the IOMMU
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "iommu.h"
#include "iommu-properties.h"
#include "qapi/error.h"
#include "qapi/visitor.h"
#include "translate.h"

static int nyx_iommu_get_stage1(Object *obj, Error **errp)
{
    return NYX_IOMMU(obj)->stage1;
}

static void nyx_iommu_set_stage1(Object *obj, int value, Error **errp)
{
    if (DEVICE(obj)->realized) {
        error_setg(errp, "stage1 cannot change while the VM runs");
        return;
    }
    NYX_IOMMU(obj)->stage1 = value;
}

static int nyx_iommu_get_isolation(Object *obj, Error **errp)
{
    return NYX_IOMMU(obj)->default_isolation;
}

static void nyx_iommu_set_isolation(Object *obj, int value, Error **errp)
{
    if (DEVICE(obj)->realized) {
        error_setg(errp, "default-isolation cannot change while the VM runs");
        return;
    }
    NYX_IOMMU(obj)->default_isolation = value;
}

static void nyx_iommu_get_sampling(Object *obj, Visitor *v, const char *name,
                                   void *opaque, Error **errp)
{
    visit_type_uint32(v, name, &NYX_IOMMU(obj)->latency_sampling, errp);
}

/* Also while the VM runs */
static void nyx_iommu_set_sampling(Object *obj, Visitor *v, const char *name,
                                   void *opaque, Error **errp)
{
    uint32_t interval;

    if (visit_type_uint32(v, name, &interval, errp)) {
        qatomic_set(&NYX_IOMMU(obj)->latency_sampling, interval);
        nyx_translate_set_sampling(interval);
    }
}

static char *nyx_iommu_get_snapshot(Object *obj, Error **errp)
{
    return g_strdup(NYX_IOMMU(obj)->restore.snapshot);
}

/* Also while the VM runs: the snapshot is made later. */
static void nyx_iommu_set_snapshot(Object *obj, const char *value, Error **errp)
{
    NyxRestore *restore = &NYX_IOMMU(obj)->restore;

    g_free(restore->snapshot);
    restore->snapshot = *value ? g_strdup(value) : NULL;
}

static void nyx_iommu_get_max_restores(Object *obj, Visitor *v,
                                       const char *name, void *opaque,
                                       Error **errp)
{
    visit_type_uint32(v, name, &NYX_IOMMU(obj)->restore.max, errp);
}

static void nyx_iommu_set_max_restores(Object *obj, Visitor *v,
                                       const char *name, void *opaque,
                                       Error **errp)
{
    uint32_t max;

    if (!visit_type_uint32(v, name, &max, errp)) {
        return;
    }
    if (max > NYX_MAX_RESTORES_LIMIT) {
        error_setg(errp, "%s must be at most %d", name,
                   NYX_MAX_RESTORES_LIMIT);
        return;
    }
    NYX_IOMMU(obj)->restore.max = max;
}

static NyxPolicyOverride *nyx_iommu_policy_override(Object *obj)
{
    return &NYX_IOMMU(obj)->policy;
}

static NyxPolicy nyx_iommu_policy_effective(Object *obj)
{
    return nyx_iommu_policy(NYX_IOMMU(obj));
}

static void nyx_iommu_policy_changed(Object *obj)
{
    NyxEndpoint *ep;

    QTAILQ_FOREACH(ep, &NYX_IOMMU(obj)->endpoints, link) {
        nyx_endpoint_update_policy(ep);
    }
}

static const NyxPolicyOwner nyx_iommu_policy_owner = {
    .get = nyx_iommu_policy_override,
    .effective = nyx_iommu_policy_effective,
    .changed = nyx_iommu_policy_changed,
};

void nyx_iommu_add_class_properties(ObjectClass *oc)
{
    object_class_property_add_enum(oc, "stage1", "NyxStage1",
                                   &NyxStage1_lookup, nyx_iommu_get_stage1,
                                   nyx_iommu_set_stage1);
    object_class_property_set_description(oc, "stage1",
        "IOMMU that the guest sees (none, the default; intel, amd, virtio)");
    object_class_property_add_enum(oc, "default-isolation", "NyxIsolation",
                                   &NyxIsolation_lookup,
                                   nyx_iommu_get_isolation,
                                   nyx_iommu_set_isolation);
    object_class_property_set_description(oc, "default-isolation",
        "For devices that name no domain (strict, the default; shared, "
        "unmanaged)");
    object_class_property_add(oc, "latency-sampling", "uint32",
                              nyx_iommu_get_sampling, nyx_iommu_set_sampling,
                              NULL, NULL);
    object_class_property_set_description(oc, "latency-sampling",
        "One in so many DMA translations and interrupts is timed (default: 0, "
        "none)");
    object_class_property_add_str(oc, "recovery-snapshot",
                                  nyx_iommu_get_snapshot,
                                  nyx_iommu_set_snapshot);
    object_class_property_set_description(oc, "recovery-snapshot",
        "Internal snapshot that the action restore-snapshot goes back to");
    object_class_property_add(oc, "max-restores", "uint32",
                              nyx_iommu_get_max_restores,
                              nyx_iommu_set_max_restores, NULL, NULL);
    object_class_property_set_description(oc, "max-restores",
        "Times within an hour that it may do so (default: 3)");
    nyx_policy_add_class_properties(oc, &nyx_iommu_policy_owner);
}
