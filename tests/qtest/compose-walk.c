/*
 * Composition tests of Nyx: a VM, its guest, its operator and a device
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "compose-walk.h"
#include "qemu/host-utils.h"
#include "qobject/qlist.h"

#define SLOT            5
#define TABLES_FIRST    MIB(2)
#define TABLES_LAST     WALK_OWN_LAST
#define PIECES_MAX      2

static const char *const domain_id[] = { "windows", "holes", "ram" };

static NyxTest *start_vm(const Stage1Ops *ops, bool confined)
{
    g_autofree char *machine = NULL;

    if (!confined) {
        return nyx_test_start_sized(WALK_RAM_SIZE, "q35", "-device %s "
                                    "-device nyx-testdev,id=td,addr=%d",
                                    ops->q35, SLOT);
    }
    machine = g_strdup_printf("nyx-pc,on-fault-limit=report,"
                              "max-recoveries=255,%s", ops->nyx);
    return nyx_test_start_sized(WALK_RAM_SIZE, machine,
                                "-object nyx-domain,id=windows,"
                                "default-map=none "
                                "-object nyx-domain,id=holes,"
                                "batch-invalidation=on "
                                "-object nyx-domain,id=ram "
                                "-device nyx-testdev,id=td,addr=%d,"
                                "nyx-domain=windows", SLOT);
}

Walk *walk_start(const Stage1Ops *ops, bool confined)
{
    static const uint16_t functions[] = { QPCI_DEVFN(SLOT, 0), 0 };
    Span all = { .last = WALK_RAM_SIZE - 1, .may = MAY_BOTH };
    Walk *w = g_new0(Walk, 1);
    unsigned i;

    w->ops = ops;
    w->confined = confined;
    w->t = start_vm(ops, confined);
    w->dev = nyx_testdev_open(w->t, SLOT);
    table_pages_init(&w->pages, w->t->ram, TABLES_FIRST, TABLES_LAST);
    w->stage1 = stage1_open(ops, w->t, &w->pages, functions);
    ram_model_init(&w->ram, w->t, WALK_OWN_LAST);
    for (i = 0; i < DOMAINS; i++) {
        w->windows[i] = spans_new();
        if (i != DOMAIN_WINDOWS) {
            g_array_append_val(w->windows[i], all);
        }
    }
    oracle_init(&w->oracle, ops->caches_absence);
    w->domain = confined ? DOMAIN_WINDOWS : DOMAIN_RAM;
    w->oracle.windows = w->windows[w->domain];
    return w;
}

void walk_quit(Walk *w)
{
    unsigned i;

    ram_model_check_all(&w->ram);
    stage1_close(w->stage1);
    nyx_testdev_close(w->dev);
    nyx_test_quit(w->t);
    ram_model_destroy(&w->ram);
    oracle_destroy(&w->oracle);
    for (i = 0; i < DOMAINS; i++) {
        g_array_unref(w->windows[i]);
    }
    table_pages_destroy(&w->pages);
    g_free(w);
}

/* One DMA, by page */

typedef struct Piece {
    uint64_t iova;
    uint32_t offset;        /* in the device's buffer */
    uint32_t length;
    unsigned n;
    Outcome outcomes[OUTCOMES_MAX];
    bool may_pass;
    bool may_fail;
} Piece;

typedef struct Access {
    Walk *w;
    unsigned kind;          /* MAY_READ or MAY_WRITE */
    unsigned n;
    Piece pieces[PIECES_MAX];
    uint8_t data[PAGE];     /* of the device's buffer */
    bool refused;
} Access;

static const char *outcome_name(OutcomeKind kind)
{
    static const char *const names[] = {
        [OUTCOME_OK] = "ok",
        [OUTCOME_STAGE1] = "stage1",
        [OUTCOME_UNMAPPED] = "unmapped",
        [OUTCOME_PERMISSION] = "permission",
    };

    return names[kind];
}

static void G_GNUC_PRINTF(2, 3) disagree(Access *a, const char *fmt, ...)
{
    g_autoptr(GString) text = g_string_new(NULL);
    unsigned i, j;
    va_list ap;

    va_start(ap, fmt);
    g_string_append_vprintf(text, fmt, ap);
    va_end(ap);
    g_string_append_printf(text, "; %s was %s; %s in domain %s",
                           a->kind == MAY_READ ? "read" : "write",
                           a->refused ? "refused" : "done",
                           a->w->oracle.translates ? "stage 1 translates"
                                                   : "no stage 1",
                           domain_id[a->w->domain]);
    for (i = 0; i < a->n; i++) {
        Piece *p = &a->pieces[i];

        g_string_append_printf(text, "; 0x%" PRIx64 " + 0x%x may be",
                               p->iova, p->length);
        for (j = 0; j < p->n; j++) {
            g_string_append_printf(text, " %s at 0x%" PRIx64,
                                   outcome_name(p->outcomes[j].kind),
                                   p->outcomes[j].address);
        }
    }
    g_error("%s", text->str);
}

/* Returns false if it might reach what it must not, in this test. */
static bool plan_piece(Access *a, Piece *p)
{
    unsigned i;

    p->n = oracle_outcomes(&a->w->oracle, p->iova, a->kind, p->outcomes);
    for (i = 0; i < p->n; i++) {
        Outcome *o = &p->outcomes[i];

        if (o->kind == OUTCOME_STAGE1) {
            p->may_fail = true;
            continue;
        }
        if (o->middle <= WALK_OWN_LAST) {
            return false;
        }
        if (o->kind == OUTCOME_OK) {
            ram_model_at(&a->w->ram, o->address);
            p->may_pass = true;
        } else {
            p->may_fail = true;
        }
    }
    return true;
}

static bool plan(Access *a, uint64_t iova, uint32_t length)
{
    uint32_t offset = 0;

    g_assert_cmpuint(length, <=, PAGE);
    while (offset < length) {
        Piece *p = &a->pieces[a->n++];

        *p = (Piece) { .iova = iova + offset, .offset = offset };
        p->length = MIN(length - offset, PAGE - p->iova % PAGE);
        if (!plan_piece(a, p)) {
            return false;
        }
        offset += p->length;
    }
    return true;
}

/* What was read, or what is now where it was written to, is that of @o. */
static bool data_matches(Access *a, const Piece *p, const Outcome *o)
{
    const uint8_t *data = a->data + p->offset;

    if (a->kind == MAY_WRITE) {
        return !memcmp(a->w->t->ram + o->address, data, p->length);
    }
    return !memcmp(ram_model_at(&a->w->ram, o->address), data, p->length);
}

static bool all_ones(const uint8_t *data, size_t size)
{
    size_t i;

    for (i = 0; i < size; i++) {
        if (data[i] != 0xff) {
            return false;
        }
    }
    return true;
}

/* The copies say what memory must be: of writes, that it was written to. */
static void check_memory(Access *a, const Piece *p)
{
    unsigned i;

    for (i = 0; i < p->n; i++) {
        const Outcome *o = &p->outcomes[i];

        if (o->kind == OUTCOME_OK &&
            memcmp(a->w->t->ram + o->address,
                   ram_model_at(&a->w->ram, o->address), p->length)) {
            disagree(a, "memory at 0x%" PRIx64 " is not as it must be",
                     o->address);
        }
    }
}

static void check_data(Access *a, const Piece *p)
{
    bool found = false;
    unsigned i;

    for (i = 0; i < p->n && !found; i++) {
        const Outcome *o = &p->outcomes[i];

        found = o->kind == OUTCOME_OK && data_matches(a, p, o);
        if (found && a->kind == MAY_WRITE) {
            memcpy(ram_model_at(&a->w->ram, o->address), a->data + p->offset,
                   p->length);
        }
    }
    if (!found && (!a->refused || !p->may_fail)) {
        disagree(a, "the data for 0x%" PRIx64 " is wrong", p->iova);
    }
    /* QEMU's own machine gives zeroes. */
    if (!found && a->kind == MAY_READ && a->w->confined &&
        !all_ones(a->data + p->offset, p->length)) {
        disagree(a, "what was refused at 0x%" PRIx64 " reads as %02x %02x ...",
                 p->iova, a->data[p->offset],
                 a->data[p->offset + p->length - 1]);
    }
    check_memory(a, p);
}

/* Faults */

static QDict *newest_fault(Walk *w)
{
    QDict *response = qtest_qmp(w->t->qts, "{ 'execute': 'query-nyx-faults',"
                                "  'arguments': { 'device': 'td',"
                                "                 'limit': 1 } }");
    QList *list = qdict_get_qlist(response, "return");
    QDict *fault;

    g_assert_nonnull(list);
    fault = qobject_to(QDict, qlist_peek(list));
    qobject_ref(fault);
    qobject_unref(response);
    return fault;
}

/*
 * QEMU splits what is not one aligned access of at most 8 bytes; if the host
 * interrupts it then, it is more than one fault, the last of which starts
 * somewhere within.
 */
static bool is_split(const Piece *p)
{
    return p->length > 8 || !is_power_of_2(p->length) ||
           p->iova % p->length;
}

static bool fault_matches(const QDict *fault, const Piece *p, const Outcome *o)
{
    uint64_t address = qdict_get_uint(fault, "address");

    if (o->kind == OUTCOME_OK ||
        strcmp(qdict_get_str(fault, "type"), outcome_name(o->kind))) {
        return false;
    }
    if (!is_split(p)) {
        return address == o->address;
    }
    return address >= o->address && address - o->address < p->length;
}

static bool piece_explains(const QDict *fault, const Piece *p)
{
    unsigned i;

    for (i = 0; i < p->n; i++) {
        if (fault_matches(fault, p, &p->outcomes[i])) {
            return true;
        }
    }
    return false;
}

static void check_fault(Access *a, const QDict *fault)
{
    unsigned i = a->n;

    if (strcmp(qdict_get_str(fault, "access"),
               a->kind == MAY_READ ? "r" : "w") ||
        strcmp(qdict_get_str(fault, "domain"), domain_id[a->w->domain])) {
        disagree(a, "fault of access %s in domain %s",
                 qdict_get_str(fault, "access"),
                 qdict_get_str(fault, "domain"));
    }
    /* It is that of the last piece that was refused. */
    while (i--) {
        if (piece_explains(fault, &a->pieces[i])) {
            return;
        }
        if (!a->pieces[i].may_pass) {
            break;
        }
    }
    disagree(a, "fault of type %s at 0x%" PRIx64,
             qdict_get_str(fault, "type"), qdict_get_uint(fault, "address"));
}

static uint64_t total_faults(Walk *w)
{
    QDict *device = nyx_query_device(w->t, "td");
    uint64_t total = qdict_get_uint(device, "total-faults");

    qobject_unref(device);
    return total;
}

static void check_faults(Access *a)
{
    uint64_t total = total_faults(a->w);
    QDict *fault = newest_fault(a->w);

    if (total == a->w->faults && a->refused) {
        disagree(a, "no fault was recorded");
    }
    if (total != a->w->faults && !a->refused) {
        disagree(a, "fault of type %s at 0x%" PRIx64 " of what was done",
                 qdict_get_str(fault, "type"),
                 qdict_get_uint(fault, "address"));
    }
    if (a->refused) {
        check_fault(a, fault);
    }
    a->w->faults = total;
    qobject_unref(fault);
}

/* Doing it */

static void run(Access *a, uint32_t length)
{
    NyxTestdev *dev = a->w->dev;
    uint64_t iova = a->pieces[0].iova;
    uint32_t result;

    if (a->kind == MAY_WRITE) {
        uint64_t word = ++a->w->ram.next * 0xd6e8feb86659fd93ULL;
        uint32_t i;

        for (i = 0; i < length; i++) {
            a->data[i] = (word >> (i % 8 * 8)) + i / 8;
        }
        qtest_bufwrite(a->w->t->qts, dev->buffer.addr, a->data, length);
        result = nyx_testdev_write(dev, iova, length);
    } else {
        result = nyx_testdev_read(dev, iova, length);
        nyx_testdev_get_buffer(dev, a->data, length);
    }
    g_assert(result == NTD_RESULT_OK || result == NTD_RESULT_DMA_ERROR);
    a->refused = result == NTD_RESULT_DMA_ERROR;
}

static void count(Access *a)
{
    Walk *w = a->w;

    if (a->refused) {
        w->refused++;
    } else {
        w->known[w->allowed++ % ARRAY_SIZE(w->known)] = a->pieces[0].iova;
    }
    if (a->pieces[0].n > 1) {
        w->uncertain++;
    }
}

void walk_access(Walk *w, uint64_t iova, uint32_t length, unsigned access)
{
    g_autofree Access *a = g_new0(Access, 1);
    bool may_pass = true, may_fail = false;
    unsigned i;

    a->w = w;
    a->kind = access;
    if (!plan(a, iova, length)) {
        return;
    }
    run(a, length);
    count(a);
    for (i = 0; i < a->n; i++) {
        may_pass &= a->pieces[i].may_pass;
        may_fail |= a->pieces[i].may_fail;
    }
    if (a->refused ? !may_fail : !may_pass) {
        disagree(a, "it must not be so");
    }
    for (i = 0; i < a->n; i++) {
        check_data(a, &a->pieces[i]);
    }
    if (w->confined) {
        check_faults(a);
    }
}

/* The guest */

static void all_is_invalid(Walk *w)
{
    oracle_invalidate(&w->oracle, 0, UINT64_MAX);
}

void walk_clear_leaf(Walk *w, guint index)
{
    Span leaf = *span_at(w->oracle.leaves, index);

    leaf.may = 0;
    w->ops->set_leaf(w->stage1, &leaf);
    oracle_clear_leaf(&w->oracle, index);
    if (!w->ops->caches) {
        all_is_invalid(w);
    }
}

void walk_set_leaf(Walk *w, Span leaf)
{
    uint64_t target_last = span_target(&leaf, leaf.last);
    guint i = w->oracle.leaves->len;

    while (i--) {
        const Span *other = span_at(w->oracle.leaves, i);

        if (other->first <= leaf.last && leaf.first <= other->last) {
            walk_clear_leaf(w, i);
        }
    }
    w->ops->set_leaf(w->stage1, &leaf);
    if (w->ops->refuses_msi && leaf.to <= NYX_MSI_BASE + MIB(1) - 1 &&
        NYX_MSI_BASE <= target_last) {
        leaf.may = 0;
    }
    oracle_set_leaf(&w->oracle, &leaf);
    if (!w->ops->caches) {
        all_is_invalid(w);
    }
}

void walk_invalidate(Walk *w, Stage1Scope scope, Span range, unsigned variant)
{
    Span done;

    if (w->stage1->mode == STAGE1_OFF) {
        return;
    }
    done = w->ops->invalidate(w->stage1, scope, range, variant);
    oracle_invalidate(&w->oracle, done.first, done.last);
}

void walk_set_mode(Walk *w, Stage1Mode mode)
{
    if (w->stage1->mode == mode) {
        return;
    }
    stage1_set_mode(w->stage1, mode);
    w->oracle.translates = mode == STAGE1_ON;
    all_is_invalid(w);
}

void walk_reset_machine(Walk *w)
{
    qtest_system_reset(w->t->qts);
    nyx_testdev_enable(w->dev);
    stage1_forget(w->stage1);
    w->oracle.translates = false;
    all_is_invalid(w);
}

/* The operator */

void walk_map(Walk *w, WalkDomain domain, Span window)
{
    static const char *const access[] = {
        [MAY_READ] = "r", [MAY_WRITE] = "w", [MAY_BOTH] = "rw",
    };

    nyx_qmp(w->t, "{ 'execute': 'nyx-map', 'arguments': { 'domain': %s,"
            "  'iova': %" PRIu64 ", 'gpa': %" PRIu64 ", 'size': %" PRIu64 ","
            "  'access': %s } }", domain_id[domain], window.first, window.to,
            span_size(&window), access[window.may]);
    g_array_append_val(w->windows[domain], window);
}

void walk_unmap(Walk *w, WalkDomain domain, uint64_t first, uint64_t last)
{
    nyx_qmp(w->t, "{ 'execute': 'nyx-unmap', 'arguments': { 'domain': %s,"
            "  'iova': %" PRIu64 ", 'size': %" PRIu64 " } }",
            domain_id[domain], first, last - first + 1);
    spans_cut(w->windows[domain], first, last);
}

void walk_assign(Walk *w, WalkDomain domain)
{
    nyx_qmp(w->t, "{ 'execute': 'nyx-assign-device', 'arguments': {"
            "  'device': 'td', 'domain': %s } }", domain_id[domain]);
    w->domain = domain;
    w->oracle.windows = w->windows[domain];
}

void walk_quarantine_and_recover(Walk *w)
{
    nyx_qmp(w->t, "{ 'execute': 'nyx-quarantine-device',"
            "  'arguments': { 'device': 'td' } }");
    g_assert_cmphex(nyx_testdev_get(w->dev, NTD_REG_ID), ==, UINT32_MAX);
    nyx_qmp(w->t, "{ 'execute': 'nyx-recover-device',"
            "  'arguments': { 'device': 'td', 'force': true } }");
    nyx_testdev_enable(w->dev);
}
