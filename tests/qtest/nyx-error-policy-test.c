/*
 * nyx-pc: what happens when the guest, a processor or a watchdog fails
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <sys/statvfs.h>
#include "hw/acpi/ich9_tco.h"
#include "hw/southbridge/ich9.h"
#include "libnyx-extra.h"
#include "qemu/units.h"
#include "qobject/qjson.h"
#include "qobject/qlist.h"

#define PVPANIC_PORT    0x505
#define PM_BASE         0x600
#define RCBA_BASE       0xfed1c000
#define LPC_SLOT        31

/* A machine with a panic device whose options are those, and more */
static NyxTest *start(const char *options, const char *more)
{
    g_autofree char *machine = g_strdup_printf("nyx-pc%s%s",
                                               *options ? "," : "", options);

    return nyx_test_start(machine, "-device pvpanic %s", more);
}

/* The next decision; to be given up. */
static QDict *await_event(NyxTest *t)
{
    return qtest_qmp_eventwait_ref(t->qts, "NYX_ERROR_ACTION");
}

/* It is this one: done (@error NULL), or not, with @error in its text. */
static void await_action(NyxTest *t, const char *cause, const char *action,
                         const char *error)
{
    QDict *event = await_event(t);
    QDict *data = qdict_get_qdict(event, "data");

    g_assert_cmpstr(qdict_get_str(data, "cause"), ==, cause);
    g_assert_cmpstr(qdict_get_str(data, "action"), ==, action);
    if (error) {
        g_assert_nonnull(strstr(qdict_get_str(data, "error"), error));
    } else {
        g_assert_cmpstr(qdict_get_try_str(data, "error"), ==, NULL);
    }
    g_assert_cmpint(qdict_get_bool(data, "success"), ==, !error);
    qobject_unref(event);
}

static void set_option(NyxTest *t, const char *name, const char *value)
{
    nyx_qmp(t, "{ 'execute': 'qom-set', 'arguments': {"
            "  'path': '/machine', 'property': %s, 'value': %s } }",
            name, value);
}

static void refuse_option(NyxTest *t, const char *name, const char *value,
                          const char *words)
{
    nyx_qmp_refused(t, words, "{ 'execute': 'qom-set', 'arguments': {"
                    "  'path': '/machine', 'property': %s, 'value': %s } }",
                    name, value);
}

static void panic(NyxTest *t)
{
    qtest_outb(t->qts, PVPANIC_PORT, 1);
}

/* Refused */

typedef struct Refused {
    const char *name;
    const char *arguments;
    const char *words;
} Refused;

static const Refused refused[] = {
    { "panic-device", "-M nyx-pc,on-guest-panic=reset-device -device pvpanic",
      "on-guest-panic=reset-device has no device to act on; use ignore, "
      "reset-vm, pause-vm, restore-snapshot or shutdown" },
    { "panic-vcpu", "-M nyx-pc,on-guest-panic=reset-vcpu -device pvpanic",
      "has no processor to act on" },
    { "panic-nobody", "-M nyx-pc,on-guest-panic=reset-vm",
      "add -device pvpanic-pci" },
    { "panic-twice", "-M nyx-pc,on-guest-panic=reset-vm -device pvpanic "
      "-action panic=pause", "-action panic" },
    { "watchdog-twice", "-M nyx-pc,on-watchdog=reset-vm "
      "-action watchdog=inject-nmi", "-action watchdog" },
    { "watchdog-device", "-M nyx-pc,on-watchdog=isolate-device",
      "has no device to act on" },
    { "fault-ignore", "-M nyx-pc,on-triple-fault=ignore",
      "does not go on by itself" },
    { "fault-device", "-M nyx-pc,on-triple-fault=reset-device",
      "has no device to act on" },
    { "fault-only-vcpu", "-M nyx-pc,on-triple-fault=reset-vcpu -smp 1",
      "which is the only one" },
    { "check-device", "-M nyx-pc,on-machine-check=isolate-device",
      "has no device to act on" },
    { "stuck-device", "-M nyx-pc,on-vcpu-stuck=reset-device",
      "has no device to act on" },
    { "device-vcpu", "-M nyx-pc,on-device-error=reset-vcpu -smp 2",
      "has no processor to act on" },
    { "unknown", "-M nyx-pc,on-device-error=explode", "on-device-error" },
    { "no-snapshot", "-M nyx-pc,on-vcpu-stuck=restore-snapshot",
      "recovery-snapshot" },
    { "no-restores", "-M nyx-pc,on-vcpu-stuck=restore-snapshot,"
      "recovery-snapshot=clean,max-restores=0", "max-restores=0" },
    { "no-resets", "-M nyx-pc,on-vcpu-stuck=reset-vm,max-resets=0",
      "max-resets=0" },
    { "many-resets", "-M nyx-pc,max-resets=256", "at most 255" },
    { "no-reboot", "-M nyx-pc,on-vcpu-stuck=reset-vm -no-reboot",
      "use shutdown" },
    { "werror", "-M nyx-pc,on-device-error=reset-device "
      "-blockdev null-co,node-name=disk,read-zeroes=on "
      "-device virtio-blk-pci,id=disk0,drive=disk,werror=stop",
      "stops the VM by itself" },
    { "dump-nowhere", "-M nyx-pc,dump=/nonexistent",
      "'/nonexistent' is no folder" },
    { "dump-no-folder", "-M nyx-pc,dump-memory=on", "name it with dump" },
};

static void test_refused(const void *data)
{
    const Refused *test = data;

    nyx_refused_at_start(test->words, "%s", test->arguments);
}

static void test_refused_later(void)
{
    NyxTest *t = nyx_test_start("nyx-pc", "-no-reboot");

    refuse_option(t, "on-guest-panic", "pause-vm", "add -device pvpanic-pci");
    refuse_option(t, "on-guest-panic", "reset-device", "no device to act on");
    refuse_option(t, "on-vcpu-stuck", "reset-vm", "use shutdown");
    refuse_option(t, "on-vcpu-stuck", "reset-vcpu", "the only one");
    refuse_option(t, "on-triple-fault", "ignore", "does not go on");
    refuse_option(t, "on-triple-fault", "restore-snapshot",
                  "recovery-snapshot");
    refuse_option(t, "dump", "/nonexistent", "is no folder");
    nyx_qmp(t, "{ 'execute': 'set-action',"
            "  'arguments': { 'watchdog': 'none' } }");
    refuse_option(t, "on-watchdog", "pause-vm", "-action watchdog");
    nyx_qmp(t, "{ 'execute': 'set-action',"
            "  'arguments': { 'watchdog': 'reset' } }");
    set_option(t, "on-watchdog", "pause-vm");
    nyx_test_quit(t);
}

/* Panics */

static void test_panic_ignore(void)
{
    NyxTest *t = start("on-guest-panic=ignore", "");

    panic(t);
    await_action(t, "guest-panic", "ignore", NULL);
    nyx_assert_vm_status(t, "running");
    nyx_test_quit(t);
}

static void test_panic_pause(void)
{
    NyxTest *t = start("on-guest-panic=pause-vm", "");

    panic(t);
    await_action(t, "guest-panic", "pause-vm", NULL);
    nyx_assert_vm_status(t, "guest-panicked");
    nyx_test_quit(t);
}

static void test_panic_shutdown(void)
{
    NyxTest *t = start("on-guest-panic=shutdown", "-no-shutdown");

    panic(t);
    await_action(t, "guest-panic", "shutdown", NULL);
    qtest_qmp_eventwait(t->qts, "SHUTDOWN");
    nyx_test_quit(t);
}

/* As often as the budget allows; then the VM stands still. */
static void test_panic_reset(void)
{
    NyxTest *t = start("on-guest-panic=reset-vm,max-resets=2", "");

    for (int i = 0; i < 2; i++) {
        panic(t);
        qtest_qmp_eventwait(t->qts, "RESET");
        await_action(t, "guest-panic", "reset-vm", NULL);
        nyx_assert_vm_status(t, "running");
    }
    panic(t);
    await_action(t, "guest-panic", "reset-vm",
                 "errors have led to 2 resets within the last hour");
    nyx_assert_vm_status(t, "guest-panicked");
    nyx_test_quit(t);
}

static void test_panic_restore(void)
{
    NyxTest *t = start("on-guest-panic=restore-snapshot,"
                       "recovery-snapshot=clean", "");

    panic(t);
    /* No disk could have it. */
    await_action(t, "guest-panic", "restore-snapshot", "no block device");
    nyx_assert_vm_status(t, "guest-panicked");
    nyx_test_quit(t);
}

/* QEMU's own action comes back with "default", or with set-action. */
static void test_panic_default(void)
{
    NyxTest *t = start("on-guest-panic=reset-vm", "-no-shutdown");
    QDict *info, *cause;

    nyx_qmp(t, "{ 'execute': 'set-action',"
            "  'arguments': { 'panic': 'none' } }");
    panic(t);
    qtest_qmp_eventwait(t->qts, "GUEST_PANICKED");
    nyx_assert_vm_status(t, "running");
    info = qtest_qmp_assert_success_ref(
        t->qts, "{ 'execute': 'query-nyx-error-policy' }");
    cause = qobject_to(QDict, qlist_peek(qdict_get_qlist(info, "causes")));
    g_assert_cmpstr(qdict_get_str(cause, "cause"), ==, "guest-panic");
    g_assert_cmpstr(qdict_get_str(cause, "action"), ==, "default");
    g_assert_cmpint(qdict_get_int(cause, "reports"), ==, 0);
    qobject_unref(info);

    nyx_qmp(t, "{ 'execute': 'set-action',"
            "  'arguments': { 'panic': 'pause' } }");
    set_option(t, "on-guest-panic", "default");
    panic(t);
    /* What QEMU makes of a shutdown, with -no-shutdown */
    qtest_qmp_eventwait(t->qts, "GUEST_PANICKED");
    nyx_assert_vm_status(t, "guest-panicked");
    nyx_test_quit(t);
}

/* Watchdogs */

/* As Linux has it: time out twice, and have that reset the machine. */
static void start_tco(NyxTest *t)
{
    QPCIDevice *lpc = qpci_device_find(t->bus, QPCI_DEVFN(LPC_SLOT, 0));
    uint32_t gcs;

    qpci_config_writel(lpc, ICH9_LPC_PMBASE, PM_BASE | 1);
    qpci_config_writeb(lpc, ICH9_LPC_ACPI_CTRL, ICH9_LPC_ACPI_CTRL_ACPI_EN);
    qpci_config_writel(lpc, ICH9_LPC_RCBA, RCBA_BASE | 1);
    gcs = qtest_readl(t->qts, RCBA_BASE + ICH9_CC_GCS);
    qtest_writel(t->qts, RCBA_BASE + ICH9_CC_GCS,
                 gcs & ~ICH9_CC_GCS_NO_REBOOT);
    qtest_outw(t->qts, PM_BASE + ICH9_PMIO_TCO_RLD + TCO_TMR, 4);
    qtest_outw(t->qts, PM_BASE + ICH9_PMIO_TCO_RLD + TCO_RLD, 4);
    qtest_outw(t->qts, PM_BASE + ICH9_PMIO_TCO_RLD + TCO1_CNT, 0);
    g_free(lpc);
}

static void test_tco(void)
{
    NyxTest *t = start("on-watchdog=pause-vm", "");
    QDict *event, *data;

    start_tco(t);
    for (int i = 0; i < 2; i++) {
        qtest_clock_step(t->qts, 4 * TCO_TICK_NSEC);
    }
    event = await_event(t);
    data = qdict_get_qdict(event, "data");
    g_assert_cmpstr(qdict_get_str(data, "cause"), ==, "watchdog");
    g_assert_nonnull(strstr(qdict_get_str(data, "detail"), "iTCO"));
    g_assert_true(qdict_get_bool(data, "success"));
    qobject_unref(event);
    nyx_assert_vm_status(t, "watchdog");
    nyx_test_quit(t);
}

#define ESB_LOCK        0x68
#define ESB_LOCK_ENABLE 2
/* Each of its two stages takes 2^20 times 2^15 times 30 ns unless told. */
#define ESB_STAGE_NS    ((0xfffffLL << 15) * 30)

static void test_i6300esb(void)
{
    NyxTest *t = start("on-watchdog=reset-vm",
                       "-device i6300esb,id=wdt,addr=4");
    QPCIDevice *wdt = nyx_pci_open(t, 4);
    QDict *event, *data;

    qpci_config_writeb(wdt, ESB_LOCK, ESB_LOCK_ENABLE);
    qtest_clock_step(t->qts, ESB_STAGE_NS + 1);
    qtest_clock_step(t->qts, ESB_STAGE_NS + 1);
    event = await_event(t);
    data = qdict_get_qdict(event, "data");
    g_assert_cmpstr(qdict_get_str(data, "cause"), ==, "watchdog");
    g_assert_cmpstr(qdict_get_str(data, "action"), ==, "reset-vm");
    g_assert_cmpstr(qdict_get_str(data, "device"), ==, "wdt");
    g_assert_true(qdict_get_bool(data, "success"));
    qobject_unref(event);
    nyx_assert_vm_status(t, "running");
    g_free(wdt);
    nyx_test_quit(t);
}

/* Machine checks, which the guest cannot take as it has not enabled them */

static void machine_check(NyxTest *t)
{
    g_free(qtest_hmp(t->qts, "mce 0 1 0xb600000000000000 0x5 0x1000 0"));
}

static void assert_needs_reset(NyxTest *t)
{
    nyx_assert_vm_status(t, "internal-error");
    nyx_qmp_refused(t, "Resetting the Virtual Machine is required",
                    "{ 'execute': 'cont' }");
}

static void test_check_pause(void)
{
    NyxTest *t = start("on-machine-check=pause-vm", "");
    QDict *event, *data;

    machine_check(t);
    event = await_event(t);
    data = qdict_get_qdict(event, "data");
    g_assert_cmpstr(qdict_get_str(data, "cause"), ==, "machine-check");
    g_assert_cmpint(qdict_get_int(data, "vcpu"), ==, 0);
    g_assert_nonnull(strstr(qdict_get_str(data, "detail"), "bank 1, "
                            "status 0xb600000000000000, address 0x1000"));
    qobject_unref(event);
    assert_needs_reset(t);
    nyx_test_quit(t);
}

static void test_check_reset(void)
{
    NyxTest *t = start("on-machine-check=reset-vm", "");

    machine_check(t);
    await_action(t, "machine-check", "reset-vm", NULL);
    nyx_assert_vm_status(t, "running");
    nyx_test_quit(t);
}

/* Whoever ignores it has to do with what becomes of it. */
static void test_check_ignore(void)
{
    NyxTest *t = start("on-machine-check=ignore,on-triple-fault=pause-vm", "");

    machine_check(t);
    await_action(t, "triple-fault", "pause-vm", NULL);
    assert_needs_reset(t);
    nyx_test_quit(t);
}

static void test_check_vcpu(void)
{
    NyxTest *t = start("on-machine-check=reset-vcpu", "-smp 2");

    machine_check(t);
    await_action(t, "machine-check", "reset-vcpu", "boots the VM");
    assert_needs_reset(t);
    nyx_test_quit(t);
}

/* Dumps */

static QDict *read_json(const char *path)
{
    g_autofree char *text = NULL;
    QObject *obj;

    g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
    obj = qobject_from_json(text, &error_abort);
    return qobject_to(QDict, obj);
}

static void test_dump(void)
{
    g_autofree char *folder = g_dir_make_tmp("nyx-dump-XXXXXX", NULL);
    g_autofree char *options = g_strdup_printf(
        "on-guest-panic=ignore,dump=%s,max-dumps=1", folder);
    NyxTest *t = start(options, "-device nyx-testdev,id=td");
    QDict *event, *data, *json;

    panic(t);
    event = await_event(t);
    data = qdict_get_qdict(event, "data");
    g_assert_cmpstr(qdict_get_try_str(data, "dump-error"), ==, NULL);
    json = read_json(qdict_get_str(data, "dump"));
    g_assert_cmpstr(qdict_get_str(qdict_get_qdict(json, "error"), "cause"), ==,
                    "guest-panic");
    g_assert_cmpstr(qdict_get_str(qdict_get_qdict(json, "query-status"),
                                  "status"), ==, "guest-panicked");
    g_assert_cmpint(qlist_size(qdict_get_qlist(json, "registers")), ==, 1);
    g_assert_nonnull(qdict_get(qdict_get_qdict(json, "nyx-dump"), "devices"));
    g_assert_nonnull(qdict_get_qlist(json, "query-pci"));
    g_assert_cmpint(unlink(qdict_get_str(data, "dump")), ==, 0);
    qobject_unref(json);
    qobject_unref(event);

    panic(t);
    event = await_event(t);
    data = qdict_get_qdict(event, "data");
    g_assert_true(qdict_get_bool(data, "success"));
    g_assert_null(qdict_get_try_str(data, "dump"));
    g_assert_nonnull(strstr(qdict_get_str(data, "dump-error"), "max-dumps"));
    qobject_unref(event);
    nyx_assert_vm_status(t, "running");
    nyx_test_quit(t);
    /* Nothing else was written. */
    g_assert_cmpint(rmdir(folder), ==, 0);
}

static void test_dump_memory(void)
{
    g_autofree char *folder = g_dir_make_tmp("nyx-dump-XXXXXX", NULL);
    g_autofree char *options = g_strdup_printf(
        "on-guest-panic=pause-vm,dump=%s,dump-memory=on", folder);
    NyxTest *t = start(options, "");
    QDict *event, *data;
    const char *path;
    struct stat file;

    panic(t);
    event = await_event(t);
    data = qdict_get_qdict(event, "data");
    path = qdict_get_str(data, "memory-dump");
    g_assert_cmpint(stat(path, &file), ==, 0);
    g_assert_cmpint(file.st_size, >=, t->ram_size);
    unlink(path);
    unlink(qdict_get_str(data, "dump"));
    qobject_unref(event);
    nyx_test_quit(t);
    g_assert_cmpint(rmdir(folder), ==, 0);
}

/* More memory than there is room for it */
static void test_dump_full(void)
{
    g_autofree char *folder = g_strdup("/dev/shm/nyx-dump-XXXXXX");
    QDict *event, *data;
    struct statvfs fs;
    QTestState *qts;

    if (!g_mkdtemp(folder) || statvfs(folder, &fs)) {
        g_test_skip("/dev/shm cannot be used");
        return;
    }
    qts = qtest_initf("-M nyx-pc,on-guest-panic=pause-vm,dump=%s,"
                      "dump-memory=on,memory-backend=ram -nodefaults "
                      /* A file with holes: nothing is reserved for it. */
                      "-object memory-backend-file,id=ram,share=on,mem-path=%s,"
                      "size=%" PRIu64 "M -m %" PRIu64 "M -device pvpanic",
                      folder, g_get_tmp_dir(),
                      (uint64_t)fs.f_bavail * fs.f_frsize / MiB + 1,
                      (uint64_t)fs.f_bavail * fs.f_frsize / MiB + 1);
    qtest_outb(qts, PVPANIC_PORT, 1);
    event = qtest_qmp_eventwait_ref(qts, "NYX_ERROR_ACTION");
    data = qdict_get_qdict(event, "data");
    g_assert_true(qdict_get_bool(data, "success"));
    g_assert_null(qdict_get_try_str(data, "memory-dump"));
    g_assert_nonnull(strstr(qdict_get_str(data, "dump-error"), "room"));
    unlink(qdict_get_str(data, "dump"));
    qobject_unref(event);
    qtest_quit(qts);
    g_assert_cmpint(rmdir(folder), ==, 0);
}

static void test_hmp(void)
{
    NyxTest *t = start("on-guest-panic=ignore", "");
    g_autofree char *text = NULL;

    panic(t);
    await_action(t, "guest-panic", "ignore", NULL);
    text = qtest_hmp(t->qts, "info nyx-errors");
    g_assert_nonnull(strstr(text, "guest-panic    ignore           1"));
    g_assert_nonnull(strstr(text, "ignore: done"));
    g_assert_nonnull(strstr(text, "resets:   0 of 3 an hour"));
    nyx_test_quit(t);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    for (int i = 0; i < ARRAY_SIZE(refused); i++) {
        g_autofree char *path = g_strdup_printf("/nyx/error/refused/%s",
                                                refused[i].name);

        qtest_add_data_func(path, &refused[i], test_refused);
    }
    qtest_add_func("/nyx/error/refused-later", test_refused_later);
    qtest_add_func("/nyx/error/panic/ignore", test_panic_ignore);
    qtest_add_func("/nyx/error/panic/pause", test_panic_pause);
    qtest_add_func("/nyx/error/panic/shutdown", test_panic_shutdown);
    qtest_add_func("/nyx/error/panic/reset", test_panic_reset);
    qtest_add_func("/nyx/error/panic/restore", test_panic_restore);
    qtest_add_func("/nyx/error/panic/default", test_panic_default);
    qtest_add_func("/nyx/error/watchdog/tco", test_tco);
    qtest_add_func("/nyx/error/watchdog/i6300esb", test_i6300esb);
    qtest_add_func("/nyx/error/machine-check/pause", test_check_pause);
    qtest_add_func("/nyx/error/machine-check/reset", test_check_reset);
    qtest_add_func("/nyx/error/machine-check/ignore", test_check_ignore);
    qtest_add_func("/nyx/error/machine-check/vcpu", test_check_vcpu);
    qtest_add_func("/nyx/error/dump/json", test_dump);
    qtest_add_func("/nyx/error/dump/memory", test_dump_memory);
    qtest_add_func("/nyx/error/dump/full", test_dump_full);
    qtest_add_func("/nyx/error/hmp", test_hmp);
    return g_test_run();
}
