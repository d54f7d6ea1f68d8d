/*
 * nyx-pc: unplugging that ends, whatever the guest does
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * There is no guest here, so nobody lets go of a device unless the test does.
 */

#include "qemu/osdep.h"
#include "hw/pci/pci_regs.h"
#include "libnyx-slot.h"

#define BEHIND_PORT     1       /* bus number behind it */

#define TIMEOUT         (30 * G_TIME_SPAN_SECOND)

/* What a test has seen of NYX_DEVICE_UNPLUG and DEVICE_DELETED */
typedef struct Steps {
    NyxTest *t;
    GString *seen;              /* "DEVICE:STEP:STATE " each */
    unsigned removed;
    unsigned deleted;
    double first, last;         /* times of the host, in seconds */
} Steps;

static double time_of(QDict *event)
{
    QDict *time = qdict_get_qdict(event, "timestamp");

    return qdict_get_int(time, "seconds") +
           qdict_get_int(time, "microseconds") / 1e6;
}

static bool see_step(QTestState *qts, const char *name, QDict *event,
                     void *opaque)
{
    QDict *data = qdict_get_qdict(event, "data");
    Steps *s = opaque;

    if (g_str_equal(name, "NYX_DEVICE_UNPLUG")) {
        s->removed += g_str_equal(qdict_get_str(data, "step"), "removed");
        g_string_append_printf(s->seen, "%s:%s:%s ",
                               qdict_get_str(data, "device"),
                               qdict_get_str(data, "step"),
                               qdict_get_str(data, "state"));
    } else if (g_str_equal(name, "DEVICE_DELETED") &&
               qdict_haskey(data, "device")) {
        s->deleted++;
        g_assert_cmpuint(s->deleted, <=, s->removed);
    } else {
        return true;
    }
    s->last = time_of(event);
    s->first = s->first ?: s->last;
    return true;
}

static Steps *watch_steps(NyxTest *t)
{
    Steps *s = g_new0(Steps, 1);

    s->t = t;
    s->seen = g_string_new(NULL);
    qtest_qmp_set_event_callback(t->qts, see_step, s);
    return s;
}

static void stop_watching(Steps *s)
{
    qtest_qmp_set_event_callback(s->t->qts, NULL, NULL);
    g_string_free(s->seen, true);
    g_free(s);
}

/*
 * All that comes until it is as much as @expected is that, and no more; and
 * @deleted devices are gone then.
 */
static void await_steps(Steps *s, const char *expected, unsigned deleted)
{
    int64_t end = g_get_monotonic_time() + TIMEOUT;

    while ((s->seen->len < strlen(expected) || s->deleted < deleted) &&
           g_get_monotonic_time() < end) {
        nyx_qmp(s->t, "{ 'execute': 'query-version' }");
    }
    g_assert_cmpstr(s->seen->str, ==, expected);
    g_assert_cmpuint(s->deleted, ==, deleted);
    g_string_truncate(s->seen, 0);
    s->deleted = s->removed = 0;
}

static void device_del(NyxTest *t, const char *id)
{
    nyx_qmp(t, "{ 'execute': 'device_del', 'arguments': { 'id': %s } }", id);
}

static NyxTest *start(const NyxSlot *c, const char *options)
{
    g_autofree char *machine = g_strconcat("nyx-pc,", options, NULL);

    return nyx_test_start(machine, "%s", c->options);
}

static void plug(NyxTest *t, const NyxSlot *c, const char *id)
{
    qtest_qmp_device_add(t->qts, "nyx-testdev", id,
                         "{ 'bus': 'rp', 'addr': %s }", c->addr);
    nyx_slot_use(t, c);
}

static NyxTestdev *open_behind(NyxTest *t, const NyxSlot *c)
{
    g_free(nyx_bridge_open(t, NYX_SLOT_PORT, BEHIND_PORT));
    return nyx_testdev_open(t, NYX_SLOT(BEHIND_PORT, atoi(c->addr)));
}

static uint16_t slot_status(NyxTest *t)
{
    int devfn = QPCI_DEVFN(NYX_SLOT_PORT, 0);
    g_autofree QPCIDevice *port = qpci_device_find(t->bus, devfn);
    unsigned express = qpci_find_capability(port, PCI_CAP_ID_EXP, 0);

    return qpci_config_readw(port, express + PCI_EXP_SLTSTA);
}

/* Has the guest been asked to eject, and has not done so? */
static bool acpi_eject_is_due(NyxTest *t)
{
    uint32_t down = 0;

    for (unsigned bus = 0; bus < NYX_ACPI_BUSES; bus++) {
        qtest_outl(t->qts, NYX_ACPI_SELECT, bus);
        down |= qtest_inl(t->qts, NYX_ACPI_DOWN);
    }
    return down;
}

static void check_slot_empty(NyxTest *t, const NyxSlot *c)
{
    if (c->native) {
        g_assert_cmphex(slot_status(t) & PCI_EXP_SLTSTA_PDS, ==, 0);
        g_assert_cmphex(slot_status(t) & PCI_EXP_SLTSTA_PDC, !=, 0);
    } else if (c->acpi) {
        /* By this the guest's driver lets go, as soon as it can. */
        g_assert_true(acpi_eject_is_due(t));
    }
}

/* It is a slot like any other: it takes a device, which works. */
static void check_slot_works(NyxTest *t, const NyxSlot *c)
{
    NyxTestdev *dev;
    Steps *s;

    plug(t, c, "next");
    if (c->acpi) {
        /* It was meant for what is gone. */
        g_assert_false(acpi_eject_is_due(t));
    }
    dev = open_behind(t, c);
    g_assert_cmpuint(nyx_testdev_write(dev, MIB(2), 8), ==, NTD_RESULT_OK);
    nyx_testdev_close(dev);
    s = watch_steps(t);
    device_del(t, "next");
    nyx_slot_let_go(t, c);
    await_steps(s, "next:requested:operational next:let-go:operational "
                "next:removed:operational ", 1);
    stop_watching(s);
}

static void test_forced(const void *opaque)
{
    const NyxSlot *c = opaque;
    NyxTest *t = start(c, "unplug-timeout-ms=300");
    NyxCount before = nyx_count(t);
    Steps *s;

    plug(t, c, "a");
    nyx_quarantine(t, "a");
    s = watch_steps(t);
    device_del(t, "a");
    await_steps(s, "a:requested:quarantined a:forced:quarantined "
                "a:removed:quarantined ", 1);
    g_assert_cmpfloat(s->last - s->first, >=, 0.3);
    stop_watching(s);
    check_slot_empty(t, c);
    nyx_await_count(t, before);
    check_slot_works(t, c);
    nyx_test_quit(t);
}

/* Also while its DMA goes on in a thread, and one that has failed */
static void test_failed(const void *opaque)
{
    const NyxSlot *c = opaque;
    NyxTest *t = start(c, "unplug-timeout-ms=100,max-recoveries=0");
    NyxCount before = nyx_count(t);
    NyxTestdev *dev;
    Steps *s;

    plug(t, c, "a");
    dev = open_behind(t, c);
    nyx_testdev_run(dev, MIB(4), PAGE, 0, 16, PAGE,
                    NTD_FLAG_WRITE | NTD_FLAG_THREAD);
    nyx_testdev_await_done(dev, 16);
    nyx_testdev_close(dev);
    nyx_quarantine(t, "a");
    nyx_qmp_refused(t, "recover it with force=true",
                    "{ 'execute': 'nyx-recover-device',"
                    "  'arguments': { 'device': 'a' } }");
    s = watch_steps(t);
    device_del(t, "a");
    await_steps(s, "a:requested:failed a:forced:failed a:removed:failed ", 1);
    stop_watching(s);
    nyx_await_count(t, before);
    nyx_test_quit(t);
}

/* The time is the host's: that of a VM that is stopped stands still. */
static void test_stopped(const void *opaque)
{
    const NyxSlot *c = opaque;
    NyxTest *t = start(c, "unplug-timeout-ms=200");
    Steps *s;

    plug(t, c, "a");
    nyx_quarantine(t, "a");
    nyx_qmp(t, "{ 'execute': 'stop' }");
    s = watch_steps(t);
    device_del(t, "a");
    await_steps(s, "a:requested:quarantined a:forced:quarantined "
                "a:removed:quarantined ", 1);
    stop_watching(s);
    nyx_test_quit(t);
}

/* An operational device stays, until it is contained or let go of. */
static void test_operational(const void *opaque)
{
    const NyxSlot *c = opaque;
    NyxTest *t = start(c, "unplug-timeout-ms=100");
    Steps *s;

    plug(t, c, "a");
    s = watch_steps(t);
    device_del(t, "a");
    await_steps(s, "a:requested:operational a:waiting:operational ", 0);
    nyx_assert_state(t, "a", "operational");
    nyx_inject(t, "a", 11);
    await_steps(s, "a:forced:quarantined a:removed:quarantined ", 1);

    plug(t, c, "b");
    device_del(t, "b");
    await_steps(s, "b:requested:operational b:waiting:operational ", 0);
    nyx_slot_let_go(t, c);
    await_steps(s, "b:let-go:operational b:removed:operational ", 1);
    stop_watching(s);
    nyx_test_quit(t);
}

/* Within the time it may change either way. */
static void test_meanwhile(const void *opaque)
{
    const NyxSlot *c = opaque;
    NyxTest *t = start(c, "unplug-timeout-ms=2000");
    Steps *s = watch_steps(t);

    plug(t, c, "a");
    device_del(t, "a");
    nyx_quarantine(t, "a");
    await_steps(s, "a:requested:operational a:forced:quarantined "
                "a:removed:quarantined ", 1);
    g_assert_cmpfloat(s->last - s->first, >=, 2);

    plug(t, c, "b");
    nyx_quarantine(t, "b");
    device_del(t, "b");
    nyx_recover(t, "b");
    await_steps(s, "b:requested:quarantined b:waiting:operational ", 0);
    nyx_assert_state(t, "b", "operational");
    stop_watching(s);
    nyx_test_quit(t);
}

static void test_at_once(const void *opaque)
{
    const NyxSlot *c = opaque;
    NyxTest *t = start(c, "unplug-timeout-ms=0");
    Steps *s = watch_steps(t);

    plug(t, c, "a");
    nyx_quarantine(t, "a");
    device_del(t, "a");
    await_steps(s, "a:requested:quarantined a:forced:quarantined "
                "a:removed:quarantined ", 1);
    g_assert_cmpfloat(s->last - s->first, <, 5);
    stop_watching(s);
    nyx_test_quit(t);
}

/* As in QEMU, a slot goes as a whole. */
static void test_functions(const void *opaque)
{
    const NyxSlot *c = opaque;
    NyxTest *t = start(c, "unplug-timeout-ms=100");
    NyxCount before = nyx_count(t);
    g_autofree char *one = g_strconcat(c->addr, ".1", NULL);
    g_autofree char *zero = g_strconcat(c->addr, ".0", NULL);
    /* Behind a bridge to PCI they are one requester. */
    const char *state = c->native || c->acpi ? "operational" : "quarantined";
    g_autofree char *expected = g_strdup_printf("one:requested:quarantined "
        "zero:forced:%s zero:removed:%s one:forced:quarantined "
        "one:removed:quarantined ", state, state);
    Steps *s = watch_steps(t);

    qtest_qmp_device_add(t->qts, "nyx-testdev", "one",
                         "{ 'bus': 'rp', 'addr': %s }", one);
    qtest_qmp_device_add(t->qts, "nyx-testdev", "zero",
                         "{ 'bus': 'rp', 'addr': %s, 'multifunction': true }",
                         zero);
    nyx_slot_use(t, c);
    nyx_quarantine(t, "one");
    nyx_assert_state(t, "zero", state);
    device_del(t, "one");
    await_steps(s, expected, 2);
    nyx_await_count(t, before);
    stop_watching(s);
    nyx_test_quit(t);
}

/* The guest may let go of a device before the time is over, unasked, too. */
static void test_power_off(void)
{
    const NyxSlot *c = &nyx_slots[0];
    NyxTest *t = start(c, "unplug-timeout-ms=60000");
    Steps *s = watch_steps(t);

    plug(t, c, "a");
    nyx_quarantine(t, "a");
    device_del(t, "a");
    await_steps(s, "a:requested:quarantined ", 0);
    nyx_slot_let_go(t, c);
    await_steps(s, "a:let-go:quarantined a:removed:quarantined ", 1);

    /* Nobody has to be asked for what is in a slot without power. */
    qtest_qmp_device_add(t->qts, "nyx-testdev", "b", "{ 'bus': 'rp' }");
    device_del(t, "b");
    await_steps(s, "b:requested:operational b:let-go:operational "
                "b:removed:operational ", 1);
    plug(t, c, "c");
    nyx_slot_let_go(t, c);
    await_steps(s, "c:let-go:operational c:removed:operational ", 1);
    stop_watching(s);
    nyx_test_quit(t);
}

/* What is refused is no step, and asking twice is not waiting twice. */
static void test_refused(void)
{
    const NyxSlot *c = &nyx_slots[0];
    NyxTest *t = nyx_test_start("nyx-pc,unplug-timeout-ms=1000",
                                "%s -device nyx-testdev,id=fixed,addr=6",
                                c->options);
    Steps *s = watch_steps(t);

    nyx_quarantine(t, "fixed");
    nyx_qmp_refused(t, "does not support hotplugging",
                    "{ 'execute': 'device_del',"
                    "  'arguments': { 'id': 'fixed' } }");
    plug(t, c, "a");
    nyx_quarantine(t, "a");
    device_del(t, "a");
    nyx_qmp_refused(t, "already in the process of unplug",
                    "{ 'execute': 'device_del', 'arguments': { 'id': 'a' } }");
    await_steps(s, "a:requested:quarantined a:forced:quarantined "
                "a:removed:quarantined ", 1);
    nyx_assert_state(t, "fixed", "quarantined");
    stop_watching(s);
    nyx_test_quit(t);
}

/* Who goes with the bridge above has steps of its own. */
static void test_below_bridge(void)
{
    const NyxSlot *c = &nyx_slots[0];
    NyxTest *t = start(c, "unplug-timeout-ms=400");
    NyxCount before = nyx_count(t);
    Steps *s = watch_steps(t);

    qtest_qmp_device_add(t->qts, "pcie-pci-bridge", "br", "{ 'bus': 'rp' }");
    nyx_slot_use(t, c);
    qtest_qmp_device_add(t->qts, "nyx-testdev", "a",
                         "{ 'bus': 'br', 'addr': '1' }");
    nyx_quarantine(t, "a");
    device_del(t, "br");
    /* A bridge is not what is cut off. */
    await_steps(s, "br:requested:operational br:waiting:operational ", 0);
    nyx_slot_let_go(t, c);
    await_steps(s, "br:let-go:operational a:removed:quarantined "
                "br:removed:operational ", 2);
    nyx_await_count(t, before);
    stop_watching(s);
    nyx_test_quit(t);
}

/*
 * Both sides of a migration have the same devices until it is over.  Another
 * device, which stays, tells that the time is.
 */
static void test_migration(void)
{
    const NyxSlot *c = &nyx_slots[2];
    NyxTest *t = nyx_test_start("nyx-pc,unplug-timeout-ms=3000", "%s "
                                "-device pcie-root-port,id=other,addr=6,"
                                "chassis=6", c->options);
    Steps *s = watch_steps(t);

    nyx_ram_fill(t);
    plug(t, c, "a");
    nyx_quarantine(t, "a");
    qtest_qmp_device_add(t->qts, "nyx-testdev", "clock", "{ 'bus': 'other' }");
    device_del(t, "a");
    device_del(t, "clock");
    nyx_qmp(t, "{ 'execute': 'migrate-set-parameters',"
            "  'arguments': { 'max-bandwidth': 4096 } }");
    nyx_qmp(t, "{ 'execute': 'migrate',"
            "  'arguments': { 'uri': 'exec:cat >/dev/null' } }");
    await_steps(s, "a:requested:quarantined clock:requested:operational "
                "clock:waiting:operational ", 0);
    nyx_qmp(t, "{ 'execute': 'migrate_cancel' }");
    await_steps(s, "a:forced:quarantined a:removed:quarantined ", 1);
    stop_watching(s);
    nyx_test_quit(t);
}

static void add_for_each(const char *name, GTestDataFunc test)
{
    for (unsigned i = 0; i < NYX_SLOTS; i++) {
        g_autofree char *path = g_strdup_printf("/nyx/unplug/%s/%s", name,
                                                nyx_slots[i].name);

        qtest_add_data_func(path, &nyx_slots[i], test);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    add_for_each("forced", test_forced);
    add_for_each("failed", test_failed);
    add_for_each("stopped", test_stopped);
    add_for_each("operational", test_operational);
    add_for_each("meanwhile", test_meanwhile);
    add_for_each("at-once", test_at_once);
    add_for_each("functions", test_functions);
    qtest_add_func("/nyx/unplug/power-off", test_power_off);
    qtest_add_func("/nyx/unplug/refused", test_refused);
    qtest_add_func("/nyx/unplug/below-bridge", test_below_bridge);
    qtest_add_func("/nyx/unplug/migration", test_migration);
    return g_test_run();
}
