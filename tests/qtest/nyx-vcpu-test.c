/*
 * vCPU health: what is stuck is found, what is not is left in peace
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "libnyx-vcpu.h"
#include <sched.h>
#include <sys/ptrace.h>
#include <sys/wait.h>

/* A limit so short that what must not exceed it does so at once, if ever. */
#define LIMIT_MS        300
#define LIMIT           ",vcpu-stuck-ms=300"
#define LONG_MS         (4 * LIMIT_MS)
/* ... and one that nothing here comes near */
#define FAR             ",vcpu-stuck-ms=600000"

/* What is stuck */

static void test_closed(const void *accel)
{
    VcpuTest *t = vcpu_test_start(accel, &vcpu_spins_closed, NULL, LIMIT, "");
    QDict *info;

    vcpu_await_stuck(t, 0, "interrupts-off");
    info = vcpu_query(t, 0);
    g_assert_cmpstr(qdict_get_str(info, "state"), ==, "running");
    g_assert_false(qdict_get_bool(info, "interrupts"));
    /* one of the two instructions of the loop */
    g_assert_cmphex(qdict_get_int(info, "pc"), >=, 0xf0101);
    g_assert_cmphex(qdict_get_int(info, "pc"), <=, 0xf0106);
    g_assert_cmpint(qdict_get_int(info, "suspect-ns"), >=,
                    LIMIT_MS * 1000000LL);
    qobject_unref(info);
    qtest_writeb(t->qts, VCPU_GO_ON, 1);
    vcpu_await_recovered(t, 0, "interrupts-off");
    vcpu_await_progress(t, 0, LONG_MS);
    vcpu_assert_never_stuck(t);
    vcpu_test_quit(t);
}

/* With another that has nothing to do, and is not taken for stuck. */
static void test_second_closed(const void *accel)
{
    VcpuTest *t = vcpu_test_start(accel, &vcpu_starts_second,
                                  &vcpu_spins_closed, LIMIT, "-smp 2");

    vcpu_await_stuck(t, 1, "interrupts-off");
    vcpu_await_state(t, 0, "halted");
    qtest_writeb(t->qts, VCPU_GO_ON, 1);
    vcpu_await_recovered(t, 1, "interrupts-off");
    vcpu_await_progress(t, 1, LONG_MS);
    vcpu_assert_never_stuck(t);
    vcpu_test_quit(t);
}

/* Nothing wakes this guest any more; its second vCPU was never started. */
static void test_dead(const void *accel)
{
    VcpuTest *t = vcpu_test_start(accel, &vcpu_halts_closed, NULL, LIMIT,
                                  "-smp 2");

    vcpu_await_stuck(t, 0, "halted");
    vcpu_await_state(t, 1, "wait-for-sipi");
    qtest_qmp_assert_success(t->qts, "{ 'execute': 'system_reset' }");
    vcpu_await_recovered(t, 0, "halted");
    vcpu_await_stuck(t, 0, "halted");
    vcpu_test_quit(t);
}

/* The thread of vCPU 0 is held by a debugger, and holds no lock then. */
static bool hold_thread(VcpuTest *t, int *thread)
{
    QDict *info;
    int status;

    vcpu_set(t, "vcpu-check-ms", 0);
    info = vcpu_query(t, 0);
    *thread = qdict_get_int(info, "thread-id");
    qobject_unref(info);
    if (ptrace(PTRACE_SEIZE, *thread, NULL, NULL) < 0) {
        return false;
    }
    g_assert_cmpint(ptrace(PTRACE_INTERRUPT, *thread, NULL, NULL), ==, 0);
    do {
        g_assert_cmpint(waitpid(*thread, &status, __WALL), ==, *thread);
        g_assert_true(WIFSTOPPED(status));
    } while (status >> 16 != PTRACE_EVENT_STOP &&
             ptrace(PTRACE_CONT, *thread, NULL, WSTOPSIG(status)) == 0);
    vcpu_set(t, "vcpu-check-ms", 10);
    return true;
}

static void test_thread(const void *accel)
{
    VcpuTest *t = vcpu_test_start(accel, &vcpu_spins_open, NULL, LIMIT, "");
    int thread;

    vcpu_await_progress(t, 0, 1);
    if (!hold_thread(t, &thread)) {
        g_test_skip("this system lets nobody trace its own children");
        vcpu_test_quit(t);
        return;
    }
    vcpu_await_stuck(t, 0, "thread");
    g_assert_cmpint(ptrace(PTRACE_DETACH, thread, NULL, NULL), ==, 0);
    vcpu_await_recovered(t, 0, "thread");
    vcpu_await_progress(t, 0, LONG_MS);
    vcpu_assert_never_stuck(t);
    vcpu_test_quit(t);
}

/* What is not */

static void check_well(const char *accel, const VcpuCode *code,
                       const char *state)
{
    VcpuTest *t = vcpu_test_start(accel, code, NULL, LIMIT, "-smp 2");
    QDict *info;

    vcpu_await_state(t, 0, state);
    vcpu_await_state(t, 1, "wait-for-sipi");
    vcpu_await_progress(t, 0, LONG_MS);
    vcpu_await_progress(t, 1, LONG_MS);
    vcpu_assert_never_stuck(t);
    info = vcpu_query(t, 0);
    if (g_str_equal(state, "halted")) {
        g_assert_cmpint(qdict_get_int(info, "halted-ns"), >, 0);
    } else {
        g_assert_cmpint(qdict_get_int(info, "cpu-time-ns"), >, 0);
    }
    qobject_unref(info);
    vcpu_test_quit(t);
}

static void test_open(const void *accel)
{
    check_well(accel, &vcpu_spins_open, "running");
}

static void test_mostly_closed(const void *accel)
{
    check_well(accel, &vcpu_spins_mostly_closed, "running");
}

static void test_idle(const void *accel)
{
    check_well(accel, &vcpu_halts_open, "halted");
}

/* One vCPU that is offline, as Linux has it, beside one that is not. */
static void test_offline(const void *accel)
{
    VcpuTest *t = vcpu_test_start(accel, &vcpu_starts_second,
                                  &vcpu_halts_closed, LIMIT, "-smp 2");
    QDict *info;

    vcpu_await_state(t, 1, "halted");
    vcpu_await_progress(t, 0, LONG_MS);
    vcpu_assert_never_stuck(t);
    info = vcpu_query(t, 1);
    g_assert_false(qdict_get_bool(info, "interrupts"));
    qobject_unref(info);
    vcpu_test_quit(t);
}

/* While the VM is stopped no time passes, and then it begins anew. */
static void test_stopped(const void *accel)
{
    VcpuTest *t = vcpu_test_start(accel, &vcpu_spins_closed, NULL, FAR, "");
    QDict *info;

    vcpu_await_state(t, 0, "running");
    qtest_qmp_assert_success(t->qts, "{ 'execute': 'stop' }");
    vcpu_set(t, "vcpu-stuck-ms", LIMIT_MS);
    /* Nothing tells that nothing happens. */
    g_usleep(LONG_MS * 1000);
    vcpu_assert_never_stuck(t);
    info = vcpu_query(t, 0);
    g_assert_cmpstr(qdict_get_str(info, "state"), ==, "stopped");
    g_assert_cmpint(qdict_get_int(info, "suspect-ns"), ==, 0);
    qobject_unref(info);
    qtest_qmp_assert_success(t->qts, "{ 'execute': 'cont' }");
    vcpu_await_stuck(t, 0, "interrupts-off");
    vcpu_test_quit(t);
}

/*
 * All of QEMU did not run for longer than the limit: nobody knows what the vCPU
 * would have done, so that time counts for next to nothing.
 */
static void test_frozen(const void *accel)
{
    VcpuTest *t = vcpu_test_start(accel, &vcpu_halts_closed, NULL, FAR, "");

    vcpu_await_progress(t, 0, 1);
    vcpu_set(t, "vcpu-stuck-ms", 10 * LIMIT_MS);
    g_assert_cmpint(kill(qtest_pid(t->qts), SIGSTOP), ==, 0);
    g_usleep(12 * LIMIT_MS * 1000);
    g_assert_cmpint(kill(qtest_pid(t->qts), SIGCONT), ==, 0);
    vcpu_await_progress(t, 0, 1);
    vcpu_assert_never_stuck(t);
    vcpu_await_stuck(t, 0, "halted");
    vcpu_test_quit(t);
}

static gpointer waste_time(gpointer data)
{
    while (!qatomic_read((bool *)data)) {
        /* keep the host busy */
    }
    return NULL;
}

/* The host has next to no time for the vCPU, and all for others. */
static void test_starved(const void *accel)
{
    VcpuTest *t = vcpu_test_start(accel, &vcpu_spins_open, NULL, LIMIT, "");
    const struct sched_param none = {};
    QDict *info = vcpu_query(t, 0);
    int thread = qdict_get_int(info, "thread-id");
    bool done = false;
    GThread *waster;
    cpu_set_t all, one;

    qobject_unref(info);
    vcpu_await_progress(t, 0, 1);
    g_assert_cmpint(sched_getaffinity(0, sizeof(all), &all), ==, 0);
    CPU_ZERO(&one);
    for (int cpu = 0; CPU_COUNT(&one) == 0; cpu++) {
        if (CPU_ISSET(cpu, &all)) {
            CPU_SET(cpu, &one);
        }
    }
    /* Threads have the affinity of who creates them. */
    g_assert_cmpint(sched_setaffinity(0, sizeof(one), &one), ==, 0);
    waster = g_thread_new("waster", waste_time, &done);
    g_assert_cmpint(sched_setaffinity(0, sizeof(all), &all), ==, 0);
    g_assert_cmpint(sched_setscheduler(thread, SCHED_IDLE, &none), ==, 0);
    g_assert_cmpint(sched_setaffinity(thread, sizeof(one), &one), ==, 0);
    vcpu_await_progress(t, 0, 4 * LONG_MS);
    qatomic_set(&done, true);
    g_thread_join(waster);
    vcpu_assert_never_stuck(t);
    vcpu_test_quit(t);
}

/* A vCPU comes and goes, and comes again where QEMU can have that. */
static void test_plug(const void *accel)
{
    /* TCG keeps what it has for a thread, and has only for so many. */
    int times = g_str_equal(accel, "kvm") ? 3 : 1;
    VcpuTest *t = vcpu_test_start(accel, &vcpu_halts_open, NULL, LIMIT,
                                  "-smp 1,sockets=2,maxcpus=2");

    for (int i = 0; i < times; i++) {
        qtest_qmp_assert_success(t->qts, "{ 'execute': 'device_add',"
            " 'arguments': { 'driver': 'max-x86_64-cpu', 'id': 'second',"
            " 'socket-id': 1, 'die-id': 0, 'module-id': 0, 'core-id': 0,"
            " 'thread-id': 0 } }");
        vcpu_await_state(t, 1, "wait-for-sipi");
        vcpu_await_progress(t, 1, 1);
        qtest_qmp_assert_success(t->qts, "{ 'execute': 'device_del',"
            " 'arguments': { 'id': 'second' } }");
        /* As the guest's ACPI would: select it, eject it. */
        qtest_outl(t->qts, 0xcd8, 1);
        qtest_outb(t->qts, 0xcdc, 1 << 3);
        qtest_qmp_eventwait(t->qts, "DEVICE_DELETED");
        vcpu_await_progress(t, 0, 1);
        vcpu_assert_never_stuck(t);
    }
    vcpu_test_quit(t);
}

static void await_migrated(VcpuTest *t)
{
    bool done;

    do {
        QDict *info = qtest_qmp_assert_success_ref(t->qts,
            "{ 'execute': 'query-migrate' }");

        done = g_str_equal(qdict_get_str(info, "status"), "completed");
        g_assert_cmpstr(qdict_get_str(info, "status"), !=, "failed");
        qobject_unref(info);
    } while (!done);
}

/* It is stopped at the source, and goes on elsewhere. */
static void test_migration(const void *accel)
{
    VcpuTest *from = vcpu_test_start(accel, &vcpu_spins_closed, NULL, LIMIT,
                                     "");
    g_autofree char *path = g_strdup_printf("%s.state", from->rom);
    g_autofree char *uri = g_strdup_printf("file:%s", path);
    VcpuTest *to;

    vcpu_await_stuck(from, 0, "interrupts-off");
    qtest_qmp_assert_success(from->qts, "{ 'execute': 'migrate',"
                             " 'arguments': { 'uri': %s } }", uri);
    qtest_qmp_eventwait(from->qts, "STOP");
    await_migrated(from);
    /* Told where from only now, or its events are gone before we listen. */
    to = vcpu_test_start(accel, &vcpu_halts_open, NULL, LIMIT,
                         "-incoming defer");
    qtest_qmp_assert_success(to->qts, "{ 'execute': 'migrate-incoming',"
                             " 'arguments': { 'uri': %s } }", uri);
    qtest_qmp_eventwait(to->qts, "RESUME");
    /* It is stuck there, too, which is found out there. */
    vcpu_await_stuck(to, 0, "interrupts-off");
    qtest_writeb(to->qts, VCPU_GO_ON, 1);
    vcpu_await_recovered(to, 0, "interrupts-off");
    vcpu_test_quit(from);
    vcpu_test_quit(to);
    unlink(path);
}

/* Options */

static void test_options(void)
{
    VcpuTest *t = vcpu_test_start("tcg", &vcpu_spins_closed, NULL,
                                  ",vcpu-check-ms=0", "");
    QDict *info, *error;

    info = vcpu_query(t, 0);
    g_assert_cmpstr(qdict_get_str(info, "state"), ==, "unknown");
    g_assert_false(qdict_haskey(info, "interrupts"));
    qobject_unref(info);
    vcpu_set(t, "vcpu-check-ms", 10);
    vcpu_await_state(t, 0, "running");
    error = qtest_qmp_assert_failure_ref(t->qts, "{ 'execute': 'qom-set',"
        " 'arguments': { 'path': '/machine', 'property': 'vcpu-check-ms',"
        " 'value': 20000 } }");
    g_assert_nonnull(strstr(qdict_get_str(error, "desc"), "less than twice"));
    qobject_unref(error);
    vcpu_test_quit(t);
}

static void add(const char *accel, const char *name, GTestDataFunc function)
{
    g_autofree char *path = g_strdup_printf("/nyx/vcpu/%s/%s", accel, name);

    qtest_add_data_func(path, accel, function);
}

/* All vCPUs in one thread, or each in its own */
static void add_common(const char *accel)
{
    add(accel, "closed", test_closed);
    add(accel, "second-closed", test_second_closed);
    add(accel, "dead", test_dead);
    add(accel, "offline", test_offline);
    add(accel, "mostly-closed", test_mostly_closed);
}

static void add_rest(const char *accel)
{
    add(accel, "thread", test_thread);
    add(accel, "open", test_open);
    add(accel, "idle", test_idle);
    add(accel, "stopped", test_stopped);
    add(accel, "frozen", test_frozen);
    add(accel, "starved", test_starved);
    add(accel, "migration", test_migration);
    add(accel, "plug", test_plug);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    add_common("tcg");
    add_rest("tcg");
    add_common("tcg,thread=single");
    if (access("/dev/kvm", R_OK | W_OK) == 0) {
        add_common("kvm");
        add_rest("kvm");
    }
    qtest_add_func("/nyx/vcpu/options", test_options);
    return g_test_run();
}
