/*
 * Nyx IOMMU: domains by QMP, with good and bad arguments
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "libnyx.h"
#include "qapi/error.h"
#include "qobject/qjson.h"
#include "qobject/qlist.h"
#include "qobject/qstring.h"

static NyxTest *start(void)
{
    return nyx_test_start("nyx-pc,on-fault-limit=report",
        "-object nyx-domain,id=win,isolation=shared,default-map=none "
        "-object nyx-domain,id=ram,isolation=shared "
        "-object nyx-domain,id=own "
        "-object nyx-domain,id=free,isolation=unmanaged "
        "-device nyx-testdev,id=a,addr=5,nyx-domain=win "
        "-device nyx-testdev,id=b,addr=6,nyx-domain=own "
        "-device nyx-testdev,id=c,addr=7 "
        "-device nyx-testdev,addr=8");
}

static uint64_t number_of(NyxTest *t, const char *domain, const char *member)
{
    QDict *info = nyx_query_domain(t, domain);
    uint64_t value = qdict_get_uint(info, member);

    qobject_unref(info);
    return value;
}

static void assert_domain_of(NyxTest *t, const char *device,
                             const char *domain)
{
    QDict *info = nyx_query_device(t, device);

    g_assert_cmpstr(qdict_get_str(info, "domain"), ==, domain);
    qobject_unref(info);
}

static bool holds(NyxTest *t, const char *domain, const char *device)
{
    QDict *info = nyx_query_domain(t, domain);
    const QListEntry *entry;
    bool found = false;

    QLIST_FOREACH_ENTRY(qdict_get_qlist(info, "devices"), entry) {
        QString *name = qobject_to(QString, qlist_entry_obj(entry));

        found |= g_str_equal(qstring_get_str(name), device);
    }
    qobject_unref(info);
    return found;
}

static void test_query(void)
{
    NyxTest *t = start();
    QDict *info = nyx_query_iommu(t);

    g_assert_true(qdict_get_bool(info, "enabled"));
    g_assert_cmpstr(qdict_get_str(info, "stage1"), ==, "none");
    g_assert_cmpuint(qdict_get_uint(info, "quarantined"), ==, 0);
    g_assert_cmpuint(qdict_get_uint(info, "fault-events"), ==, 0);
    g_assert_cmpuint(qdict_get_uint(info, "devices"), >=, 4);
    g_assert_cmpuint(qdict_get_uint(info, "domains"), >=, 6);
    qobject_unref(info);

    info = nyx_query_device(t, "a");
    g_assert_cmpstr(qdict_get_str(info, "driver"), ==, TYPE_NYX_TESTDEV);
    g_assert_cmpstr(qdict_get_str(info, "bdf"), ==, "0000:00:05.0");
    g_assert_cmpstr(qdict_get_str(info, "domain"), ==, "win");
    g_assert_cmpstr(qdict_get_str(info, "state"), ==, "operational");
    g_assert_cmpstr(qdict_get_str(info, "dma"), ==, "translating");
    g_assert_cmpstr(qdict_get_str(info, "backend"), ==, "emulated");
    g_assert_true(qdict_get_bool(info, "faults-observable"));
    g_assert_false(qdict_haskey(info, "last-fault-ns"));
    qobject_unref(info);
    assert_domain_of(t, "c", "auto:c");

    info = nyx_query_domain(t, "auto:c");
    g_assert_true(qdict_get_bool(info, "automatic"));
    g_assert_cmpstr(qdict_get_str(info, "isolation"), ==, "strict");
    qobject_unref(info);
    g_assert_true(holds(t, "win", "a"));
    g_assert_false(holds(t, "win", "b"));
    nyx_test_quit(t);
}

static void assert_empty(NyxTest *t, const char *command)
{
    QDict *response = qtest_qmp(t->qts, command, NULL);

    g_assert_true(qlist_empty(qdict_get_qlist(response, "return")));
    qobject_unref(response);
}

static void test_no_iommu(void)
{
    NyxTest *t = nyx_test_start("q35", "-device nyx-testdev,id=a,addr=5");
    QDict *info = nyx_query_iommu(t);

    g_assert_false(qdict_get_bool(info, "enabled"));
    g_assert_cmpuint(qdict_get_uint(info, "devices"), ==, 0);
    qobject_unref(info);
    assert_empty(t, "{ 'execute': 'query-nyx-domains' }");
    assert_empty(t, "{ 'execute': 'query-nyx-devices' }");
    assert_empty(t, "{ 'execute': 'query-nyx-faults' }");
    nyx_qmp_refused(t, "no Nyx IOMMU", "{ 'execute': 'nyx-dump',"
                    "  'arguments': { 'filename': '/dev/null' } }");
    nyx_qmp_refused(t, "no Nyx IOMMU", "{ 'execute': 'nyx-quarantine-device',"
                    "  'arguments': { 'device': 'a' } }");
    nyx_qmp_refused(t, "no Nyx IOMMU", "{ 'execute': 'nyx-unmap', 'arguments':"
                    "  { 'domain': 'x', 'iova': 0, 'size': 4096 } }");
    nyx_test_quit(t);
}

static void test_device_names(void)
{
    static const char *const commands[] = {
        "{ 'execute': 'query-nyx-devices', 'arguments': { 'device': %s } }",
        "{ 'execute': 'query-nyx-faults', 'arguments': { 'device': %s } }",
        "{ 'execute': 'nyx-quarantine-device', 'arguments': { 'device': %s } }",
        "{ 'execute': 'nyx-recover-device', 'arguments': { 'device': %s } }",
        "{ 'execute': 'nyx-set-policy', 'arguments': { 'device': %s,"
        "  'max-faults': 1 } }",
        "{ 'execute': 'nyx-assign-device', 'arguments': { 'device': %s,"
        "  'domain': 'ram' } }",
        "{ 'execute': 'nyx-inject-fault', 'arguments': { 'device': %s,"
        "  'address': 0, 'access': 'r' } }",
    };
    NyxTest *t = start();
    unsigned i;

    for (i = 0; i < ARRAY_SIZE(commands); i++) {
        QDict *response = qtest_qmp(t->qts, commands[i], "nobody");
        QDict *error = qdict_get_qdict(response, "error");

        g_assert_nonnull(error);
        g_assert_cmpstr(qdict_get_str(error, "class"), ==, "DeviceNotFound");
        g_assert_nonnull(strstr(qdict_get_str(error, "desc"), "nobody"));
        qobject_unref(response);
    }
    /* A device without an id goes by its path. */
    nyx_assert_state(t, "/machine/peripheral-anon/device[0]", "operational");
    assert_domain_of(t, "/machine/peripheral-anon/device[0]",
                     "auto:/machine/peripheral-anon/device[0]");
    nyx_test_quit(t);
}

static void test_domain_names(void)
{
    NyxTest *t = start();

    nyx_qmp_refused(t, "there is no domain 'nowhere'",
                    "{ 'execute': 'nyx-map', 'arguments': {"
                    "  'domain': 'nowhere', 'iova': 0, 'gpa': 0,"
                    "  'size': 4096, 'access': 'rw' } }");
    nyx_qmp_refused(t, "there is no domain 'nowhere'",
                    "{ 'execute': 'nyx-unmap', 'arguments': {"
                    "  'domain': 'nowhere', 'iova': 0, 'size': 4096 } }");
    nyx_qmp_refused(t, "there is no domain ''",
                    "{ 'execute': 'nyx-assign-device', 'arguments': {"
                    "  'device': 'a', 'domain': '' } }");
    nyx_qmp_refused(t, "there is no domain 'nowhere'",
                    "{ 'execute': 'nyx-set-policy', 'arguments': {"
                    "  'domain': 'nowhere', 'max-faults': 1 } }");
    nyx_test_quit(t);
}

static void test_map_arguments(void)
{
    static const struct {
        const char *domain;
        uint64_t iova, gpa, size;
        const char *words;
    } bad[] = {
        { "win", 0, 0, 0, "must not be 0" },
        { "win", 1, 0, 4096, "multiples of 4096" },
        { "win", 0, 2048, 4096, "multiples of 4096" },
        { "win", 0, 0, 4097, "multiples of 4096" },
        { "win", 1ULL << 48, 0, 4096, "ends beyond" },
        { "win", (1ULL << 48) - PAGE, 0, 2 * PAGE, "ends beyond" },
        { "win", -PAGE, 0, 2 * PAGE, "ends beyond" },
        { "win", PAGE, 0, -PAGE, "ends beyond" },
        { "win", 0, -PAGE, 2 * PAGE, "ends beyond" },
        { "win", 0, NYX_RAM_SIZE, PAGE, "not all RAM" },
        { "win", 0, NYX_RAM_SIZE - PAGE, 2 * PAGE, "not all RAM" },
        { "win", 0, 0xfee00000, PAGE, "not all RAM" },
        { "win", 0xfee00000, MIB(1), PAGE, "interrupt window" },
        { "win", 0xfed00000, MIB(1), MIB(2), "interrupt window" },
        { "free", 0, MIB(1), PAGE, "unmanaged" },
        { "ram", MIB(1), MIB(1), PAGE, "overlaps" },
        { "own", MIB(1), MIB(8), PAGE, "overlaps" },
    };
    NyxTest *t = start();
    unsigned i;

    for (i = 0; i < ARRAY_SIZE(bad); i++) {
        uint64_t mappings = number_of(t, bad[i].domain, "mappings");

        nyx_qmp_refused(t, bad[i].words,
                        "{ 'execute': 'nyx-map', 'arguments': {"
                        "  'domain': %s, 'iova': %" PRIu64 ","
                        "  'gpa': %" PRIu64 ", 'size': %" PRIu64 ","
                        "  'access': 'rw' } }", bad[i].domain, bad[i].iova,
                        bad[i].gpa, bad[i].size);
        g_assert_cmpuint(number_of(t, bad[i].domain, "mappings"), ==, mappings);
    }
    nyx_qmp_refused(t, "access", "{ 'execute': 'nyx-map', 'arguments': {"
                    "  'domain': 'win', 'iova': 0, 'gpa': 0, 'size': 4096,"
                    "  'access': 'x' } }");
    nyx_test_quit(t);
}

static void test_unmap_arguments(void)
{
    static const struct {
        const char *domain;
        uint64_t iova, size;
        const char *words;
    } bad[] = {
        { "win", MIB(1), 0, "must not be 0" },
        { "win", MIB(1) + 1, 4096, "multiples of 4096" },
        { "win", MIB(1), 100, "multiples of 4096" },
        { "win", 0, 1ULL << 63, "ends beyond" },
        { "win", -PAGE, PAGE, "ends beyond" },
        { "win", MIB(2), PAGE, "not all mapped" },
        { "win", MIB(1) - PAGE, 2 * PAGE, "not all mapped" },
        { "win", MIB(1) + 15 * PAGE, 2 * PAGE, "not all mapped" },
        { "ram", NYX_RAM_SIZE, PAGE, "not all mapped" },
        { "free", MIB(1), PAGE, "unmanaged" },
    };
    NyxTest *t = start();
    unsigned i;

    nyx_qmp(t, "{ 'execute': 'nyx-map', 'arguments': { 'domain': 'win',"
            "  'iova': %" PRIu64 ", 'gpa': %" PRIu64 ", 'size': %" PRIu64 ","
            "  'access': 'r' } }", (uint64_t)MIB(1), (uint64_t)MIB(2),
            16 * (uint64_t)PAGE);
    g_assert_cmpuint(number_of(t, "win", "mapped-bytes"), ==, 16 * PAGE);
    for (i = 0; i < ARRAY_SIZE(bad); i++) {
        nyx_qmp_refused(t, bad[i].words,
                        "{ 'execute': 'nyx-unmap', 'arguments': {"
                        "  'domain': %s, 'iova': %" PRIu64 ","
                        "  'size': %" PRIu64 " } }", bad[i].domain,
                        bad[i].iova, bad[i].size);
        g_assert_cmpuint(number_of(t, "win", "mapped-bytes"), ==, 16 * PAGE);
    }
    /* Out of the middle: two mappings are left. */
    nyx_qmp(t, "{ 'execute': 'nyx-unmap', 'arguments': { 'domain': 'win',"
            "  'iova': %" PRIu64 ", 'size': %" PRIu64 " } }",
            (uint64_t)(MIB(1) + PAGE), (uint64_t)PAGE);
    g_assert_cmpuint(number_of(t, "win", "mappings"), ==, 2);
    g_assert_cmpuint(number_of(t, "win", "mapped-bytes"), ==, 15 * PAGE);
    g_assert_cmpuint(number_of(t, "win", "table-bytes"), >, 0);
    g_assert_cmpuint(number_of(t, "ram", "table-bytes"), ==, 0);
    nyx_test_quit(t);
}

static void assign(NyxTest *t, const char *device, const char *domain)
{
    nyx_qmp(t, "{ 'execute': 'nyx-assign-device',"
            "  'arguments': { 'device': %s, 'domain': %s } }", device, domain);
}

static void test_assign(void)
{
    NyxTest *t = start();
    NyxTestdev *a = nyx_testdev_open(t, 5);
    uint64_t domains;
    QDict *info;

    g_assert_cmpuint(nyx_testdev_write(a, MIB(1), 8), ==, NTD_RESULT_DMA_ERROR);
    assign(t, "a", "ram");
    assert_domain_of(t, "a", "ram");
    g_assert_true(holds(t, "ram", "a"));
    g_assert_false(holds(t, "win", "a"));
    g_assert_cmpuint(nyx_testdev_write(a, MIB(1), 8), ==, NTD_RESULT_OK);
    assign(t, "a", "free");
    g_assert_cmpuint(nyx_testdev_write(a, a->buffer.addr, 8), ==,
                     NTD_RESULT_OK);
    assign(t, "a", "win");
    g_assert_cmpuint(nyx_testdev_write(a, MIB(1), 8), ==, NTD_RESULT_DMA_ERROR);
    assign(t, "a", "win");

    /* A strict domain takes one device; its own once more is nothing new. */
    nyx_qmp_refused(t, "strict and has device 'b'",
                    "{ 'execute': 'nyx-assign-device', 'arguments': {"
                    "  'device': 'a', 'domain': 'own' } }");
    assert_domain_of(t, "a", "win");
    assign(t, "b", "own");
    assign(t, "b", "win");
    assign(t, "a", "own");
    assert_domain_of(t, "a", "own");

    /* An automatic domain ends with its last device. */
    info = nyx_query_iommu(t);
    domains = qdict_get_uint(info, "domains");
    qobject_unref(info);
    assign(t, "c", "win");
    info = nyx_query_iommu(t);
    g_assert_cmpuint(qdict_get_uint(info, "domains"), ==, domains - 1);
    qobject_unref(info);
    nyx_qmp_refused(t, "there is no domain 'auto:c'",
                    "{ 'execute': 'nyx-assign-device', 'arguments': {"
                    "  'device': 'a', 'domain': 'auto:c' } }");
    nyx_testdev_close(a);
    nyx_test_quit(t);
}

static void test_assign_quarantined(void)
{
    NyxTest *t = start();

    nyx_qmp(t, "{ 'execute': 'nyx-quarantine-device',"
            "  'arguments': { 'device': 'a' } }");
    nyx_qmp_refused(t, "quarantined",
                    "{ 'execute': 'nyx-assign-device', 'arguments': {"
                    "  'device': 'a', 'domain': 'ram' } }");
    assert_domain_of(t, "a", "win");
    /* Mappings of its domain may change meanwhile. */
    nyx_qmp(t, "{ 'execute': 'nyx-map', 'arguments': { 'domain': 'win',"
            "  'iova': 0, 'gpa': 0, 'size': 4096, 'access': 'rw' } }");
    nyx_test_quit(t);
}

static void test_objects(void)
{
    NyxTest *t = start();

    nyx_qmp_refused(t, "", "{ 'execute': 'object-add', 'arguments': {"
                    "  'qom-type': 'nyx-domain', 'id': 'win' } }");
    nyx_qmp_refused(t, "exclude each other",
                    "{ 'execute': 'object-add', 'arguments': {"
                    "  'qom-type': 'nyx-domain', 'id': 'x',"
                    "  'isolation': 'unmanaged', 'default-map': 'none' } }");
    nyx_qmp_refused(t, "exclude each other",
                    "{ 'execute': 'object-add', 'arguments': {"
                    "  'qom-type': 'nyx-domain', 'id': 'x',"
                    "  'isolation': 'unmanaged', 'contained': true } }");
    nyx_qmp_refused(t, "must be at most 65535",
                    "{ 'execute': 'object-add', 'arguments': {"
                    "  'qom-type': 'nyx-domain', 'id': 'x',"
                    "  'max-faults': 65536 } }");
    nyx_qmp_refused(t, "in use by device 'a'",
                    "{ 'execute': 'object-del',"
                    "  'arguments': { 'id': 'win' } }");

    nyx_qmp(t, "{ 'execute': 'object-add', 'arguments': {"
            "  'qom-type': 'nyx-domain', 'id': 'late',"
            "  'default-map': 'none' } }");
    nyx_qmp(t, "{ 'execute': 'nyx-map', 'arguments': { 'domain': 'late',"
            "  'iova': 0, 'gpa': 0, 'size': 4096, 'access': 'rw' } }");
    assign(t, "a", "late");
    nyx_qmp(t, "{ 'execute': 'object-del', 'arguments': { 'id': 'win' } }");
    nyx_qmp_refused(t, "there is no domain 'win'",
                    "{ 'execute': 'nyx-assign-device', 'arguments': {"
                    "  'device': 'b', 'domain': 'win' } }");
    assign(t, "a", "ram");
    nyx_qmp(t, "{ 'execute': 'object-del', 'arguments': { 'id': 'late' } }");
    nyx_test_quit(t);
}

static void test_dump(void)
{
    static const char *const members[] = {
        "iommu", "domains", "devices", "faults", "tables",
    };
    NyxTest *t = start();
    g_autofree char *path = NULL;
    g_autofree char *text = NULL;
    QDict *dump;
    unsigned i;

    close(g_file_open_tmp("nyx-dump-XXXXXX", &path, NULL));
    nyx_qmp(t, "{ 'execute': 'nyx-inject-fault', 'arguments': {"
            "  'device': 'a', 'address': 4660, 'access': 'w' } }");
    nyx_qmp(t, "{ 'execute': 'nyx-dump', 'arguments': { 'filename': %s } }",
            path);
    g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
    dump = qobject_to(QDict, qobject_from_json(text, &error_abort));
    for (i = 0; i < ARRAY_SIZE(members); i++) {
        g_assert_true(qdict_haskey(dump, members[i]));
    }
    g_assert_cmpuint(qlist_size(qdict_get_qlist(dump, "faults")), ==, 1);
    qobject_unref(dump);
    unlink(path);
    nyx_qmp_refused(t, "/nonexistent/nyx.json",
                    "{ 'execute': 'nyx-dump', 'arguments': {"
                    "  'filename': '/nonexistent/nyx.json' } }");
    nyx_test_quit(t);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    qtest_add_func("/nyx/domain/query", test_query);
    qtest_add_func("/nyx/domain/no-iommu", test_no_iommu);
    qtest_add_func("/nyx/domain/device-names", test_device_names);
    qtest_add_func("/nyx/domain/domain-names", test_domain_names);
    qtest_add_func("/nyx/domain/map-arguments", test_map_arguments);
    qtest_add_func("/nyx/domain/unmap-arguments", test_unmap_arguments);
    qtest_add_func("/nyx/domain/assign", test_assign);
    qtest_add_func("/nyx/domain/assign-quarantined", test_assign_quarantined);
    qtest_add_func("/nyx/domain/objects", test_objects);
    qtest_add_func("/nyx/domain/dump", test_dump);
    return g_test_run();
}
