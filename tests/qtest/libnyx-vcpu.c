/*
 * What the qtests of vCPU health share
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "libnyx-vcpu.h"
#include "qobject/qlist.h"

#define ROM_SIZE        0x10000     /* seen at 0xf0000, which is F000:0000 */
#define ROM_SECOND      0x0000      /* a SIPI starts at a page's first byte */
#define ROM_FIRST       0x0100
#define ROM_RESET       0xfff0
#define MS              1000000

/* 16-bit code */

const VcpuCode vcpu_spins_closed = VCPU_CODE(
    0xfa,                           /*    cli */
    0x80, 0x3e, 0x00, 0x05, 0x00,   /* 1: cmpb $0, VCPU_GO_ON */
    0x74, 0xf9,                     /*    je 1b */
    0xfb,                           /*    sti */
    0xeb, 0xfe                      /* 2: jmp 2b */
);
const VcpuCode vcpu_spins_open = VCPU_CODE(
    0xfb,                           /*    sti */
    0xeb, 0xfe                      /* 1: jmp 1b */
);
const VcpuCode vcpu_spins_mostly_closed = VCPU_CODE(
    0xfa,                           /* 1: cli */
    0xb9, 0x00, 0xff,               /*    mov $0xff00, %cx */
    0xe2, 0xfe,                     /* 2: loop 2b */
    0xfb,                           /*    sti */
    0xb9, 0x00, 0x20,               /*    mov $0x2000, %cx */
    0xe2, 0xfe,                     /* 3: loop 3b */
    0xeb, 0xf2                      /*    jmp 1b */
);
const VcpuCode vcpu_halts_closed = VCPU_CODE(
    0xfa,                           /*    cli */
    0xf4,                           /* 1: hlt */
    0xeb, 0xfd                      /*    jmp 1b */
);
const VcpuCode vcpu_halts_open = VCPU_CODE(
    0xfb,                           /*    sti */
    0xf4,                           /* 1: hlt */
    0xeb, 0xfd                      /*    jmp 1b */
);
const VcpuCode vcpu_starts_second = VCPU_CODE(
    0x66, 0xb9, 0x1b, 0x00, 0x00, 0x00, /* mov $IA32_APIC_BASE, %ecx */
    0x0f, 0x32,                         /* rdmsr */
    0x66, 0x0d, 0x00, 0x0c, 0x00, 0x00, /* or $0xc00, %eax: x2APIC */
    0x0f, 0x30,                         /* wrmsr */
    0x66, 0xb9, 0x30, 0x08, 0x00, 0x00, /* mov $IA32_X2APIC_ICR, %ecx */
    0x66, 0xba, 0x01, 0x00, 0x00, 0x00, /* mov $1, %edx: to APIC 1 */
    0x66, 0xb8, 0x00, 0x45, 0x00, 0x00, /* mov $0x4500, %eax: INIT */
    0x0f, 0x30,                         /* wrmsr */
    0x66, 0xb8, 0xf0, 0x46, 0x00, 0x00, /* mov $0x46f0, %eax: SIPI, F000:0 */
    0x0f, 0x30,                         /* wrmsr */
    0xfb,                               /* sti */
    0xf4,                               /* 1: hlt */
    0xeb, 0xfd                          /* jmp 1b */
);

static char *write_rom(const VcpuCode *first, const VcpuCode *second)
{
    static const uint8_t jump[] = { 0xea, ROM_FIRST & 0xff, ROM_FIRST >> 8,
                                    0x00, 0xf0 };
    g_autofree uint8_t *rom = g_malloc0(ROM_SIZE);
    char *path;
    int fd = g_file_open_tmp("nyx-vcpu-XXXXXX", &path, NULL);

    g_assert_cmpint(fd, >=, 0);
    memcpy(rom + ROM_RESET, jump, sizeof(jump));
    memcpy(rom + ROM_FIRST, first->bytes, first->size);
    if (second) {
        memcpy(rom + ROM_SECOND, second->bytes, second->size);
    }
    g_assert_cmpint(write(fd, rom, ROM_SIZE), ==, ROM_SIZE);
    close(fd);
    return path;
}

VcpuTest *vcpu_test_start(const char *accel, const VcpuCode *first,
                          const VcpuCode *second, const char *options,
                          const char *arguments)
{
    VcpuTest *t = g_new0(VcpuTest, 1);

    t->rom = write_rom(first, second);
    t->qts = qtest_initf("-accel %s -cpu max -M nyx-pc,vcpu-check-ms=10%s "
                         "-m 64 -nodefaults -bios %s %s", accel, options,
                         t->rom, arguments);
    return t;
}

void vcpu_test_quit(VcpuTest *t)
{
    qtest_quit(t->qts);
    unlink(t->rom);
    g_free(t->rom);
    g_free(t);
}

void vcpu_set(VcpuTest *t, const char *option, int value)
{
    qtest_qmp_assert_success(t->qts, "{ 'execute': 'qom-set', 'arguments': {"
                             " 'path': '/machine', 'property': %s,"
                             " 'value': %d } }", option, value);
}

static QList *query_all(VcpuTest *t)
{
    QDict *response = qtest_qmp(t->qts, "{ 'execute': 'query-nyx-vcpus' }");
    QList *list = qobject_ref(qdict_get_qlist(response, "return"));

    qobject_unref(response);
    return list;
}

QDict *vcpu_query(VcpuTest *t, int index)
{
    QList *list = query_all(t);
    const QListEntry *entry;
    QDict *found = NULL;

    QLIST_FOREACH_ENTRY(list, entry) {
        QDict *info = qobject_to(QDict, qlist_entry_obj(entry));

        if (qdict_get_int(info, "vcpu") == index) {
            found = qobject_ref(info);
        }
    }
    qobject_unref(list);
    g_assert_nonnull(found);
    return found;
}

void vcpu_await_state(VcpuTest *t, int index, const char *state)
{
    bool reached;

    do {
        QDict *info = vcpu_query(t, index);

        reached = g_str_equal(qdict_get_str(info, "state"), state);
        qobject_unref(info);
    } while (!reached);
}

static int64_t progress_of(VcpuTest *t, int index)
{
    QDict *info = vcpu_query(t, index);
    int64_t ns = qdict_get_try_int(info, "last-progress-ns", -1);

    qobject_unref(info);
    return ns;
}

void vcpu_await_progress(VcpuTest *t, int index, int ms)
{
    int64_t start;

    do {
        start = progress_of(t, index);
    } while (start < 0);
    while (progress_of(t, index) < start + (int64_t)ms * MS) {
        /* each query is a round trip */
    }
}

static void await_event(VcpuTest *t, const char *name, int index,
                        const char *reason)
{
    QDict *event = qtest_qmp_eventwait_ref(t->qts, name);
    QDict *data = qdict_get_qdict(event, "data");

    g_assert_cmpint(qdict_get_int(data, "vcpu"), ==, index);
    g_assert_cmpstr(qdict_get_str(data, "reason"), ==, reason);
    qobject_unref(event);
}

void vcpu_await_stuck(VcpuTest *t, int index, const char *reason)
{
    QDict *info;

    await_event(t, "NYX_VCPU_STUCK", index, reason);
    info = vcpu_query(t, index);
    g_assert_cmpstr(qdict_get_try_str(info, "stuck"), ==, reason);
    qobject_unref(info);
}

void vcpu_await_recovered(VcpuTest *t, int index, const char *reason)
{
    await_event(t, "NYX_VCPU_RECOVERED", index, reason);
}

void vcpu_assert_never_stuck(VcpuTest *t)
{
    QList *list = query_all(t);
    const QListEntry *entry;

    QLIST_FOREACH_ENTRY(list, entry) {
        g_assert_false(qdict_haskey(qobject_to(QDict, qlist_entry_obj(entry)),
                                    "stuck"));
    }
    qobject_unref(list);
    g_assert_null(qtest_qmp_event_ref(t->qts, "NYX_VCPU_STUCK"));
}
