/*
 * Nyx IOMMU: confinement of an NVMe controller with real queues
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Queues and data lie in a window of RAM, or just not.
 */

#include "qemu/osdep.h"
#include "block/nvme.h"
#include "libnyx.h"
#include "qemu/bswap.h"

#define WINDOW          MIB(8)
#define WINDOW_SIZE     MIB(1)
#define DISK_SIZE       MIB(1)
#define BLOCK           512
#define ENTRIES         16
#define TIMEOUT         (30 * G_TIME_SPAN_SECOND)

/* Where things are in the window */
#define ADMIN_SQ        (WINDOW)
#define ADMIN_CQ        (WINDOW + PAGE)
#define IO_SQ           (WINDOW + 2 * PAGE)
#define IO_CQ           (WINDOW + 3 * PAGE)
#define DATA            (WINDOW + 4 * PAGE)

typedef struct Queue {
    uint16_t id;
    uint64_t sq, cq;
    unsigned tail, head;
    bool phase;
} Queue;

typedef struct Controller {
    NyxTest *t;
    QPCIDevice *pci;
    QPCIBar bar;
    int fd;                 /* of the disk image */
    Queue admin, io;
} Controller;

static void map_window(NyxTest *t)
{
    nyx_qmp(t, "{ 'execute': 'nyx-map', 'arguments': { 'domain': 'dom',"
            "  'iova': %" PRIu64 ", 'gpa': %" PRIu64 ", 'size': %" PRIu64 ","
            "  'access': 'rw' } }", (uint64_t)WINDOW, (uint64_t)WINDOW,
            (uint64_t)WINDOW_SIZE);
}

static Queue queue_new(Controller *c, uint16_t id, uint64_t sq, uint64_t cq)
{
    memset(c->t->ram + sq, 0, PAGE);
    memset(c->t->ram + cq, 0, PAGE);
    return (Queue) { .id = id, .sq = sq, .cq = cq, .phase = true };
}

static void submit(Controller *c, Queue *q, const NvmeCmd *cmd)
{
    memcpy(c->t->ram + q->sq + q->tail * sizeof(*cmd), cmd, sizeof(*cmd));
    q->tail = (q->tail + 1) % ENTRIES;
    qpci_io_writel(c->pci, c->bar, 0x1000 + 8 * q->id, q->tail);
}

static bool completed(Controller *c, Queue *q)
{
    NvmeCqe cqe;

    memcpy(&cqe, c->t->ram + q->cq + q->head * sizeof(cqe), sizeof(cqe));
    return (le16_to_cpu(cqe.status) & 1) == q->phase;
}

/* Returns the status of the next completion, which must come. */
static uint16_t await(Controller *c, Queue *q)
{
    int64_t end = g_get_monotonic_time() + TIMEOUT;
    NvmeCqe cqe;

    while (!completed(c, q)) {
        qpci_io_readl(c->pci, c->bar, NVME_REG_CSTS);
        g_assert_cmpint(g_get_monotonic_time(), <, end);
    }
    memcpy(&cqe, c->t->ram + q->cq + q->head * sizeof(cqe), sizeof(cqe));
    q->head = (q->head + 1) % ENTRIES;
    q->phase ^= q->head == 0;
    qpci_io_writel(c->pci, c->bar, 0x1004 + 8 * q->id, q->head);
    return le16_to_cpu(cqe.status) >> 1;
}

static void create_io_queues(Controller *c)
{
    NvmeCmd cq = {
        .opcode = NVME_ADM_CMD_CREATE_CQ,
        .dptr.prp1 = cpu_to_le64(IO_CQ),
        .cdw10 = cpu_to_le32((ENTRIES - 1) << 16 | 1),
        .cdw11 = cpu_to_le32(1),                /* contiguous */
    };
    NvmeCmd sq = {
        .opcode = NVME_ADM_CMD_CREATE_SQ,
        .dptr.prp1 = cpu_to_le64(IO_SQ),
        .cdw10 = cpu_to_le32((ENTRIES - 1) << 16 | 1),
        .cdw11 = cpu_to_le32(1 << 16 | 1),
    };

    c->io = queue_new(c, 1, IO_SQ, IO_CQ);
    submit(c, &c->admin, &cq);
    g_assert_cmphex(await(c, &c->admin), ==, NVME_SUCCESS);
    submit(c, &c->admin, &sq);
    g_assert_cmphex(await(c, &c->admin), ==, NVME_SUCCESS);
}

static void enable(Controller *c, uint64_t admin_sq)
{
    int64_t end = g_get_monotonic_time() + TIMEOUT;

    qpci_io_writel(c->pci, c->bar, NVME_REG_CC, 0);
    c->admin = queue_new(c, 0, admin_sq, ADMIN_CQ);
    qpci_io_writel(c->pci, c->bar, NVME_REG_AQA,
                   (ENTRIES - 1) << 16 | (ENTRIES - 1));
    qpci_io_writeq(c->pci, c->bar, NVME_REG_ASQ, admin_sq);
    qpci_io_writeq(c->pci, c->bar, NVME_REG_ACQ, ADMIN_CQ);
    /* Entries of 64 and 16 bytes */
    qpci_io_writel(c->pci, c->bar, NVME_REG_CC, 6 << 16 | 4 << 20 | 1);
    while (!(qpci_io_readl(c->pci, c->bar, NVME_REG_CSTS) & 1)) {
        g_assert_cmpint(g_get_monotonic_time(), <, end);
    }
}

static Controller start(void)
{
    Controller c = {};
    g_autofree char *path = NULL;

    c.fd = g_file_open_tmp("nyx-nvme-XXXXXX", &path, NULL);
    g_assert_cmpint(ftruncate(c.fd, DISK_SIZE), ==, 0);
    c.t = nyx_test_start("nyx-pc,on-fault-limit=report",
                         "-object nyx-domain,id=dom,default-map=none "
                         "-drive if=none,id=disk,format=raw,file=%s "
                         "-device nvme,id=dev,addr=5,nyx-domain=dom,"
                         "serial=nyx,drive=disk "
                         "-device nyx-testdev,id=other,addr=6", path);
    unlink(path);
    nyx_ram_fill(c.t);
    map_window(c.t);
    c.pci = nyx_pci_open(c.t, 5);
    c.bar = qpci_iomap(c.pci, 0, NULL);
    enable(&c, ADMIN_SQ);
    create_io_queues(&c);
    return c;
}

static void quit(Controller *c)
{
    g_free(c->pci);
    nyx_test_quit(c->t);
    close(c->fd);
}

static void submit_io(Controller *c, uint8_t opcode, uint64_t address,
                      uint64_t block, unsigned blocks)
{
    NvmeRwCmd cmd = {
        .opcode = opcode,
        .nsid = cpu_to_le32(1),
        .dptr.prp1 = cpu_to_le64(address),
        .slba = cpu_to_le64(block),
        .nlb = cpu_to_le16(blocks - 1),
    };

    submit(c, &c->io, (const NvmeCmd *)&cmd);
}

static void assert_disk(Controller *c, uint64_t block, const void *data)
{
    uint8_t is[BLOCK];

    g_assert_cmpint(pread(c->fd, is, BLOCK, block * BLOCK), ==, BLOCK);
    g_assert(!memcmp(is, data, BLOCK));
}

/* The queue works: one block to the disk, and back to another place. */
static void check_io(Controller *c, uint8_t value)
{
    uint8_t *ram = c->t->ram;

    memset(ram + DATA, value, BLOCK);
    submit_io(c, NVME_CMD_WRITE, DATA, 7, 1);
    g_assert_cmphex(await(c, &c->io), ==, NVME_SUCCESS);
    assert_disk(c, 7, ram + DATA);
    submit_io(c, NVME_CMD_READ, DATA + 2 * PAGE, 7, 1);
    g_assert_cmphex(await(c, &c->io), ==, NVME_SUCCESS);
    g_assert(!memcmp(ram + DATA, ram + DATA + 2 * PAGE, BLOCK));
}

static void test_window(void)
{
    Controller c = start();
    g_autofree uint8_t *before = nyx_ram_copy(c.t);
    unsigned i;

    for (i = 1; i < 3 * ENTRIES; i++) {
        check_io(&c, i);
    }
    nyx_ram_assert_same(c.t, before, WINDOW, WINDOW_SIZE);
    nyx_assert_number(c.t, "dev", "total-faults", 0);
    quit(&c);
}

/* The disk is read to memory that is not the controller's. */
static void test_read_to_outside(void)
{
    static const uint64_t outside[] = {
        MIB(1), WINDOW - PAGE, WINDOW + WINDOW_SIZE, NYX_RAM_SIZE - PAGE,
    };
    Controller c = start();
    g_autofree uint8_t *before = nyx_ram_copy(c.t);
    unsigned i;

    for (i = 0; i < ARRAY_SIZE(outside); i++) {
        submit_io(&c, NVME_CMD_READ, outside[i], 0, 8);
        await(&c, &c.io);
        nyx_ram_assert_same(c.t, before, WINDOW, WINDOW_SIZE);
        nyx_assert_fault_within(c.t, "dev", "unmapped", outside[i], 8 * BLOCK,
                                "w");
    }
    check_io(&c, 0x5a);
    nyx_assert_number(c.t, "other", "total-faults", 0);
    quit(&c);
}

/* Memory that is not the controller's must not end up on the disk. */
static void test_write_from_outside(void)
{
    Controller c = start();
    uint8_t block[BLOCK];

    submit_io(&c, NVME_CMD_WRITE, MIB(16), 3, 1);
    await(&c, &c.io);
    nyx_assert_fault_within(c.t, "dev", "unmapped", MIB(16), BLOCK, "r");
    g_assert_cmpint(pread(c.fd, block, BLOCK, 3 * BLOCK), ==, BLOCK);
    g_assert_cmpint(memcmp(block, c.t->ram + MIB(16), BLOCK), !=, 0);
    check_io(&c, 0x5a);
    quit(&c);
}

/* A controller that cannot read its queue does nothing at all. */
static void test_queue_outside(void)
{
    Controller c = start();
    NvmeCmd identify = {
        .opcode = NVME_ADM_CMD_IDENTIFY,
        .dptr.prp1 = cpu_to_le64(DATA),
        .cdw10 = cpu_to_le32(1),
    };
    g_autofree uint8_t *before = NULL;

    enable(&c, MIB(2));
    before = nyx_ram_copy(c.t);
    submit(&c, &c.admin, &identify);
    memcpy(before + MIB(2), c.t->ram + MIB(2), PAGE);
    /* The device runs its queue in the main loop, after a round trip or two. */
    while (true) {
        QDict *device = nyx_query_device(c.t, "dev");
        uint64_t faults = qdict_get_uint(device, "total-faults");

        qobject_unref(device);
        if (faults) {
            break;
        }
    }
    nyx_assert_fault_within(c.t, "dev", "unmapped", MIB(2), sizeof(identify),
                            "r");
    nyx_ram_assert_same(c.t, before, WINDOW, WINDOW_SIZE);
    quit(&c);
}

static void test_unmap(void)
{
    Controller c = start();
    g_autofree uint8_t *before = NULL;
    uint64_t gone = DATA + 8 * PAGE;

    check_io(&c, 0x11);
    submit_io(&c, NVME_CMD_READ, gone, 0, 8);
    g_assert_cmphex(await(&c, &c.io), ==, NVME_SUCCESS);
    nyx_qmp(c.t, "{ 'execute': 'nyx-unmap', 'arguments': { 'domain': 'dom',"
            "  'iova': %" PRIu64 ", 'size': 4096 } }", gone);
    before = nyx_ram_copy(c.t);
    memset(before + gone, 0x77, PAGE);
    memset(c.t->ram + gone, 0x77, PAGE);
    submit_io(&c, NVME_CMD_READ, gone, 0, 8);
    await(&c, &c.io);
    g_assert(!memcmp(c.t->ram + gone, before + gone, PAGE));
    nyx_assert_fault_within(c.t, "dev", "unmapped", gone, PAGE, "w");
    check_io(&c, 0x22);
    quit(&c);
}

/* After recovery the driver starts the controller as after any reset. */
static void test_quarantine(void)
{
    Controller c = start();
    g_autofree uint8_t *before = NULL;

    check_io(&c, 0x11);
    nyx_qmp(c.t, "{ 'execute': 'nyx-quarantine-device',"
            "  'arguments': { 'device': 'dev' } }");
    before = nyx_ram_copy(c.t);
    g_assert_cmphex(qpci_io_readl(c.pci, c.bar, NVME_REG_CSTS), ==, UINT32_MAX);
    submit_io(&c, NVME_CMD_READ, DATA, 0, 8);
    memcpy(before + IO_SQ, c.t->ram + IO_SQ, PAGE);
    nyx_assert_state(c.t, "dev", "quarantined");
    g_assert_false(completed(&c, &c.io));
    nyx_ram_assert_same(c.t, before, 0, 0);
    nyx_qmp(c.t, "{ 'execute': 'nyx-recover-device',"
            "  'arguments': { 'device': 'dev' } }");
    g_assert_cmphex(qpci_io_readl(c.pci, c.bar, NVME_REG_CSTS) & 1, ==, 0);
    enable(&c, ADMIN_SQ);
    create_io_queues(&c);
    check_io(&c, 0x33);
    quit(&c);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    if (qtest_has_device("nvme")) {
        qtest_add_func("/nyx/nvme/window", test_window);
        qtest_add_func("/nyx/nvme/read-to-outside", test_read_to_outside);
        qtest_add_func("/nyx/nvme/write-from-outside", test_write_from_outside);
        qtest_add_func("/nyx/nvme/queue-outside", test_queue_outside);
        qtest_add_func("/nyx/nvme/unmap", test_unmap);
        qtest_add_func("/nyx/nvme/quarantine", test_quarantine);
    }
    return g_test_run();
}
