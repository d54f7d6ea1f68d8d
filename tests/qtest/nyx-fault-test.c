/*
 * Nyx IOMMU: faults are recorded, counted and reported
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Time is the virtual clock, which stands still but for qtest_clock_step().
 */

#include "qemu/osdep.h"
#include "libnyx.h"
#include "qobject/qlist.h"

#define MS      1000000LL
#define HOLE    MIB(512)        /* no RAM there */

static NyxTestdev *start(const char *options)
{
    NyxTest *t = nyx_test_start("nyx-pc", "%s "
                                "-device nyx-testdev,id=td,addr=5 "
                                "-device nyx-testdev,id=quiet,addr=6",
                                options);

    return nyx_testdev_open(t, 5);
}

static void quit(NyxTestdev *dev)
{
    NyxTest *t = dev->t;

    nyx_testdev_close(dev);
    nyx_test_quit(t);
}

/* If the device is cut off for it, its registers read all-ones. */
static void fault(NyxTestdev *dev)
{
    g_assert_cmpuint(nyx_testdev_write(dev, HOLE, 8), !=, NTD_RESULT_OK);
}

static void set_policy(NyxTestdev *dev, unsigned max_faults,
                       unsigned window_ms, const char *action)
{
    nyx_qmp(dev->t, "{ 'execute': 'nyx-set-policy', 'arguments': {"
            "  'device': 'td', 'max-faults': %u, 'fault-window-ms': %u,"
            "  'on-fault-limit': %s } }", max_faults, window_ms, action);
}

static size_t count_records(NyxTest *t, const char *id)
{
    QList *faults = nyx_query_faults(t, id);
    size_t size = qlist_size(faults);

    qobject_unref(faults);
    return size;
}

static void test_ring(void)
{
    NyxTestdev *dev = start("-M on-fault-limit=report");
    NyxTestdev *quiet = nyx_testdev_open(dev->t, 6);
    QDict *response, *newest;
    QList *faults;
    unsigned i;

    fault(quiet);
    for (i = 0; i < 100; i++) {
        qtest_clock_step(dev->t->qts, MS);
        nyx_testdev_write(dev, HOLE + i * PAGE, 4);
    }
    g_assert_cmpuint(count_records(dev->t, "td"), ==, 64);
    nyx_assert_fault(dev->t, "td", "unmapped", HOLE + 99 * PAGE, "w", 1);
    nyx_assert_number(dev->t, "td", "total-faults", 100);
    /* The flood did not push out what another device did. */
    nyx_assert_fault(dev->t, "quiet", "unmapped", HOLE, "w", 1);

    response = qtest_qmp(dev->t->qts, "{ 'execute': 'query-nyx-faults',"
                         "  'arguments': { 'limit': 3 } }");
    faults = qdict_get_qlist(response, "return");
    g_assert_cmpuint(qlist_size(faults), ==, 3);
    newest = qobject_to(QDict, qlist_peek(faults));
    g_assert_cmpstr(qdict_get_str(newest, "device"), ==, "td");
    g_assert_cmpstr(qdict_get_str(newest, "domain"), ==, "auto:td");
    qobject_unref(response);
    nyx_testdev_close(quiet);
    quit(dev);
}

static void test_records(void)
{
    NyxTestdev *dev = start("-M on-fault-limit=report");
    QDict *device;
    int64_t now;

    now = qtest_clock_step(dev->t->qts, 5 * MS);
    fault(dev);
    fault(dev);
    fault(dev);
    nyx_assert_fault(dev->t, "td", "unmapped", HOLE, "w", 3);
    nyx_testdev_read(dev, HOLE, 8);
    nyx_assert_fault(dev->t, "td", "unmapped", HOLE, "r", 1);
    nyx_testdev_read(dev, HOLE + PAGE, 8);
    nyx_testdev_message(dev, NYX_MSI_BASE, 0x400 | 0x30);
    nyx_assert_fault(dev->t, "td", "interrupt", NYX_MSI_BASE, "w", 1);
    g_assert_cmpuint(count_records(dev->t, "td"), ==, 4);
    device = nyx_query_device(dev->t, "td");
    g_assert_cmpint(qdict_get_int(device, "last-fault-ns"), ==, now);
    g_assert_cmpuint(qdict_get_uint(device, "fault-count"), ==, 6);
    qobject_unref(device);
    device = nyx_query_iommu(dev->t);
    g_assert_cmpuint(qdict_get_uint(device, "fault-events"), ==, 6);
    qobject_unref(device);
    quit(dev);
}

static void test_event(void)
{
    NyxTestdev *dev = start("-M on-fault-limit=report,max-faults=1000");
    QDict *event, *data;
    unsigned i;

    for (i = 0; i < 50; i++) {
        fault(dev);
    }
    event = qtest_qmp_eventwait_ref(dev->t->qts, "NYX_DMA_FAULT");
    data = qdict_get_qdict(event, "data");
    g_assert_cmpstr(qdict_get_str(data, "device"), ==, "td");
    g_assert_cmpstr(qdict_get_str(data, "domain"), ==, "auto:td");
    g_assert_cmpstr(qdict_get_str(data, "type"), ==, "unmapped");
    g_assert_cmphex(qdict_get_uint(data, "address"), ==, HOLE);
    g_assert_cmpstr(qdict_get_str(data, "access"), ==, "w");
    g_assert_false(qdict_get_bool(data, "injected"));
    qobject_unref(event);

    /* No other one within the second; then one that counts all. */
    nyx_assert_number(dev->t, "td", "total-faults", 50);
    g_assert_null(qtest_qmp_event_ref(dev->t->qts, "NYX_DMA_FAULT"));
    qtest_clock_step(dev->t->qts, 1001 * MS);
    event = qtest_qmp_eventwait_ref(dev->t->qts, "NYX_DMA_FAULT");
    g_assert_cmpuint(qdict_get_uint(qdict_get_qdict(event, "data"), "count"),
                     ==, 50);
    qobject_unref(event);
    qtest_clock_step(dev->t->qts, 5000 * MS);
    nyx_assert_number(dev->t, "td", "total-faults", 50);
    g_assert_null(qtest_qmp_event_ref(dev->t->qts, "NYX_DMA_FAULT"));
    quit(dev);
}

typedef struct EventCount {
    unsigned faults;
    unsigned limits;
} EventCount;

static bool count_event(QTestState *qts, const char *name, QDict *event,
                        void *opaque)
{
    EventCount *count = opaque;

    count->faults += g_str_equal(name, "NYX_DMA_FAULT");
    count->limits += g_str_equal(name, "NYX_FAULT_LIMIT");
    return false;
}

/* However a device faults, it does not flood whoever listens. */
static void check_flood(const void *data)
{
    NyxTestdev *dev = start("-M on-fault-limit=report");
    EventCount count = {};
    unsigned second;

    qtest_qmp_set_event_callback(dev->t->qts, count_event, &count);
    nyx_testdev_run(dev, HOLE, 4, 30000, 8, PAGE,
                    NTD_FLAG_WRITE | GPOINTER_TO_UINT(data));
    nyx_testdev_await_idle(dev);
    nyx_assert_number(dev->t, "td", "total-faults", 30000);
    g_assert_cmpuint(count.faults, ==, 1);
    g_assert_cmpuint(count.limits, ==, 1);
    for (second = 2; second < 10; second++) {
        qtest_clock_step(dev->t->qts, 1000 * MS);
        nyx_testdev_run(dev, HOLE, 4, 3000, 8, PAGE,
                        NTD_FLAG_WRITE | GPOINTER_TO_UINT(data));
        nyx_testdev_await_idle(dev);
        nyx_assert_state(dev->t, "td", "operational");
        g_assert_cmpuint(count.faults, <=, second);
        g_assert_cmpuint(count.limits, <=, second);
    }
    g_assert_cmpuint(count.faults, >, 4);
    g_assert_cmpuint(count.limits, >, 1);
    quit(dev);
}

/* The window ends now: a fault that is one window old is outside of it. */
static void test_window(void)
{
    NyxTestdev *dev = start("");

    set_policy(dev, 3, 1000, "quarantine");
    fault(dev);
    qtest_clock_step(dev->t->qts, 400 * MS);
    fault(dev);
    qtest_clock_step(dev->t->qts, 400 * MS);
    fault(dev);
    nyx_assert_number(dev->t, "td", "fault-count", 3);
    qtest_clock_step(dev->t->qts, 199 * MS);
    nyx_assert_number(dev->t, "td", "fault-count", 3);
    qtest_clock_step(dev->t->qts, 1 * MS);
    nyx_assert_number(dev->t, "td", "fault-count", 2);
    fault(dev);
    nyx_assert_number(dev->t, "td", "fault-count", 3);
    nyx_assert_state(dev->t, "td", "operational");
    fault(dev);
    nyx_await_state(dev->t, "td", "operational", "quarantined");
    nyx_assert_state(dev->t, "td", "quarantined");
    nyx_assert_state(dev->t, "quiet", "operational");
    quit(dev);
}

static void test_window_for_ever(void)
{
    NyxTestdev *dev = start("");
    unsigned i;

    set_policy(dev, 3, 0, "quarantine");
    for (i = 0; i < 3; i++) {
        fault(dev);
        qtest_clock_step(dev->t->qts, 3600 * 1000 * MS);
    }
    nyx_assert_state(dev->t, "td", "operational");
    nyx_assert_number(dev->t, "td", "fault-count", 3);
    fault(dev);
    nyx_await_state(dev->t, "td", "operational", "quarantined");
    quit(dev);
}

static void test_first_fault(void)
{
    NyxTestdev *dev = start("-M max-faults=0");

    fault(dev);
    nyx_await_state(dev->t, "td", "operational", "quarantined");
    quit(dev);
}

static void assert_policy(NyxTest *t, const char *id, uint64_t max_faults,
                          uint64_t window, uint64_t recoveries)
{
    QDict *device = nyx_query_device(t, id);
    QDict *policy = qdict_get_qdict(device, "policy");

    g_assert_cmpuint(qdict_get_uint(policy, "max-faults"), ==, max_faults);
    g_assert_cmpuint(qdict_get_uint(policy, "fault-window-ms"), ==, window);
    g_assert_cmpuint(qdict_get_uint(policy, "max-recoveries"), ==, recoveries);
    qobject_unref(device);
}

/* What is nearer to the device wins: device, domain, machine, default. */
static void test_policy(void)
{
    NyxTest *t = nyx_test_start("nyx-pc,max-faults=20,fault-window-ms=2000",
        "-object nyx-domain,id=dom,isolation=shared,max-faults=30 "
        "-device nyx-testdev,id=in,addr=5,nyx-domain=dom "
        "-device nyx-testdev,id=out,addr=6");

    assert_policy(t, "out", 20, 2000, 5);
    assert_policy(t, "in", 30, 2000, 5);
    nyx_qmp(t, "{ 'execute': 'nyx-set-policy', 'arguments': {"
            "  'device': 'in', 'max-faults': 65535 } }");
    nyx_qmp(t, "{ 'execute': 'nyx-set-policy', 'arguments': {"
            "  'domain': 'dom', 'max-faults': 1, 'max-recoveries': 255 } }");
    assert_policy(t, "in", 65535, 2000, 255);
    nyx_qmp(t, "{ 'execute': 'nyx-assign-device', 'arguments': {"
            "  'device': 'out', 'domain': 'dom' } }");
    assert_policy(t, "out", 1, 2000, 255);
    nyx_test_quit(t);
}

static void test_policy_arguments(void)
{
    NyxTestdev *dev = start("");
    NyxTest *t = dev->t;

    nyx_qmp_refused(t, "either 'device' or 'domain'",
                    "{ 'execute': 'nyx-set-policy',"
                    "  'arguments': { 'max-faults': 1 } }");
    nyx_qmp_refused(t, "either 'device' or 'domain'",
                    "{ 'execute': 'nyx-set-policy', 'arguments': {"
                    "  'device': 'td', 'domain': 'auto:td',"
                    "  'max-faults': 1 } }");
    nyx_qmp_refused(t, "at least one of",
                    "{ 'execute': 'nyx-set-policy',"
                    "  'arguments': { 'device': 'td' } }");
    nyx_qmp_refused(t, "max-faults must be at most 65535",
                    "{ 'execute': 'nyx-set-policy', 'arguments': {"
                    "  'device': 'td', 'max-faults': 65536,"
                    "  'max-recoveries': 1 } }");
    nyx_qmp_refused(t, "max-recoveries must be at most 255",
                    "{ 'execute': 'nyx-set-policy', 'arguments': {"
                    "  'device': 'td', 'max-faults': 1,"
                    "  'max-recoveries': 256 } }");
    nyx_qmp_refused(t, "", "{ 'execute': 'nyx-set-policy', 'arguments': {"
                    "  'device': 'td', 'on-fault-limit': 'explode' } }");
    /* What was refused has changed nothing, in part neither. */
    assert_policy(t, "td", 10, 60000, 5);
    quit(dev);
}

static void inject(NyxTest *t, uint64_t address, unsigned count)
{
    nyx_qmp(t, "{ 'execute': 'nyx-inject-fault', 'arguments': {"
            "  'device': 'td', 'address': %" PRIu64 ", 'access': 'r',"
            "  'count': %u } }", address, count);
}

static void test_inject(void)
{
    NyxTestdev *dev = start("");
    QDict *event, *first;
    QList *faults;

    inject(dev->t, 0x1234, 10);
    faults = nyx_query_faults(dev->t, "td");
    g_assert_cmpuint(qlist_size(faults), ==, 1);
    first = qobject_to(QDict, qlist_peek(faults));
    g_assert_true(qdict_get_bool(first, "injected"));
    g_assert_cmphex(qdict_get_uint(first, "address"), ==, 0x1234);
    g_assert_cmpuint(qdict_get_uint(first, "count"), ==, 10);
    qobject_unref(faults);
    event = qtest_qmp_eventwait_ref(dev->t->qts, "NYX_DMA_FAULT");
    g_assert_true(qdict_get_bool(qdict_get_qdict(event, "data"), "injected"));
    qobject_unref(event);

    /* The device itself is not touched; the drill has all consequences. */
    nyx_assert_state(dev->t, "td", "operational");
    inject(dev->t, 0x1234, 1);
    nyx_await_state(dev->t, "td", "operational", "quarantined");

    nyx_qmp_refused(dev->t, "between 1 and 100000",
                    "{ 'execute': 'nyx-inject-fault', 'arguments': {"
                    "  'device': 'td', 'address': 0, 'access': 'r',"
                    "  'count': 0 } }");
    nyx_qmp_refused(dev->t, "between 1 and 100000",
                    "{ 'execute': 'nyx-inject-fault', 'arguments': {"
                    "  'device': 'td', 'address': 0, 'access': 'r',"
                    "  'count': 100001 } }");
    inject(dev->t, UINT64_MAX, 100000);
    nyx_assert_number(dev->t, "td", "total-faults", 100011);
    quit(dev);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    qtest_add_func("/nyx/fault/ring", test_ring);
    qtest_add_func("/nyx/fault/records", test_records);
    qtest_add_func("/nyx/fault/event", test_event);
    qtest_add_data_func("/nyx/fault/flood/main-loop", GUINT_TO_POINTER(0),
                        check_flood);
    qtest_add_data_func("/nyx/fault/flood/thread",
                        GUINT_TO_POINTER(NTD_FLAG_THREAD), check_flood);
    qtest_add_func("/nyx/fault/window", test_window);
    qtest_add_func("/nyx/fault/window-for-ever", test_window_for_ever);
    qtest_add_func("/nyx/fault/first-fault", test_first_fault);
    qtest_add_func("/nyx/fault/policy", test_policy);
    qtest_add_func("/nyx/fault/policy-arguments", test_policy_arguments);
    qtest_add_func("/nyx/fault/inject", test_inject);
    return g_test_run();
}
