/*
 * Nyx IOMMU: both stages change under devices that do DMA in threads
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Three devices write without a pause and without QEMU's big lock, through the
 * same tables of the guest, in two domains of the operator that lead to two
 * places.  What was taken away must not be written to any more, and what was
 * never given to a device must never change.
 */

#include "qemu/osdep.h"
#include "compose-stage1.h"
#include "qobject/qdict.h"

#define RAM_SIZE        MIB(256)
#define TABLES_FIRST    MIB(2)
#define TABLES_LAST     (MIB(16) - 1)

#define DEVICES         3
#define FIRST_SLOT      5
#define PAGES           32
#define IOVA            (4ULL << 30)
#define MIDDLE          (8ULL << 30)
#define LENGTH          64u         /* of each DMA, from a page's start on */

#define ROUNDS          60
#define CANARY          0x66
#define TIMEOUT         (60 * G_TIME_SPAN_SECOND)

/* Where the pages of a domain are; every second page is nobody's. */
static const uint64_t place[] = { MIB(32), MIB(64) };
static const char *const domain_id[] = { "first", "second" };

typedef struct Fleet {
    NyxTest *t;
    TablePages pages;
    Stage1 *stage1;
    NyxTestdev *dev[DEVICES];
    unsigned domain[DEVICES];
} Fleet;

static uint64_t target(unsigned domain, unsigned page)
{
    return place[domain] + 2 * page * PAGE;
}

/* Each device writes a value of its own. */
static uint8_t value_of(unsigned n)
{
    return 0xd0 + n;
}

static bool is_written(Fleet *f, unsigned domain, unsigned page, uint8_t value)
{
    const uint8_t *at = f->t->ram + target(domain, page);
    unsigned i;

    for (i = 0; i < LENGTH; i++) {
        if (qatomic_read(&at[i]) == value) {
            return true;
        }
    }
    return false;
}

static void erase(Fleet *f, unsigned domain, unsigned page)
{
    memset(f->t->ram + target(domain, page), CANARY, LENGTH);
}

/* Nothing but the start of every second page may ever change. */
static void check_guards(Fleet *f)
{
    unsigned domain;
    uint64_t i;

    for (domain = 0; domain < ARRAY_SIZE(place); domain++) {
        const uint8_t *at = f->t->ram + place[domain] - PAGE;

        for (i = 0; i < (2 * PAGES + 2) * PAGE; i++) {
            bool guarded = i / PAGE % 2 == 0 || i % PAGE >= LENGTH ||
                           i / PAGE > 2 * PAGES;

            if (guarded && at[i] != CANARY) {
                g_error("a page that is nobody's changed: byte 0x%" PRIx64
                        " of domain %s", i, domain_id[domain]);
            }
        }
    }
}

/* Operator */

static void map_page(Fleet *f, unsigned domain, unsigned page)
{
    nyx_qmp(f->t, "{ 'execute': 'nyx-map', 'arguments': { 'domain': %s,"
            "  'iova': %" PRIu64 ", 'gpa': %" PRIu64 ", 'size': %" PRIu64 ","
            "  'access': 'rw' } }", domain_id[domain],
            (uint64_t)(MIDDLE + page * PAGE), target(domain, page),
            (uint64_t)PAGE);
}

static void unmap_page(Fleet *f, unsigned domain, unsigned page)
{
    nyx_qmp(f->t, "{ 'execute': 'nyx-unmap', 'arguments': { 'domain': %s,"
            "  'iova': %" PRIu64 ", 'size': %" PRIu64 " } }",
            domain_id[domain], (uint64_t)(MIDDLE + page * PAGE),
            (uint64_t)PAGE);
}

static void assign(Fleet *f, unsigned n, unsigned domain)
{
    g_autofree char *id = g_strdup_printf("td%u", n);

    nyx_qmp(f->t, "{ 'execute': 'nyx-assign-device', 'arguments': {"
            "  'device': %s, 'domain': %s } }", id, domain_id[domain]);
    f->domain[n] = domain;
}

static void set_quarantine(Fleet *f, unsigned n, const char *command)
{
    g_autofree char *id = g_strdup_printf("td%u", n);

    nyx_qmp(f->t, "{ 'execute': %s, 'arguments': { 'device': %s } }", command,
            id);
}

/* Guest */

static void write_leaf(Fleet *f, unsigned page, bool present)
{
    Span leaf = {
        .first = IOVA + page * PAGE,
        .last = IOVA + page * PAGE + PAGE - 1,
        .to = MIDDLE + page * PAGE,
        .may = present ? MAY_BOTH : 0,
    };

    f->stage1->ops->set_leaf(f->stage1, &leaf);
}

static void invalidate(Fleet *f, Stage1Scope scope, unsigned page, unsigned n)
{
    Span range = {
        .first = IOVA + page * PAGE,
        .last = IOVA + (page + n) * PAGE - 1,
    };

    f->stage1->ops->invalidate(f->stage1, scope, range,
                               g_test_rand_int_range(0, 2));
}

static void set_leaf(Fleet *f, unsigned page, bool present)
{
    write_leaf(f, page, present);
    invalidate(f, g_test_rand_int_range(0, STAGE1_SCOPES), page, 1);
}

/* Devices */

static void run(Fleet *f, unsigned n)
{
    nyx_testdev_fill(f->dev[n], value_of(n));
    nyx_testdev_run(f->dev[n], IOVA, LENGTH, 0, PAGES, PAGE,
                    NTD_FLAG_WRITE | NTD_FLAG_RANDOM | NTD_FLAG_THREAD);
}

/*
 * Until each device has done DMA that began after the call: what was under way
 * is done when the number of those that are done changes for the first time.
 */
static void let_them_write(Fleet *f)
{
    uint64_t done[DEVICES];
    unsigned i;

    for (i = 0; i < DEVICES; i++) {
        done[i] = nyx_testdev_get64(f->dev[i], NTD_REG_DONE_LO);
    }
    for (i = 0; i < DEVICES; i++) {
        nyx_testdev_await_done(f->dev[i], done[i] + 1);
    }
}

static void let_them_write_much(Fleet *f)
{
    let_them_write(f);
    let_them_write(f);
}

static void await_write(Fleet *f, unsigned domain, unsigned page,
                        uint8_t value)
{
    int64_t end = g_get_monotonic_time() + TIMEOUT;

    while (!is_written(f, domain, page, value)) {
        /* A round trip, so that QEMU gets on. */
        nyx_testdev_get(f->dev[0], NTD_REG_STATUS);
        if (g_get_monotonic_time() > end) {
            g_error("page %u of domain %s is not written to by device %u",
                    page, domain_id[domain], value - value_of(0));
        }
    }
}

/* All devices write to all pages of the domains that they are in. */
static void await_writes(Fleet *f, unsigned page)
{
    unsigned i;

    for (i = 0; i < DEVICES; i++) {
        await_write(f, f->domain[i], page, value_of(i));
    }
}

static void assert_erased(Fleet *f, unsigned domain, unsigned page,
                          const char *after)
{
    unsigned i;

    for (i = 0; i < DEVICES; i++) {
        if (is_written(f, domain, page, value_of(i))) {
            g_error("device %u wrote to page %u of domain %s after %s", i,
                    page, domain_id[domain], after);
        }
    }
}

/* Rounds */

static void stage1_page(Fleet *f, unsigned page)
{
    set_leaf(f, page, false);
    let_them_write(f);
    erase(f, 0, page);
    erase(f, 1, page);
    let_them_write_much(f);
    assert_erased(f, 0, page, "the guest unmapped it");
    assert_erased(f, 1, page, "the guest unmapped it");
    set_leaf(f, page, true);
    await_writes(f, page);
}

static void stage2_page(Fleet *f, unsigned page)
{
    unsigned domain = g_test_rand_int_range(0, ARRAY_SIZE(place));

    unmap_page(f, domain, page);
    erase(f, domain, page);
    let_them_write_much(f);
    assert_erased(f, domain, page, "nyx-unmap");
    map_page(f, domain, page);
    await_writes(f, page);
}

static void move_device(Fleet *f, unsigned page)
{
    unsigned n = g_test_rand_int_range(0, DEVICES);
    unsigned from = f->domain[n];
    unsigned i;

    assign(f, n, !from);
    for (i = 0; i < PAGES; i++) {
        erase(f, from, i);
    }
    let_them_write_much(f);
    for (i = 0; i < PAGES; i++) {
        if (is_written(f, from, i, value_of(n))) {
            g_error("device %u wrote to domain %s after it was moved", n,
                    domain_id[from]);
        }
    }
    await_writes(f, page);
}

static void assert_silence(Fleet *f, const char *after)
{
    unsigned i;

    for (i = 0; i < PAGES; i++) {
        erase(f, 0, i);
        erase(f, 1, i);
    }
    let_them_write_much(f);
    for (i = 0; i < PAGES; i++) {
        assert_erased(f, 0, i, after);
        assert_erased(f, 1, i, after);
    }
}

/*
 * All pages go just when the devices look all of them up, as nothing is known
 * of any.
 */
static void stage1_all(Fleet *f, unsigned page)
{
    unsigned round, i;

    for (round = 0; round < 5; round++) {
        invalidate(f, STAGE1_GLOBAL, 0, PAGES);
        for (i = 0; i < PAGES; i++) {
            write_leaf(f, i, false);
        }
        invalidate(f, round % 2 ? STAGE1_DOMAIN : STAGE1_PAGES, 0, PAGES);
        let_them_write(f);
        assert_silence(f, "the guest unmapped all");
        for (i = 0; i < PAGES; i++) {
            write_leaf(f, i, true);
        }
        invalidate(f, STAGE1_DOMAIN, 0, PAGES);
    }
    await_writes(f, page);
}

/* Untranslated addresses are not mapped by the operator. */
static void change_mode(Fleet *f, unsigned page)
{
    Stage1Mode mode = g_test_rand_int_range(0, STAGE1_ON);

    stage1_set_mode(f->stage1, mode);
    let_them_write(f);
    assert_silence(f, mode == STAGE1_OFF ? "stage 1 was turned off"
                                         : "stage 1 let it pass");
    stage1_set_mode(f->stage1, STAGE1_ON);
    await_writes(f, page);
}

/* The last device stays, so that its faults can be counted. */
static void quarantine_device(Fleet *f, unsigned page)
{
    unsigned n = g_test_rand_int_range(0, DEVICES - 1);
    unsigned i;

    set_quarantine(f, n, "nyx-quarantine-device");
    for (i = 0; i < PAGES; i++) {
        erase(f, f->domain[n], i);
    }
    nyx_testdev_await_done(f->dev[DEVICES - 1],
                           nyx_testdev_get64(f->dev[DEVICES - 1],
                                             NTD_REG_DONE_LO) + 1);
    set_quarantine(f, n, "nyx-recover-device");
    for (i = 0; i < PAGES; i++) {
        if (is_written(f, f->domain[n], i, value_of(n))) {
            g_error("device %u wrote in quarantine", n);
        }
    }
    nyx_testdev_enable(f->dev[n]);
    run(f, n);
    await_writes(f, page);
}

/* Fleet */

static Fleet *start(const Stage1Ops *ops)
{
    static const uint16_t functions[] = {
        QPCI_DEVFN(FIRST_SLOT, 0), QPCI_DEVFN(FIRST_SLOT + 1, 0),
        QPCI_DEVFN(FIRST_SLOT + 2, 0), 0
    };
    g_autofree char *machine = g_strdup_printf("nyx-pc,on-fault-limit=report,"
                                               "max-recoveries=255,%s",
                                               ops->nyx);
    Fleet *f = g_new0(Fleet, 1);
    unsigned i, j;

    f->t = nyx_test_start_sized(RAM_SIZE, machine,
        "-object nyx-domain,id=first,isolation=shared,default-map=none "
        "-object nyx-domain,id=second,isolation=shared,default-map=none,"
        "batch-invalidation=on "
        "-device nyx-testdev,id=td0,addr=5,nyx-domain=first "
        "-device nyx-testdev,id=td1,addr=6,nyx-domain=second "
        "-device nyx-testdev,id=td2,addr=7,nyx-domain=first");
    for (i = 0; i < DEVICES; i++) {
        f->dev[i] = nyx_testdev_open(f->t, FIRST_SLOT + i);
        f->domain[i] = i % 2;
    }
    table_pages_init(&f->pages, f->t->ram, TABLES_FIRST, TABLES_LAST);
    f->stage1 = stage1_open(ops, f->t, &f->pages, functions);
    stage1_set_mode(f->stage1, STAGE1_ON);
    for (i = 0; i < ARRAY_SIZE(place); i++) {
        memset(f->t->ram + place[i] - PAGE, CANARY, (2 * PAGES + 2) * PAGE);
        for (j = 0; j < PAGES; j++) {
            map_page(f, i, j);
        }
    }
    for (j = 0; j < PAGES; j++) {
        set_leaf(f, j, true);
    }
    return f;
}

static void stop(Fleet *f)
{
    unsigned i;

    for (i = 0; i < DEVICES; i++) {
        nyx_testdev_command(f->dev[i], NTD_CMD_STOP);
        nyx_testdev_await_idle(f->dev[i]);
    }
}

/* Every DMA that was refused was a fault; the last device was never reset. */
static void check_totals(Fleet *f)
{
    NyxTestdev *dev = f->dev[DEVICES - 1];
    uint64_t errors = nyx_testdev_get64(dev, NTD_REG_ERRORS_LO);
    uint64_t done = nyx_testdev_get64(dev, NTD_REG_DONE_LO);
    QDict *device = nyx_query_device(f->t, "td2");

    g_test_message("%" PRIu64 " DMAs of the last device, %" PRIu64 " refused",
                   done, errors);
    g_assert_cmpuint(errors, >, 0);
    g_assert_cmpuint(errors, <, done);
    g_assert_cmpuint(qdict_get_uint(device, "total-faults"), >=, errors);
    qobject_unref(device);
}

static void quit(Fleet *f)
{
    unsigned i;

    stage1_close(f->stage1);
    for (i = 0; i < DEVICES; i++) {
        nyx_testdev_close(f->dev[i]);
    }
    nyx_test_quit(f->t);
    table_pages_destroy(&f->pages);
    g_free(f);
}

static void test_threads(const void *data)
{
    static void (*const round[])(Fleet *, unsigned) = {
        stage1_page, stage2_page, move_device, change_mode, quarantine_device,
        stage1_all, stage2_page,
    };
    Fleet *f = start(data);
    unsigned i;

    for (i = 0; i < DEVICES; i++) {
        run(f, i);
    }
    for (i = 0; i < ROUNDS; i++) {
        round[i % ARRAY_SIZE(round)](f, g_test_rand_int_range(0, PAGES));
    }
    stop(f);
    check_guards(f);
    check_totals(f);
    quit(f);
}

int main(int argc, char **argv)
{
    static const Stage1Ops *const models[] = {
        &stage1_vtd_legacy, &stage1_vtd_first, &stage1_amdvi, &stage1_viommu,
    };
    unsigned i;

    g_test_init(&argc, &argv, NULL);
    for (i = 0; i < ARRAY_SIZE(models); i++) {
        g_autofree char *path = g_strdup_printf("/nyx/compose-thread/%s",
                                                models[i]->name);

        qtest_add_data_func(path, models[i], test_threads);
    }
    return g_test_run();
}
