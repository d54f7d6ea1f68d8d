/*
 * Nyx IOMMU: a guard between QEMU and a vfio-user server
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "hw/mem/memory-device.h"
#include "hw/pci/pci.h"
#include "hw/pci/pci_bus.h"
#include "io/channel-socket.h"
#include "iommu.h"
#include "migration/blocker.h"
#include "qapi/error.h"
#include "qemu/rcu.h"
#include "qemu/timer.h"
#include "system/ramblock.h"
#include "system/ramlist.h"
#include "vfio-user-guard.h"

static QLIST_HEAD(, VuGuard) guards = QLIST_HEAD_INITIALIZER(guards);

VuGuard *nyx_vu_guard_ref(VuGuard *g)
{
    qatomic_inc(&g->refs);
    return g;
}

void nyx_vu_guard_unref(VuGuard *g)
{
    VuRequest *req;

    if (qatomic_fetch_dec(&g->refs) > 1) {
        return;
    }
    nyx_vu_channel_close(&g->client);
    nyx_vu_channel_close(&g->server);
    nyx_vu_channel_close(&g->dma);
    while ((req = QTAILQ_FIRST(&g->requests))) {
        QTAILQ_REMOVE(&g->requests, req, next);
        g_free(req);
    }
    if (g->dma_fd >= 0) {
        close(g->dma_fd);
    }
    iova_tree_destroy(g->windows);
    event_notifier_cleanup(&g->wake);
    g_free(g->name);
    g_free(g);
}

VuGuard *nyx_vu_guard_of(PCIDevice *dev)
{
    VuGuard *g;

    QLIST_FOREACH(g, &guards, link) {
        if (g->owner == dev) {
            return g;
        }
    }
    return NULL;
}

void nyx_vfio_user_device_ready(PCIDevice *dev)
{
    VuGuard *g = nyx_vu_guard_of(dev);

    if (g) {
        g->endpoint = nyx_function_of(dev)->endpoint;
        qatomic_rcu_set(&g->dev, dev);
    }
}

/* The device itself is freed after an RCU grace period, hence after its DMA. */
void nyx_vfio_user_device_gone(PCIDevice *dev)
{
    VuGuard *g = nyx_vu_guard_of(dev);

    if (g) {
        qatomic_rcu_set(&g->dev, NULL);
        g->owner = NULL;
        QLIST_REMOVE(g, link);
        migrate_del_blocker(&g->migration_blocker);
        nyx_vu_guard_unref(g);
    }
}

static int find_private_file(RAMBlock *block, void *opaque)
{
    const char **name = opaque;

    if (qemu_ram_get_fd(block) >= 0 && !qemu_ram_is_shared(block)) {
        *name = memory_region_name(block->mr);
        return 1;
    }
    return 0;
}

/*
 * QEMU would send the descriptor all the same, and the server would read what
 * the file has, not what the guest wrote.
 */
static bool ram_can_be_sent(Error **errp)
{
    const char *name = NULL;

    if (qemu_ram_foreach_block(find_private_file, &name)) {
        error_setg(errp, "guest RAM '%s' has a file, but is not shared "
                   "(share=off), so that a vfio-user server would see other "
                   "data than the guest; use share=on, or a domain with "
                   "contained=on", name);
        return false;
    }
    return true;
}

bool nyx_vfio_user_admits_memory(DeviceState *dev, Error **errp)
{
    VuGuard *g;

    if (!object_dynamic_cast(OBJECT(dev), TYPE_MEMORY_DEVICE)) {
        return true;
    }
    QLIST_FOREACH(g, &guards, link) {
        if (!g->contained && !ram_can_be_sent(errp)) {
            error_prepend(errp, "there is device '%s': ", g->name);
            return false;
        }
    }
    return true;
}

bool nyx_vfio_user_shares_ram(PCIDevice *dev)
{
    VuGuard *g = nyx_vu_guard_of(dev);

    return g && !g->contained;
}

bool nyx_vfio_user_is_sound(PCIDevice *dev, Error **errp)
{
    VuGuard *g = nyx_vu_guard_of(dev);

    if (g && qatomic_load_acquire(&g->broken)) {
        error_setg(errp, "use a server that keeps to the protocol");
        return false;
    }
    return true;
}

void nyx_vfio_user_explain(PCIDevice *dev, Error **errp)
{
    VuGuard *g = nyx_vu_guard_of(dev);

    if (g && qatomic_load_acquire(&g->broken)) {
        error_prepend(errp, "its vfio-user server %s: ", g->why);
    }
}

bool nyx_vfio_user_was_reset(PCIDevice *dev, Error **errp)
{
    VuGuard *g = nyx_vu_guard_of(dev);

    if (!g) {
        return true;
    }
    if (qatomic_read(&g->broken)) {
        error_setg(errp, "remove the device, and add it anew once there is a "
                   "server");
        return false;
    }
    if (!g->facts.resets || qatomic_read(&g->reset_failed)) {
        error_setg(errp, "its vfio-user server %s; remove the device",
                   g->facts.resets ? "failed to reset it"
                                   : "cannot reset it");
        return false;
    }
    return true;
}

/* What it joins when it is realized; NULL: an automatic domain of its own. */
static NyxDomain *joining_domain(PCIDevice *dev)
{
    NyxIommu *iommu = nyx_iommu_get();
    const char *id = nyx_function_of(dev)->wanted_domain;
    PCIBus *iommu_bus, *bus;
    NyxEndpoint *ep;
    int devfn;

    if (id) {
        return nyx_iommu_find_domain(iommu, id, NULL);
    }
    pci_device_get_iommu_bus_devfn(dev, &iommu_bus, &bus, &devfn);
    QTAILQ_FOREACH(ep, &iommu->endpoints, link) {
        if (ep->bus == bus && ep->devfn == devfn) {
            return ep->domain;
        }
    }
    return NULL;
}

static VuGuard *guard_new(PCIDevice *dev, NyxDomain *domain, int client,
                          int server)
{
    NyxIsolation isolation = domain ? domain->isolation
                                    : nyx_iommu_get()->default_isolation;
    VuGuard *g = g_new0(VuGuard, 1);

    g->refs = 1;
    g->owner = dev;
    g->name = nyx_function_name(nyx_function_of(dev));
    g->contained = domain && domain->contained;
    g->facts.map_unsealed = isolation == NYX_ISOLATION_UNMANAGED;
    /* QEMU's own patience must not be the shorter one. */
    g->patience_ns = object_property_get_uint(OBJECT(dev), "x-msg-timeout",
                                              &error_abort) *
                     (SCALE_MS * 4 / 5);
    g->dma_fd = -1;
    g->windows = iova_tree_new();
    event_notifier_init(&g->wake, 0);
    QTAILQ_INIT(&g->requests);
    nyx_vu_channel_init(&g->client, client);
    nyx_vu_channel_init(&g->server, server);
    nyx_vu_channel_init(&g->dma, -1);
    return g;
}

/* Two ends of a socket: one for QEMU's client, one for the guard. */
static QIOChannel *new_connection(int *other, Error **errp)
{
    QIOChannelSocket *ioc;
    int pair[2];

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair)) {
        error_setg_errno(errp, errno, "cannot make a pair of sockets");
        return NULL;
    }
    ioc = qio_channel_socket_new_fd(pair[0], errp);
    if (!ioc) {
        close(pair[0]);
        close(pair[1]);
        return NULL;
    }
    if (!qio_channel_set_blocking(QIO_CHANNEL(ioc), false, errp)) {
        object_unref(OBJECT(ioc));
        close(pair[1]);
        return NULL;
    }
    *other = pair[1];
    return QIO_CHANNEL(ioc);
}

/* QEMU does not do that by itself, and would leave the device's state behind. */
static bool block_migration(PCIDevice *dev, Error **blocker, Error **errp)
{
    g_autofree char *name = nyx_function_name(nyx_function_of(dev));

    error_setg(blocker, "the state of device '%s' is in its vfio-user server "
               "and cannot migrate", name);
    return migrate_add_blocker(blocker, errp) >= 0;
}

bool nyx_vfio_user_guard(PCIDevice *dev, QIOChannel **ioc, Error **errp)
{
    Error *blocker = NULL;
    NyxDomain *domain;
    QIOChannel *ours;
    int client, server;
    VuGuard *g;

    if (!nyx_iommu_get()) {
        return true;
    }
    domain = joining_domain(dev);
    if ((!(domain && domain->contained) && !ram_can_be_sent(errp)) ||
        !block_migration(dev, &blocker, errp)) {
        return false;
    }
    server = qemu_dup(QIO_CHANNEL_SOCKET(*ioc)->fd);
    ours = server < 0 ? NULL : new_connection(&client, errp);
    if (!ours) {
        if (server < 0) {
            error_setg_errno(errp, errno, "cannot duplicate a socket");
        } else {
            close(server);
        }
        migrate_del_blocker(&blocker);
        return false;
    }
    object_unref(OBJECT(*ioc));
    *ioc = ours;
    g = guard_new(dev, domain, client, server);
    g->migration_blocker = blocker;
    QLIST_INSERT_HEAD(&guards, g, link);
    nyx_vu_start_relay(g);
    return true;
}
