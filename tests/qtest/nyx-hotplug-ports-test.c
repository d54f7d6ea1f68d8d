/*
 * nyx-pc: which devices get a root port without asking for one
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Devices of the host on the command line are in the functional tests of
 * vfio-user and VFIO.
 */

#include "qemu/osdep.h"
#include "libnyx-extra.h"

static void assert_bus(NyxTest *t, const char *id, const char *bus)
{
    g_autofree char *path = g_strdup_printf("/machine/peripheral/%s", id);
    QDict *response = qtest_qmp(t->qts, "{ 'execute': 'qom-get', 'arguments':"
                                " { 'path': %s, 'property': 'parent_bus' } }",
                                path);

    g_assert_cmpstr(qdict_get_str(response, "return"), ==, bus);
    qobject_unref(response);
}

static void plug(NyxTest *t, const char *id)
{
    qtest_qmp_device_add(t->qts, "nyx-testdev", id, "{}");
}

static void plug_refused(NyxTest *t, const char *words)
{
    nyx_qmp_refused(t, words, "{ 'execute': 'device_add', 'arguments':"
                    " { 'driver': 'nyx-testdev', 'id': 'late' } }");
}

#define PORT_BUS(n) "/machine/peripheral/nyx-port" n "/nyx-port" n

static void test_plug(void)
{
    NyxTest *t = nyx_test_start("nyx-pc,hotplug-ports=2",
                                "-device nyx-testdev,id=cold");

    assert_bus(t, "cold", "/machine/q35/pcie.0");
    plug(t, "a");
    plug(t, "b");
    assert_bus(t, "a", PORT_BUS("0"));
    assert_bus(t, "b", PORT_BUS("1"));
    plug_refused(t, "none of the 2 ports");
    nyx_unplug(t, "a");
    plug(t, "c");
    assert_bus(t, "c", PORT_BUS("0"));
    nyx_assert_domain(t, "c", "auto:c");
    nyx_test_quit(t);
}

/* Functions 0 to 7 of three slots, each of which the guest finds */
static void test_most(void)
{
    NyxTest *t = nyx_test_start("nyx-pc,hotplug-ports=24", "%s", "");
    g_autofree char *last = nyx_device_at(t, "0000:00:1a.7");

    g_assert_cmpstr(last, ==, "nyx-port23");
    for (unsigned slot = 0x18; slot <= 0x1a; slot++) {
        /* PCI_HEADER_TYPE of function 0: a bridge, with functions beside it */
        g_assert_cmphex(nyx_ecam_readl(t, slot, 0xc) >> 16 & 0xff, ==, 0x81);
    }
    nyx_test_quit(t);
}

static void test_none(void)
{
    NyxTest *t = nyx_test_start("nyx-pc", "%s", "");

    plug_refused(t, "Bus 'pcie.0' does not support hotplugging");
    nyx_qmp_refused(t, "cannot change while the VM runs",
                    "{ 'execute': 'qom-set', 'arguments': { 'path': '/machine',"
                    " 'property': 'hotplug-ports', 'value': 1 } }");
    nyx_test_quit(t);
}

/* Another name of the bus, or an address, is obeyed. */
static void test_said(void)
{
    NyxTest *t = nyx_test_start("nyx-pc,hotplug-ports=1",
                                "-device nyx-root-port,id=rp,addr=5");

    qtest_qmp_device_add(t->qts, "nyx-testdev", "a", "{ 'bus': 'rp' }");
    assert_bus(t, "a", "/machine/peripheral/rp/rp");
    nyx_qmp_refused(t, "Bus 'pcie.0' does not support hotplugging",
                    "{ 'execute': 'device_add', 'arguments':"
                    " { 'driver': 'nyx-testdev', 'id': 'b', 'addr': '7' } }");
    nyx_test_quit(t);
}

static void test_default(void)
{
    QTestState *qts = qtest_init("-M nyx-pc -display none -net none");
    QDict *response = qtest_qmp(qts, "{ 'execute': 'qom-get', 'arguments':"
                                " { 'path': '/machine',"
                                "   'property': 'hotplug-ports' } }");

    g_assert_cmpint(qdict_get_int(response, "return"), ==, 4);
    qobject_unref(response);
    qtest_qmp_device_add(qts, "nyx-testdev", "a", "{}");
    qtest_quit(qts);
}

static void test_too_many(void)
{
    nyx_refused_at_start("hotplug-ports must be at most 24",
                         "-M nyx-pc,hotplug-ports=25");
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    qtest_add_func("/nyx/hotplug-ports/plug", test_plug);
    qtest_add_func("/nyx/hotplug-ports/most", test_most);
    qtest_add_func("/nyx/hotplug-ports/none", test_none);
    qtest_add_func("/nyx/hotplug-ports/said", test_said);
    qtest_add_func("/nyx/hotplug-ports/default", test_default);
    qtest_add_func("/nyx/hotplug-ports/too-many", test_too_many);
    return g_test_run();
}
