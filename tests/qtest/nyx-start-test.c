/*
 * Nyx IOMMU: what is refused at start, in one sentence, and what is not
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "libnyx.h"

#define SECONDS     30

static void limit_time(gpointer data)
{
    /* Stays with the program that replaces this one. */
    alarm(SECONDS);
}

typedef struct Refused {
    const char *name;
    const char *arguments;
    const char *words;
} Refused;

static const Refused refused[] = {
    { "stage1", "-M nyx-pc,stage1=smmu", "stage1" },
    { "isolation", "-M nyx-pc,default-isolation=none", "default-isolation" },
    { "max-faults", "-M nyx-pc,max-faults=65536", "at most 65535" },
    { "max-recoveries", "-M nyx-pc,max-recoveries=256", "at most 255" },
    { "action", "-M nyx-pc,on-fault-limit=explode", "on-fault-limit" },
    { "bypass-machine", "-M nyx-pc,default-bus-bypass-iommu=on",
      "default-bus-bypass-iommu" },
    { "second-iommu", "-M nyx-pc -device intel-iommu", "intel-iommu" },
    { "second-virtio-iommu", "-M nyx-pc -device virtio-iommu-pci",
      "virtio-iommu" },
    { "unknown-domain", "-M nyx-pc -device nyx-testdev,nyx-domain=nowhere",
      "there is no domain 'nowhere'" },
    { "no-nyx-pc", "-M q35 -object nyx-domain,id=dom "
      "-device nyx-testdev,nyx-domain=dom", "nyx-pc" },
    { "strict", "-M nyx-pc -object nyx-domain,id=dom "
      "-device nyx-testdev,id=a,nyx-domain=dom "
      "-device nyx-testdev,id=b,nyx-domain=dom",
      "device 'b': domain 'dom' is strict and has device 'a'" },
    { "virtio-off", "-M nyx-pc -device virtio-rng-pci,iommu_platform=off",
      "iommu_platform=off" },
    { "virtio-legacy", "-M nyx-pc -device virtio-rng-pci,disable-modern=on,"
      "disable-legacy=off,iommu_platform=off", "bypass" },
    { "bypass-bus", "-M nyx-pc -device pxb-pcie,id=pxb,bus_nr=64,"
      "bypass_iommu=on -device pcie-root-port,id=rp,bus=pxb "
      "-device nyx-testdev,bus=rp", "bypass_iommu" },
    { "bridge", "-M nyx-pc -object nyx-domain,id=x,isolation=shared "
      "-object nyx-domain,id=y,isolation=shared "
      "-device pcie-pci-bridge,id=br "
      "-device edu,id=a,bus=br,addr=1,nyx-domain=x "
      "-device edu,id=b,bus=br,addr=2,nyx-domain=y",
      "cannot be told apart" },
    { "domain-map", "-M nyx-pc -object nyx-domain,id=dom,isolation=unmanaged,"
      "default-map=none", "exclude each other" },
    { "domain-contained", "-M nyx-pc -object nyx-domain,id=dom,contained=on,"
      "isolation=unmanaged", "exclude each other" },
    { "domain-isolation", "-M nyx-pc -object nyx-domain,id=dom,isolation=some",
      "isolation" },
};

static void test_refused(const void *data)
{
    const Refused *test = data;
    g_autofree char *line = g_strdup_printf("%s -display none -nodefaults "
        "-accel qtest -m 64 %s", qtest_qemu_binary(NULL), test->arguments);
    g_auto(GStrv) argv = g_strsplit(line, " ", -1);
    g_autofree char *output = NULL;
    g_autofree char *errors = NULL;
    int status;

    g_assert_true(g_spawn_sync(NULL, argv, NULL, G_SPAWN_SEARCH_PATH,
                               limit_time, NULL, &output, &errors, &status,
                               NULL));
    g_test_message("%s", errors);
    g_assert_true(WIFEXITED(status));
    g_assert_cmpint(WEXITSTATUS(status), ==, 1);
    g_assert_nonnull(strstr(errors, test->words));
}

static void assert_member(NyxTest *t, const char *id, const char *member,
                          const char *value)
{
    QDict *device = nyx_query_device(t, id);

    g_assert_cmpstr(qdict_get_str(device, member), ==, value);
    qobject_unref(device);
}

/* What would bypass the IOMMU may, in a domain that is none. */
static void test_unmanaged(void)
{
    NyxTest *t = nyx_test_start("nyx-pc",
        "-object nyx-domain,id=free,isolation=unmanaged "
        "-device virtio-rng-pci,id=rng,iommu_platform=off,nyx-domain=free "
        "-device nyx-testdev,id=td,addr=5,nyx-domain=free");
    NyxTestdev *td = nyx_testdev_open(t, 5);
    QDict *info;

    assert_member(t, "rng", "dma", "unmanaged");
    assert_member(t, "td", "dma", "unmanaged");
    info = nyx_query_device(t, "td");
    g_assert_false(qdict_get_bool(info, "faults-observable"));
    qobject_unref(info);
    g_assert_cmpuint(nyx_testdev_write(td, td->buffer.addr, 8), ==,
                     NTD_RESULT_OK);
    g_assert_cmpuint(nyx_testdev_write(td, MIB(512), 8), ==,
                     NTD_RESULT_DMA_ERROR);
    nyx_assert_state(t, "td", "operational");
    /* Cut off it can be nevertheless. */
    nyx_qmp(t, "{ 'execute': 'nyx-quarantine-device',"
            "  'arguments': { 'device': 'td' } }");
    g_assert_cmphex(nyx_testdev_get(td, NTD_REG_ID), ==, UINT32_MAX);
    assert_member(t, "td", "dma", "blocked");
    nyx_testdev_close(td);
    nyx_test_quit(t);
}

static void test_default_isolation(void)
{
    static const char *const isolation[] = { "strict", "shared", "unmanaged" };
    unsigned i;

    for (i = 0; i < ARRAY_SIZE(isolation); i++) {
        g_autofree char *machine = g_strdup_printf(
            "nyx-pc,default-isolation=%s", isolation[i]);
        NyxTest *t = nyx_test_start(machine,
                                    "-device nyx-testdev,id=a,addr=5 "
                                    "-device nyx-testdev,id=b,addr=6");
        QDict *a = nyx_query_device(t, "a"), *b = nyx_query_device(t, "b");
        QDict *domain = nyx_query_domain(t, qdict_get_str(a, "domain"));

        g_assert_cmpstr(qdict_get_str(domain, "isolation"), ==, isolation[i]);
        g_assert_true(qdict_get_bool(domain, "automatic"));
        g_assert_cmpint(g_str_equal(qdict_get_str(a, "domain"),
                                    qdict_get_str(b, "domain")), ==, i != 0);
        qobject_unref(domain);
        qobject_unref(a);
        qobject_unref(b);
        nyx_test_quit(t);
    }
}

/* Each function has faults of its own. */
static void test_multifunction(void)
{
    NyxTest *t = nyx_test_start("nyx-pc",
        "-device nyx-testdev,id=f0,addr=5.0,multifunction=on "
        "-device nyx-testdev,id=f1,addr=5.1");
    NyxTestdev f1 = { .t = t };

    f1.pci = qpci_device_find(t->bus, QPCI_DEVFN(5, 1));
    g_assert_nonnull(f1.pci);
    qpci_device_enable(f1.pci);
    f1.registers = qpci_iomap(f1.pci, NTD_BAR_REGISTERS, NULL);
    g_assert_cmpuint(nyx_testdev_write(&f1, MIB(512), 8), ==,
                     NTD_RESULT_DMA_ERROR);
    nyx_assert_fault(t, "f1", "unmapped", MIB(512), "w", 1);
    nyx_assert_number(t, "f0", "total-faults", 0);
    assert_member(t, "f1", "domain", "auto:f1");
    g_free(f1.pci);
    nyx_test_quit(t);
}

/*
 * Behind a PCIe-to-PCI bridge devices share a requester ID: they are in one
 * domain, and go together.
 */
static void test_bridge(void)
{
    NyxTest *t = nyx_test_start("nyx-pc",
        "-object nyx-domain,id=dom "
        "-object nyx-domain,id=other,isolation=shared "
        "-device pcie-pci-bridge,id=br,addr=5 "
        "-device nyx-testdev,id=a,bus=br,addr=1,nyx-domain=dom "
        "-device edu,id=b,bus=br,addr=2");

    assert_member(t, "a", "domain", "dom");
    assert_member(t, "b", "domain", "dom");
    nyx_qmp(t, "{ 'execute': 'nyx-assign-device', 'arguments': {"
            "  'device': 'b', 'domain': 'other' } }");
    assert_member(t, "a", "domain", "other");
    nyx_qmp(t, "{ 'execute': 'nyx-quarantine-device',"
            "  'arguments': { 'device': 'b' } }");
    nyx_assert_state(t, "a", "quarantined");
    nyx_qmp(t, "{ 'execute': 'nyx-recover-device',"
            "  'arguments': { 'device': 'a' } }");
    nyx_assert_state(t, "b", "operational");
    nyx_test_quit(t);
}

static void test_hotplug(void)
{
    NyxTest *t = nyx_test_start("nyx-pc",
        "-object nyx-domain,id=dom -device pcie-root-port,id=rp1,addr=5 "
        "-device pcie-root-port,id=rp2,chassis=2,addr=6");

    qtest_qmp_device_add(t->qts, "nyx-testdev", "a",
                         "{ 'bus': 'rp1', 'nyx-domain': 'dom' }");
    assert_member(t, "a", "domain", "dom");
    nyx_qmp_refused(t, "strict and has device 'a'",
                    "{ 'execute': 'device_add', 'arguments': {"
                    "  'driver': 'nyx-testdev', 'id': 'b', 'bus': 'rp2',"
                    "  'nyx-domain': 'dom' } }");
    nyx_qmp_refused(t, "iommu_platform=off",
                    "{ 'execute': 'device_add', 'arguments': {"
                    "  'driver': 'virtio-rng-pci', 'id': 'c', 'bus': 'rp2',"
                    "  'iommu_platform': false } }");
    qtest_qmp_device_add(t->qts, "nyx-testdev", "b", "{ 'bus': 'rp2' }");
    assert_member(t, "b", "domain", "auto:b");
    nyx_test_quit(t);
}

int main(int argc, char **argv)
{
    unsigned i;

    g_test_init(&argc, &argv, NULL);
    for (i = 0; i < ARRAY_SIZE(refused); i++) {
        g_autofree char *path = g_strdup_printf("/nyx/start/refused/%s",
                                                refused[i].name);

        qtest_add_data_func(path, &refused[i], test_refused);
    }
    qtest_add_func("/nyx/start/unmanaged", test_unmanaged);
    qtest_add_func("/nyx/start/default-isolation", test_default_isolation);
    qtest_add_func("/nyx/start/multifunction", test_multifunction);
    qtest_add_func("/nyx/start/bridge", test_bridge);
    qtest_add_func("/nyx/start/hotplug", test_hotplug);
    return g_test_run();
}
