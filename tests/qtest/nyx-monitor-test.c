/*
 * Nyx IOMMU: human monitor, statistics and introspection
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "libnyx.h"
#include "qobject/qlist.h"

static NyxTest *start(const char *machine)
{
    return nyx_test_start(machine, "-device nyx-testdev,id=td,addr=5 "
                          "-device nyx-testdev,id=other,addr=6");
}

static void assert_says(NyxTest *t, const char *command, const char *pattern)
{
    g_autofree char *text = qtest_hmp(t->qts, "%s", command);

    if (!g_regex_match_simple(pattern, text, G_REGEX_MULTILINE, 0)) {
        g_error("\"%s\" has no \"%s\": %s", command, pattern, text);
    }
}

static void test_info(void)
{
    NyxTest *t = start("nyx-pc");
    NyxTestdev *td = nyx_testdev_open(t, 5);
    g_autofree char *text = NULL;

    text = qtest_hmp(t->qts, "info nyx-faults");
    g_assert_null(strstr(text, "unmapped"));
    nyx_testdev_write(td, MIB(512), 8);
    nyx_testdev_message(td, NYX_MSI_BASE, 0x51);
    nyx_testdev_message(td, NYX_MSI_BASE, 0x400);
    nyx_qmp(t, "{ 'execute': 'nyx-quarantine-device',"
            "  'arguments': { 'device': 'other' } }");
    assert_says(t, "info nyx", "^stage 1: +none");
    assert_says(t, "info nyx", "^faults: +2");
    assert_says(t, "info nyx", "^interrupts: +1 delivered, 1 refused");
    assert_says(t, "info nyx-devices", "^td +0000:00:05.0 .*operational.*2");
    assert_says(t, "info nyx-devices", "^other .*quarantined");
    assert_says(t, "info nyx-domains", "^auto:td: strict");
    assert_says(t, "info nyx-faults", "td +unmapped +w +0x0000000020000000");
    nyx_testdev_close(td);
    nyx_test_quit(t);
}

static void test_info_no_iommu(void)
{
    static const char *const commands[] = {
        "info nyx", "info nyx-devices", "info nyx-domains", "info nyx-faults",
    };
    NyxTest *t = start("q35");
    unsigned i;

    assert_says(t, "info nyx", "no Nyx IOMMU");
    for (i = 0; i < ARRAY_SIZE(commands); i++) {
        g_free(qtest_hmp(t->qts, "%s", commands[i]));
    }
    nyx_test_quit(t);
}

/* The value of statistic @name of the whole VM */
static uint64_t stat_of(NyxTest *t, const char *name)
{
    QDict *response = qtest_qmp(t->qts, "{ 'execute': 'query-stats',"
        "  'arguments': { 'target': 'vm', 'providers': ["
        "  { 'provider': 'nyx', 'names': [ %s ] } ] } }", name);
    QList *list = qdict_get_qlist(response, "return");
    QDict *result, *stat;
    uint64_t value;

    g_assert_cmpuint(qlist_size(list), ==, 1);
    result = qobject_to(QDict, qlist_peek(list));
    g_assert_cmpstr(qdict_get_str(result, "provider"), ==, "nyx");
    list = qdict_get_qlist(result, "stats");
    g_assert_cmpuint(qlist_size(list), ==, 1);
    stat = qobject_to(QDict, qlist_peek(list));
    g_assert_cmpstr(qdict_get_str(stat, "name"), ==, name);
    value = qdict_get_uint(stat, "value");
    qobject_unref(response);
    return value;
}

static void test_stats(void)
{
    NyxTest *t = start("nyx-pc");
    NyxTestdev *td = nyx_testdev_open(t, 5);

    g_assert_cmpuint(stat_of(t, "faults"), ==, 0);
    nyx_testdev_write(td, MIB(512), 8);
    nyx_testdev_message(td, NYX_MSI_BASE, 0x51);
    g_assert_cmpuint(stat_of(t, "faults"), ==, 1);
    g_assert_cmpuint(stat_of(t, "interrupts-delivered"), ==, 1);
    g_assert_cmpuint(stat_of(t, "interrupts-refused"), ==, 0);
    nyx_qmp(t, "{ 'execute': 'nyx-quarantine-device',"
            "  'arguments': { 'device': 'td' } }");
    g_assert_cmpuint(stat_of(t, "quarantines"), ==, 1);
    g_assert_cmpuint(stat_of(t, "not-operational"), ==, 1);
    nyx_qmp(t, "{ 'execute': 'nyx-recover-device',"
            "  'arguments': { 'device': 'td' } }");
    g_assert_cmpuint(stat_of(t, "not-operational"), ==, 0);
    g_assert_cmpuint(stat_of(t, "recoveries"), ==, 1);
    nyx_testdev_close(td);
    nyx_test_quit(t);
}

static void test_iotlb_stats(void)
{
    NyxTest *t = start("nyx-pc");
    NyxTestdev *td = nyx_testdev_open(t, 5);
    uint64_t misses;

    nyx_qmp(t, "{ 'execute': 'nyx-unmap', 'arguments': {"
            "  'domain': 'auto:td', 'iova': 0, 'size': 4096 } }");
    nyx_testdev_run(td, MIB(8), 64, 10000, 4, PAGE, 0);
    nyx_testdev_await_idle(td);
    misses = stat_of(t, "iotlb-misses");
    g_assert_cmpuint(misses, >=, 1);
    g_assert_cmpuint(misses, <, 1000);
    g_assert_cmpuint(stat_of(t, "iotlb-hits"), >=, 9000);
    nyx_testdev_close(td);
    nyx_test_quit(t);
}

static bool has_command(QDict *schema, const char *name)
{
    const QListEntry *entry;

    QLIST_FOREACH_ENTRY(qdict_get_qlist(schema, "return"), entry) {
        QDict *info = qobject_to(QDict, qlist_entry_obj(entry));

        if (g_str_equal(qdict_get_str(info, "name"), name)) {
            return true;
        }
    }
    return false;
}

static void test_introspection(void)
{
    static const char *const names[] = {
        "query-nyx-iommu", "query-nyx-domains", "query-nyx-devices",
        "query-nyx-faults", "nyx-assign-device", "nyx-map", "nyx-unmap",
        "nyx-quarantine-device", "nyx-recover-device", "nyx-set-policy",
        "nyx-inject-fault", "nyx-dump", "query-nyx-latency", "query-nyx-net",
        "NYX_DMA_FAULT", "NYX_DEVICE_STATE",
        "NYX_FAULT_LIMIT",
    };
    NyxTest *t = start("q35");
    QDict *schema = qtest_qmp(t->qts, "{ 'execute': 'query-qmp-schema' }");
    unsigned i;

    for (i = 0; i < ARRAY_SIZE(names); i++) {
        g_assert_true(has_command(schema, names[i]));
    }
    qobject_unref(schema);
    nyx_test_quit(t);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    qtest_add_func("/nyx/monitor/info", test_info);
    qtest_add_func("/nyx/monitor/info-no-iommu", test_info_no_iommu);
    qtest_add_func("/nyx/monitor/stats", test_stats);
    qtest_add_func("/nyx/monitor/iotlb-stats", test_iotlb_stats);
    qtest_add_func("/nyx/monitor/introspection", test_introspection);
    return g_test_run();
}
