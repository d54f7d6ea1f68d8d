/*
 * Composition tests of Nyx: a driver of virtio-iommu
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * It has no tables: mappings are requests, and they count at once.
 */

#include "qemu/osdep.h"
#include "compose-stage1.h"
#include "hw/pci/pci.h"
#include "qemu/bswap.h"
#include "standard-headers/linux/virtio_config.h"
#include "standard-headers/linux/virtio_ids.h"
#include "standard-headers/linux/virtio_iommu.h"
#include "tests/qtest/libqos/virtio.h"
#include "tests/qtest/libqos/virtio-pci.h"

#define DOMAIN_ID       3
#define BYPASS_ID       4
#define TIMEOUT_US      (30 * G_TIME_SPAN_SECOND)
#define RING_PAGES      4
#define NO_STATUS       0xee

typedef struct Viommu {
    Stage1 s;
    GArray *leaves;         /* of the domain, which goes with its endpoints */
    QVirtioPCIDevice *pci;
    QVirtQueue *vq;
    QGuestAllocator rings;
    uint64_t request;       /* guest physical addresses */
    uint64_t tail;
} Viommu;

static uint8_t submit(Viommu *v, const void *request, size_t size)
{
    QTestState *qts = v->s.t->qts;
    uint8_t *ram = v->s.t->ram;
    uint32_t head;

    memcpy(ram + v->request, request, size);
    ram[v->tail] = NO_STATUS;
    qvirtqueue_reset_pool(v->vq);
    head = qvirtqueue_add(qts, v->vq, v->request, size, false, true);
    qvirtqueue_add(qts, v->vq, v->tail, sizeof(struct virtio_iommu_req_tail),
                   true, false);
    qvirtqueue_kick(qts, &v->pci->vdev, v->vq, head);
    qvirtio_wait_used_elem(qts, &v->pci->vdev, v->vq, head, NULL, TIMEOUT_US);
    return ram[v->tail];
}

static void submit_map(Viommu *v, const Span *leaf)
{
    struct virtio_iommu_req_map map = {
        .head.type = VIRTIO_IOMMU_T_MAP,
        .domain = cpu_to_le32(DOMAIN_ID),
        .virt_start = cpu_to_le64(leaf->first),
        .virt_end = cpu_to_le64(leaf->last),
        .phys_start = cpu_to_le64(leaf->to),
        /* The bits are Span.may's. */
        .flags = cpu_to_le32(leaf->may),
    };

    g_assert_cmpuint(submit(v, &map, offsetof(typeof(map), tail)), ==,
                     VIRTIO_IOMMU_S_OK);
}

static void submit_unmap(Viommu *v, const Span *leaf)
{
    struct virtio_iommu_req_unmap unmap = {
        .head.type = VIRTIO_IOMMU_T_UNMAP,
        .domain = cpu_to_le32(DOMAIN_ID),
        .virt_start = cpu_to_le64(leaf->first),
        .virt_end = cpu_to_le64(leaf->last),
    };

    g_assert_cmpuint(submit(v, &unmap, offsetof(typeof(unmap), tail)), ==,
                     VIRTIO_IOMMU_S_OK);
}

static void submit_attach(Viommu *v, uint32_t function)
{
    bool bypass = v->s.mode == STAGE1_BYPASS;
    struct virtio_iommu_req_attach attach = {
        .head.type = VIRTIO_IOMMU_T_ATTACH,
        .domain = cpu_to_le32(bypass ? BYPASS_ID : DOMAIN_ID),
        .endpoint = cpu_to_le32(function),
        .flags = cpu_to_le32(bypass ? VIRTIO_IOMMU_ATTACH_F_BYPASS : 0),
    };

    g_assert_cmpuint(submit(v, &attach, offsetof(typeof(attach), tail)), ==,
                     VIRTIO_IOMMU_S_OK);
}

static void submit_detach(Viommu *v, uint32_t function)
{
    struct virtio_iommu_req_detach detach = {
        .head.type = VIRTIO_IOMMU_T_DETACH,
        .domain = cpu_to_le32(v->s.mode == STAGE1_BYPASS ? BYPASS_ID
                                                         : DOMAIN_ID),
        .endpoint = cpu_to_le32(function),
    };

    g_assert_cmpuint(submit(v, &detach, offsetof(typeof(detach), tail)), ==,
                     VIRTIO_IOMMU_S_OK);
}

static void each_function(Viommu *v, void (*fn)(Viommu *, uint32_t))
{
    guint i;

    for (i = 0; i < v->s.functions->len; i++) {
        fn(v, g_array_index(v->s.functions, uint16_t, i));
    }
}

static void viommu_set_mode(Stage1 *s, Stage1Mode mode)
{
    Viommu *v = (Viommu *)s;
    guint i;

    if (mode == STAGE1_OFF) {
        each_function(v, submit_detach);
        return;
    }
    s->mode = mode;
    each_function(v, submit_attach);
    for (i = 0; mode == STAGE1_ON && i < v->leaves->len; i++) {
        submit_map(v, span_at(v->leaves, i));
    }
}

static void viommu_set_leaf(Stage1 *s, const Span *leaf)
{
    Viommu *v = (Viommu *)s;
    guint i;

    if (leaf->may) {
        g_array_append_val(v->leaves, *leaf);
    } else {
        for (i = 0; span_at(v->leaves, i)->first != leaf->first; i++) {
            /* look for it */
        }
        g_array_remove_index_fast(v->leaves, i);
    }
    if (s->mode != STAGE1_ON) {
        return;
    }
    if (leaf->may) {
        submit_map(v, leaf);
    } else {
        submit_unmap(v, leaf);
    }
}

static Span viommu_invalidate(Stage1 *s, Stage1Scope scope, Span range,
                              unsigned variant)
{
    return (Span) { .first = 0, .last = UINT64_MAX };
}

/* The driver's start */

static void end_driver(Viommu *v)
{
    if (v->vq) {
        qvirtqueue_cleanup(v->pci->vdev.bus, v->vq, &v->rings);
        g_free(v->pci->pdev);
        g_free(v->pci);
        v->vq = NULL;
    }
}

static void save_address(QPCIDevice *pci, int devfn, void *data)
{
    ((QPCIAddress *)data)->devfn = devfn;
    g_free(pci);
}

static void viommu_forget(Stage1 *s)
{
    Viommu *v = (Viommu *)s;
    QPCIAddress address = { .devfn = -1 };
    uint64_t features;

    end_driver(v);
    qpci_device_foreach(s->t->bus, PCI_VENDOR_ID_REDHAT_QUMRANET,
                        0x1040 + VIRTIO_ID_IOMMU, save_address, &address);
    g_assert_cmpint(address.devfn, !=, -1);
    v->pci = virtio_pci_new(s->t->bus, &address);
    qvirtio_pci_device_enable(v->pci);
    qvirtio_start_device(&v->pci->vdev);
    features = qvirtio_get_features(&v->pci->vdev);
    features &= ~(1ULL << VIRTIO_RING_F_INDIRECT_DESC |
                  1ULL << VIRTIO_RING_F_EVENT_IDX | QVIRTIO_F_BAD_FEATURE);
    qvirtio_set_features(&v->pci->vdev, features);
    v->vq = qvirtqueue_setup(&v->pci->vdev, &v->rings, 0);
    qvirtio_set_driver_ok(&v->pci->vdev);
}

static Stage1 *viommu_open(const Stage1Ops *ops, NyxTest *t,
                           TablePages *pages)
{
    Viommu *v = g_new0(Viommu, 1);
    uint64_t first, last;
    unsigned i;

    v->s = (Stage1) { .ops = ops, .t = t, .pages = pages };
    v->leaves = spans_new();
    v->request = table_pages_take(pages);
    v->tail = table_pages_take(pages);
    /* Pages come one after the other, downwards. */
    first = last = table_pages_take(pages);
    for (i = 1; i < RING_PAGES; i++) {
        first = table_pages_take(pages);
    }
    g_assert_cmphex(last - first, ==, (RING_PAGES - 1) * PAGE);
    alloc_init(&v->rings, ALLOC_NO_FLAGS, first, last + PAGE, PAGE);
    return &v->s;
}

static void viommu_close(Stage1 *s)
{
    Viommu *v = (Viommu *)s;

    end_driver(v);
    alloc_destroy(&v->rings);
    g_array_unref(v->leaves);
}

const Stage1Ops stage1_viommu = {
    .name = "virtio",
    .nyx = "stage1=virtio",
    .q35 = "virtio-iommu-pci,addr=1e",
    .iova_bits = 48,
    .write_only = true,
    .open = viommu_open,
    .close = viommu_close,
    .set_mode = viommu_set_mode,
    .forget = viommu_forget,
    .set_leaf = viommu_set_leaf,
    .invalidate = viommu_invalidate,
};
