/*
 * Nyx IOMMU: confinement of a virtio block device with real queues
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Every test is run with I/O in the main loop and in an I/O thread, which does
 * DMA without the BQL.
 */

#include "qemu/osdep.h"
#include "hw/pci/pci_regs.h"
#include "libnyx-extra.h"
#include "qemu/bswap.h"
#include "standard-headers/linux/virtio_blk.h"
#include "standard-headers/linux/virtio_config.h"
#include "standard-headers/linux/virtio_ring.h"
#include "tests/qtest/libqos/virtio.h"
#include "tests/qtest/libqos/virtio-pci.h"
#include "tests/qtest/libqos/virtio-pci-modern.h"

#define WINDOW          MIB(8)
#define WINDOW_SIZE     MIB(1)
#define REQUEST         (WINDOW + WINDOW_SIZE - 16 * PAGE)
#define DATA            (REQUEST + PAGE)
#define DISK_SIZE       MIB(1)
#define BLOCK           512
#define TIMEOUT_US      (30 * G_TIME_SPAN_SECOND)
#define NO_STATUS       0xee
#define PORT_SLOT       6
#define BARS            6

typedef struct Disk {
    NyxTest *t;
    QVirtioPCIDevice *pci;
    QVirtioDevice *dev;
    QVirtQueue *vq;
    QGuestAllocator queue_memory;
    int fd;                 /* of the disk image */
} Disk;

/* The driver's part of a start: from reset to DRIVER_OK */
static void start_driver(Disk *d)
{
    uint64_t features;

    qvirtio_start_device(d->dev);
    features = qvirtio_get_features(d->dev);
    g_assert_true(features & (1ULL << VIRTIO_F_ACCESS_PLATFORM));
    features &= ~(1ULL << VIRTIO_RING_F_INDIRECT_DESC |
                  1ULL << VIRTIO_RING_F_EVENT_IDX |
                  QVIRTIO_F_BAD_FEATURE);
    qvirtio_set_features(d->dev, features);
    d->vq = qvirtqueue_setup(d->dev, &d->queue_memory, 0);
    qvirtio_set_driver_ok(d->dev);
}

static Disk start_in(const char *domain, bool behind_port, const char *machine,
                     const void *device_options)
{
    unsigned slot = behind_port ? NYX_SLOT(1, 0) : 5;
    Disk d = {};
    g_autofree char *path = NULL;

    d.fd = g_file_open_tmp("nyx-virtio-XXXXXX", &path, NULL);
    g_assert_cmpint(ftruncate(d.fd, DISK_SIZE), ==, 0);
    d.t = nyx_test_start(machine,
                         "-object nyx-domain,id=dom,default-map=none "
                         "-object nyx-domain,id=all "
                         "-drive if=none,id=disk,format=raw,file=%s "
                         "-device pcie-root-port,id=rp,addr=%d "
                         "-device virtio-blk-pci,id=dev,%s,nyx-domain=%s,"
                         "drive=disk%s -object iothread,id=io", path, PORT_SLOT,
                         behind_port ? "bus=rp" : "addr=5", domain,
                         (const char *)device_options);
    unlink(path);
    nyx_ram_fill(d.t);
    nyx_qmp(d.t, "{ 'execute': 'nyx-map', 'arguments': { 'domain': 'dom',"
            "  'iova': %" PRIu64 ", 'gpa': %" PRIu64 ", 'size': %" PRIu64 ","
            "  'access': 'rw' } }", (uint64_t)WINDOW, (uint64_t)WINDOW,
            (uint64_t)WINDOW_SIZE);
    alloc_init(&d.queue_memory, ALLOC_NO_FLAGS, WINDOW, REQUEST, PAGE);
    if (behind_port) {
        g_free(nyx_bridge_open(d.t, PORT_SLOT, 1));
    }
    d.pci = virtio_pci_new(d.t->bus,
                           &(QPCIAddress) { .devfn = QPCI_DEVFN(slot, 0) });
    qvirtio_pci_device_enable(d.pci);
    d.dev = &d.pci->vdev;
    start_driver(&d);
    return d;
}

static Disk start(const char *machine, const void *device_options)
{
    return start_in("dom", false, machine, device_options);
}

static void quit(Disk *d)
{
    qvirtqueue_cleanup(d->dev->bus, d->vq, &d->queue_memory);
    alloc_destroy(&d->queue_memory);
    g_free(d->pci->pdev);
    g_free(d->pci);
    nyx_test_quit(d->t);
    close(d->fd);
}

static uint32_t submit(Disk *d, uint32_t type, uint64_t data, uint64_t block)
{
    QTestState *qts = d->t->qts;
    struct virtio_blk_outhdr header = {
        .type = cpu_to_le32(type),
        .sector = cpu_to_le64(block),
    };
    uint32_t head;

    memcpy(d->t->ram + REQUEST, &header, sizeof(header));
    d->t->ram[REQUEST + sizeof(header)] = NO_STATUS;
    head = qvirtqueue_add(qts, d->vq, REQUEST, sizeof(header), false, true);
    qvirtqueue_add(qts, d->vq, data, BLOCK, type == VIRTIO_BLK_T_IN, true);
    qvirtqueue_add(qts, d->vq, REQUEST + sizeof(header), 1, true, false);
    qvirtqueue_kick(qts, d->dev, d->vq, head);
    return head;
}

static uint8_t status_of(Disk *d)
{
    return d->t->ram[REQUEST + sizeof(struct virtio_blk_outhdr)];
}

static void request(Disk *d, uint32_t type, uint64_t data, uint64_t block)
{
    uint32_t head = submit(d, type, data, block);

    qvirtio_wait_used_elem(d->t->qts, d->dev, d->vq, head, NULL, TIMEOUT_US);
    g_assert_cmpuint(status_of(d), ==, VIRTIO_BLK_S_OK);
}

static void check_io(Disk *d, uint8_t value)
{
    uint8_t block[BLOCK];

    memset(d->t->ram + DATA, value, BLOCK);
    request(d, VIRTIO_BLK_T_OUT, DATA, 9);
    g_assert_cmpint(pread(d->fd, block, BLOCK, 9 * BLOCK), ==, BLOCK);
    g_assert(!memcmp(block, d->t->ram + DATA, BLOCK));
    request(d, VIRTIO_BLK_T_IN, DATA + PAGE, 9);
    g_assert(!memcmp(d->t->ram + DATA, d->t->ram + DATA + PAGE, BLOCK));
}

static void await_fault(Disk *d)
{
    int64_t end = g_get_monotonic_time() + TIMEOUT_US;
    uint64_t faults = 0;

    while (!faults) {
        QDict *device = nyx_query_device(d->t, "dev");

        faults = qdict_get_uint(device, "total-faults");
        qobject_unref(device);
        g_assert_cmpint(g_get_monotonic_time(), <, end);
    }
}

static void test_window(const void *data)
{
    Disk d = start("nyx-pc", data);
    g_autofree uint8_t *before = nyx_ram_copy(d.t);
    unsigned i;

    for (i = 1; i < 20; i++) {
        check_io(&d, i);
    }
    nyx_ram_assert_same(d.t, before, WINDOW, WINDOW_SIZE);
    nyx_assert_number(d.t, "dev", "total-faults", 0);
    quit(&d);
}

/* The disk is read to memory that is not the device's. */
static void test_read_to_outside(const void *data)
{
    Disk d = start("nyx-pc,on-fault-limit=report", data);
    g_autofree uint8_t *before = nyx_ram_copy(d.t);

    submit(&d, VIRTIO_BLK_T_IN, MIB(16), 0);
    await_fault(&d);
    nyx_ram_assert_same(d.t, before, WINDOW, WINDOW_SIZE);
    nyx_assert_state(d.t, "dev", "operational");
    quit(&d);
}

/* Memory that is not the device's must not end up on the disk. */
static void test_write_from_outside(const void *data)
{
    Disk d = start("nyx-pc,on-fault-limit=report", data);
    g_autofree uint8_t *before = nyx_ram_copy(d.t);
    uint8_t block[BLOCK];

    submit(&d, VIRTIO_BLK_T_OUT, MIB(16), 3);
    await_fault(&d);
    nyx_ram_assert_same(d.t, before, WINDOW, WINDOW_SIZE);
    g_assert_cmpint(pread(d.fd, block, BLOCK, 3 * BLOCK), ==, BLOCK);
    g_assert_cmpint(memcmp(block, d.t->ram + MIB(16), BLOCK), !=, 0);
    quit(&d);
}

/* The rings are mapped once and cached; taking them away must be noticed. */
static void test_unmap_rings(const void *data)
{
    Disk d = start("nyx-pc,on-fault-limit=report", data);
    uint64_t size = REQUEST - WINDOW;
    g_autofree uint8_t *rings = NULL;
    uint8_t block[BLOCK], zero[BLOCK] = {};

    check_io(&d, 0x11);
    nyx_qmp(d.t, "{ 'execute': 'nyx-unmap', 'arguments': { 'domain': 'dom',"
            "  'iova': %" PRIu64 ", 'size': %" PRIu64 " } }",
            (uint64_t)WINDOW, size);
    submit(&d, VIRTIO_BLK_T_OUT, DATA, 5);
    rings = g_memdup2(d.t->ram + WINDOW, size);
    await_fault(&d);
    g_assert(!memcmp(d.t->ram + WINDOW, rings, size));
    g_assert_cmpint(pread(d.fd, block, BLOCK, 5 * BLOCK), ==, BLOCK);
    g_assert(!memcmp(block, zero, BLOCK));
    quit(&d);
}

static void test_quarantine(const void *data)
{
    Disk d = start("nyx-pc", data);
    g_autofree uint8_t *before = NULL;

    check_io(&d, 0x11);
    nyx_qmp(d.t, "{ 'execute': 'nyx-quarantine-device',"
            "  'arguments': { 'device': 'dev' } }");
    submit(&d, VIRTIO_BLK_T_IN, DATA, 9);
    before = nyx_ram_copy(d.t);
    nyx_assert_state(d.t, "dev", "quarantined");
    nyx_ram_assert_same(d.t, before, 0, 0);
    g_assert_cmphex(status_of(&d), ==, NO_STATUS);
    nyx_qmp(d.t, "{ 'execute': 'nyx-recover-device',"
            "  'arguments': { 'device': 'dev' } }");
    qvirtqueue_cleanup(d.dev->bus, d.vq, &d.queue_memory);
    start_driver(&d);
    check_io(&d, 0x22);
    quit(&d);
}

/* What QEMU says, instead of to the terminal */
static int catch_stderr(int *terminal)
{
    g_autofree char *path = NULL;
    int fd = g_file_open_tmp("nyx-virtio-XXXXXX", &path, NULL);

    g_assert_cmpint(fd, >=, 0);
    unlink(path);
    *terminal = dup(STDERR_FILENO);
    g_assert_cmpint(dup2(fd, STDERR_FILENO), ==, STDERR_FILENO);
    return fd;
}

/* QEMU has said nothing; lines of sanitizers begin with "==". */
static void assert_silent(int said)
{
    char text[4096] = "";
    g_auto(GStrv) lines = NULL;

    g_assert_cmpint(pread(said, text, sizeof(text) - 1, 0), >=, 0);
    lines = g_strsplit(text, "\n", -1);
    for (char **line = lines; *line; line++) {
        g_assert_true(**line == '\0' || g_str_has_prefix(*line, "=="));
    }
}

static void function_level_reset(Disk *d)
{
    QPCIDevice *pci = d->pci->pdev;
    uint8_t express = qpci_find_capability(pci, PCI_CAP_ID_EXP, 0);

    g_assert_cmphex(express, !=, 0);
    qpci_config_writew(pci, express + PCI_EXP_DEVCTL, PCI_EXP_DEVCTL_BCR_FLR);
}

/* As firmware and driver do: bridge, BARs, and all queues anew. */
static void start_again(Disk *d, uint64_t window, const uint32_t *bars)
{
    d->t->bus->mmio_alloc_ptr = window;
    g_free(nyx_bridge_open(d->t, PORT_SLOT, 1));
    for (unsigned i = 0; i < BARS; i++) {
        qpci_config_writel(d->pci->pdev, PCI_BASE_ADDRESS_0 + 4 * i, bars[i]);
    }
    qpci_device_enable(d->pci->pdev);
    qvirtqueue_cleanup(d->dev->bus, d->vq, &d->queue_memory);
    start_driver(d);
}

/*
 * A request is under way, and the rings are out of reach while the device is
 * reset.  That is no error of anybody's: nothing is said, nothing is broken.
 */
static void check_reset(const char *domain, const void *data)
{
    int terminal, said = catch_stderr(&terminal);
    Disk d = start_in(domain, true, "nyx-pc,max-faults=0", data);
    uint64_t window = ROUND_DOWN(d.pci->bar.addr, MIB(1));
    uint32_t bars[BARS];

    g_assert_cmpint(dup2(terminal, STDERR_FILENO), ==, STDERR_FILENO);
    close(terminal);
    for (unsigned i = 0; i < BARS; i++) {
        bars[i] = qpci_config_readl(d.pci->pdev, PCI_BASE_ADDRESS_0 + 4 * i);
    }
    for (unsigned round = 0; round < 40; round++) {
        submit(&d, VIRTIO_BLK_T_IN, DATA, 0);
        if (round % 2) {
            function_level_reset(&d);
        } else {
            qtest_system_reset(d.t->qts);
        }
        start_again(&d, window, bars);
        check_io(&d, round);
    }
    nyx_assert_state(d.t, "dev", "operational");
    nyx_assert_number(d.t, "dev", "fault-count", 0);
    quit(&d);
    assert_silent(said);
    close(said);
}

static void test_reset(const void *data)
{
    check_reset("all", data);
}

static void test_reset_translated(const void *data)
{
    check_reset("dom", data);
}

static void add(const char *name, GTestDataFunc func)
{
    g_autofree char *loop = g_strdup_printf("/nyx/virtio/%s/main-loop", name);
    g_autofree char *thread = g_strdup_printf("/nyx/virtio/%s/iothread", name);

    qtest_add_data_func(loop, "", func);
    qtest_add_data_func(thread, ",iothread=io", func);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    if (qtest_has_device("virtio-blk-pci")) {
        add("window", test_window);
        add("read-to-outside", test_read_to_outside);
        add("write-from-outside", test_write_from_outside);
        add("unmap-rings", test_unmap_rings);
        add("quarantine", test_quarantine);
        add("reset", test_reset);
        add("reset-translated", test_reset_translated);
    }
    return g_test_run();
}
