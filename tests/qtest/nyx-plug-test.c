/*
 * Nyx IOMMU: devices that come and go, and those that may not come
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "libnyx-extra.h"

#define PORT            5       /* slot of the root port */
#define BEHIND_PORT     1       /* bus number behind it */
#define WINDOW          MIB(2)  /* what domain "win" maps: one page */

#define ROOT_PORT       "-device pcie-root-port,id=rp,addr=5 "
#define WINDOW_DOMAIN   "-object nyx-domain,id=win,default-map=none "

static void device_add(NyxTest *t, const char *driver, const char *id,
                       const char *bus, const char *domain)
{
    if (domain) {
        qtest_qmp_device_add(t->qts, driver, id,
                             "{ 'bus': %s, 'nyx-domain': %s }", bus, domain);
    } else {
        qtest_qmp_device_add(t->qts, driver, id, "{ 'bus': %s }", bus);
    }
}

static void map_window(NyxTest *t)
{
    nyx_qmp(t, "{ 'execute': 'nyx-map', 'arguments': { 'domain': 'win',"
            "  'iova': %" PRIu64 ", 'gpa': %" PRIu64 ", 'size': 4096,"
            "  'access': 'rw' } }", (uint64_t)WINDOW, (uint64_t)WINDOW);
}

/* The device behind the port, after each reset */
static NyxTestdev *open_behind_port(NyxTest *t)
{
    g_free(nyx_bridge_open(t, PORT, BEHIND_PORT));
    return nyx_testdev_open(t, NYX_SLOT(BEHIND_PORT, 0));
}

static void check_window(NyxTest *t)
{
    NyxTestdev *dev = open_behind_port(t);

    g_assert_cmpuint(nyx_testdev_write(dev, WINDOW, 64), ==, NTD_RESULT_OK);
    g_assert_cmpuint(nyx_testdev_write(dev, WINDOW + PAGE, 8), ==,
                     NTD_RESULT_DMA_ERROR);
    g_assert_cmpuint(nyx_testdev_read(dev, WINDOW - 8, 8), ==,
                     NTD_RESULT_DMA_ERROR);
    nyx_testdev_close(dev);
}

/* A strict domain is free again when its device has gone. */
static void test_domain(void)
{
    NyxTest *t = nyx_test_start("nyx-pc", WINDOW_DOMAIN ROOT_PORT);
    NyxCount before = nyx_count(t);

    map_window(t);
    device_add(t, "nyx-testdev", "a", "rp", "win");
    nyx_assert_domain(t, "a", "win");
    check_window(t);
    nyx_unplug(t, "a");
    nyx_await_count(t, before);
    device_add(t, "nyx-testdev", "b", "rp", "win");
    check_window(t);
    nyx_unplug(t, "b");
    nyx_await_count(t, before);
    nyx_test_quit(t);
}

/* Without a name: a domain of its own, that goes with it. */
static void test_automatic(void)
{
    NyxTest *t = nyx_test_start("nyx-pc", ROOT_PORT);
    NyxCount before = nyx_count(t);
    NyxTestdev *dev;

    device_add(t, "nyx-testdev", "a", "rp", NULL);
    nyx_assert_domain(t, "a", "auto:a");
    g_assert_cmpuint(nyx_count(t).domains, ==, before.domains + 1);
    dev = open_behind_port(t);
    g_assert_cmpuint(nyx_testdev_write(dev, WINDOW, 64), ==, NTD_RESULT_OK);
    g_assert_cmpuint(nyx_testdev_write(dev, dev->buffer.addr, 8), ==,
                     NTD_RESULT_DMA_ERROR);
    nyx_testdev_close(dev);
    nyx_unplug(t, "a");
    nyx_await_count(t, before);
    nyx_test_quit(t);
}

/* Also while it is cut off, and its DMA goes on. */
static void test_quarantined(void)
{
    NyxTest *t = nyx_test_start("nyx-pc,max-recoveries=0", ROOT_PORT);
    NyxCount before = nyx_count(t);
    QDict *info;
    bool failed;

    for (failed = false; ; failed = true) {
        NyxTestdev *dev;

        device_add(t, "nyx-testdev", "a", "rp", NULL);
        nyx_assert_state(t, "a", "operational");
        dev = open_behind_port(t);
        nyx_testdev_run(dev, WINDOW, PAGE, 0, 16, PAGE,
                        NTD_FLAG_WRITE | NTD_FLAG_THREAD);
        nyx_testdev_await_done(dev, 16);
        nyx_testdev_close(dev);
        nyx_quarantine(t, "a");
        if (failed) {
            nyx_qmp_refused(t, "recover it with force=true",
                            "{ 'execute': 'nyx-recover-device',"
                            "  'arguments': { 'device': 'a' } }");
            nyx_assert_state(t, "a", "failed");
        }
        nyx_unplug(t, "a");
        nyx_await_count(t, before);
        info = nyx_query_iommu(t);
        g_assert_cmpuint(qdict_get_uint(info, "quarantined"), ==, 0);
        qobject_unref(info);
        if (failed) {
            break;
        }
    }
    nyx_test_quit(t);
}

static void test_cycles(void)
{
    NyxTest *t = nyx_test_start("nyx-pc", "-object nyx-domain,id=dom "
                                ROOT_PORT);
    NyxCount before = nyx_count(t);
    unsigned round;

    for (round = 0; round < 100; round++) {
        device_add(t, "nyx-testdev", "a", "rp", round % 2 ? "dom" : NULL);
        if (round % 3 == 0) {
            nyx_quarantine(t, "a");
        }
        nyx_unplug(t, "a");
    }
    nyx_await_count(t, before);
    nyx_test_quit(t);
}

/* Devices that fail to be realized leave nothing behind. */

static void check_failure(NyxTest *t, NyxCount before, const char *words,
                          const char *driver, const char *bus)
{
    unsigned round;

    for (round = 0; round < 5; round++) {
        nyx_qmp_refused(t, words, "{ 'execute': 'device_add', 'arguments': {"
                        "  'driver': %s, 'id': 'bad', 'bus': %s } }", driver,
                        bus);
        nyx_await_count(t, before);
        nyx_qmp_refused(t, "no PCI device 'bad'",
                        "{ 'execute': 'query-nyx-devices',"
                        "  'arguments': { 'device': 'bad' } }");
    }
}

static void test_realize_fails(void)
{
    NyxTest *t = nyx_test_start("nyx-pc", ROOT_PORT);
    NyxCount before = nyx_count(t);

    check_failure(t, before, "serial", "nvme", "rp");
    device_add(t, "nyx-testdev", "a", "rp", NULL);
    nyx_testdev_close(open_behind_port(t));
    nyx_unplug(t, "a");
    nyx_await_count(t, before);
    nyx_test_quit(t);
}

/*
 * QEMU announces a device as realized, and then finds that its name in a
 * migration stream is too long: @levels of bridges above it.
 */
static void check_fails_late(const char *bridges, const char *last)
{
    NyxTest *t = nyx_test_start("nyx-pc", ROOT_PORT "%s", bridges);
    NyxCount before = nyx_count(t);

    check_failure(t, before, "Path too long", "nyx-testdev", last);
    device_add(t, "nyx-testdev", "a", "rp", NULL);
    nyx_testdev_close(open_behind_port(t));
    nyx_assert_state(t, "a", "operational");
    nyx_test_quit(t);
}

/* All that is behind the first of them is one endpoint. */
static void test_fails_late_in_group(void)
{
    g_autoptr(GString) bridges = g_string_new(
        "-device pcie-pci-bridge,id=br0,addr=6 "
        "-device nyx-testdev,bus=br0,addr=2 ");
    unsigned i;

    for (i = 1; i < 49; i++) {
        g_string_append_printf(bridges, "-device pci-bridge,id=br%u,bus=br%u,"
                               "addr=1,chassis_nr=%u,shpc=on ", i, i - 1, i);
    }
    check_fails_late(bridges->str, "br48");
}

static void test_fails_late_alone(void)
{
    g_autoptr(GString) bridges = g_string_new(
        "-device pcie-root-port,id=down0,addr=6,chassis=100 ");
    unsigned i;

    for (i = 1; i <= 24; i++) {
        g_string_append_printf(bridges,
            "-device x3130-upstream,id=up%u,bus=down%u "
            "-device xio3130-downstream,id=down%u,bus=up%u,chassis=%u ",
            i, i - 1, i, i, i);
    }
    check_fails_late(bridges->str, "down24");
}

/* Devices behind one PCIe-to-PCI bridge cannot be told apart. */

#define BRIDGE_GROUP \
    "-object nyx-domain,id=win,isolation=shared,default-map=none " \
    "-object nyx-domain,id=other,isolation=shared " \
    "-object nyx-domain,id=free,isolation=unmanaged " \
    "-device pcie-pci-bridge,id=br,addr=5 "

static void test_group(void)
{
    NyxTest *t = nyx_test_start("nyx-pc", BRIDGE_GROUP
        "-device nyx-testdev,id=a,bus=br,addr=1,nyx-domain=win "
        "-device nyx-testdev,id=b,bus=br,addr=2");
    NyxTestdev *a, *b;

    g_free(nyx_bridge_open(t, PORT, BEHIND_PORT));
    a = nyx_testdev_open(t, NYX_SLOT(BEHIND_PORT, 1));
    b = nyx_testdev_open(t, NYX_SLOT(BEHIND_PORT, 2));
    nyx_assert_domain(t, "b", "win");
    g_assert_cmpuint(nyx_testdev_write(b, WINDOW, 8), ==, NTD_RESULT_DMA_ERROR);
    map_window(t);
    g_assert_cmpuint(nyx_testdev_write(b, WINDOW, 8), ==, NTD_RESULT_OK);

    /* One that comes later joins them, too, and cannot go elsewhere. */
    nyx_qmp_refused(t, "cannot be told apart from device 'a', which is in "
                    "domain 'win'; put it into that domain",
                    "{ 'execute': 'device_add', 'arguments': {"
                    "  'driver': 'nyx-testdev', 'id': 'c', 'bus': 'br',"
                    "  'addr': '3', 'nyx-domain': 'other' } }");
    qtest_qmp_device_add(t->qts, "nyx-testdev", "c",
                         "{ 'bus': 'br', 'addr': '3' }");
    nyx_assert_domain(t, "c", "win");

    nyx_assign(t, "b", "other");
    nyx_assert_domain(t, "a", "other");
    nyx_assert_domain(t, "c", "other");
    g_assert_cmpuint(nyx_testdev_write(a, WINDOW + PAGE, 8), ==, NTD_RESULT_OK);

    nyx_quarantine(t, "c");
    nyx_assert_state(t, "a", "quarantined");
    g_assert_cmphex(nyx_testdev_get(b, NTD_REG_ID), ==, UINT32_MAX);
    nyx_testdev_close(a);
    nyx_testdev_close(b);
    nyx_test_quit(t);
}

static void test_group_elsewhere(void)
{
    nyx_refused_at_start("cannot be told apart from device 'a'", "-M nyx-pc "
        BRIDGE_GROUP "-device nyx-testdev,id=a,bus=br,addr=1,nyx-domain=win "
        "-device nyx-testdev,id=b,bus=br,addr=2,nyx-domain=other");
}

/* A device that bypasses the IOMMU takes its neighbours along. */
static void test_group_bypassing(void)
{
    NyxTest *t = nyx_test_start("nyx-pc", BRIDGE_GROUP
        "-device nyx-testdev,id=a,bus=br,addr=1,nyx-domain=free "
        "-device virtio-rng-pci,id=v,bus=br,addr=2,nyx-domain=free,"
        "iommu_platform=off");
    static const char *const devices[] = { "a", "v" };
    unsigned i;

    for (i = 0; i < ARRAY_SIZE(devices); i++) {
        nyx_qmp_refused(t, "device 'v': it would bypass the IOMMU",
                        "{ 'execute': 'nyx-assign-device', 'arguments': {"
                        "  'device': %s, 'domain': 'other' } }", devices[i]);
        /* That it is cut off would not be true. */
        nyx_qmp_refused(t, "device 'v' bypasses the IOMMU",
                        "{ 'execute': 'nyx-quarantine-device',"
                        "  'arguments': { 'device': %s } }", devices[i]);
        nyx_qmp_refused(t, "device 'v' bypasses the IOMMU",
                        "{ 'execute': 'nyx-inject-fault', 'arguments': {"
                        "  'device': %s, 'address': 0, 'access': 'r',"
                        "  'count': 20 } }", devices[i]);
        nyx_assert_domain(t, devices[i], "free");
        nyx_assert_state(t, devices[i], "operational");
    }
    nyx_test_quit(t);
}

/* Devices that may not come */

static void test_domains_refused(void)
{
    NyxTest *t = nyx_test_start("nyx-pc", ROOT_PORT
        "-object nyx-domain,id=own -object nyx-domain,id=free,"
        "isolation=unmanaged -device nyx-testdev,id=a,addr=6,nyx-domain=own");
    NyxCount before = nyx_count(t);

    nyx_qmp_refused(t, "device 'bad': domain 'own' is strict and has device "
                    "'a'; use a domain of its own",
                    "{ 'execute': 'device_add', 'arguments': {"
                    "  'driver': 'nyx-testdev', 'id': 'bad', 'bus': 'rp',"
                    "  'nyx-domain': 'own' } }");
    nyx_qmp_refused(t, "device 'bad': there is no domain 'nowhere'; create it",
                    "{ 'execute': 'device_add', 'arguments': {"
                    "  'driver': 'nyx-testdev', 'id': 'bad', 'bus': 'rp',"
                    "  'nyx-domain': 'nowhere' } }");
    nyx_qmp_refused(t, "use nyx-assign-device",
                    "{ 'execute': 'qom-set', 'arguments': {"
                    "  'path': '/machine/peripheral/a',"
                    "  'property': 'nyx-domain', 'value': 'free' } }");
    nyx_await_count(t, before);
    nyx_test_quit(t);
    nyx_refused_at_start("there is no domain 'nowhere'", "-M nyx-pc "
                         "-device nyx-testdev,nyx-domain=nowhere");
    nyx_refused_at_start("is strict and has device 'a'", "-M nyx-pc "
                         "-object nyx-domain,id=own "
                         "-device nyx-testdev,id=a,nyx-domain=own "
                         "-device nyx-testdev,id=b,nyx-domain=own");
    nyx_refused_at_start("use -M nyx-pc", "-M q35 "
                         "-device nyx-testdev,nyx-domain=own");
}

/* As ",x=y"; virtio-rng-pci has all three interfaces. */
static const char *const bypassing[] = {
    "'iommu_platform': false",
    "'iommu_platform': false, 'disable-legacy': 'off'",
    "'iommu_platform': false, 'disable-legacy': 'off', 'disable-modern': true",
};

static void virtio_add(NyxTest *t, const char *id, const char *domain,
                       const char *options, bool refused)
{
    g_autofree char *command = g_strdup_printf(
        "{ 'execute': 'device_add', 'arguments': {"
        "  'driver': 'virtio-rng-pci', 'id': %%s, 'bus': 'rp',"
        "  'nyx-domain': %%s, %s } }", options);
    QDict *response = qtest_qmp(t->qts, command, id, domain);

    if (refused) {
        QDict *error = qdict_get_qdict(response, "error");

        g_assert_nonnull(error);
        g_assert_nonnull(strstr(qdict_get_str(error, "desc"),
                                "it would bypass the IOMMU, as a virtio device "
                                "with iommu_platform=off"));
    } else {
        g_assert_true(qdict_haskey(response, "return"));
    }
    qobject_unref(response);
}

static void test_virtio(void)
{
    NyxTest *t = nyx_test_start("nyx-pc", ROOT_PORT
        "-object nyx-domain,id=own -object nyx-domain,id=free,"
        "isolation=unmanaged -device virtio-rng-pci,id=modern");
    NyxCount before = nyx_count(t);
    unsigned i;

    g_assert_true(qtest_qom_get_bool(t->qts, "/machine/peripheral/modern",
                                     "iommu_platform"));
    for (i = 0; i < ARRAY_SIZE(bypassing); i++) {
        virtio_add(t, "v", "own", bypassing[i], true);
        virtio_add(t, "v", "", bypassing[i], true);
        nyx_await_count(t, before);
        virtio_add(t, "v", "free", bypassing[i], false);
        nyx_qmp_refused(t, "it would bypass the IOMMU",
                        "{ 'execute': 'nyx-assign-device', 'arguments': {"
                        "  'device': 'v', 'domain': 'own' } }");
        nyx_unplug(t, "v");
        nyx_await_count(t, before);
    }
    virtio_add(t, "v", "own", "'iommu_platform': true", false);
    nyx_test_quit(t);
    nyx_refused_at_start("it would bypass the IOMMU", "-M nyx-pc "
                         "-device virtio-rng-pci,iommu_platform=off");
}

static bool has_type(NyxTest *t, const char *type)
{
    QDict *response = qtest_qmp(t->qts, "{ 'execute': 'qom-list-properties',"
                                "  'arguments': { 'typename': %s } }", type);
    bool found = qdict_haskey(response, "return");

    qobject_unref(response);
    return found;
}

/* Other processes that get at guest memory by file descriptor */
static void test_backends(void)
{
    g_autofree char *path = g_strdup_printf("%s/nyx-plug-%d.sock",
                                            g_get_tmp_dir(), getpid());
    NyxTest *t = nyx_test_start("nyx-pc", ROOT_PORT
        "-chardev socket,id=peer,path=%s,server=on,wait=off "
        "-object nyx-domain,id=none,default-map=none", path);
    NyxCount before = nyx_count(t);

    if (has_type(t, "vhost-user-fs-pci")) {
        nyx_qmp_refused(t, "device 'bad': with iommu_platform=off its "
                        "vhost-user backend has all guest RAM, and domain "
                        "'none' does not allow that",
                        "{ 'execute': 'device_add', 'arguments': {"
                        "  'driver': 'vhost-user-fs-pci', 'id': 'bad',"
                        "  'bus': 'rp', 'chardev': 'peer', 'tag': 'x',"
                        "  'nyx-domain': 'none' } }");
    }
    if (has_type(t, "x-pci-proxy-dev")) {
        nyx_qmp_refused(t, "device 'bad': it would bypass the IOMMU, as the "
                        "process behind x-pci-proxy-dev maps all guest memory",
                        "{ 'execute': 'device_add', 'arguments': {"
                        "  'driver': 'x-pci-proxy-dev', 'id': 'bad',"
                        "  'bus': 'rp', 'fd': '0' } }");
    }
    if (has_type(t, "cryptodev-vhost-user") &&
        has_type(t, "virtio-crypto-pci")) {
        nyx_qmp(t, "{ 'execute': 'object-add', 'arguments': {"
                "  'qom-type': 'cryptodev-vhost-user', 'id': 'crypto',"
                "  'chardev': 'peer' } }");
        nyx_qmp_refused(t, "device 'bad': it would bypass the IOMMU, as a "
                        "virtio device with iommu_platform=off",
                        "{ 'execute': 'device_add', 'arguments': {"
                        "  'driver': 'virtio-crypto-pci', 'id': 'bad',"
                        "  'bus': 'rp', 'cryptodev': 'crypto',"
                        "  'iommu_platform': false } }");
    }
    nyx_await_count(t, before);
    nyx_test_quit(t);
    unlink(path);
}

static void test_other_iommus(void)
{
    static const char *const devices[] = {
        "intel-iommu", "amd-iommu", "virtio-iommu-pci",
    };
    unsigned i;

    for (i = 0; i < ARRAY_SIZE(devices); i++) {
        g_autofree char *words = g_strdup_printf("%s cannot be added to "
                                                 "nyx-pc", devices[i]);

        if (qtest_has_device(devices[i])) {
            nyx_refused_at_start(words, "-M nyx-pc -device %s", devices[i]);
        }
    }
    nyx_refused_at_start("use default-isolation=unmanaged instead",
                         "-M nyx-pc,default-bus-bypass-iommu=on");
    nyx_refused_at_start("its bus has bypass_iommu=on", "-M nyx-pc "
                         "-device pxb-pcie,id=px,bus_nr=64,bypass_iommu=on "
                         "-device pcie-root-port,id=pr,bus=px "
                         "-device nyx-testdev,bus=pr");
}

/* Default isolation */

static void test_default_shared(void)
{
    NyxTest *t = nyx_test_start("nyx-pc,default-isolation=shared", ROOT_PORT
        "-object nyx-domain,id=own -device nyx-testdev,id=a,addr=6 "
        "-device nyx-testdev,id=b,addr=7,nyx-domain=own");
    NyxCount before = nyx_count(t);

    device_add(t, "nyx-testdev", "c", "rp", NULL);
    nyx_assert_domain(t, "a", "auto:shared");
    nyx_assert_domain(t, "b", "own");
    nyx_assert_domain(t, "c", "auto:shared");
    g_assert_cmpuint(nyx_count(t).domains, ==, before.domains);
    virtio_add(t, "v", "", bypassing[0], true);
    nyx_qmp_refused(t, "", "{ 'execute': 'qom-set', 'arguments': {"
                    "  'path': '/machine', 'property': 'default-isolation',"
                    "  'value': 'unmanaged' } }");
    nyx_test_quit(t);
}

static void test_default_unmanaged(void)
{
    NyxTest *t = nyx_test_start("nyx-pc,default-isolation=unmanaged", ROOT_PORT
        "-object nyx-domain,id=own,isolation=shared "
        "-device nyx-testdev,id=a,addr=6 "
        "-device nyx-testdev,id=b,addr=7,nyx-domain=own");
    QDict *info = nyx_query_device(t, "a");
    NyxTestdev *dev = nyx_testdev_open(t, 6);

    g_assert_cmpstr(qdict_get_str(info, "domain"), ==, "auto:unmanaged");
    g_assert_cmpstr(qdict_get_str(info, "dma"), ==, "unmanaged");
    qobject_unref(info);
    g_assert_cmpuint(nyx_testdev_write(dev, dev->buffer.addr, 8), ==,
                     NTD_RESULT_OK);
    virtio_add(t, "v", "own", bypassing[0], true);
    virtio_add(t, "v", "", bypassing[0], false);
    nyx_assert_domain(t, "v", "auto:unmanaged");
    nyx_testdev_close(dev);
    nyx_test_quit(t);
}

/* Objects */

static void test_objects(void)
{
    NyxTest *t = nyx_test_start("nyx-pc", ROOT_PORT);
    NyxCount before = nyx_count(t);

    nyx_qmp(t, "{ 'execute': 'object-add', 'arguments': {"
            "  'qom-type': 'nyx-domain', 'id': 'win',"
            "  'default-map': 'none' } }");
    map_window(t);
    device_add(t, "nyx-testdev", "a", "rp", "win");
    check_window(t);
    nyx_qmp_refused(t, "in use by device 'a'; move its devices",
                    "{ 'execute': 'object-del',"
                    "  'arguments': { 'id': 'win' } }");
    check_window(t);
    /* Nor while it is cut off: recovery brings back its mappings. */
    nyx_quarantine(t, "a");
    nyx_qmp_refused(t, "in use by device 'a'", "{ 'execute': 'object-del',"
                    "  'arguments': { 'id': 'win' } }");
    nyx_unplug(t, "a");
    nyx_qmp(t, "{ 'execute': 'object-del', 'arguments': { 'id': 'win' } }");
    nyx_await_count(t, before);
    nyx_qmp_refused(t, "there is no domain 'win'",
                    "{ 'execute': 'device_add', 'arguments': {"
                    "  'driver': 'nyx-testdev', 'id': 'a', 'bus': 'rp',"
                    "  'nyx-domain': 'win' } }");
    nyx_test_quit(t);
}

/*
 * Models of the guest's IOMMU keep the bus of each device that they have seen,
 * and look at it when they are reset: of a bridge that is gone, too.  What is
 * freed must not be what it was.
 */
static void test_bridge_behind_stage1(const void *machine)
{
    NyxTest *t;
    NyxCount before;
    unsigned i;

    g_setenv("MALLOC_PERTURB_", "165", true);
    t = nyx_test_start(machine, ROOT_PORT);
    before = nyx_count(t);
    for (i = 0; i < 2; i++) {
        device_add(t, "pcie-pci-bridge", "br", "rp", NULL);
        qtest_qmp_device_add(t->qts, "nyx-testdev", "a",
                             "{ 'bus': 'br', 'addr': '1' }");
        nyx_unplug(t, "br");
        nyx_await_count(t, before);
        qtest_system_reset(t->qts);
    }
    nyx_test_quit(t);
    g_unsetenv("MALLOC_PERTURB_");
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    qtest_add_func("/nyx/plug/domain", test_domain);
    qtest_add_func("/nyx/plug/automatic", test_automatic);
    qtest_add_func("/nyx/plug/quarantined", test_quarantined);
    qtest_add_func("/nyx/plug/cycles", test_cycles);
    qtest_add_func("/nyx/plug/realize-fails", test_realize_fails);
    qtest_add_func("/nyx/plug/fails-late-in-group", test_fails_late_in_group);
    qtest_add_func("/nyx/plug/fails-late-alone", test_fails_late_alone);
    qtest_add_func("/nyx/plug/group", test_group);
    qtest_add_func("/nyx/plug/group-elsewhere", test_group_elsewhere);
    qtest_add_func("/nyx/plug/group-bypassing", test_group_bypassing);
    qtest_add_func("/nyx/plug/domains-refused", test_domains_refused);
    qtest_add_func("/nyx/plug/virtio", test_virtio);
    qtest_add_func("/nyx/plug/backends", test_backends);
    qtest_add_func("/nyx/plug/other-iommus", test_other_iommus);
    qtest_add_func("/nyx/plug/default-shared", test_default_shared);
    qtest_add_func("/nyx/plug/default-unmanaged", test_default_unmanaged);
    qtest_add_func("/nyx/plug/objects", test_objects);
    qtest_add_data_func("/nyx/plug/bridge-intel", "nyx-pc,stage1=intel",
                        test_bridge_behind_stage1);
    qtest_add_data_func("/nyx/plug/bridge-amd", "nyx-pc,stage1=amd",
                        test_bridge_behind_stage1);
    qtest_add_data_func("/nyx/plug/bridge-virtio", "nyx-pc,stage1=virtio",
                        test_bridge_behind_stage1);
    return g_test_run();
}
