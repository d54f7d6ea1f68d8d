/*
 * Nyx: figures for monitoring
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <sys/un.h>
#include "libnyx.h"
#include "qobject/qlist.h"
#include "qobject/qnum.h"

/* Results of queries; give them up with qobject_unref(). */

static QDict *query(NyxTest *t, const char *command)
{
    QDict *response = qtest_qmp(t->qts, "{ 'execute': %s }", command);

    g_assert_true(qdict_haskey(response, "return"));
    return response;
}

static QDict *find_device(QDict *latency, const char *id)
{
    QDict *info = qdict_get_qdict(latency, "return");
    const QListEntry *entry;

    QLIST_FOREACH_ENTRY(qdict_get_qlist(info, "devices"), entry) {
        QDict *device = qobject_to(QDict, qlist_entry_obj(entry));

        if (g_str_equal(qdict_get_str(device, "device"), id)) {
            return device;
        }
    }
    g_assert_not_reached();
}

typedef struct Samples {
    uint64_t count;
    uint64_t sum_ns;
} Samples;

/* @kind: dma or interrupts */
static Samples samples_of(NyxTest *t, const char *id, const char *kind)
{
    QDict *latency = query(t, "query-nyx-latency");
    QDict *histogram = qdict_get_qdict(find_device(latency, id), kind);
    QList *bins = qdict_get_qlist(histogram, "bins");
    Samples s = { .sum_ns = qdict_get_uint(histogram, "sum-ns") };
    const QListEntry *entry;

    g_assert_cmpuint(qlist_size(bins), ==,
                     qlist_size(qdict_get_qlist(histogram, "boundaries-ns"))
                     + 1);
    QLIST_FOREACH_ENTRY(bins, entry) {
        s.count += qnum_get_uint(qobject_to(QNum, qlist_entry_obj(entry)));
    }
    qobject_unref(latency);
    return s;
}

static void set_sampling(NyxTest *t, unsigned interval)
{
    nyx_qmp(t, "{ 'execute': 'qom-set', 'arguments': { 'path': '/machine',"
            "  'property': 'latency-sampling', 'value': %u } }", interval);
}

static void do_dma(NyxTestdev *td, uint32_t count)
{
    nyx_testdev_run(td, MIB(8), 64, count, 4, PAGE, 0);
    nyx_testdev_await_idle(td);
}

/* A domain that is not all of RAM is translated. */
static void punch(NyxTest *t, const char *domain)
{
    nyx_qmp(t, "{ 'execute': 'nyx-unmap', 'arguments': {"
            "  'domain': %s, 'iova': 0, 'size': 4096 } }", domain);
}

static void test_dma_latency(void)
{
    NyxTest *t = nyx_test_start("nyx-pc", "-device nyx-testdev,id=td,addr=5 "
                                "-device nyx-testdev,id=other,addr=6");
    NyxTestdev *td = nyx_testdev_open(t, 5);
    Samples s;

    punch(t, "auto:td");
    do_dma(td, 10000);
    g_assert_cmpuint(samples_of(t, "td", "dma").count, ==, 0);

    set_sampling(t, 100);
    do_dma(td, 10000);
    s = samples_of(t, "td", "dma");
    g_assert_cmpuint(s.count, >=, 100);
    g_assert_cmpuint(s.count, <, 250);
    g_assert_cmpuint(s.sum_ns, >, 0);
    g_assert_cmpuint(samples_of(t, "other", "dma").count, ==, 0);

    /* Off again: no further sample, and the old ones stay. */
    set_sampling(t, 0);
    do_dma(td, 10000);
    g_assert_cmpuint(samples_of(t, "td", "dma").count, ==, s.count);
    nyx_testdev_close(td);
    nyx_test_quit(t);
}

static void test_pass_through_latency(void)
{
    NyxTest *t = nyx_test_start("nyx-pc,latency-sampling=1",
                                "-device nyx-testdev,id=td,addr=5");
    NyxTestdev *td = nyx_testdev_open(t, 5);

    do_dma(td, 1000);
    g_assert_cmpuint(samples_of(t, "td", "dma").count, ==, 0);
    punch(t, "auto:td");
    do_dma(td, 1000);
    g_assert_cmpuint(samples_of(t, "td", "dma").count, >=, 1000);
    nyx_testdev_close(td);
    nyx_test_quit(t);
}

static void test_interrupt_latency(void)
{
    NyxTest *t = nyx_test_start("nyx-pc,latency-sampling=2",
                                "-device nyx-testdev,id=td,addr=5");
    NyxTestdev *td = nyx_testdev_open(t, 5);
    Samples s;

    for (unsigned i = 0; i < 10; i++) {
        nyx_testdev_message(td, NYX_MSI_BASE, 0x51);
    }
    s = samples_of(t, "td", "interrupts");
    g_assert_cmpuint(s.count, ==, 5);
    g_assert_cmpuint(s.sum_ns, >, 0);
    nyx_testdev_close(td);
    nyx_test_quit(t);
}

static void assert_faults(NyxTest *t, const char *type, uint64_t count)
{
    QDict *device = nyx_query_device(t, "td");
    QDict *types = qdict_get_qdict(device, "faults-by-type");

    g_assert_cmpuint(qdict_get_uint(types, type), ==, count);
    qobject_unref(device);
}

static void test_fault_types(void)
{
    NyxTest *t = nyx_test_start("nyx-pc", "-device nyx-testdev,id=td,addr=5");
    NyxTestdev *td = nyx_testdev_open(t, 5);
    QDict *device, *types;
    const QDictEntry *entry;
    uint64_t sum = 0;

    nyx_testdev_write(td, MIB(512), 8);
    nyx_testdev_write(td, MIB(513), 8);
    nyx_testdev_message(td, NYX_MSI_BASE, 0x400);
    nyx_testdev_read(td, 1ULL << 50, 8);
    assert_faults(t, "unmapped", 2);
    assert_faults(t, "interrupt", 1);
    assert_faults(t, "address-width", 1);
    assert_faults(t, "permission", 0);
    nyx_qmp(t, "{ 'execute': 'nyx-quarantine-device',"
            "  'arguments': { 'device': 'td' } }");
    nyx_qmp(t, "{ 'execute': 'nyx-inject-fault', 'arguments': {"
            "  'device': 'td', 'address': 4096, 'access': 'w' } }");
    device = nyx_query_device(t, "td");
    types = qdict_get_qdict(device, "faults-by-type");
    for (entry = qdict_first(types); entry;
         entry = qdict_next(types, entry)) {
        sum += qdict_get_uint(types, qdict_entry_key(entry));
    }
    g_assert_cmpuint(sum, ==, qdict_get_uint(device, "total-faults"));
    qobject_unref(device);
    nyx_testdev_close(td);
    nyx_test_quit(t);
}

/* Packets: the test is the network, through a socket of datagrams. */

typedef struct Net {
    NyxTest *t;
    char *folder;
    int sock;
} Net;

static void net_address(const Net *n, const char *name, struct sockaddr_un *a)
{
    *a = (struct sockaddr_un) { .sun_family = AF_UNIX };
    g_assert_cmpint(snprintf(a->sun_path, sizeof(a->sun_path), "%s/%s",
                             n->folder, name), <, sizeof(a->sun_path));
}

/*
 * nic0, which no guest drives, so that it takes no packets. The third port of
 * the hub lets the network send all the same.
 */
static Net net_start(void)
{
    Net n = { .folder = g_dir_make_tmp("nyx-net-XXXXXX", NULL) };
    struct sockaddr_un address;

    g_assert_nonnull(n.folder);
    net_address(&n, "test", &address);
    n.sock = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    g_assert_cmpint(bind(n.sock, (struct sockaddr *)&address,
                         sizeof(address)), ==, 0);
    n.t = nyx_test_start("nyx-pc",
        "-netdev dgram,id=wire,local.type=unix,local.path=%s/qemu,"
        "remote.type=unix,remote.path=%s/test "
        "-netdev hubport,id=port0,hubid=0,netdev=wire "
        "-netdev hubport,id=port1,hubid=0 -netdev hubport,id=port2,hubid=0 "
        "-device e1000,id=nic0,netdev=port1,romfile= "
        "-object filter-nyx-count,id=c1,netdev=port1",
        n.folder, n.folder);
    net_address(&n, "qemu", &address);
    g_assert_cmpint(connect(n.sock, (struct sockaddr *)&address,
                            sizeof(address)), ==, 0);
    return n;
}

static void net_stop(Net *n)
{
    g_autofree char *path = g_strdup_printf("%s/test", n->folder);
    g_autofree char *qemu = g_strdup_printf("%s/qemu", n->folder);

    nyx_test_quit(n->t);
    close(n->sock);
    unlink(path);
    unlink(qemu);
    rmdir(n->folder);
    g_free(n->folder);
}

/* The counters of an object, which must be there, for packets to the guest */
static QDict *received(QDict *response, const char *id)
{
    const QListEntry *entry;

    QLIST_FOREACH_ENTRY(qdict_get_qlist(response, "return"), entry) {
        QDict *info = qobject_to(QDict, qlist_entry_obj(entry));

        if (g_str_equal(qdict_get_str(info, "id"), id)) {
            return qdict_get_qdict(info, "received");
        }
    }
    g_assert_not_reached();
}

static uint64_t counter(Net *n, const char *id, const char *name)
{
    QDict *response = query(n->t, "query-nyx-net");
    uint64_t value = qdict_get_uint(received(response, id), name);

    qobject_unref(response);
    return value;
}

#define PACKET_BYTES    100

static void send_packets(Net *n, unsigned count)
{
    uint8_t packet[PACKET_BYTES] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff };

    while (count--) {
        g_assert_cmpint(send(n->sock, packet, sizeof(packet), 0), ==,
                        sizeof(packet));
    }
}

/* Wait until the counter has the value; it must not go beyond. */
static void await_counter(Net *n, const char *id, const char *name,
                          uint64_t value)
{
    int64_t limit = g_get_monotonic_time() + 60 * G_TIME_SPAN_SECOND;
    uint64_t now;

    while ((now = counter(n, id, name)) < value) {
        g_assert_cmpint(g_get_monotonic_time(), <, limit);
        g_usleep(1000);
    }
    g_assert_cmpuint(now, ==, value);
}

#define QUEUE_ROOM      10000   /* in net/queue.c */

static void test_packets(void)
{
    Net n = net_start();

    send_packets(&n, 10);
    await_counter(&n, "c1", "packets", 10);
    g_assert_cmpuint(counter(&n, "c1", "bytes"), ==, 10 * PACKET_BYTES);
    g_assert_cmpuint(counter(&n, "c1", "drops"), ==, 0);
    net_stop(&n);
}

static void test_drops_queue(void)
{
    Net n = net_start();

    send_packets(&n, QUEUE_ROOM + 7);
    await_counter(&n, "c1", "packets", QUEUE_ROOM + 7);
    g_assert_cmpuint(counter(&n, "c1", "drops"), ==, 7);
    net_stop(&n);
}

static void set_link(Net *n, const char *name, bool up)
{
    nyx_qmp(n->t, "{ 'execute': 'set_link', 'arguments': { 'name': %s,"
            "  'up': %i } }", name, up);
}

static void test_drops_link(void)
{
    Net n = net_start();

    set_link(&n, "port1", false);
    send_packets(&n, 5);
    await_counter(&n, "c1", "drops", 5);
    g_assert_cmpuint(counter(&n, "c1", "packets"), ==, 0);
    set_link(&n, "port1", true);
    send_packets(&n, 3);
    await_counter(&n, "c1", "packets", 3);
    g_assert_cmpuint(counter(&n, "c1", "drops"), ==, 5);
    net_stop(&n);
}

static void test_drops_purge(void)
{
    Net n = net_start();

    send_packets(&n, 4);
    await_counter(&n, "c1", "packets", 4);
    /* The network core keeps nothing while the VM stands still. */
    nyx_qmp(n.t, "{ 'execute': 'stop' }");
    await_counter(&n, "c1", "drops", 4);
    net_stop(&n);
}

static void test_net_objects(void)
{
    Net n = net_start();
    QDict *response;

    nyx_qmp(n.t, "{ 'execute': 'object-add', 'arguments': {"
            "  'qom-type': 'filter-nyx-count', 'id': 'c2',"
            "  'netdev': 'port1', 'status': 'off' } }");
    send_packets(&n, 2);
    await_counter(&n, "c1", "packets", 2);
    g_assert_cmpuint(counter(&n, "c2", "packets"), ==, 0);
    nyx_qmp(n.t, "{ 'execute': 'qom-set', 'arguments': {"
            "  'path': '/objects/c2', 'property': 'status',"
            "  'value': 'on' } }");
    send_packets(&n, 2);
    await_counter(&n, "c1", "packets", 4);
    g_assert_cmpuint(counter(&n, "c2", "packets"), ==, 2);
    nyx_qmp(n.t, "{ 'execute': 'object-del',"
            "  'arguments': { 'id': 'c1' } }");
    send_packets(&n, 1);
    await_counter(&n, "c2", "packets", 3);
    nyx_qmp_refused(n.t, "network backend", "{ 'execute': 'object-add',"
            "  'arguments': { 'qom-type': 'filter-nyx-count', 'id': 'c3',"
            "  'netdev': 'nothing' } }");
    nyx_qmp(n.t, "{ 'execute': 'netdev_del',"
            "  'arguments': { 'id': 'port1' } }");
    response = query(n.t, "query-nyx-net");
    g_assert_true(qlist_empty(qdict_get_qlist(response, "return")));
    qobject_unref(response);
    net_stop(&n);
}

/* One object counts all queues of a backend. */
static void test_queues(void)
{
    NyxTest *t;
    QDict *response;
    const QListEntry *entry;
    unsigned queue = 0;

    if (geteuid() != 0 || access("/dev/net/tun", R_OK | W_OK) != 0) {
        g_test_skip("a tap interface takes root and /dev/net/tun");
        return;
    }
    t = nyx_test_start("nyx-pc", "-netdev tap,id=tap0,queues=3,vhost=off,"
                       "script=no,downscript=no "
                       "-device virtio-net-pci,id=nic0,netdev=tap0,mq=on,"
                       "romfile= "
                       "-object filter-nyx-count,id=c,netdev=tap0");
    response = query(t, "query-nyx-net");
    QLIST_FOREACH_ENTRY(qdict_get_qlist(response, "return"), entry) {
        QDict *info = qobject_to(QDict, qlist_entry_obj(entry));

        g_assert_cmpstr(qdict_get_str(info, "id"), ==, "c");
        g_assert_cmpstr(qdict_get_str(info, "netdev"), ==, "tap0");
        g_assert_cmpstr(qdict_get_str(info, "device"), ==, "nic0");
        g_assert_cmpuint(qdict_get_uint(info, "queue"), ==, queue++);
    }
    g_assert_cmpuint(queue, ==, 3);
    qobject_unref(response);
    nyx_qmp(t, "{ 'execute': 'netdev_del', 'arguments': { 'id': 'tap0' } }");
    response = query(t, "query-nyx-net");
    g_assert_true(qlist_empty(qdict_get_qlist(response, "return")));
    qobject_unref(response);
    nyx_test_quit(t);
}

static void test_no_iommu(void)
{
    NyxTest *t = nyx_test_start("q35", "-nic none");
    QDict *latency = query(t, "query-nyx-latency");
    QDict *net = query(t, "query-nyx-net");

    g_assert_true(qlist_empty(qdict_get_qlist(qdict_get_qdict(latency,
                                                              "return"),
                                              "devices")));
    g_assert_true(qlist_empty(qdict_get_qlist(net, "return")));
    qobject_unref(latency);
    qobject_unref(net);
    nyx_test_quit(t);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    qtest_add_func("/nyx/metrics/latency/dma", test_dma_latency);
    qtest_add_func("/nyx/metrics/latency/pass-through",
                   test_pass_through_latency);
    qtest_add_func("/nyx/metrics/latency/interrupts", test_interrupt_latency);
    qtest_add_func("/nyx/metrics/fault-types", test_fault_types);
    qtest_add_func("/nyx/metrics/net/packets", test_packets);
    qtest_add_func("/nyx/metrics/net/drops/queue", test_drops_queue);
    qtest_add_func("/nyx/metrics/net/drops/link", test_drops_link);
    qtest_add_func("/nyx/metrics/net/drops/purge", test_drops_purge);
    qtest_add_func("/nyx/metrics/net/objects", test_net_objects);
    qtest_add_func("/nyx/metrics/net/queues", test_queues);
    qtest_add_func("/nyx/metrics/no-iommu", test_no_iommu);
    return g_test_run();
}
