/*
 * nyx-pc: every kind of PCI device in and out, hundreds of times
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * QEMU is asked which kinds it has, so that none is forgotten: each must come
 * and go, or be named below with the reason why it does not.
 */

#include "qemu/osdep.h"
#include "libnyx-slot.h"
#include "qobject/qjson.h"
#include "qobject/qlist.h"
#include "qobject/qstring.h"

#define TIMEOUT         (60 * G_TIME_SPAN_SECOND)
/* Between the first pass and the last. */
#ifdef QEMU_SANITIZE_ADDRESS
/* ASan holds back what is freed; there LeakSanitizer has the say. */
#define MAX_RSS_GROWTH  MIB(1024)
#else
#define MAX_RSS_GROWTH  MIB(8)
#endif

/* Kinds that do not take part, and why */
static const struct {
    const char *pattern;
    const char *why;
} left_out[] = {
    { "AMDVI-PCI", "the machine creates it, with stage1" },
    { "cxl-*", "needs a CXL fixed memory window" },
    { "ivshmem-doorbell", "needs a server" },
    { "vfio-*", "needs hardware, or a server" },
    { "vhost-*", "needs a backend" },
    { "virtio-input-host-pci", "needs an input device of the host" },
    { "x-pci-proxy-dev", "needs a server" },
    { "xen-*", "needs Xen" },
    { "igbvf", "comes and goes with igb" },
    { "virtio-pmem-pci", "QEMU does not unplug it" },
    { "pci-bridge-seat", "is a bridge for a second console" },
    { "ioh3420", "is a port that pcie-root-port has replaced" },
    /* Unplugging these crashes QEMU 11.1 on any machine. */
    { "dc390", "QEMU: its EEPROM is still to be migrated when it is gone" },
    { "i82559er", "QEMU: crashes when it is unplugged" },
    { "i82801b11-bridge", "QEMU: divides by zero when it is unplugged" },
    { "ivshmem-plain", "QEMU: its memory still has a name when it is gone" },
    { "pci-ipmi-*", "QEMU: its BMC is in use for ever" },
    { "rocker", "QEMU: gives MSI-X vectors back too late" },
};

#define TWO_BUSES   "{ 'canbus0': '/objects/can', 'canbus1': '/objects/can' }"

/* What a kind needs besides its id, bus and domain */
static const struct {
    const char *pattern;
    const char *properties;
} needs[] = {
    { "AC97", "{ 'audiodev': 'audio' }" },
    { "ES1370", "{ 'audiodev': 'audio' }" },
    { "virtio-sound-pci", "{ 'audiodev': 'audio' }" },
    { "nvme", "{ 'serial': 'nvme', 'drive': 'disk' }" },
    { "virtio-9p-pci*", "{ 'fsdev': 'fs', 'mount_tag': 'tag' }" },
    { "virtio-blk-pci*", "{ 'drive': 'disk' }" },
    { "virtio-crypto-pci", "{ 'cryptodev': 'crypto' }" },
    { "virtio-net-pci*", "{ 'netdev': 'net' }" },
    { "e1000*", "{ 'netdev': 'net' }" },
    { "igb", "{ 'netdev': 'net' }" },
    { "virtio-mem-pci", "{ 'memdev': 'pluggable' }" },
    { "ctucan_pci", TWO_BUSES },
    { "kvaser_pci", "{ 'canbus': '/objects/can' }" },
    { "mioe3680_pci", TWO_BUSES },
    { "pcm3680_pci", TWO_BUSES },
    { "pci-bridge", "{ 'chassis_nr': 7 }" },
    { "pci-serial", "{ 'chardev': 'null' }" },
    { "*-root-port", "{ 'chassis': 7 }" },
    { "xio3130-downstream", "{ 'chassis': 7 }" },
};

#define BACKENDS \
    "-audiodev none,id=audio " \
    "-blockdev null-co,node-name=disk,read-zeroes=on " \
    "-fsdev local,id=fs,path=/,security_model=none " \
    "-object cryptodev-backend-builtin,id=crypto " \
    "-netdev hubport,id=net,hubid=0 " \
    "-object memory-backend-ram,id=pluggable,size=16M " \
    "-object can-bus,id=can -chardev null,id=null "

#define DOMAINS \
    "-object nyx-domain,id=own " \
    "-object nyx-domain,id=many,isolation=shared " \
    "-object nyx-domain,id=free,isolation=unmanaged "

/* Each kind goes through all of these. */
typedef struct Visit {
    const char *domain;         /* NULL: an automatic one */
    bool faults;                /* past the limit while it is asked for */
    bool quarantine;            /* before it is asked for */
    bool fail;                  /* in addition */
} Visit;

static const Visit visits[] = {
    { NULL, .quarantine = true },
    { "own", .quarantine = true, .fail = true },
    { "many", .faults = true },
    { "free" },
};

static const char *reason_to_leave_out(const char *kind)
{
    for (unsigned i = 0; i < ARRAY_SIZE(left_out); i++) {
        if (g_pattern_match_simple(left_out[i].pattern, kind)) {
            return left_out[i].why;
        }
    }
    return NULL;
}

/* Virtio with its old interface knows no IOMMU. */
static bool is_legacy(const char *kind)
{
    return g_str_has_suffix(kind, "-transitional") &&
           !g_str_has_suffix(kind, "-non-transitional");
}

static QDict *properties_of(const char *kind, const Visit *v)
{
    QDict *props = NULL;

    for (unsigned i = 0; i < ARRAY_SIZE(needs) && !props; i++) {
        if (g_pattern_match_simple(needs[i].pattern, kind)) {
            props = qobject_to(QDict, qobject_from_json(needs[i].properties,
                                                        NULL));
        }
    }
    props = props ?: qdict_new();
    qdict_put_str(props, "driver", kind);
    qdict_put_str(props, "id", "dev");
    qdict_put_str(props, "bus", "rp");
    if (v->domain) {
        qdict_put_str(props, "nyx-domain", v->domain);
    }
    if (is_legacy(kind)) {
        qdict_put_bool(props, "iommu_platform", false);
    }
    return props;
}

/*
 * False if it cannot be plugged at all.  What the one before it had in use is
 * free as soon as QEMU has freed that.
 */
static bool plug(NyxTest *t, const char *kind, const Visit *v)
{
    int64_t end = g_get_monotonic_time() + TIMEOUT;

    for (;;) {
        QDict *response = qtest_qmp(t->qts, "{ 'execute': 'device_add',"
                                    "  'arguments': %p }",
                                    properties_of(kind, v));
        g_autofree char *error = qdict_haskey(response, "error")
            ? g_strdup(qdict_get_str(qdict_get_qdict(response, "error"),
                                     "desc"))
            : NULL;

        qobject_unref(response);
        if (!error) {
            return true;
        }
        if (strstr(error, "does not support hotplugging") ||
            strstr(error, "expects a pluggable device type")) {
            return false;
        }
        if (g_get_monotonic_time() > end) {
            g_error("%s cannot be plugged: %s", kind, error);
        }
    }
}

static bool see_deletion(QTestState *qts, const char *name, QDict *event,
                         void *opaque)
{
    QDict *data = qdict_get_qdict(event, "data");
    bool *deleted = opaque;

    if (g_str_equal(name, "DEVICE_DELETED") &&
        !g_strcmp0(qdict_get_try_str(data, "device"), "dev")) {
        *deleted = true;
    }
    return true;
}

static void misbehave(NyxTest *t, const Visit *v)
{
    if (v->quarantine) {
        nyx_quarantine(t, "dev");
    }
    if (v->fail) {
        nyx_qmp_refused(t, "recover it with force=true",
                        "{ 'execute': 'nyx-recover-device',"
                        "  'arguments': { 'device': 'dev' } }");
    }
}

/* A bridge is never cut off, nor is what bypasses the IOMMU. */
static bool can_misbehave(NyxTest *t)
{
    QDict *response = qtest_qmp(t->qts, "{ 'execute': 'nyx-inject-fault',"
                                "  'arguments': { 'device': 'dev',"
                                "  'address': 0, 'access': 'r' } }");
    bool can = !qdict_haskey(response, "error");
    QDict *info = nyx_query_device(t, "dev");

    can = can && !strstr(qdict_get_str(info, "driver"), "bridge") &&
          !strstr(qdict_get_str(info, "driver"), "port") &&
          !strstr(qdict_get_str(info, "driver"), "stream");
    qobject_unref(response);
    qobject_unref(info);
    return can;
}

static bool visit(NyxTest *t, const NyxSlot *slot, const char *kind,
                  const Visit *v)
{
    int64_t end = g_get_monotonic_time() + TIMEOUT;
    bool deleted = false, misbehaves;

    if (!plug(t, kind, v)) {
        return false;
    }
    nyx_assert_domain(t, "dev", v->domain ?: "auto:dev");
    nyx_slot_use(t, slot);
    misbehaves = can_misbehave(t);
    if (misbehaves) {
        misbehave(t, v);
    }
    qtest_qmp_set_event_callback(t->qts, see_deletion, &deleted);
    nyx_qmp(t, "{ 'execute': 'device_del', 'arguments': { 'id': 'dev' } }");
    if (misbehaves && v->faults) {
        nyx_inject(t, "dev", 20);
    } else if (!misbehaves || !v->quarantine) {
        nyx_slot_let_go(t, slot);
    }
    while (!deleted) {
        nyx_qmp(t, "{ 'execute': 'query-version' }");
        if (g_get_monotonic_time() > end) {
            g_error("%s stays", kind);
        }
    }
    qtest_qmp_set_event_callback(t->qts, NULL, NULL);
    return true;
}

static const Visit legacy_visit = { "free" };

/* Returns how many devices came and went. */
static unsigned visit_kind(NyxTest *t, const NyxSlot *slot, const char *kind)
{
    if (is_legacy(kind)) {
        return visit(t, slot, kind, &legacy_visit);
    }
    for (unsigned i = 0; i < ARRAY_SIZE(visits); i++) {
        if (!visit(t, slot, kind, &visits[i])) {
            return 0;
        }
    }
    return ARRAY_SIZE(visits);
}

static QList *kinds(NyxTest *t)
{
    QDict *response = qtest_qmp(t->qts, "{ 'execute': 'qom-list-types',"
                                "  'arguments': { 'implements': 'pci-device',"
                                "                 'abstract': false } }");
    QList *list = qobject_ref(qdict_get_qlist(response, "return"));

    qobject_unref(response);
    return list;
}

static unsigned visit_all(NyxTest *t, const NyxSlot *slot)
{
    QList *list = kinds(t);
    const QListEntry *entry;
    unsigned visited = 0;

    QLIST_FOREACH_ENTRY(list, entry) {
        QDict *type = qobject_to(QDict, qlist_entry_obj(entry));
        const char *kind = qdict_get_str(type, "name");
        const char *why = reason_to_leave_out(kind);

        if (why) {
            g_test_message("%s is left out: %s", kind, why);
        } else {
            visited += visit_kind(t, slot, kind);
        }
    }
    qobject_unref(list);
    return visited;
}

/* What could be left behind */
typedef struct Holdings {
    NyxCount nyx;
    unsigned objects;           /* of QOM, all of them */
    unsigned spaces;            /* address spaces */
    unsigned files;             /* descriptors */
    size_t rss;                 /* bytes */
} Holdings;

static unsigned count_objects(NyxTest *t, const char *path)
{
    QDict *response = qtest_qmp(t->qts, "{ 'execute': 'qom-list',"
                                "  'arguments': { 'path': %s } }", path);
    const QListEntry *entry;
    unsigned count = 1;

    if (qdict_haskey(response, "error")) {
        /* It is gone since it was listed. */
        qobject_unref(response);
        return 0;
    }
    QLIST_FOREACH_ENTRY(qdict_get_qlist(response, "return"), entry) {
        QDict *property = qobject_to(QDict, qlist_entry_obj(entry));

        const char *type = qdict_get_str(property, "type");

        /* QEMU never frees the subsystem that it makes for each NVMe. */
        if (g_str_has_prefix(type, "child<") &&
            !g_str_equal(type, "child<nvme-subsys>")) {
            g_autofree char *child = g_build_path("/", path,
                qdict_get_str(property, "name"), NULL);

            count += count_objects(t, child);
        }
    }
    qobject_unref(response);
    return count;
}

static unsigned count_spaces(NyxTest *t)
{
    g_autofree char *tree = qtest_hmp(t->qts, "info mtree");
    unsigned count = 0;

    for (char *p = tree; (p = strstr(p, "address-space: ")); p++) {
        count++;
    }
    return count;
}

static unsigned count_files(NyxTest *t)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/fd",
                                            (int)qtest_pid(t->qts));
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    unsigned count = 0;

    g_assert_nonnull(dir);
    while (g_dir_read_name(dir)) {
        count++;
    }
    return count;
}

static size_t resident(NyxTest *t)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/statm",
                                            (int)qtest_pid(t->qts));
    g_autofree char *text = NULL;
    unsigned long size, pages;

    g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
    g_assert_cmpint(sscanf(text, "%lu %lu", &size, &pages), ==, 2);
    return pages * qemu_real_host_page_size();
}

static Holdings take_stock(NyxTest *t)
{
    return (Holdings) {
        .nyx = nyx_count(t),
        .objects = count_objects(t, "/"),
        .spaces = count_spaces(t),
        .files = count_files(t),
        .rss = resident(t),
    };
}

static bool is_same(const Holdings *a, const Holdings *b)
{
    return a->nyx.endpoints == b->nyx.endpoints &&
           a->nyx.devices == b->nyx.devices &&
           a->nyx.domains == b->nyx.domains && a->objects == b->objects &&
           a->spaces == b->spaces && a->files == b->files;
}

/* RCU frees what is left of a device. */
static Holdings await_same(NyxTest *t, const Holdings *before)
{
    int64_t end = g_get_monotonic_time() + TIMEOUT;
    Holdings now = take_stock(t);

    while (!is_same(&now, before)) {
        if (g_get_monotonic_time() > end) {
            g_error("there are %u endpoints, %u objects, %u address spaces, %u "
                    "open files; before it were %u, %u, %u, %u",
                    now.nyx.endpoints, now.objects, now.spaces, now.files,
                    before->nyx.endpoints, before->objects, before->spaces,
                    before->files);
        }
        now = take_stock(t);
    }
    return now;
}

static NyxTest *start(const NyxSlot *slot, const char *stage1)
{
    g_autofree char *machine = g_strdup_printf("nyx-pc,stage1=%s,"
                                               "unplug-timeout-ms=0,"
                                               "max-recoveries=0", stage1);

    return nyx_test_start(machine, "-m maxmem=1G,slots=1 " BACKENDS DOMAINS
                          "%s", slot->options);
}

/*
 * Twice: in the first pass QEMU may make what it makes once.
 */
static void test_all(const NyxSlot *slot, const char *stage1)
{
    NyxTest *t = start(slot, stage1);
    Holdings first, last;
    unsigned visited;

    visit_all(t, slot);
    first = take_stock(t);
    g_assert_cmpuint(first.objects, >, 100);
    visited = visit_all(t, slot);
    last = await_same(t, &first);
    g_test_message("%u devices came and went; %zd KiB more memory", visited,
                   ((ssize_t)last.rss - (ssize_t)first.rss) / 1024);
    g_assert_cmpuint(visited, >, 200);
    g_assert_cmpuint(last.rss, <, first.rss + MAX_RSS_GROWTH);
    nyx_test_quit(t);
}

static void test_slot(const void *slot)
{
    test_all(slot, "none");
}

static void test_stage1(const void *stage1)
{
    test_all(&nyx_slots[NYX_SLOTS - 2], stage1);
}

int main(int argc, char **argv)
{
    static const char *const stages[] = { "intel", "amd", "virtio" };

    g_test_init(&argc, &argv, NULL);
    for (unsigned i = 0; i < NYX_SLOTS; i++) {
        /* Most kinds are for PCIe. */
        if (nyx_slots[i].native || nyx_slots[i].acpi) {
            g_autofree char *path = g_strdup_printf("/nyx/plug-kinds/%s",
                                                    nyx_slots[i].name);

            qtest_add_data_func(path, &nyx_slots[i], test_slot);
        }
    }
    for (unsigned i = 0; i < ARRAY_SIZE(stages); i++) {
        g_autofree char *path = g_strconcat("/nyx/plug-kinds/stage1-",
                                            stages[i], NULL);

        qtest_add_data_func(path, stages[i], test_stage1);
    }
    return g_test_run();
}
