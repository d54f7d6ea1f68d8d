/*
 * Nyx: what both sides of a migration must have alike
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "configuration.h"
#include "hw/core/boards.h"
#include "hw/pci/pci.h"
#include "nyx/hw/iommu-nyx/arrival.h"

static NyxMigrationDomainList *domains_of(NyxIommu *iommu)
{
    NyxMigrationDomainList *list = NULL, **tail = &list;
    NyxDomain *d;

    QTAILQ_FOREACH(d, &iommu->domains, link) {
        NyxMigrationDomain *md;

        /* Those of devices that name none are made on arrival. */
        if (d->automatic) {
            continue;
        }
        md = g_new0(NyxMigrationDomain, 1);
        *md = (NyxMigrationDomain) {
            .id = g_strdup(d->id),
            .isolation = d->isolation,
            .default_map = d->default_map,
            .peer_to_peer = d->peer_to_peer,
            .large_pages = d->large_pages,
            .contained = d->contained,
        };
        QAPI_LIST_APPEND(tail, md);
    }
    return list;
}

static NyxMigrationDeviceList *devices_of(NyxIommu *iommu)
{
    NyxMigrationDeviceList *list = NULL, **tail = &list;
    NyxEndpoint *ep;
    NyxFunction *fn;

    QTAILQ_FOREACH(ep, &iommu->endpoints, link) {
        QTAILQ_FOREACH(fn, &ep->functions, link) {
            NyxMigrationDevice *md = g_new0(NyxMigrationDevice, 1);

            md->path = nyx_arrival_path(fn);
            md->driver = g_strdup(object_get_typename(OBJECT(fn->dev)));
            QAPI_LIST_APPEND(tail, md);
        }
    }
    return list;
}

NyxMigrationConfiguration *nyx_configuration_of(NyxIommu *iommu)
{
    NyxMigrationConfiguration *c = g_new0(NyxMigrationConfiguration, 1);

    c->machine = g_strdup(MACHINE_GET_CLASS(qdev_get_machine())->name);
    c->stage1 = iommu->stage1;
    c->default_isolation = iommu->default_isolation;
    c->domains = domains_of(iommu);
    c->devices = devices_of(iommu);
    return c;
}

/* Compare */

typedef struct Compare {
    NyxConfigurationDiffers *fn;
    void *opaque;
} Compare;

static G_GNUC_PRINTF(2, 3) void differs(const Compare *c, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    c->fn(g_strdup_vprintf(fmt, ap), c->opaque);
    va_end(ap);
}

static void compare_words(const Compare *c, const char *what, const char *here,
                          const char *there)
{
    if (!g_str_equal(here, there)) {
        differs(c, "%s is %s here and %s on the destination", what, here,
                there);
    }
}

static void compare_flags(const Compare *c, const char *what, bool here,
                          bool there)
{
    compare_words(c, what, here ? "on" : "off", there ? "on" : "off");
}

static const NyxMigrationDomain *
find_domain(const NyxMigrationConfiguration *in, const char *id)
{
    for (NyxMigrationDomainList *l = in->domains; l; l = l->next) {
        if (g_str_equal(l->value->id, id)) {
            return l->value;
        }
    }
    return NULL;
}

static void compare_domain(const Compare *c, const NyxMigrationDomain *here,
                           const NyxMigrationDomain *there)
{
    g_autofree char *isolation = g_strdup_printf("isolation of domain '%s'",
                                                 here->id);
    g_autofree char *map = g_strdup_printf("default-map of domain '%s'",
                                           here->id);
    g_autofree char *peer = g_strdup_printf("peer-to-peer of domain '%s'",
                                            here->id);
    g_autofree char *large = g_strdup_printf("large-pages of domain '%s'",
                                             here->id);
    g_autofree char *contained = g_strdup_printf("contained of domain '%s'",
                                                 here->id);

    compare_words(c, isolation, NyxIsolation_str(here->isolation),
                  NyxIsolation_str(there->isolation));
    compare_words(c, map, NyxDefaultMap_str(here->default_map),
                  NyxDefaultMap_str(there->default_map));
    compare_flags(c, peer, here->peer_to_peer, there->peer_to_peer);
    compare_flags(c, large, here->large_pages, there->large_pages);
    compare_flags(c, contained, here->contained, there->contained);
}

/* A domain more on the destination does no harm: nothing is in it. */
static void compare_domains(const Compare *c,
                            const NyxMigrationConfiguration *source,
                            const NyxMigrationConfiguration *destination)
{
    for (NyxMigrationDomainList *l = source->domains; l; l = l->next) {
        const NyxMigrationDomain *there = find_domain(destination,
                                                      l->value->id);

        if (there) {
            compare_domain(c, l->value, there);
        } else {
            differs(c, "the destination has no domain '%s'; add -object "
                    "nyx-domain,id=%s as here", l->value->id, l->value->id);
        }
    }
}

static const NyxMigrationDevice *
find_device(const NyxMigrationConfiguration *in, const char *path)
{
    for (NyxMigrationDeviceList *l = in->devices; l; l = l->next) {
        if (g_str_equal(l->value->path, path)) {
            return l->value;
        }
    }
    return NULL;
}

static void compare_devices(const Compare *c,
                            const NyxMigrationConfiguration *source,
                            const NyxMigrationConfiguration *destination)
{
    for (NyxMigrationDeviceList *l = source->devices; l; l = l->next) {
        const NyxMigrationDevice *here = l->value;
        const NyxMigrationDevice *there = find_device(destination, here->path);

        if (!there) {
            differs(c, "the destination has no device at %s, where %s is here",
                    here->path, here->driver);
        } else if (!g_str_equal(here->driver, there->driver)) {
            differs(c, "the device at %s is %s here and %s on the destination",
                    here->path, here->driver, there->driver);
        }
    }
    for (NyxMigrationDeviceList *l = destination->devices; l; l = l->next) {
        if (!find_device(source, l->value->path)) {
            differs(c, "the destination has %s at %s, where there is no device "
                    "here", l->value->driver, l->value->path);
        }
    }
}

void nyx_configuration_compare(const NyxMigrationConfiguration *source,
                               const NyxMigrationConfiguration *destination,
                               NyxConfigurationDiffers *fn, void *opaque)
{
    Compare c = { .fn = fn, .opaque = opaque };

    compare_words(&c, "the machine", source->machine, destination->machine);
    compare_words(&c, "stage1", NyxStage1_str(source->stage1),
                  NyxStage1_str(destination->stage1));
    compare_words(&c, "default-isolation",
                  NyxIsolation_str(source->default_isolation),
                  NyxIsolation_str(destination->default_isolation));
    compare_domains(&c, source, destination);
    compare_devices(&c, source, destination);
}
