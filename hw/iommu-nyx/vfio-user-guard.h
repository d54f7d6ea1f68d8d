/*
 * Nyx IOMMU: a guard between QEMU and a vfio-user server
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * QEMU's client waits for each answer while it holds the BQL, believes what it
 * is told, and serves the server's DMA messages in the main loop, where nothing
 * is served while somebody waits.  So the guard stands between the two sockets,
 * with two threads for each device:
 *
 * - the relay passes messages on, each way, as far as vfio-user-check.h allows.
 *   A server that breaks the protocol, closes the connection or lets QEMU wait
 *   too long has broken: from then on the relay itself answers, as a PCI slot
 *   without a device would, and the device goes into quarantine;
 * - the DMA thread carries out DMA messages, through the address space of the
 *   device's endpoint and without the BQL, so that a server can use them at any
 *   time, also while it handles a register access.  They come over a socket of
 *   their own (vfio-user's twin_socket), or, from a server that has not heard
 *   of it, with the rest.
 */

#ifndef HW_IOMMU_NYX_VFIO_USER_GUARD_H
#define HW_IOMMU_NYX_VFIO_USER_GUARD_H

#include "endpoint.h"
#include "hw/pci/pci_device.h"
#include "nyx/include/hw/iommu-nyx/vfio-user.h"
#include "qemu/event_notifier.h"
#include "qemu/iova-tree.h"
#include "vfio-user-check.h"

typedef struct VuGuard {
    QLIST_ENTRY(VuGuard) link;  /* BQL, as long as it has an owner */
    PCIDevice *owner;           /* BQL */
    Error *migration_blocker;   /* BQL */
    unsigned refs;              /* atomic */
    char *name;                 /* of the device */
    bool contained;             /* the server gets no descriptor of RAM */
    int64_t patience_ns;

    /* RCU: NULL unless the device is realized */
    PCIDevice *dev;
    NyxEndpoint *endpoint;      /* set before @dev, valid as long as it is */

    /* The relay's */
    VuChannel client;           /* QEMU's side */
    VuChannel server;
    VuChannel dma;              /* to the DMA thread, without a twin socket */
    VuDevice facts;
    IOVATree *windows;          /* that the server has */
    bool has_ram;               /* with one of them it got a descriptor */
    bool refused;               /* it has refused one, and that was said */
    QTAILQ_HEAD(, VuRequest) requests;  /* oldest first */
    uint16_t last_id;           /* of the relay's own requests */
    int64_t answered_ns;        /* the latest answer; host's clock */
    int64_t slow_ns;            /* time waited for slow answers ... */
    int64_t slow_since_ns;      /* ... since then */

    /* Atomic: who writes which first */
    bool broken;                /* relay: nothing comes from the server */
    const char *why;            /* relay: set before @broken */
    bool reset_failed;          /* relay: the latest reset did */
    const char *complaint;      /* DMA thread: what is wrong with the server */
    EventNotifier wake;         /* the relay is to look at it */

    int dma_fd;                 /* the DMA thread's; -1: not started */
    uint64_t dma_messages;      /* atomic */
    uint64_t dma_bytes;         /* atomic */
} VuGuard;

VuGuard *nyx_vu_guard_ref(VuGuard *g);
void nyx_vu_guard_unref(VuGuard *g);

/* vfio-user-version.c: let the server know of, and take, a twin socket. */
VuMessage *nyx_vu_offer_twin(VuMessage *request);

/*
 * The answer as QEMU is to see it, or NULL and @why.  @twin: the socket, or -1.
 */
VuMessage *nyx_vu_take_twin(VuMessage *reply, int *twin, const char **why);

/*
 * vfio-user-windows.c: a window is given, or was not taken after all; the
 * windows (DMAMap) in a range that is to be taken back, which are gone then.
 */
void nyx_vu_window_added(VuGuard *g, const VFIOUserDMAMap *map);
void nyx_vu_window_failed(VuGuard *g, uint64_t iova, uint64_t size);
GArray *nyx_vu_windows_removed(VuGuard *g, const VFIOUserDMAUnmap *unmap);

/* vfio-user-dma.c: serve requests that come over g->dma_fd. */
void nyx_vu_start_dma(VuGuard *g);

/* vfio-user-relay.c: serve until QEMU closes its end. */
void nyx_vu_start_relay(VuGuard *g);

/* A device comes to life, or is about to go.  No effect on others.  BQL. */
void nyx_vfio_user_device_ready(PCIDevice *dev);
void nyx_vfio_user_device_gone(PCIDevice *dev);

/* May @dev, if it is memory, be plugged while there are servers? */
bool nyx_vfio_user_admits_memory(DeviceState *dev, Error **errp);

/* Does a server stand behind @dev that has been offered guest RAM? */
bool nyx_vfio_user_shares_ram(PCIDevice *dev);

/* False with @errp if a server stands behind @dev and has not reset it. */
bool nyx_vfio_user_was_reset(PCIDevice *dev, Error **errp);

/* Of the device that has one, or NULL.  BQL. */
VuGuard *nyx_vu_guard_of(PCIDevice *dev);

#endif
