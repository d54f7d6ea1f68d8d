/*
 * Nyx IOMMU: AHCI, which holds on to mapped memory and has I/O under way
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * A port of AHCI keeps its command list and the area for received FISes mapped
 * while it runs, and its block I/O ends long after the command that began it.
 * The disks read as zeroes; what is not written is as the test filled it.
 */

#include "qemu/osdep.h"
#include "libnyx-extra.h"
#include "qemu/bswap.h"
#include "qemu/cutils.h"
#include "tests/qtest/libqos/ahci.h"

#define SLOT            7       /* of the controller */
#define BAR             5

#define AREA_SIZE       MIB(1)  /* all that one port uses, in pages: */
#define COMMAND_LIST    (0 * PAGE)
#define RECEIVED        (1 * PAGE)
#define TABLE           (2 * PAGE)
#define DATA            (3 * PAGE)
#define AREA_PAGES      4

#define FILL            0x66
#define D2H_FIS         0x40    /* in the area of received FISes */
#define COMMAND_TABLE   0x80    /* where its PRDs begin */

#define CMD_RUN         (AHCI_PX_CMD_ST | AHCI_PX_CMD_SUD | AHCI_PX_CMD_POD | \
                         AHCI_PX_CMD_FRE)

#define IOVA            MIB(2)  /* of the area of port 0; others follow */

typedef struct Ahci {
    NyxTest *t;
    QPCIDevice *pci;
    QPCIBar bar;
} Ahci;

/*
 * Disk 0 answers at once, disk 1 takes a while of real time.  @options: more of
 * the command line.
 */
static Ahci start(const char *machine, const char *options)
{
    Ahci ahci = {};

    ahci.t = nyx_test_start(machine,
        "-object nyx-domain,id=dom,isolation=shared,default-map=none "
        "-object nyx-domain,id=other,isolation=shared,default-map=none "
        "-blockdev null-co,node-name=disk0,size=1048576,read-zeroes=on "
        "-blockdev null-co,node-name=disk1,size=1048576,read-zeroes=on,"
        "latency-ns=300000000 "
        "-device ich9-ahci,id=ah,addr=7,nyx-domain=dom "
        "-device ide-hd,id=hd0,drive=disk0,bus=ah.0 "
        "-device ide-hd,drive=disk1,bus=ah.1 %s", options);
    ahci.pci = nyx_pci_open(ahci.t, SLOT);
    ahci.bar = qpci_iomap(ahci.pci, BAR, NULL);
    qpci_io_writel(ahci.pci, ahci.bar, 4 * AHCI_GHC, AHCI_GHC_AE);
    memset(ahci.t->ram + MIB(1), FILL, NYX_RAM_SIZE - MIB(1));
    return ahci;
}

static void quit(Ahci *ahci)
{
    g_free(ahci->pci);
    nyx_test_quit(ahci->t);
}

static uint64_t port_register(unsigned port, unsigned reg)
{
    return AHCI_PORTS * 4 + port * HBA_PORT_DATA_SIZE + 4 * reg;
}

static void set(Ahci *ahci, unsigned port, unsigned reg, uint32_t value)
{
    qpci_io_writel(ahci->pci, ahci->bar, port_register(port, reg), value);
}

static uint32_t get(Ahci *ahci, unsigned port, unsigned reg)
{
    return qpci_io_readl(ahci->pci, ahci->bar, port_register(port, reg));
}

static uint64_t area(unsigned port)
{
    return IOVA + port * AREA_SIZE;
}

static void map(Ahci *ahci, const char *domain, uint64_t iova, uint64_t gpa,
                unsigned pages)
{
    uint64_t size = pages * PAGE;

    nyx_qmp(ahci->t, "{ 'execute': 'nyx-map', 'arguments': { 'domain': %s,"
            "  'iova': %" PRIu64 ", 'gpa': %" PRIu64 ", 'size': %" PRIu64 ","
            "  'access': 'rw' } }", domain, iova, gpa, size);
}

static void unmap(Ahci *ahci, uint64_t iova, unsigned pages)
{
    uint64_t size = pages * PAGE;

    nyx_qmp(ahci->t, "{ 'execute': 'nyx-unmap', 'arguments': {"
            "  'domain': 'dom', 'iova': %" PRIu64 ", 'size': %" PRIu64 " } }",
            iova, size);
}

static void start_port(Ahci *ahci, unsigned port)
{
    set(ahci, port, AHCI_PX_CLB, area(port) + COMMAND_LIST);
    set(ahci, port, AHCI_PX_CLBU, 0);
    set(ahci, port, AHCI_PX_FB, area(port) + RECEIVED);
    set(ahci, port, AHCI_PX_FBU, 0);
    set(ahci, port, AHCI_PX_SERR, UINT32_MAX);
    set(ahci, port, AHCI_PX_IS, UINT32_MAX);
    set(ahci, port, AHCI_PX_CMD, CMD_RUN & ~AHCI_PX_CMD_ST);
    set(ahci, port, AHCI_PX_CMD, CMD_RUN);
}

/*
 * In memory at @gpa, where the device sees the area of @port: command 0 reads
 * a sector.
 */
static void prepare_read(Ahci *ahci, unsigned port, uint64_t gpa, uint8_t ata)
{
    AHCICommandHeader header = {
        .flags = cpu_to_le16(5),
        .prdtl = cpu_to_le16(1),
        .ctba = cpu_to_le64(area(port) + TABLE),
    };
    RegH2DFIS fis = {
        .fis_type = REG_H2D_FIS,
        .flags = REG_H2D_FIS_CMD,
        .command = ata,
        /* The number of sectors is there for NCQ. */
        .feature_low = ata == READ_FPDMA_QUEUED,
        .device = ATA_DEVICE_LBA,
        .count = cpu_to_le16(ata != READ_FPDMA_QUEUED),
    };
    PRD prd = {
        .dba = cpu_to_le64(area(port) + DATA),
        .dbc = cpu_to_le32(AHCI_SECTOR_SIZE - 1),
    };
    uint8_t *ram = ahci->t->ram + gpa;

    memcpy(ram + COMMAND_LIST, &header, sizeof(header));
    memcpy(ram + TABLE, &fis, sizeof(fis));
    memcpy(ram + TABLE + COMMAND_TABLE, &prd, sizeof(prd));
}

static void setup_port(Ahci *ahci, unsigned port, uint8_t ata)
{
    map(ahci, "dom", area(port), area(port), AREA_PAGES);
    prepare_read(ahci, port, area(port), ata);
    start_port(ahci, port);
}

static void issue(Ahci *ahci, unsigned port)
{
    set(ahci, port, AHCI_PX_CI, 1);
}

static void await_done(Ahci *ahci, unsigned port)
{
    int64_t end = g_get_monotonic_time() + 30 * G_TIME_SPAN_SECOND;

    while (get(ahci, port, AHCI_PX_CI)) {
        g_assert_cmpint(g_get_monotonic_time(), <, end);
    }
    g_assert_cmphex(get(ahci, port, AHCI_PX_TFD) & AHCI_PX_TFD_STS_ERR, ==, 0);
}

/* All block I/O that is under way ends, and the device gets to know. */
static void end_all_io(Ahci *ahci)
{
    nyx_qmp(ahci->t, "{ 'execute': 'stop' }");
    nyx_qmp(ahci->t, "{ 'execute': 'cont' }");
    nyx_settle(ahci->t);
}

/* The sector, its FIS, and how much was transferred */
static void assert_read(Ahci *ahci, uint64_t gpa)
{
    const uint8_t *ram = ahci->t->ram + gpa;

    g_assert_true(buffer_is_zero(ram + DATA, AHCI_SECTOR_SIZE));
    g_assert_cmphex(ram[DATA + AHCI_SECTOR_SIZE], ==, FILL);
    g_assert_cmphex(ram[RECEIVED + D2H_FIS], ==, REG_D2H_FIS);
    g_assert_cmphex(ldl_le_p(ram + COMMAND_LIST + 4), ==, AHCI_SECTOR_SIZE);
}

static void assert_filled(Ahci *ahci, uint64_t gpa, unsigned pages)
{
    for (uint64_t i = gpa; i < gpa + pages * PAGE; i++) {
        if (ahci->t->ram[i] != FILL) {
            g_error("AHCI wrote to 0x%" PRIx64, i);
        }
    }
}

static void fill(Ahci *ahci, uint64_t gpa, unsigned pages)
{
    memset(ahci->t->ram + gpa, FILL, pages * PAGE);
}

static uint64_t total_faults(Ahci *ahci)
{
    QDict *info = nyx_query_device(ahci->t, "ah");
    uint64_t faults = qdict_get_uint(info, "total-faults");

    qobject_unref(info);
    return faults;
}

static void read_sector(Ahci *ahci, unsigned port, uint64_t gpa)
{
    issue(ahci, port);
    await_done(ahci, port);
    assert_read(ahci, gpa);
}

/* Mappings that the device model holds */

static void test_unmap_received(void)
{
    Ahci ahci = start("nyx-pc,on-fault-limit=report", "");
    uint64_t at = area(0);

    setup_port(&ahci, 0, CMD_READ_DMA_EXT);
    read_sector(&ahci, 0, at);
    unmap(&ahci, at + RECEIVED, 1);
    fill(&ahci, at + RECEIVED, 1);
    issue(&ahci, 0);
    end_all_io(&ahci);
    assert_filled(&ahci, at + RECEIVED, 1);
    /* QEMU has the device write to a page of its own until the port stops. */
    set(&ahci, 0, AHCI_PX_CMD, 0);
    g_assert_cmpuint(total_faults(&ahci), >, 0);
    assert_filled(&ahci, at + RECEIVED, 1);

    /* Mapped again, it works again once its driver restarts it. */
    map(&ahci, "dom", at + RECEIVED, at + RECEIVED, 1);
    fill(&ahci, at + DATA, 1);
    prepare_read(&ahci, 0, at, CMD_READ_DMA_EXT);
    start_port(&ahci, 0);
    read_sector(&ahci, 0, at);
    quit(&ahci);
}

/* No command is fetched from there any more, nor its count stored. */
static void test_unmap_commands(void)
{
    Ahci ahci = start("nyx-pc,on-fault-limit=report", "");
    uint64_t at = area(0);
    AHCICommandHeader before;

    setup_port(&ahci, 0, CMD_READ_DMA_EXT);
    read_sector(&ahci, 0, at);
    unmap(&ahci, at + COMMAND_LIST, 1);
    prepare_read(&ahci, 0, at, CMD_READ_DMA_EXT);
    memcpy(&before, ahci.t->ram + at + COMMAND_LIST, sizeof(before));
    fill(&ahci, at + DATA, 1);
    issue(&ahci, 0);
    end_all_io(&ahci);
    assert_filled(&ahci, at + DATA, 1);
    g_assert_cmpmem(&before, sizeof(before), ahci.t->ram + at + COMMAND_LIST,
                    sizeof(before));
    g_assert_cmpuint(total_faults(&ahci), >, 0);
    quit(&ahci);
}

/* The same addresses lead elsewhere in the other domain. */
static void test_assign(void)
{
    Ahci ahci = start("nyx-pc,on-fault-limit=report", "");
    uint64_t at = area(0), elsewhere = MIB(16);

    setup_port(&ahci, 0, CMD_READ_DMA_EXT);
    read_sector(&ahci, 0, at);
    map(&ahci, "other", at, elsewhere, AREA_PAGES);
    prepare_read(&ahci, 0, elsewhere, CMD_READ_DMA_EXT);
    nyx_assign(ahci.t, "ah", "other");
    fill(&ahci, at, AREA_PAGES);
    read_sector(&ahci, 0, elsewhere);
    assert_filled(&ahci, at, AREA_PAGES);
    g_assert_cmpuint(total_faults(&ahci), ==, 0);
    quit(&ahci);
}

static void test_assign_nothing(void)
{
    Ahci ahci = start("nyx-pc,on-fault-limit=report", "");
    uint64_t at = area(0);

    setup_port(&ahci, 0, CMD_READ_DMA_EXT);
    read_sector(&ahci, 0, at);
    /* All but what the device holds on to */
    map(&ahci, "other", at + TABLE, at + TABLE, 2);
    nyx_assign(ahci.t, "ah", "other");
    fill(&ahci, at + RECEIVED, 1);
    fill(&ahci, at + DATA, 1);
    issue(&ahci, 0);
    end_all_io(&ahci);
    assert_filled(&ahci, at + RECEIVED, 1);
    assert_filled(&ahci, at + DATA, 1);
    g_assert_cmpuint(total_faults(&ahci), >, 0);
    quit(&ahci);
}

/* I/O under way */

/* From now on nothing of it arrives. */
static void check_not_landing(Ahci *ahci)
{
    g_autofree uint8_t *before = nyx_ram_copy(ahci->t);

    end_all_io(ahci);
    nyx_ram_assert_same(ahci->t, before, 0, 0);
}

static void assert_under_way(Ahci *ahci, bool under_way)
{
    QDict *info = nyx_query_device(ahci->t, "ah");

    g_assert_cmpint(qdict_get_bool(info, "io-under-way"), ==, under_way);
    qobject_unref(info);
}

/*
 * One read a second of virtual time, which stands still: the first is done, the
 * next one waits.
 */
static Ahci start_slow_read(const char *machine, const char *options)
{
    Ahci ahci = start(machine, options);
    unsigned reads = 0;

    nyx_qmp(ahci.t, "{ 'execute': 'block_set_io_throttle', 'arguments': {"
            "  'id': 'hd0', 'iops': 1, 'iops_rd': 0, 'iops_wr': 0,"
            "  'bps': 0, 'bps_rd': 0, 'bps_wr': 0 } }");
    setup_port(&ahci, 0, CMD_READ_DMA_EXT);
    do {
        g_assert_cmpuint(++reads, <, 4);
        fill(&ahci, area(0) + RECEIVED, 1);
        fill(&ahci, area(0) + DATA, 1);
        issue(&ahci, 0);
        nyx_qmp(ahci.t, "{ 'execute': 'query-version' }");
        nyx_qmp(ahci.t, "{ 'execute': 'query-version' }");
    } while (!get(&ahci, 0, AHCI_PX_CI));
    assert_filled(&ahci, area(0) + RECEIVED, 1);
    assert_filled(&ahci, area(0) + DATA, 1);
    return ahci;
}

/* What the tests below rest on */
static void test_slow(void)
{
    Ahci ahci = start_slow_read("nyx-pc", "");

    assert_under_way(&ahci, true);
    end_all_io(&ahci);
    assert_under_way(&ahci, false);
    assert_read(&ahci, area(0));
    quit(&ahci);
}

/*
 * @device is cut off at once; the command returns when nothing of the scope is
 * under way any more.
 */
static void check_command(Ahci *ahci, const char *device)
{
    QDict *response;

    qtest_qmp_send(ahci->t->qts, "{ 'execute': 'nyx-quarantine-device',"
                   "  'arguments': { 'device': %s } }", device);
    nyx_await_state(ahci->t, "ah", "operational", "quarantined");
    g_assert_cmphex(get(ahci, 0, AHCI_PX_CI), ==, UINT32_MAX);
    /* The VM goes on meanwhile, and so does the disk. */
    qtest_clock_step(ahci->t->qts, 2000 * 1000000LL);
    response = qtest_qmp_receive(ahci->t->qts);
    g_assert_true(qdict_haskey(response, "return"));
    qobject_unref(response);
    check_not_landing(ahci);
    assert_under_way(ahci, false);
    nyx_assert_state(ahci->t, "ah", "quarantined");
}

static void test_quarantine_command(void)
{
    Ahci ahci = start_slow_read("nyx-pc", "");

    check_command(&ahci, "ah");
    quit(&ahci);
}

#define NEIGHBOUR       "-device nyx-testdev,id=td,addr=8,nyx-domain=dom"

static void test_quarantine_scope_command(void)
{
    Ahci ahci = start_slow_read("nyx-pc,scope=domain", NEIGHBOUR);

    check_command(&ahci, "td");
    quit(&ahci);
}

/* Storage that hangs: neither does the operator, nor is the device free. */
static void test_quarantine_hung(void)
{
    Ahci ahci = start_slow_read("nyx-pc", "");

    nyx_qmp_refused(ahci.t, "see io-under-way", "{ 'execute':"
                    "  'nyx-quarantine-device',"
                    "  'arguments': { 'device': 'ah' } }");
    nyx_assert_state(ahci.t, "ah", "quarantined");
    g_assert_cmphex(get(&ahci, 0, AHCI_PX_CI), ==, UINT32_MAX);
    assert_under_way(&ahci, true);
    end_all_io(&ahci);
    assert_under_way(&ahci, false);
    quit(&ahci);
}

/*
 * At the limit nobody waits, as a disk that hangs must not stop the VM; that
 * there is something under way is told until it is over.
 */
static void check_limit(Ahci *ahci, const char *device)
{
    nyx_inject(ahci->t, device, 4);
    nyx_await_state(ahci->t, "ah", "operational", "quarantined");
    assert_under_way(ahci, true);
    g_assert_cmphex(get(ahci, 0, AHCI_PX_CI), ==, UINT32_MAX);
    end_all_io(ahci);
    assert_under_way(ahci, false);
    check_not_landing(ahci);
    nyx_assert_state(ahci->t, "ah", "quarantined");
}

static void test_quarantine_limit(void)
{
    Ahci ahci = start_slow_read("nyx-pc,max-faults=3", "");

    check_limit(&ahci, "ah");
    quit(&ahci);
}

/* It did no wrong itself. */
static void test_quarantine_scope(void)
{
    Ahci ahci = start_slow_read("nyx-pc,scope=domain,max-faults=3", NEIGHBOUR);

    check_limit(&ahci, "td");
    quit(&ahci);
}

/* By way of the domain that it has left */
static void test_assign_in_flight(void)
{
    Ahci ahci = start_slow_read("nyx-pc,on-fault-limit=report", "");

    nyx_assign(ahci.t, "ah", "other");
    check_not_landing(&ahci);
    quit(&ahci);
}

static void test_unmap_in_flight(void)
{
    Ahci ahci = start_slow_read("nyx-pc,on-fault-limit=report", "");

    unmap(&ahci, area(0) + DATA, 1);
    unmap(&ahci, area(0) + RECEIVED, 1);
    unmap(&ahci, area(0) + COMMAND_LIST, 1);
    check_not_landing(&ahci);
    quit(&ahci);
}

/*
 * The driver resets port 1, which has a command under way: the device waits for
 * it in a nested event loop.  In the same turn of the main loop, and before
 * that, port 0 makes faults past the limit, whose action is to reset the very
 * device.  One write does both: from PxCI of port 0 to PxSCTL of port 1.
 */
static void check_comreset(const void *data)
{
    g_autofree char *machine = g_strdup_printf(
        "nyx-pc,max-faults=3,on-fault-limit=%s", (const char *)data);
    bool comes_back = g_str_equal(data, "reset-device");
    Ahci ahci = start(machine, "");
    uint64_t first = port_register(0, AHCI_PX_CI);
    uint32_t registers[(HBA_PORT_DATA_SIZE +
                        4 * (AHCI_PX_SCTL - AHCI_PX_CI)) / 4 + 1] = {};
    uint32_t *port1 = registers + HBA_PORT_NUM_REG - AHCI_PX_CI;
    AHCICommandHeader *list;

    setup_port(&ahci, 0, CMD_READ_DMA_EXT);
    setup_port(&ahci, 1, READ_FPDMA_QUEUED);
    /* Commands of port 0 whose tables are nowhere */
    list = (AHCICommandHeader *)(ahci.t->ram + area(0) + COMMAND_LIST);
    for (unsigned i = 1; i < 32; i++) {
        list[i] = list[0];
        list[i].ctba = cpu_to_le64(MIB(512) + i * MIB(1));
    }
    /* COMRESET is the end of the port's being held in reset. */
    set(&ahci, 1, AHCI_PX_SCTL, 1);
    set(&ahci, 1, AHCI_PX_SACT, 1);
    issue(&ahci, 1);
    g_assert_cmphex(get(&ahci, 1, AHCI_PX_SACT), ==, 1);

    registers[0] = cpu_to_le32(~1u);
    port1[AHCI_PX_CLB] = cpu_to_le32(area(1) + COMMAND_LIST);
    port1[AHCI_PX_FB] = cpu_to_le32(area(1) + RECEIVED);
    port1[AHCI_PX_CMD] = cpu_to_le32(CMD_RUN);
    port1[AHCI_PX_SCTL] = 0;
    qtest_memwrite(ahci.t->qts, ahci.bar.addr + first, registers,
                   sizeof(registers));
    nyx_await_state(ahci.t, "ah", "operational", "quarantined");
    g_assert_cmpuint(total_faults(&ahci), >, 3);
    if (comes_back) {
        nyx_await_state(ahci.t, "ah", "recovering", "operational");
    } else {
        nyx_recover(ahci.t, "ah");
    }

    /* It is as good as new. */
    qpci_io_writel(ahci.pci, ahci.bar, 4 * AHCI_GHC, AHCI_GHC_AE);
    fill(&ahci, area(1), AREA_PAGES);
    prepare_read(&ahci, 1, area(1), CMD_READ_DMA_EXT);
    start_port(&ahci, 1);
    read_sector(&ahci, 1, area(1));
    quit(&ahci);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    qtest_add_func("/nyx/ahci/unmap-received", test_unmap_received);
    qtest_add_func("/nyx/ahci/unmap-commands", test_unmap_commands);
    qtest_add_func("/nyx/ahci/assign", test_assign);
    qtest_add_func("/nyx/ahci/assign-nothing", test_assign_nothing);
    qtest_add_func("/nyx/ahci/slow", test_slow);
    qtest_add_func("/nyx/ahci/assign-in-flight", test_assign_in_flight);
    qtest_add_func("/nyx/ahci/unmap-in-flight", test_unmap_in_flight);
    qtest_add_func("/nyx/ahci/quarantine-command", test_quarantine_command);
    qtest_add_func("/nyx/ahci/quarantine-hung", test_quarantine_hung);
    qtest_add_func("/nyx/ahci/quarantine-limit", test_quarantine_limit);
    qtest_add_func("/nyx/ahci/quarantine-scope", test_quarantine_scope);
    qtest_add_func("/nyx/ahci/quarantine-scope-command",
                   test_quarantine_scope_command);
    qtest_add_data_func("/nyx/ahci/comreset/quarantine", "quarantine",
                        check_comreset);
    qtest_add_data_func("/nyx/ahci/comreset/reset-device", "reset-device",
                        check_comreset);
    return g_test_run();
}
