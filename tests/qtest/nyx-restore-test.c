/*
 * Nyx IOMMU: back to a snapshot when a device is past its limit
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "libnyx-extra.h"

#define MAX_FAULTS      4
#define WHERE           MIB(2)      /* in guest RAM */
#define MACHINE         "nyx-pc,max-faults=4,max-restores=2," \
                        "on-fault-limit=restore-snapshot"
#define DEVICES         "-device nyx-testdev,id=td,addr=5 " \
                        "-device nyx-testdev,id=other,addr=6 "

typedef struct Restore {
    NyxTest *t;
    char *image;
} Restore;

/* With a disk that can have snapshots, and none yet */
static Restore start(const char *machine, const char *devices)
{
    Restore r = { .image = g_strdup("/tmp/nyx-restore-XXXXXX") };
    int fd = g_mkstemp(r.image);

    g_assert_cmpint(fd, >=, 0);
    close(fd);
    g_assert_true(mkimg(r.image, "qcow2", 1));
    r.t = nyx_test_start(machine, "-drive if=none,id=d,file=%s,format=qcow2 "
                         "-device virtio-blk-pci,id=disk,drive=d,addr=7 %s",
                         r.image, devices);
    return r;
}

static void end(Restore *r)
{
    nyx_test_quit(r->t);
    unlink(r->image);
    g_free(r->image);
}

static void save(NyxTest *t, const char *name)
{
    g_autofree char *answer = qtest_hmp(t->qts, "savevm %s", name);

    g_assert_cmpstr(answer, ==, "");
}

static void set_name(NyxTest *t, const char *name)
{
    nyx_qmp(t, "{ 'execute': 'qom-set', 'arguments': { 'path': '/machine',"
            "  'property': 'recovery-snapshot', 'value': %s } }", name);
}

static void go_past_limit(NyxTest *t)
{
    nyx_inject(t, "td", MAX_FAULTS + 1);
    nyx_await_state(t, "td", "operational", "quarantined");
}

static void await_refusal(NyxTest *t, const char *words)
{
    nyx_await_action(t, "td", "faults", "restore-snapshot", words);
    nyx_assert_state(t, "td", "quarantined");
    nyx_assert_state(t, "other", "operational");
}

static void assert_restores(NyxTest *t, unsigned count)
{
    QDict *info = nyx_query_iommu(t);

    g_assert_cmpuint(qdict_get_uint(info, "restores"), ==, count);
    qobject_unref(info);
}

/* Memory, domains and policies as they were; what came later is gone. */
static void test_all_back(void)
{
    Restore r = start(MACHINE ",recovery-snapshot=clean", DEVICES);
    NyxTest *t = r.t;

    t->ram[WHERE] = 1;
    nyx_inject(t, "td", 2);
    nyx_qmp(t, "{ 'execute': 'nyx-unmap', 'arguments': {"
            "  'domain': 'auto:other', 'iova': 65536, 'size': 4096 } }");
    save(t, "clean");
    t->ram[WHERE] = 2;
    nyx_qmp(t, "{ 'execute': 'nyx-map', 'arguments': {"
            "  'domain': 'auto:other', 'iova': 65536, 'gpa': 65536,"
            "  'size': 4096, 'access': 'rw' } }");
    nyx_quarantine(t, "other");
    go_past_limit(t);
    nyx_await_action(t, "td", "faults", "restore-snapshot", NULL);

    g_assert_cmpuint(t->ram[WHERE], ==, 1);
    nyx_assert_state(t, "td", "operational");
    nyx_assert_state(t, "other", "operational");
    nyx_assert_number(t, "td", "total-faults", 2);
    nyx_qmp_refused(t, "is not all mapped",
                    "{ 'execute': 'nyx-unmap', 'arguments': {"
                    "  'domain': 'auto:other', 'iova': 65536,"
                    "  'size': 4096 } }");
    nyx_assert_vm_status(t, "running");
    assert_restores(t, 1);
    end(&r);
}

/* A snapshot that leads to the limit at once, again and again */
static void test_loop_guard(void)
{
    Restore r = start(MACHINE ",recovery-snapshot=clean", DEVICES);
    g_autofree char *text = NULL;
    unsigned round;

    save(r.t, "clean");
    for (round = 1; round <= 2; round++) {
        go_past_limit(r.t);
        nyx_await_action(r.t, "td", "faults", "restore-snapshot", NULL);
        nyx_assert_state(r.t, "td", "operational");
        assert_restores(r.t, round);
    }
    go_past_limit(r.t);
    await_refusal(r.t, "gone back to a snapshot 2 times");
    assert_restores(r.t, 2);
    text = qtest_hmp(r.t->qts, "info nyx");
    g_assert_nonnull(strstr(text, "clean, 2 restores within the last hour"));
    nyx_assert_vm_status(r.t, "running");
    /* An operator may still load it, and is not counted. */
    g_free(qtest_hmp(r.t->qts, "loadvm clean"));
    nyx_assert_state(r.t, "td", "operational");
    assert_restores(r.t, 2);
    end(&r);
}

/* The name can be given when the snapshot is there. */
static void test_name(void)
{
    Restore r = start(MACHINE, DEVICES);

    go_past_limit(r.t);
    await_refusal(r.t, "no snapshot is named");
    set_name(r.t, "clean");
    nyx_recover(r.t, "td");
    go_past_limit(r.t);
    await_refusal(r.t, "not all disks have a snapshot 'clean'");
    nyx_recover(r.t, "td");
    save(r.t, "clean");
    assert_restores(r.t, 0);
    nyx_assert_vm_status(r.t, "running");
    go_past_limit(r.t);
    nyx_await_action(r.t, "td", "faults", "restore-snapshot", NULL);
    nyx_assert_state(r.t, "td", "operational");
    end(&r);
}

static void test_disk_only(void)
{
    Restore r = start(MACHINE ",recovery-snapshot=disk", DEVICES);

    nyx_qmp(r.t, "{ 'execute': 'blockdev-snapshot-internal-sync',"
            "  'arguments': { 'device': 'd', 'name': 'disk' } }");
    go_past_limit(r.t);
    await_refusal(r.t, "one of disks alone");
    nyx_assert_vm_status(r.t, "running");
    end(&r);
}

static void test_no_disk(void)
{
    NyxTest *t = nyx_test_start(MACHINE ",recovery-snapshot=clean", DEVICES);

    go_past_limit(t);
    await_refusal(t, "no block device can store vmstate");
    nyx_assert_vm_status(t, "running");
    nyx_test_quit(t);
}

/* QEMU would not load one with this capability. */
static void test_capability(void)
{
    Restore r = start(MACHINE ",recovery-snapshot=clean", DEVICES);

    save(r.t, "clean");
    nyx_qmp(r.t, "{ 'execute': 'migrate-set-capabilities', 'arguments': {"
            "  'capabilities': [ { 'capability': 'multifd',"
            "                      'state': true } ] } }");
    go_past_limit(r.t);
    await_refusal(r.t, "multifd");
    nyx_assert_vm_status(r.t, "running");
    assert_restores(r.t, 0);
    end(&r);
}

static void test_migrating(void)
{
    Restore r = start(MACHINE ",recovery-snapshot=clean", DEVICES);

    save(r.t, "clean");
    nyx_migrate_for_ever(r.t);
    go_past_limit(r.t);
    await_refusal(r.t, "is being migrated");
    nyx_assert_vm_status(r.t, "running");
    nyx_qmp(r.t, "{ 'execute': 'migrate_cancel' }");
    end(&r);
}

static void test_paused(void)
{
    Restore r = start(MACHINE ",recovery-snapshot=clean", DEVICES);

    save(r.t, "clean");
    nyx_qmp(r.t, "{ 'execute': 'stop' }");
    go_past_limit(r.t);
    nyx_await_action(r.t, "td", "faults", "restore-snapshot", NULL);
    nyx_assert_state(r.t, "td", "operational");
    nyx_assert_vm_status(r.t, "paused");
    nyx_qmp(r.t, "{ 'execute': 'cont' }");
    end(&r);
}

/* Of another VM: half of it is loaded when that is found out. */
static void test_unfit(void)
{
    Restore r = start(MACHINE ",recovery-snapshot=clean", DEVICES
                      "-device pcie-root-port,id=rp,addr=8,chassis=1");

    save(r.t, "clean");
    nyx_qmp(r.t, "{ 'execute': 'device_add', 'arguments': {"
            "  'driver': 'nyx-testdev', 'id': 'new', 'bus': 'rp' } }");
    go_past_limit(r.t);
    await_refusal(r.t, "the VM is stopped, with half of snapshot 'clean'");
    nyx_assert_vm_status(r.t, "restore-vm");
    assert_restores(r.t, 1);
    end(&r);
}

/*
 * The state of the IOMMU is there already, with the device at work, when it is
 * found out that another device is missing.
 */
static void test_unfit_later(void)
{
    Restore r = start(MACHINE ",recovery-snapshot=clean", DEVICES
                      "-device qemu-xhci,id=xhci,addr=8 "
                      "-device usb-kbd,id=kbd,bus=xhci.0");

    save(r.t, "clean");
    nyx_qmp(r.t, "{ 'execute': 'device_del',"
            "  'arguments': { 'id': 'kbd' } }");
    go_past_limit(r.t);
    await_refusal(r.t, "the VM is stopped, with half of snapshot 'clean'");
    nyx_assert_vm_status(r.t, "restore-vm");
    end(&r);
}

/* Two devices ask at once: one restore answers both. */
static void test_together(void)
{
    Restore r = start("nyx-pc,max-faults=4,max-recoveries=0,max-restores=1,"
                      "on-fault-limit=reset-device,scope=domain,"
                      "on-recovery-limit=restore-snapshot,"
                      "recovery-snapshot=clean",
                      "-object nyx-domain,id=both,isolation=shared "
                      "-device nyx-testdev,id=td,addr=5,nyx-domain=both "
                      "-device nyx-testdev,id=other,addr=6,nyx-domain=both");

    save(r.t, "clean");
    nyx_inject(r.t, "td", MAX_FAULTS + 1);
    nyx_await_state(r.t, "td", "quarantined", "failed");
    nyx_await_state(r.t, "other", "quarantined", "failed");
    nyx_await_action(r.t, "td", "faults", "reset-device", "and fails");
    nyx_await_action(r.t, "td", "recoveries", "restore-snapshot", NULL);
    nyx_await_action(r.t, "other", "recoveries", "restore-snapshot", NULL);
    nyx_assert_state(r.t, "td", "operational");
    nyx_assert_state(r.t, "other", "operational");
    assert_restores(r.t, 1);
    end(&r);
}

/* What is not the state of the VM */
static void test_settings(void)
{
    Restore r = start(MACHINE ",recovery-snapshot=clean", DEVICES);
    QDict *info;

    save(r.t, "clean");
    save(r.t, "other");
    nyx_qmp_refused(r.t, "max-restores must be at most 255",
                    "{ 'execute': 'qom-set', 'arguments': { 'path': '/machine',"
                    "  'property': 'max-restores', 'value': 256 } }");
    set_name(r.t, "other");
    g_free(qtest_hmp(r.t->qts, "loadvm clean"));
    info = nyx_query_iommu(r.t);
    g_assert_cmpstr(qdict_get_str(info, "recovery-snapshot"), ==, "other");
    qobject_unref(info);
    set_name(r.t, "");
    info = nyx_query_iommu(r.t);
    g_assert_false(qdict_haskey(info, "recovery-snapshot"));
    qobject_unref(info);
    end(&r);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    qtest_add_func("/nyx/restore/no-disk", test_no_disk);
    if (have_qemu_img()) {
        qtest_add_func("/nyx/restore/all-back", test_all_back);
        qtest_add_func("/nyx/restore/loop-guard", test_loop_guard);
        qtest_add_func("/nyx/restore/name", test_name);
        qtest_add_func("/nyx/restore/disk-only", test_disk_only);
        qtest_add_func("/nyx/restore/capability", test_capability);
        qtest_add_func("/nyx/restore/migrating", test_migrating);
        qtest_add_func("/nyx/restore/paused", test_paused);
        qtest_add_func("/nyx/restore/unfit", test_unfit);
        qtest_add_func("/nyx/restore/unfit-later", test_unfit_later);
        qtest_add_func("/nyx/restore/together", test_together);
        qtest_add_func("/nyx/restore/settings", test_settings);
    } else {
        g_test_message("no QTEST_QEMU_IMG: nothing to restore from");
    }
    return g_test_run();
}
