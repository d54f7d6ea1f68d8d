/*
 * What the qtests of plugging, recovery and AHCI share beyond libnyx.h
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "hw/pci/pci_regs.h"
#include "libnyx-extra.h"
#include "qobject/qlist.h"

#define TIMEOUT         (30 * G_TIME_SPAN_SECOND)
#define WINDOW_SIZE     MIB(8)

QPCIDevice *nyx_bridge_open(NyxTest *t, unsigned slot, unsigned bus)
{
    QPCIDevice *bridge = qpci_device_find(t->bus, QPCI_DEVFN(slot, 0));
    uint64_t first = ROUND_UP(t->bus->mmio_alloc_ptr, MIB(1));
    uint64_t last = first + WINDOW_SIZE - 1;

    g_assert_nonnull(bridge);
    t->bus->mmio_alloc_ptr = first;
    qpci_config_writeb(bridge, PCI_PRIMARY_BUS, slot / 32);
    qpci_config_writeb(bridge, PCI_SECONDARY_BUS, bus);
    qpci_config_writeb(bridge, PCI_SUBORDINATE_BUS, bus);
    qpci_config_writew(bridge, PCI_MEMORY_BASE, first >> 16);
    qpci_config_writew(bridge, PCI_MEMORY_LIMIT, last >> 16);
    qpci_device_enable(bridge);
    return bridge;
}

static bool is_status(size_t i, size_t at)
{
    return i == at || i == at + 1;
}

uint8_t *nyx_config_copy(QPCIDevice *pci, size_t size)
{
    uint8_t express = qpci_find_capability(pci, PCI_CAP_ID_EXP, 0);
    uint8_t *config = g_malloc0(size);

    for (size_t i = 0; i < size; i++) {
        if (!is_status(i, PCI_STATUS) &&
            !(express && is_status(i, express + PCI_EXP_DEVSTA))) {
            config[i] = qpci_config_readb(pci, i);
        }
    }
    return config;
}

void nyx_config_assert_same(QPCIDevice *pci, const uint8_t *before, size_t size)
{
    g_autofree uint8_t *now = nyx_config_copy(pci, size);

    for (size_t i = 0; i < size; i++) {
        if (now[i] != before[i]) {
            g_error("configuration byte 0x%zx of %02x:%02x was 0x%02x, is "
                    "0x%02x", i, pci->devfn >> 8, (pci->devfn & 0xff) >> 3,
                    before[i], now[i]);
        }
    }
}

typedef struct Unplug {
    const char *id;
    bool reset;
    bool gone;
} Unplug;

static bool unplug_event(QTestState *qts, const char *name, QDict *event,
                         void *opaque)
{
    Unplug *unplug = opaque;
    QDict *data = qdict_get_qdict(event, "data");

    if (g_str_equal(name, "RESET")) {
        unplug->reset = true;
    } else if (g_str_equal(name, "DEVICE_DELETED") &&
               !g_strcmp0(qdict_get_try_str(data, "device"), unplug->id)) {
        unplug->gone = true;
    }
    return true;
}

/* The two events come in any order. */
void nyx_unplug(NyxTest *t, const char *id)
{
    int64_t end = g_get_monotonic_time() + TIMEOUT;
    Unplug unplug = { .id = id };

    qtest_qmp_set_event_callback(t->qts, unplug_event, &unplug);
    qtest_qmp_device_del_send(t->qts, id);
    qtest_system_reset_nowait(t->qts);
    while (!unplug.reset || !unplug.gone) {
        nyx_qmp(t, "{ 'execute': 'query-version' }");
        g_assert_cmpint(g_get_monotonic_time(), <, end);
    }
    qtest_qmp_set_event_callback(t->qts, NULL, NULL);
}

static unsigned count_endpoints(NyxTest *t)
{
    QDict *response = qtest_qmp(t->qts, "{ 'execute': 'qom-list',"
                                "  'arguments': { 'path':"
                                "  '/machine/nyx-iommu' } }");
    const QListEntry *entry;
    unsigned count = 0;

    QLIST_FOREACH_ENTRY(qdict_get_qlist(response, "return"), entry) {
        QDict *child = qobject_to(QDict, qlist_entry_obj(entry));

        count += g_str_has_prefix(qdict_get_str(child, "name"), "endpoint[");
    }
    qobject_unref(response);
    g_assert_cmpuint(count, >, 0);
    return count;
}

NyxCount nyx_count(NyxTest *t)
{
    QDict *info = nyx_query_iommu(t);
    NyxCount count = {
        .endpoints = count_endpoints(t),
        .devices = qdict_get_uint(info, "devices"),
        .domains = qdict_get_uint(info, "domains"),
    };

    qobject_unref(info);
    return count;
}

void nyx_await_count(NyxTest *t, NyxCount count)
{
    int64_t end = g_get_monotonic_time() + TIMEOUT;
    NyxCount now = nyx_count(t);

    g_assert_cmpuint(now.devices, ==, count.devices);
    g_assert_cmpuint(now.domains, ==, count.domains);
    while (now.endpoints != count.endpoints) {
        if (g_get_monotonic_time() > end) {
            g_error("%u endpoints are left, not %u", now.endpoints,
                    count.endpoints);
        }
        now = nyx_count(t);
    }
}

void nyx_assert_domain(NyxTest *t, const char *id, const char *domain)
{
    QDict *info = nyx_query_device(t, id);

    g_assert_cmpstr(qdict_get_str(info, "domain"), ==, domain);
    qobject_unref(info);
}

char *nyx_device_at(NyxTest *t, const char *bdf)
{
    QDict *response = qtest_qmp(t->qts, "{ 'execute': 'query-nyx-devices' }");
    const QListEntry *entry;
    char *name = NULL;

    QLIST_FOREACH_ENTRY(qdict_get_qlist(response, "return"), entry) {
        QDict *info = qobject_to(QDict, qlist_entry_obj(entry));

        if (g_str_equal(qdict_get_str(info, "bdf"), bdf)) {
            name = g_strdup(qdict_get_str(info, "device"));
            break;
        }
    }
    qobject_unref(response);
    g_assert_nonnull(name);
    return name;
}

void nyx_quarantine(NyxTest *t, const char *id)
{
    nyx_qmp(t, "{ 'execute': 'nyx-quarantine-device',"
            "  'arguments': { 'device': %s } }", id);
    nyx_assert_state(t, id, "quarantined");
}

void nyx_recover(NyxTest *t, const char *id)
{
    nyx_qmp(t, "{ 'execute': 'nyx-recover-device',"
            "  'arguments': { 'device': %s } }", id);
    nyx_assert_state(t, id, "operational");
}

void nyx_assign(NyxTest *t, const char *id, const char *domain)
{
    nyx_qmp(t, "{ 'execute': 'nyx-assign-device',"
            "  'arguments': { 'device': %s, 'domain': %s } }", id, domain);
    nyx_assert_domain(t, id, domain);
}

void nyx_inject(NyxTest *t, const char *id, unsigned count)
{
    nyx_qmp(t, "{ 'execute': 'nyx-inject-fault', 'arguments': {"
            "  'device': %s, 'address': 4096, 'access': 'w',"
            "  'count': %u } }", id, count);
}

void nyx_await_action(NyxTest *t, const char *id, const char *limit,
                      const char *action, const char *error)
{
    QDict *event = qtest_qmp_eventwait_ref(t->qts, "NYX_LIMIT_ACTION");
    QDict *data = qdict_get_qdict(event, "data");

    g_assert_cmpstr(qdict_get_str(data, "device"), ==, id);
    g_assert_cmpstr(qdict_get_str(data, "domain"), !=, "");
    g_assert_cmpstr(qdict_get_str(data, "limit"), ==, limit);
    g_assert_cmpstr(qdict_get_str(data, "action"), ==, action);
    if (error) {
        g_assert_nonnull(strstr(qdict_get_str(data, "error"), error));
    } else {
        g_assert_null(qdict_get_try_str(data, "error"));
    }
    g_assert_cmpint(qdict_get_bool(data, "success"), ==, !error);
    qobject_unref(event);
}

void nyx_migrate_for_ever(NyxTest *t)
{
    bool active = false;

    nyx_qmp(t, "{ 'execute': 'migrate-set-parameters',"
            "  'arguments': { 'max-bandwidth': 4096 } }");
    nyx_qmp(t, "{ 'execute': 'migrate',"
            "  'arguments': { 'uri': 'exec:cat >/dev/null' } }");
    while (!active) {
        QDict *info = qtest_qmp_assert_success_ref(t->qts,
                          "{ 'execute': 'query-migrate' }");

        active = g_str_equal(qdict_get_str(info, "status"), "active");
        g_assert_cmpstr(qdict_get_str(info, "status"), !=, "failed");
        qobject_unref(info);
    }
}

void nyx_assert_vm_status(NyxTest *t, const char *status)
{
    QDict *info = qtest_qmp_assert_success_ref(t->qts,
                      "{ 'execute': 'query-status' }");

    g_assert_cmpstr(qdict_get_str(info, "status"), ==, status);
    qobject_unref(info);
}

void nyx_settle(NyxTest *t)
{
    qtest_clock_step(t->qts, 2000 * 1000000LL);
    /* The second answer comes from a later turn of the main loop. */
    nyx_qmp(t, "{ 'execute': 'query-version' }");
    nyx_qmp(t, "{ 'execute': 'query-version' }");
}

struct NyxEvents {
    NyxTest *t;
    GHashTable *count;      /* of name */
};

static bool count_event(QTestState *qts, const char *name, QDict *event,
                        void *opaque)
{
    NyxEvents *events = opaque;
    unsigned count = nyx_events_count(events, name);

    g_hash_table_insert(events->count, g_strdup(name),
                        GUINT_TO_POINTER(count + 1));
    return true;
}

NyxEvents *nyx_events_start(NyxTest *t)
{
    NyxEvents *events = g_new0(NyxEvents, 1);

    events->t = t;
    events->count = g_hash_table_new_full(g_str_hash, g_str_equal, g_free,
                                          NULL);
    qtest_qmp_set_event_callback(t->qts, count_event, events);
    return events;
}

unsigned nyx_events_count(NyxEvents *events, const char *name)
{
    return GPOINTER_TO_UINT(g_hash_table_lookup(events->count, name));
}

void nyx_events_stop(NyxEvents *events)
{
    qtest_qmp_set_event_callback(events->t->qts, NULL, NULL);
    g_hash_table_unref(events->count);
    g_free(events);
}

void nyx_refused_at_start(const char *words, const char *fmt, ...)
{
    g_autofree char *options = NULL;
    g_autofree char *command = NULL;
    g_autofree char *error = NULL;
    const char *argv[] = { "/bin/sh", "-c", NULL, NULL };
    g_autoptr(GError) gerr = NULL;
    va_list ap;
    int status;

    va_start(ap, fmt);
    options = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    /* If it is not refused, quit: the exit status tells. */
    command = g_strdup_printf("echo quit | %s -accel qtest -nodefaults -S "
                              "-display none -monitor stdio %s",
                              qtest_qemu_binary(NULL), options);
    argv[2] = command;
    if (!g_spawn_sync(NULL, (char **)argv, NULL, G_SPAWN_STDOUT_TO_DEV_NULL,
                      NULL, NULL, NULL, &error, &status, &gerr)) {
        g_error("%s: %s", command, gerr->message);
    }
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) {
        g_error("not refused: %s", options);
    }
    if (!strstr(error, words)) {
        g_error("\"%s\" is not in what QEMU said: %s", words, error);
    }
}

#define MCH_PCIEXBAR    0x60    /* of the host bridge: base of ECAM | 1 */
#define ECAM            0xb0000000u

static uint64_t ecam_address(NyxTest *t, unsigned slot, unsigned offset)
{
    qtest_outl(t->qts, 0xcf8, 1u << 31 | MCH_PCIEXBAR);
    qtest_outl(t->qts, 0xcfc, ECAM | 1);
    return ECAM + (slot << 15) + offset;
}

uint32_t nyx_ecam_readl(NyxTest *t, unsigned slot, unsigned offset)
{
    return qtest_readl(t->qts, ecam_address(t, slot, offset));
}

uint16_t nyx_ecam_readw(NyxTest *t, unsigned slot, unsigned offset)
{
    return qtest_readw(t->qts, ecam_address(t, slot, offset));
}

void nyx_ecam_writew(NyxTest *t, unsigned slot, unsigned offset, uint16_t value)
{
    qtest_writew(t->qts, ecam_address(t, slot, offset), value);
}
