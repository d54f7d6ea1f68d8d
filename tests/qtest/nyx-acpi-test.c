/*
 * Nyx ACPI devices: commands, registers, tables
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The registers are driven here as the guest's AML does; what a guest makes of
 * that, and migration, are in the functional tests.
 */

#include "qemu/osdep.h"
#include "libnyx-extra.h"
#include "qemu/bswap.h"
#include "qobject/qlist.h"
#include "tests/qtest/libqos/fw_cfg.h"

#define SELECT      0xb00
#define DATA        0xb04
#define NEXT        0xb08
#define THROTTLE    0xb0c

/* Registers of a thermal zone: the fan of active0 */
#define REG_FAN0    7
#define REG_RPM0    10

/* The chipset's power management, where firmware puts it */
#define LPC_SLOT    0x1f
#define LPC_PMBASE  0x40
#define LPC_CONTROL 0x44
#define PM_PORT     0x600
#define GPE_STATUS  (PM_PORT + 0x20)

#define ZONE "-device nyx-thermal-zone,id=zone0,temperature=300,hot=950," \
             "passive=800,active0=700,active1=600 "
#define BATTERY "-device nyx-battery,id=bat0,design-capacity=40000 "
#define ADAPTER "-device nyx-ac-adapter,id=ac0 "
#define LID "-device nyx-lid,id=lid0 "
#define BUTTONS "-device nyx-power-button,id=power0 " \
                "-device nyx-sleep-button,id=sleep0 "
/* Numbered by type, in this order */
enum { IS_ZONE, IS_BATTERY, IS_ADAPTER, IS_LID, IS_POWER, IS_SLEEP, DEVICES };
#define ALL ZONE BATTERY ADAPTER LID BUTTONS
#define ALL_REVERSED BUTTONS LID ADAPTER BATTERY ZONE

static NyxTest *start(void)
{
    return nyx_test_start("nyx-pc", "%s", ALL);
}

static uint32_t get(NyxTest *t, unsigned device, unsigned reg)
{
    qtest_outl(t->qts, SELECT, device | reg << 8);
    return qtest_inl(t->qts, DATA);
}

static void put(NyxTest *t, unsigned device, unsigned reg, uint32_t value)
{
    qtest_outl(t->qts, SELECT, device | reg << 8);
    qtest_outl(t->qts, DATA, value);
}

/* The device's place in the list is its number. */
static QDict *query(NyxTest *t, unsigned device)
{
    QDict *response = qtest_qmp(t->qts, "{ 'execute': 'query-nyx-acpi' }");
    QList *list = qdict_get_qlist(qdict_get_qdict(response, "return"),
                                  "devices");
    QListEntry *entry = QTAILQ_FIRST(&list->head);
    QDict *info;

    while (device--) {
        entry = QTAILQ_NEXT(entry, next);
    }
    info = qobject_to(QDict, qlist_entry_obj(entry));
    qobject_ref(info);
    qobject_unref(response);
    return info;
}

static void assert_shown(NyxTest *t, unsigned device, const char *member,
                         int64_t value)
{
    QDict *info = query(t, device);

    g_assert_cmpint(qdict_get_int(info, member), ==, value);
    qobject_unref(info);
}

#define COMMAND(arguments) \
    "{ 'execute': 'nyx-acpi-set', 'arguments': { " arguments " } }"
#define set(t, arguments) nyx_qmp(t, COMMAND(arguments))
#define set_refused(t, words, arguments) \
    nyx_qmp_refused(t, words, COMMAND(arguments))

#define TO_ZONE "'device': 'zone0', 'type': 'thermal-zone', "
#define TO_BATTERY "'device': 'bat0', 'type': 'battery', "
#define TO_ADAPTER "'device': 'ac0', 'type': 'ac-adapter', "
#define TO_LID "'device': 'lid0', 'type': 'lid', "
#define TO_POWER "'device': 'power0', 'type': 'power-button'"
#define TO_SLEEP "'device': 'sleep0', 'type': 'sleep-button'"

/* What the guest is told next, which is that, and only once. */
static void assert_told(NyxTest *t, unsigned device, uint8_t code)
{
    g_assert_cmphex(qtest_inl(t->qts, NEXT), ==, (device + 1) | code << 8);
}

static void assert_told_all(NyxTest *t)
{
    g_assert_cmphex(qtest_inl(t->qts, NEXT), ==, 0);
}

/* Commands */

static void test_zone(void)
{
    NyxTest *t = start();
    /* temperature, critical, hot, passive, active0 and active1 */
    static const int before[] = { 300, 1000, 950, 800, 700, 600 };
    static const int after[] = { -5, 1500, 1100, 900, 650, 500 };

    for (int i = 0; i < ARRAY_SIZE(before); i++) {
        g_assert_cmpint(get(t, IS_ZONE, i), ==, 2732 + before[i]);
    }
    set(t, TO_ZONE "'temperature': -5");
    assert_told(t, IS_ZONE, 0x80);
    assert_told_all(t);
    set(t, TO_ZONE "'critical': 1500, 'hot': 1100, 'passive': 900, "
        "'active': [ 650, 500 ]");
    assert_told(t, IS_ZONE, 0x81);
    for (int i = 0; i < ARRAY_SIZE(after); i++) {
        g_assert_cmpint(get(t, IS_ZONE, i), ==, 2732 + after[i]);
    }
    assert_shown(t, IS_ZONE, "temperature", -5);
    assert_shown(t, IS_ZONE, "passive", 900);
    /* What is as it was is no news. */
    set(t, TO_ZONE "'temperature': -5, 'passive': 900");
    assert_told_all(t);
    nyx_test_quit(t);
}

static void test_zone_refused(void)
{
    NyxTest *t = start();

    set_refused(t, "temperature of 'zone0' cannot be 1501",
                TO_ZONE "'temperature': 1501");
    set_refused(t, "temperature of 'zone0' cannot be -401",
                TO_ZONE "'temperature': -401");
    set_refused(t, "temperature of 'zone0' cannot be 4294967596",
                TO_ZONE "'temperature': 4294967596");
    set_refused(t, "passive (1000) of 'zone0' must be below critical (1000)",
                TO_ZONE "'passive': 1000");
    set_refused(t, "hot (950) of 'zone0' must be below critical (940)",
                TO_ZONE "'critical': 940");
    set_refused(t, "active1 (700) of 'zone0' needs an active0 above it",
                TO_ZONE "'active': [ 700, 700 ]");
    set_refused(t, "active has 1 temperatures, but 'zone0' has 2",
                TO_ZONE "'active': [ 700 ]");
    set_refused(t, "active has 3 temperatures, but 'zone0' has 2",
                TO_ZONE "'active': [ 700, 600, 500 ]");
    /* All or nothing */
    set_refused(t, "must be below critical",
                TO_ZONE "'temperature': 400, 'passive': 1200");
    g_assert_cmpint(get(t, IS_ZONE, 0), ==, 2732 + 300);
    assert_told_all(t);
    nyx_test_quit(t);

    t = nyx_test_start("nyx-pc", "-device nyx-thermal-zone,id=zone0");
    set_refused(t, "'zone0' has no passive temperature; start the VM with "
                "passive=", TO_ZONE "'passive': 800");
    nyx_test_quit(t);
}

static void test_battery(void)
{
    NyxTest *t = start();
    /* presence, state, rate, charge, voltage, full charge, cycles */
    static const uint32_t after[] = { 0x1f, 1, 8000, 2001, 11000, 39000, 12 };

    g_assert_cmphex(get(t, IS_BATTERY, 0), ==, 0x1f);
    g_assert_cmpint(get(t, IS_BATTERY, 3), ==, 40000);
    set(t, TO_BATTERY "'state': 'discharging', 'charge': 2001, 'rate': 8000, "
        "'voltage': 11000, 'full-charge': 39000, 'cycles': 12");
    assert_told(t, IS_BATTERY, 0x81);
    assert_told(t, IS_BATTERY, 0x80);
    assert_told_all(t);
    for (int i = 0; i < ARRAY_SIZE(after); i++) {
        g_assert_cmpint(get(t, IS_BATTERY, i), ==, after[i]);
    }
    /* A twentieth of the design capacity is critical, unless it charges. */
    set(t, TO_BATTERY "'charge': 2000");
    g_assert_cmpint(get(t, IS_BATTERY, 1), ==, 1 | 4);
    set(t, TO_BATTERY "'state': 'charging'");
    g_assert_cmpint(get(t, IS_BATTERY, 1), ==, 2);
    set(t, TO_BATTERY "'state': 'idle', 'present': false");
    g_assert_cmpint(get(t, IS_BATTERY, 2), ==, 0);
    g_assert_cmphex(get(t, IS_BATTERY, 0), ==, 0x0f);
    assert_shown(t, IS_BATTERY, "cycles", 12);
    nyx_test_quit(t);
}

static void test_battery_refused(void)
{
    NyxTest *t = start();

    set_refused(t, "charge of 'bat0' cannot be 40001: it is from 0 to 40000",
                TO_BATTERY "'charge': 40001");
    set_refused(t, "charge of 'bat0' cannot be -1", TO_BATTERY "'charge': -1");
    set_refused(t, "full-charge of 'bat0' cannot be 40001",
                TO_BATTERY "'full-charge': 40001");
    set_refused(t, "charge of 'bat0' cannot be 40000",
                TO_BATTERY "'full-charge': 30000");
    set_refused(t, "rate of 'bat0' cannot be 100: it is idle",
                TO_BATTERY "'rate': 100");
    set_refused(t, "rate of 'bat0' cannot be 4294967297",
                TO_BATTERY "'state': 'charging', 'rate': 4294967297");
    set_refused(t, "voltage of 'bat0' cannot be 0", TO_BATTERY "'voltage': 0");
    set_refused(t, "cycles of 'bat0' cannot be -3", TO_BATTERY "'cycles': -3");
    set_refused(t, "state", TO_BATTERY "'state': 'burning'");
    g_assert_cmpint(get(t, IS_BATTERY, 3), ==, 40000);
    assert_told_all(t);
    nyx_test_quit(t);
}

static void test_switches(void)
{
    NyxTest *t = start();

    g_assert_cmpint(get(t, IS_ADAPTER, 0), ==, 1);
    g_assert_cmpint(get(t, IS_LID, 0), ==, 1);
    set(t, TO_LID "'closed': true");
    set(t, TO_ADAPTER "'online': false");
    set(t, TO_POWER);
    set(t, TO_POWER);
    set(t, TO_SLEEP);
    g_assert_cmpint(get(t, IS_ADAPTER, 0), ==, 0);
    g_assert_cmpint(get(t, IS_LID, 0), ==, 0);
    assert_told(t, IS_ADAPTER, 0x80);
    assert_told(t, IS_LID, 0x80);
    assert_told(t, IS_POWER, 0x80);
    assert_told(t, IS_SLEEP, 0x80);
    assert_told_all(t);
    assert_shown(t, IS_POWER, "presses", 2);
    assert_shown(t, IS_SLEEP, "presses", 1);
    set_refused(t, "'lid0' is of type lid, not battery",
                "'device': 'lid0', 'type': 'battery'");
    set_refused(t, "No ACPI device has the id 'x'",
                "'device': 'x', 'type': 'lid', 'closed': true");
    nyx_test_quit(t);
}

/* Registers */

/* A change raises the chipset's event 0, which stays until it is cleared. */
static void test_event(void)
{
    NyxTest *t = start();
    QPCIDevice *lpc = qpci_device_find(t->bus, QPCI_DEVFN(LPC_SLOT, 0));

    qpci_config_writel(lpc, LPC_PMBASE, PM_PORT | 1);
    qpci_config_writeb(lpc, LPC_CONTROL, 0x80);
    g_assert_cmphex(qtest_inb(t->qts, GPE_STATUS) & 1, ==, 0);
    set(t, TO_LID "'closed': true");
    g_assert_cmphex(qtest_inb(t->qts, GPE_STATUS) & 1, ==, 1);
    qtest_outb(t->qts, GPE_STATUS, 1);
    g_assert_cmphex(qtest_inb(t->qts, GPE_STATUS) & 1, ==, 0);
    assert_told(t, IS_LID, 0x80);
    g_free(lpc);
    nyx_test_quit(t);
}

static void test_fans(void)
{
    NyxTest *t = start();

    put(t, IS_ZONE, REG_FAN0 + 1, 100);
    g_assert_cmpint(get(t, IS_ZONE, REG_FAN0), ==, 0);
    g_assert_cmpint(get(t, IS_ZONE, REG_FAN0 + 1), ==, 100);
    g_assert_cmpint(get(t, IS_ZONE, REG_RPM0 + 1), ==, 3000);
    /* More than there is, and a fan that there is not */
    put(t, IS_ZONE, REG_FAN0 + 1, 101);
    put(t, IS_ZONE, REG_FAN0 + 2, 100);
    g_assert_cmpint(get(t, IS_ZONE, REG_FAN0 + 1), ==, 100);
    g_assert_cmpint(get(t, IS_ZONE, REG_FAN0 + 2), ==, 0);
    /* What the operator says is not the guest's. */
    put(t, IS_ZONE, 0, 0);
    g_assert_cmpint(get(t, IS_ZONE, 0), ==, 2732 + 300);
    nyx_test_quit(t);
}

static void test_throttle(void)
{
    NyxTest *t = start();
    QDict *state;
    QList *list;

    qtest_outb(t->qts, THROTTLE, 3);
    g_assert_cmpint(qtest_inb(t->qts, THROTTLE), ==, 3);
    qtest_outb(t->qts, THROTTLE, 8);
    g_assert_cmpint(qtest_inb(t->qts, THROTTLE), ==, 3);
    state = qtest_qmp_assert_success_ref(t->qts,
                                         "{ 'execute': 'query-nyx-acpi' }");
    list = qdict_get_qlist(state, "throttled");
    g_assert_cmpuint(qlist_size(list), ==, 1);
    g_assert_cmpint(qdict_get_int(qobject_to(QDict, qlist_peek(list)),
                                  "percent"), ==, 62);
    qobject_unref(state);
    nyx_test_quit(t);
}

/* Whatever a guest selects, nothing happens. */
static void test_nowhere(void)
{
    NyxTest *t = start();

    for (unsigned device = 0; device < 256; device += device < 8 ? 1 : 31) {
        for (unsigned reg = 0; reg < 256; reg++) {
            uint32_t value = get(t, device, reg);

            if (device >= DEVICES || reg >= 13) {
                g_assert_cmphex(value, ==, UINT32_MAX);
            }
            put(t, device, reg, UINT32_MAX);
        }
    }
    qtest_outl(t->qts, SELECT, UINT32_MAX);
    g_assert_cmphex(qtest_inl(t->qts, SELECT), ==, 0xffff);
    assert_told_all(t);
    nyx_test_quit(t);
}

/* What the guest has set is forgotten, what the operator has said is not. */
static void test_reset(void)
{
    NyxTest *t = start();

    set(t, TO_ZONE "'temperature': 850");
    set(t, TO_LID "'closed': true");
    put(t, IS_ZONE, REG_FAN0, 100);
    qtest_outb(t->qts, THROTTLE, 2);
    qtest_system_reset(t->qts);
    assert_told_all(t);
    g_assert_cmpint(get(t, IS_ZONE, 0), ==, 2732 + 850);
    g_assert_cmpint(get(t, IS_LID, 0), ==, 0);
    g_assert_cmpint(get(t, IS_ZONE, REG_FAN0), ==, 0);
    g_assert_cmpint(qtest_inb(t->qts, THROTTLE), ==, 0);
    nyx_test_quit(t);
}

/* Devices */

static void test_plug(void)
{
    NyxTest *t = start();

    nyx_qmp_refused(t, "does not support hotplugging",
                    "{ 'execute': 'device_add', 'arguments':"
                    " { 'driver': 'nyx-lid', 'id': 'late' } }");
    nyx_qmp_refused(t, "does not support hot",
                    "{ 'execute': 'device_del', 'arguments':"
                    " { 'id': 'bat0' } }");
    assert_shown(t, IS_BATTERY, "charge", 40000);
    nyx_test_quit(t);
}

static void test_none(void)
{
    NyxTest *t = nyx_test_start("nyx-pc", "%s", "");
    QDict *state;

    state = qtest_qmp_assert_success_ref(t->qts,
                                         "{ 'execute': 'query-nyx-acpi' }");
    g_assert_true(qlist_empty(qdict_get_qlist(state, "devices")));
    qobject_unref(state);
    set_refused(t, "No ACPI device has the id 'lid0'", TO_LID "'closed': true");
    nyx_test_quit(t);
}

static void test_refused_at_start(void)
{
    GString *many = g_string_new("-M nyx-pc");

    nyx_refused_at_start("nyx-lid needs a name for nyx-acpi-set; add id=NAME",
                         "-M nyx-pc -device nyx-lid");
    nyx_refused_at_start("need the chipset of a Q35 PC; use -M nyx-pc",
                         "-M pc -device nyx-lid,id=lid0");
    nyx_refused_at_start("passive (1000) of 'z' must be below critical (1000)",
                         "-M nyx-pc -device nyx-thermal-zone,id=z,"
                         "passive=1000");
    nyx_refused_at_start("active1 (500) of 'z' needs an active0 above it",
                         "-M nyx-pc -device nyx-thermal-zone,id=z,active1=500");
    nyx_refused_at_start("sampling-ms of 'z' cannot be 50",
                         "-M nyx-pc -device nyx-thermal-zone,id=z,"
                         "sampling-ms=50");
    nyx_refused_at_start("design-capacity of 'b' cannot be 0",
                         "-M nyx-pc -device nyx-battery,id=b,"
                         "design-capacity=0");
    nyx_refused_at_start("charge of 'b' cannot be 90000",
                         "-M nyx-pc -device nyx-battery,id=b,charge=90000");
    for (int i = 0; i < 17; i++) {
        g_string_append_printf(many, " -device nyx-lid,id=lid%d", i);
    }
    nyx_refused_at_start("A VM can have 16 devices of type nyx-lid", "%s",
                         many->str);
    g_string_free(many, true);
}

/* Tables */

#define TABLES_MAX  MIB(2)
#define HEADER      36

/* The guest's tables, as its firmware fetches them */
static uint8_t *fetch_tables(NyxTest *t, size_t *size)
{
    QFWCFG *fw_cfg = pc_fw_cfg_init(t->qts);
    uint8_t *tables = g_malloc0(TABLES_MAX);

    *size = qfw_cfg_get_file(fw_cfg, "etc/acpi/tables", tables, TABLES_MAX);
    g_assert_cmpuint(*size, <=, TABLES_MAX);
    pc_fw_cfg_uninit(fw_cfg);
    return tables;
}

/* Size of a package whose length is at @at, ACPI 6.5, 20.2.4 */
static size_t package_size(const uint8_t *at)
{
    size_t size = at[0] & 0x0f;

    if (at[0] >> 6 == 0) {
        return at[0] & 0x3f;
    }
    for (int i = 1; i <= at[0] >> 6; i++) {
        size |= (size_t)at[i] << (8 * i - 4);
    }
    return size;
}

/* Device(NYXA) { ... } as bytes; NULL if there is none. */
static GByteArray *fetch_aml(NyxTest *t)
{
    size_t size;
    g_autofree uint8_t *tables = fetch_tables(t, &size);
    GByteArray *aml = NULL;

    for (size_t i = 6; i + 4 < size && !aml; i++) {
        for (int length = 1; !memcmp(tables + i, "NYXA", 4) && length <= 4;
             length++) {
            const uint8_t *package = tables + i - length;

            if (package[-2] == 0x5b && package[-1] == 0x82 &&
                package[0] >> 6 == length - 1) {
                aml = g_byte_array_new();
                g_byte_array_append(aml, package - 2,
                                    2 + package_size(package));
                break;
            }
        }
    }
    return aml;
}

/* A table that disassemblers take */
static void write_table(const char *path, const GByteArray *aml)
{
    g_autofree uint8_t *table = g_malloc0(HEADER + aml->len);

    memcpy(table, "SSDT", 4);
    stl_le_p(table + 4, HEADER + aml->len);
    table[8] = 2;
    memcpy(table + 10, "NYX   NYXACPI ", 14);
    stl_le_p(table + 24, 1);
    memcpy(table + 28, "NYX ", 4);
    memcpy(table + HEADER, aml->data, aml->len);
    for (size_t i = 0; i < HEADER + aml->len; i++) {
        table[9] -= i == 9 ? 0 : table[i];
    }
    g_assert_true(g_file_set_contents(path, (char *)table, HEADER + aml->len,
                                      NULL));
}

/*
 * The bytes that guests have seen are what they go on with after a migration.
 * Where a change is meant, NYX_WRITE_AML=1 writes them anew, and
 * "iasl -d tests/data/acpi/NAME.aml" before and after shows what has changed.
 */
static void assert_aml(NyxTest *t, const char *name)
{
    GByteArray *aml = fetch_aml(t);
    g_autofree char *path = g_strdup_printf("%s/acpi/%s.aml",
                                             NYX_TEST_DATA, name);
    g_autofree char *expected = NULL;
    gsize size;

    g_assert_nonnull(aml);
    if (getenv("NYX_WRITE_AML")) {
        write_table(path, aml);
    }
    g_assert_true(g_file_get_contents(path, &expected, &size, NULL));
    if (size != HEADER + aml->len ||
        memcmp(expected + HEADER, aml->data, aml->len)) {
        g_autofree char *now = g_build_filename(g_get_tmp_dir(), "now.aml",
                                                NULL);

        write_table(now, aml);
        g_error("the AML is not that of %s, but that of %s; compare them with "
                "\"iasl -d\"", path, now);
    }
    g_byte_array_unref(aml);
    nyx_test_quit(t);
}

static void test_tables(void)
{
    assert_aml(nyx_test_start("nyx-pc", "-smp 1,maxcpus=2 %s", ALL), "all");
    assert_aml(nyx_test_start("nyx-pc", "-smp 1,maxcpus=2 %s", ALL_REVERSED),
               "all");
    /* Nothing is said of processors. */
    assert_aml(nyx_test_start("nyx-pc", "-device nyx-lid,id=one "
                              "-device nyx-lid,id=another"), "lids");
}

/* A machine without such devices has the tables of QEMU's. */
static void test_no_tables(void)
{
    NyxTest *t = nyx_test_start("nyx-pc", "%s", "");

    g_assert_null(fetch_aml(t));
    nyx_test_quit(t);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    qtest_add_func("/nyx/acpi/zone", test_zone);
    qtest_add_func("/nyx/acpi/zone-refused", test_zone_refused);
    qtest_add_func("/nyx/acpi/battery", test_battery);
    qtest_add_func("/nyx/acpi/battery-refused", test_battery_refused);
    qtest_add_func("/nyx/acpi/switches", test_switches);
    qtest_add_func("/nyx/acpi/event", test_event);
    qtest_add_func("/nyx/acpi/fans", test_fans);
    qtest_add_func("/nyx/acpi/throttle", test_throttle);
    qtest_add_func("/nyx/acpi/nowhere", test_nowhere);
    qtest_add_func("/nyx/acpi/reset", test_reset);
    qtest_add_func("/nyx/acpi/plug", test_plug);
    qtest_add_func("/nyx/acpi/none", test_none);
    qtest_add_func("/nyx/acpi/refused-at-start", test_refused_at_start);
    qtest_add_func("/nyx/acpi/tables", test_tables);
    qtest_add_func("/nyx/acpi/no-tables", test_no_tables);
    return g_test_run();
}
