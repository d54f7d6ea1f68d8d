/*
 * Nyx IOMMU: DMA by message
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "hw/pci/pci.h"
#include "qemu/rcu.h"
#include "qemu/sockets.h"
#include "qemu/thread.h"
#include "trace.h"
#include "vfio-user-guard.h"

static bool transfer(int fd, bool out, void *data, size_t size)
{
    while (size) {
        ssize_t n = RETRY_ON_EINTR(out ? send(fd, data, size, MSG_NOSIGNAL)
                                       : recv(fd, data, size, 0));

        if (n <= 0) {
            return false;
        }
        data = (char *)data + n;
        size -= n;
    }
    return true;
}

/* Without the BQL; as any other DMA, it takes it where a register is hit. */
static MemTxResult access_memory(VuGuard *g, VFIOUserDMARW *rw)
{
    bool write = rw->hdr.command == VFIO_USER_DMA_WRITE;
    AddressSpace *as;
    PCIDevice *dev;

    RCU_READ_LOCK_GUARD();
    dev = qatomic_rcu_read(&g->dev);
    if (!dev) {
        return MEMTX_DECODE_ERROR;
    }
    qatomic_inc(&g->dma_messages);
    qatomic_add(&g->dma_bytes, rw->count);
    trace_nyx_vfio_user_dma(g->name, write ? "write" : "read", rw->offset,
                            rw->count);
    /* Past its limit of faults the view still is what it was for a moment. */
    as = qatomic_read(&g->endpoint->blocked) ? &g->endpoint->trap_as
                                             : pci_get_address_space(dev);
    return address_space_rw(as, rw->offset, MEMTXATTRS_UNSPECIFIED, rw->data,
                            rw->count, write);
}

static uint32_t error_of(MemTxResult result)
{
    if (result == MEMTX_OK) {
        return 0;
    }
    return result & MEMTX_ACCESS_ERROR ? EPERM :
           result & MEMTX_DECODE_ERROR ? ENODEV : EFAULT;
}

/* @rw: the request, with room for the data either way */
static bool answer(VuGuard *g, VFIOUserDMARW *rw, uint32_t error)
{
    VFIOUserHdr *hdr = &rw->hdr;

    if (hdr->flags & VFIO_USER_NO_REPLY) {
        return true;
    }
    hdr->size = error ? sizeof(*hdr) :
                hdr->command == VFIO_USER_DMA_READ ? sizeof(*rw) + rw->count
                                                   : sizeof(*rw);
    hdr->flags = VFIO_USER_REPLY | (error ? VFIO_USER_ERROR : 0);
    hdr->error_reply = error;
    return transfer(g->dma_fd, true, rw, hdr->size);
}

static void complain(VuGuard *g, const char *why)
{
    qatomic_set(&g->complaint, why);
    event_notifier_set(&g->wake);
}

static bool serve_one(VuGuard *g)
{
    g_autofree VFIOUserDMARW *rw = NULL;
    VFIOUserDMARW head;
    const char *why;

    if (!transfer(g->dma_fd, false, &head.hdr, sizeof(head.hdr))) {
        return false;
    }
    if (head.hdr.size < sizeof(head)) {
        complain(g, "sends a request for DMA that is too short");
        return false;
    }
    if (!transfer(g->dma_fd, false, &head.offset,
                  sizeof(head) - sizeof(head.hdr))) {
        return false;
    }
    why = nyx_vu_check_dma(&head);
    if (why) {
        complain(g, why);
        return false;
    }
    rw = g_malloc(sizeof(head) + head.count);
    memcpy(rw, &head, sizeof(head));
    if (head.hdr.command == VFIO_USER_DMA_WRITE &&
        !transfer(g->dma_fd, false, rw->data, head.count)) {
        return false;
    }
    return answer(g, rw, error_of(access_memory(g, rw)));
}

static void *dma_thread(void *opaque)
{
    VuGuard *g = opaque;

    rcu_register_thread();
    while (serve_one(g)) {
        ;
    }
    rcu_unregister_thread();
    nyx_vu_guard_unref(g);
    return NULL;
}

void nyx_vu_start_dma(VuGuard *g)
{
    QemuThread thread;

    qemu_thread_create(&thread, "vfio-user-dma", dma_thread,
                       nyx_vu_guard_ref(g), QEMU_THREAD_DETACHED);
}
