/*
 * Nyx IOMMU: interrupts that KVM delivers without asking QEMU (irqfd)
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * They do not come to the interrupt window of a device; what counts is where
 * KVM's routes lead.  The machine runs under KVM: its firmware enables the
 * local APIC and halts, the test drives the devices, and what KVM has delivered
 * shows in the IRR.
 */

#include "qemu/osdep.h"
#include <sys/eventfd.h>
#include "hw/i386/amd_iommu.h"
#include "hw/i386/intel_iommu_internal.h"
#include "hw/pci/pci_regs.h"
#include "libnyx.h"
#include "qemu/bswap.h"
#include "standard-headers/linux/virtio_blk.h"
#include "standard-headers/linux/virtio_config.h"
#include "standard-headers/linux/virtio_ring.h"
#include "tests/qtest/libqos/virtio.h"
#include "tests/qtest/libqos/virtio-pci.h"
#include "vhost-user-peer.h"

#define SLOT            5
#define REQUESTER       (SLOT << 3)
#define BLOCK           512
#define DISK_SIZE       MIB(1)
#define NO_STATUS       0xee
#define TIMEOUT         (60 * G_TIME_SPAN_SECOND)

#define NMI             (4 << 8)

/* The firmware: what the processor starts with, at the end of the ROM */
#define ROM_SIZE        0x10000
#define ROM_MAIN        0xff00
#define ROM_RESET       0xfff0
#define READY           0x500       /* address of a byte that it writes */
#define READY_VALUE     0x55

static const uint8_t rom_main[] = {
    0x66, 0xb9, 0x1b, 0x00, 0x00, 0x00, /* mov ecx, IA32_APIC_BASE */
    0x0f, 0x32,                         /* rdmsr */
    0x66, 0x0d, 0x00, 0x0c, 0x00, 0x00, /* or eax, enable | x2APIC */
    0x0f, 0x30,                         /* wrmsr */
    0x66, 0xb9, 0x0f, 0x08, 0x00, 0x00, /* mov ecx, IA32_X2APIC_SIVR */
    0x66, 0xb8, 0xff, 0x01, 0x00, 0x00, /* mov eax, enable | vector 255 */
    0x66, 0x31, 0xd2,                   /* xor edx, edx */
    0x0f, 0x30,                         /* wrmsr */
    0x31, 0xc0, 0x8e, 0xd8,             /* xor ax, ax; mov ds, ax */
    0xc6, 0x06, READY & 0xff, READY >> 8, READY_VALUE, /* mov byte [READY] */
    0xfa, 0xf4, 0xeb, 0xfc,             /* halt: cli; hlt; jmp halt */
};

static const uint8_t rom_reset[] = {
    0xe9, (ROM_MAIN - ROM_RESET - 3) & 0xff,
    ((ROM_MAIN - ROM_RESET - 3) >> 8) & 0xff,   /* jmp ROM_MAIN */
};

typedef struct Driver {
    NyxTest *t;
    QPCIDevice *pdev;
    QVirtioPCIDevice *virtio;   /* if it is one, and its queue */
    QVirtQueue *vq;
    uint64_t request;       /* of a disk: header, data and status */
    int disk;               /* descriptor of its image, or -1 */
    VhostUserPeer *peer;    /* of a vhost-user device */
    int doorbell;           /* what raises the interrupt of ivshmem, or -1 */
} Driver;

/* Name of a file that is gone when the test has ended */
static char *rom_file(void)
{
    g_autofree uint8_t *rom = g_malloc0(ROM_SIZE);
    int fd = memfd_create("nyx-rom", 0);

    memcpy(rom + ROM_MAIN, rom_main, sizeof(rom_main));
    memcpy(rom + ROM_RESET, rom_reset, sizeof(rom_reset));
    g_assert_cmpint(write(fd, rom, ROM_SIZE), ==, ROM_SIZE);
    return g_strdup_printf("/proc/self/fd/%d", fd);
}

static void await_firmware(NyxTest *t)
{
    int64_t end = g_get_monotonic_time() + TIMEOUT;

    while (qatomic_read(&t->ram[READY]) != READY_VALUE) {
        g_assert_cmpint(g_get_monotonic_time(), <, end);
    }
}

static void await_interrupt(Driver *d, uint8_t vector)
{
    int64_t end = g_get_monotonic_time() + TIMEOUT;

    while (!nyx_apic_pending(d->t, vector)) {
        g_assert_cmpint(g_get_monotonic_time(), <, end);
    }
}

/* MSI-X entry 0: masked meanwhile, as drivers do. */
static void set_message(Driver *d, uint64_t address, uint32_t data)
{
    QPCIDevice *pci = d->pdev;
    uint64_t entry = pci->msix_table_off;

    qpci_io_writel(pci, pci->msix_table_bar,
                   entry + PCI_MSIX_ENTRY_VECTOR_CTRL, 1);
    qpci_io_writeq(pci, pci->msix_table_bar, entry, address);
    qpci_io_writel(pci, pci->msix_table_bar, entry + PCI_MSIX_ENTRY_DATA, data);
    qpci_io_writel(pci, pci->msix_table_bar,
                   entry + PCI_MSIX_ENTRY_VECTOR_CTRL, 0);
}

static void set_vector(Driver *d, uint32_t data)
{
    set_message(d, NYX_MSI_BASE, data);
}

/* The driver's part of a start: from reset to DRIVER_OK */
static void start_driver(Driver *d)
{
    QVirtioDevice *dev = &d->virtio->vdev;
    uint64_t features;

    qvirtio_start_device(dev);
    features = qvirtio_get_features(dev);
    features &= ~(1ULL << VIRTIO_RING_F_INDIRECT_DESC |
                  1ULL << VIRTIO_RING_F_EVENT_IDX |
                  QVIRTIO_F_BAD_FEATURE);
    qvirtio_set_features(dev, features);
    d->vq = qvirtqueue_setup(dev, &d->t->alloc, 0);
    d->virtio->msix_ops->set_queue_vector(d->virtio, 0, 0);
    qvirtio_set_driver_ok(dev);
}

static Driver *open_driver(NyxTest *t)
{
    Driver *d = g_new0(Driver, 1);

    d->t = t;
    d->disk = -1;
    d->doorbell = -1;
    await_firmware(t);
    return d;
}

static Driver *open_virtio(NyxTest *t)
{
    Driver *d = open_driver(t);

    d->virtio = virtio_pci_new(t->bus,
                               &(QPCIAddress) { .devfn = QPCI_DEVFN(SLOT, 0) });
    g_assert_nonnull(d->virtio);
    d->pdev = d->virtio->pdev;
    qvirtio_pci_device_enable(d->virtio);
    qpci_msix_enable(d->pdev);
    d->request = guest_alloc(&t->alloc, PAGE);
    return d;
}

/* The driver starts anew after a reset that it did not ask for. */
static void restart_driver(Driver *d)
{
    qvirtqueue_cleanup(d->virtio->vdev.bus, d->vq, &d->t->alloc);
    start_driver(d);
}

static void quit(Driver *d)
{
    if (d->virtio) {
        qvirtqueue_cleanup(d->virtio->vdev.bus, d->vq, &d->t->alloc);
        g_free(d->virtio);
    }
    g_free(d->pdev);
    nyx_test_quit(d->t);
    if (d->disk >= 0) {
        close(d->disk);
    }
    if (d->peer) {
        vhost_user_peer_end(d->peer);
    }
    if (d->doorbell >= 0) {
        close(d->doorbell);
    }
    g_free(d);
}

static uint64_t interrupts(Driver *d, const char *which)
{
    QDict *device = nyx_query_device(d->t, "dev");
    uint64_t n = qdict_get_uint(qdict_get_qdict(device, "interrupts"), which);

    qobject_unref(device);
    return n;
}

static void quarantine(Driver *d)
{
    nyx_qmp(d->t, "{ 'execute': 'nyx-quarantine-device',"
            "  'arguments': { 'device': 'dev' } }");
}

static void recover(Driver *d)
{
    nyx_qmp(d->t, "{ 'execute': 'nyx-recover-device',"
            "  'arguments': { 'device': 'dev' } }");
}

/* A disk whose I/O thread tells KVM of what is done */

static Driver *start_disk(const char *machine)
{
    g_autofree char *rom = rom_file();
    g_autofree char *path = NULL;
    int disk = g_file_open_tmp("nyx-irqfd-XXXXXX", &path, NULL);
    NyxTest *t;
    Driver *d;

    g_assert_cmpint(ftruncate(disk, DISK_SIZE), ==, 0);
    t = nyx_test_start(machine, "-accel kvm -bios %s -object iothread,id=io "
                       "-drive if=none,id=disk,format=raw,file=%s "
                       "-device virtio-blk-pci,id=dev,addr=%d,drive=disk,"
                       "iothread=io", rom, path, SLOT);
    unlink(path);
    d = open_virtio(t);
    d->disk = disk;
    return d;
}

static void submit_read(Driver *d)
{
    QTestState *qts = d->t->qts;
    struct virtio_blk_outhdr header = { .type = cpu_to_le32(VIRTIO_BLK_T_IN) };
    uint64_t data = d->request + sizeof(header), status = data + BLOCK;
    uint32_t head;

    memcpy(d->t->ram + d->request, &header, sizeof(header));
    d->t->ram[status] = NO_STATUS;
    head = qvirtqueue_add(qts, d->vq, d->request, sizeof(header), false, true);
    qvirtqueue_add(qts, d->vq, data, BLOCK, true, true);
    qvirtqueue_add(qts, d->vq, status, 1, true, false);
    qvirtqueue_kick(qts, &d->virtio->vdev, d->vq, head);
}

/* A request that is done raises @vector. */
static void assert_raises(Driver *d, uint8_t vector)
{
    uint64_t status = d->request + sizeof(struct virtio_blk_outhdr) + BLOCK;

    g_assert_false(nyx_apic_pending(d->t, vector));
    submit_read(d);
    await_interrupt(d, vector);
    g_assert_cmphex(d->t->ram[status], ==, VIRTIO_BLK_S_OK);
}

static void await_read(Driver *d)
{
    uint64_t status = d->request + sizeof(struct virtio_blk_outhdr) + BLOCK;
    int64_t end = g_get_monotonic_time() + TIMEOUT;

    while (qatomic_read(&d->t->ram[status]) == NO_STATUS) {
        g_assert_cmpint(g_get_monotonic_time(), <, end);
    }
}

static void test_disk(void)
{
    Driver *d = start_disk("nyx-pc");

    set_vector(d, 0x51);
    start_driver(d);
    assert_raises(d, 0x51);
    set_vector(d, 0x52);
    assert_raises(d, 0x52);
    /* That was KVM: QEMU has not seen any of them. */
    g_assert_cmpuint(interrupts(d, "delivered"), ==, 0);

    set_vector(d, 0x53);
    quarantine(d);
    recover(d);
    restart_driver(d);
    g_assert_false(nyx_apic_pending(d->t, 0x53));
    assert_raises(d, 0x53);
    g_assert_cmpuint(interrupts(d, "refused"), ==, 0);
    quit(d);
}

/* A route for what the filter refuses leads nowhere, and does no other harm. */
static void test_filter(void)
{
    Driver *d = start_disk("nyx-pc");
    unsigned vector;

    set_vector(d, NMI | 0x54);
    start_driver(d);
    submit_read(d);
    await_read(d);
    g_assert_cmpuint(interrupts(d, "refused"), >, 0);
    set_vector(d, 0x55);
    assert_raises(d, 0x55);
    set_vector(d, NMI | 0x56);
    submit_read(d);
    await_read(d);
    set_message(d, 0xfec00000, 0x57);
    submit_read(d);
    await_read(d);
    set_vector(d, 0x58);
    assert_raises(d, 0x58);
    for (vector = 0x20; vector < 0x58; vector++) {
        g_assert_cmpint(nyx_apic_pending(d->t, vector), ==, vector == 0x55);
    }
    nyx_assert_number(d->t, "dev", "total-faults", 0);
    quit(d);
}

/* A backend that goes on to raise what was taken from it */

static Driver *start_peer(const char *machine)
{
    g_autofree char *rom = rom_file();
    VhostUserPeer *peer;
    NyxTest *t;
    Driver *d;
    int fds[2];

    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), ==, 0);
    g_assert_cmpint(fcntl(fds[0], F_SETFD, FD_CLOEXEC), ==, 0);
    peer = vhost_user_peer_start(fds[0]);
    t = nyx_test_start(machine, "-accel kvm -bios %s "
                       "-chardev socket,id=peer,fd=%d "
                       "-device vhost-user-fs-pci,id=dev,addr=%d,tag=x,"
                       "chardev=peer", rom, fds[1], SLOT);
    close(fds[1]);
    d = open_virtio(t);
    d->peer = peer;
    return d;
}

static void test_hostile(void)
{
    Driver *d = start_peer("nyx-pc");

    set_vector(d, 0x61);
    start_driver(d);
    vhost_user_peer_raise(d->peer);
    await_interrupt(d, 0x61);
    set_vector(d, 0x62);
    vhost_user_peer_raise(d->peer);
    await_interrupt(d, 0x62);
    g_assert_cmpuint(interrupts(d, "delivered"), ==, 0);

    set_vector(d, NMI | 0x63);
    vhost_user_peer_raise(d->peer);
    g_assert_false(nyx_apic_pending(d->t, 0x63));

    /* What was raised while it was masked comes now, and nothing after it. */
    set_vector(d, 0x64);
    await_interrupt(d, 0x64);
    set_vector(d, 0x65);
    g_assert_false(nyx_apic_pending(d->t, 0x65));
    quarantine(d);
    vhost_user_peer_raise(d->peer);
    nyx_assert_state(d->t, "dev", "quarantined");
    g_assert_false(nyx_apic_pending(d->t, 0x65));

    recover(d);
    restart_driver(d);
    vhost_user_peer_raise(d->peer);
    await_interrupt(d, 0x65);
    quit(d);
}

/*
 * ivshmem: KVM waits for a descriptor that is this test's.  The server's part
 * is said before QEMU starts: version, identity, memory, doorbells.
 */

static void say(int fd, int64_t number, int descriptor)
{
    int64_t message = cpu_to_le64(number);
    char control[CMSG_SPACE(sizeof(int))] = {};
    struct iovec iov = { &message, sizeof(message) };
    struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

    if (descriptor >= 0) {
        struct cmsghdr *c = (struct cmsghdr *)control;

        c->cmsg_len = CMSG_LEN(sizeof(int));
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        memcpy(CMSG_DATA(c), &descriptor, sizeof(int));
        msg.msg_control = control;
        msg.msg_controllen = sizeof(control);
    }
    g_assert_cmpint(sendmsg(fd, &msg, 0), ==, sizeof(message));
}

static Driver *start_ivshmem(void)
{
    g_autofree char *rom = rom_file();
    int doorbell = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    int memory = memfd_create("nyx-ivshmem", MFD_CLOEXEC);
    int fds[2];
    NyxTest *t;
    Driver *d;

    g_assert_cmpint(ftruncate(memory, MIB(1)), ==, 0);
    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), ==, 0);
    g_assert_cmpint(fcntl(fds[0], F_SETFD, FD_CLOEXEC), ==, 0);
    say(fds[0], 0, -1);
    say(fds[0], 0, -1);
    say(fds[0], -1, memory);
    say(fds[0], 0, doorbell);
    close(memory);
    t = nyx_test_start("nyx-pc", "-accel kvm -bios %s "
                       "-chardev socket,id=server,fd=%d "
                       "-device ivshmem-doorbell,id=dev,addr=%d,vectors=1,"
                       "chardev=server", rom, fds[1], SLOT);
    close(fds[1]);
    d = open_driver(t);
    d->doorbell = doorbell;
    d->pdev = nyx_pci_open(t, SLOT);
    qpci_msix_enable(d->pdev);
    close(fds[0]);
    return d;
}

static void ring(Driver *d)
{
    uint64_t one = 1;

    g_assert_cmpint(write(d->doorbell, &one, sizeof(one)), ==, sizeof(one));
}

/* Does nobody else wait for it? */
static bool rings_unheard(Driver *d)
{
    uint64_t n;

    return read(d->doorbell, &n, sizeof(n)) == sizeof(n);
}

static void test_ivshmem(void)
{
    Driver *d = start_ivshmem();

    set_vector(d, 0x91);
    ring(d);
    await_interrupt(d, 0x91);
    g_assert_false(rings_unheard(d));
    g_assert_cmpuint(interrupts(d, "delivered"), ==, 0);
    set_vector(d, 0x92);
    quarantine(d);
    ring(d);
    g_assert_true(rings_unheard(d));
    g_assert_false(nyx_apic_pending(d->t, 0x92));

    /* The route is made before the device is set to work, and after that */
    recover(d);
    g_assert_false(nyx_apic_pending(d->t, 0x92));
    ring(d);
    await_interrupt(d, 0x92);
    set_vector(d, NMI | 0x93);
    ring(d);
    g_assert_false(rings_unheard(d));
    set_vector(d, 0x94);
    ring(d);
    await_interrupt(d, 0x94);
    g_assert_false(nyx_apic_pending(d->t, 0x93));
    quit(d);
}

/* A message that the filter refuses, in a domain that has no filter */
static void test_unmanaged(void)
{
    Driver *d = start_ivshmem();
    unsigned i;

    nyx_qmp(d->t, "{ 'execute': 'object-add', 'arguments': {"
            "  'qom-type': 'nyx-domain', 'id': 'free',"
            "  'isolation': 'unmanaged' } }");
    nyx_qmp(d->t, "{ 'execute': 'object-add', 'arguments': {"
            "  'qom-type': 'nyx-domain', 'id': 'cage' } }");
    /* With a reserved bit in its data, which KVM does not look at */
    set_vector(d, 0x10000 | 0x95);
    for (i = 0; i < 2; i++) {
        nyx_qmp(d->t, "{ 'execute': 'nyx-assign-device', 'arguments': {"
                "  'device': 'dev', 'domain': %s } }", i ? "free" : "cage");
        ring(d);
        g_assert_false(rings_unheard(d));
        if (i) {
            await_interrupt(d, 0x95);
        }
        g_assert_cmpint(nyx_apic_pending(d->t, 0x95), ==, i);
    }
    quit(d);
}

/* With VT-d: the route is what the guest's table says, and changes with it. */

#define TABLE           MIB(16)
#define QUEUE           MIB(17)
#define SIZE_256        7           /* 2^(7 + 1) entries */
#define IRTE_PRESENT    1ULL
#define IRTE_VECTOR(v)  ((uint64_t)(v) << 16)
#define IRTE_SVT        (1ULL << 18)

static unsigned queue_tail;

static void vtd_set64(Driver *d, unsigned reg, uint64_t value)
{
    qtest_writeq(d->t->qts, Q35_HOST_BRIDGE_IOMMU_ADDR + reg, value);
}

static void vtd_command(Driver *d, uint32_t command)
{
    qtest_writel(d->t->qts, Q35_HOST_BRIDGE_IOMMU_ADDR + DMAR_GCMD_REG,
                 command);
}

/* Entry 3, and tell VT-d that it has changed */
static void set_entry(Driver *d, uint64_t low)
{
    qtest_writeq(d->t->qts, TABLE + 3 * 16, low);
    qtest_writeq(d->t->qts, TABLE + 3 * 16 + 8, REQUESTER | IRTE_SVT);
    qtest_writeq(d->t->qts, QUEUE + queue_tail, VTD_INV_DESC_IEC);
    qtest_writeq(d->t->qts, QUEUE + queue_tail + 8, 0);
    queue_tail += 16;
    vtd_set64(d, DMAR_IQT_REG, queue_tail);
}

static void enable_remapping(Driver *d)
{
    queue_tail = 0;
    vtd_set64(d, DMAR_IQT_REG, 0);
    vtd_set64(d, DMAR_IQA_REG, QUEUE);
    vtd_command(d, VTD_GCMD_QIE);
    vtd_set64(d, DMAR_IRTA_REG, TABLE | SIZE_256);
    vtd_command(d, VTD_GCMD_QIE | VTD_GCMD_SIRTP);
    vtd_command(d, VTD_GCMD_QIE | VTD_GCMD_IRE);
}

static void test_remapped(void)
{
    Driver *d = start_disk("nyx-pc,stage1=intel,kernel-irqchip=split");
    uint64_t address = NYX_MSI_BASE | 1u << 4 | 3 << 5;

    enable_remapping(d);
    set_entry(d, IRTE_PRESENT | IRTE_VECTOR(0x71));
    set_message(d, address, 0);
    start_driver(d);
    assert_raises(d, 0x71);
    set_entry(d, IRTE_PRESENT | IRTE_VECTOR(0x72));
    assert_raises(d, 0x72);
    g_assert_cmpuint(interrupts(d, "delivered"), ==, 0);

    /* No entry, no interrupt; unmasking it must not end QEMU. */
    set_entry(d, 0);
    set_message(d, NYX_MSI_BASE, 0x73);
    set_message(d, address, 0);
    submit_read(d);
    await_read(d);
    g_assert_cmpuint(interrupts(d, "refused"), >, 0);
    set_entry(d, IRTE_PRESENT | IRTE_VECTOR(0x74));
    assert_raises(d, 0x74);

    set_entry(d, IRTE_PRESENT | IRTE_VECTOR(0x75));
    quarantine(d);
    recover(d);
    restart_driver(d);
    g_assert_false(nyx_apic_pending(d->t, 0x75));
    assert_raises(d, 0x75);
    g_assert_false(nyx_apic_pending(d->t, 0x73));
    quit(d);
}

/* With AMD-Vi */

#define DEVICE_TABLE        MIB(18)
#define AMD_INTERRUPTS      (AMDVI_IR_REMAP_ENABLE | 11ULL << 1 | 2ULL << 60)
#define AMD_QUEUE_SHIFT     8       /* log2 of the number of commands */
#define AMD_IRTE_VALID      1u
#define AMD_IRTE_VECTOR(v)  ((uint32_t)(v) << 16)

static void amd_set64(Driver *d, unsigned reg, uint64_t value)
{
    qtest_writeq(d->t->qts, AMDVI_BASE_ADDR + reg, value);
}

static void amd_enable_remapping(Driver *d)
{
    queue_tail = 0;
    qtest_writeq(d->t->qts, DEVICE_TABLE + REQUESTER * AMDVI_DEVTAB_ENTRY_SIZE +
                 16, TABLE | AMD_INTERRUPTS);
    amd_set64(d, AMDVI_MMIO_DEVICE_TABLE, DEVICE_TABLE);
    amd_set64(d, AMDVI_MMIO_COMMAND_BASE,
              QUEUE | (uint64_t)AMD_QUEUE_SHIFT << 56);
    amd_set64(d, AMDVI_MMIO_CONTROL,
              AMDVI_MMIO_CONTROL_AMDVIEN | AMDVI_MMIO_CONTROL_CMDBUFLEN);
}

/* Entry 3, and tell AMD-Vi that it has changed */
static void amd_set_entry(Driver *d, uint32_t entry)
{
    qtest_writel(d->t->qts, TABLE + 3 * 4, entry);
    qtest_writeq(d->t->qts, QUEUE + queue_tail,
                 (uint64_t)AMDVI_CMD_INVAL_INTR_TABLE << 60 | REQUESTER);
    qtest_writeq(d->t->qts, QUEUE + queue_tail + 8, 0);
    queue_tail += AMDVI_COMMAND_SIZE;
    amd_set64(d, AMDVI_MMIO_COMMAND_TAIL, queue_tail);
}

static void test_remapped_amd(void)
{
    Driver *d = start_disk("nyx-pc,stage1=amd,kernel-irqchip=split");

    amd_enable_remapping(d);
    amd_set_entry(d, AMD_IRTE_VALID | AMD_IRTE_VECTOR(0xa1));
    set_vector(d, 3);
    start_driver(d);
    assert_raises(d, 0xa1);
    amd_set_entry(d, AMD_IRTE_VALID | AMD_IRTE_VECTOR(0xa2));
    assert_raises(d, 0xa2);
    amd_set_entry(d, 0);
    submit_read(d);
    await_read(d);
    g_assert_cmpuint(interrupts(d, "refused"), >, 0);
    amd_set_entry(d, AMD_IRTE_VALID | AMD_IRTE_VECTOR(0xa3));
    assert_raises(d, 0xa3);
    g_assert_cmpuint(interrupts(d, "delivered"), ==, 0);
    quit(d);
}

static void test_no_kvm(void)
{
    g_test_skip("no KVM: /dev/kvm cannot be opened, or QEMU lacks it");
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    if (access("/dev/kvm", R_OK | W_OK) || !qtest_has_accel("kvm")) {
        qtest_add_func("/nyx/irqfd", test_no_kvm);
        return g_test_run();
    }
    qtest_add_func("/nyx/irqfd/disk", test_disk);
    qtest_add_func("/nyx/irqfd/filter", test_filter);
    qtest_add_func("/nyx/irqfd/hostile-backend", test_hostile);
    qtest_add_func("/nyx/irqfd/ivshmem", test_ivshmem);
    qtest_add_func("/nyx/irqfd/unmanaged", test_unmanaged);
    qtest_add_func("/nyx/irqfd/remapped/intel", test_remapped);
    qtest_add_func("/nyx/irqfd/remapped/amd", test_remapped_amd);
    return g_test_run();
}
