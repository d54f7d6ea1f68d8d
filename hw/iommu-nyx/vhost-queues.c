/*
 * Nyx IOMMU: the queues of a vhost device whose translations have changed
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "endpoint.h"
#include "hw/virtio/vhost.h"
#include "hw/virtio/virtio-net.h"
#include "hw/virtio/virtio-pci.h"
#include "net/vhost_net.h"
#include "vhost-queues.h"

/* IOMMU_NONE asks without leaving a fault where nothing is allowed. */
static bool is_allowed(NyxEndpoint *ep, hwaddr iova, IOMMUAccessFlags flag)
{
    IOMMUMemoryRegion *mr = &ep->view.translate;
    IOMMUMemoryRegionClass *imrc = memory_region_get_iommu_class_nocheck(mr);

    return imrc->translate(mr, iova, IOMMU_NONE, 0).perm & flag;
}

static void tell(NyxEndpoint *ep, struct vhost_dev *dev, hwaddr iova,
                 bool write)
{
    if (iova && is_allowed(ep, iova, write ? IOMMU_WO : IOMMU_RO)) {
        vhost_device_iotlb_miss(dev, iova, write);
    }
}

static void tell_device(NyxEndpoint *ep, struct vhost_dev *dev)
{
    if (!dev || !dev->started || !vhost_dev_has_iommu(dev)) {
        return;
    }
    for (int i = 0; i < dev->nvqs && dev->started; i++) {
        struct vhost_virtqueue *vq = &dev->vqs[i];

        tell(ep, dev, vq->desc_phys, false);
        tell(ep, dev, vq->avail_phys, false);
        tell(ep, dev, vq->used_phys, true);
    }
}

/* One vhost device for each pair of queues */
static void tell_net(NyxEndpoint *ep, VirtIONet *net)
{
    for (int i = 0; net->nic && i < net->max_queue_pairs; i++) {
        NetClientState *peer = qemu_get_subqueue(net->nic, i)->peer;
        struct vhost_net *vhost = peer ? get_vhost_net(peer) : NULL;

        tell_device(ep, vhost ? &vhost->dev : NULL);
    }
}

static void tell_function(NyxEndpoint *ep, PCIDevice *dev)
{
    VirtioDeviceClass *vdc;
    VirtIODevice *vdev;

    if (!object_dynamic_cast(OBJECT(dev), TYPE_VIRTIO_PCI)) {
        return;
    }
    vdev = virtio_bus_get_device(&VIRTIO_PCI(dev)->bus);
    if (!vdev || !vdev->vhost_started) {
        return;
    }
    vdc = VIRTIO_DEVICE_GET_CLASS(vdev);
    if (object_dynamic_cast(OBJECT(vdev), TYPE_VIRTIO_NET)) {
        tell_net(ep, VIRTIO_NET(vdev));
    } else if (vdc->get_vhost) {
        tell_device(ep, vdc->get_vhost(vdev));
    }
}

void nyx_vhost_tell_queues(NyxEndpoint *ep)
{
    NyxFunction *fn;

    if (nyx_endpoint_dma_mode(ep) != NYX_DMA_MODE_TRANSLATING) {
        return;
    }
    RCU_READ_LOCK_GUARD();
    QTAILQ_FOREACH(fn, &ep->functions, link) {
        if (nyx_backend_dma(fn->dev) == NYX_BACKEND_DMA_CACHES) {
            tell_function(ep, fn->dev);
        }
    }
}
