/*
 * What the qtests of Nyx share: QMP
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "libnyx.h"
#include "qobject/qlist.h"

void nyx_qmp_refused(NyxTest *t, const char *words, const char *fmt, ...)
{
    QDict *error;
    const char *text;
    va_list ap;

    va_start(ap, fmt);
    error = qtest_vqmp_assert_failure_ref(t->qts, fmt, ap);
    va_end(ap);
    text = qdict_get_str(error, "desc");
    if (!strstr(text, words)) {
        g_error("\"%s\" is not in the error message \"%s\"", words, text);
    }
    qobject_unref(error);
}

QDict *nyx_query_iommu(NyxTest *t)
{
    return qtest_qmp_assert_success_ref(t->qts,
                                        "{ 'execute': 'query-nyx-iommu' }");
}

/* The dictionary in @list (given up) whose @member is @value */
static QDict *find_in(QList *list, const char *member, const char *value)
{
    const QListEntry *entry;
    QDict *found = NULL;

    QLIST_FOREACH_ENTRY(list, entry) {
        QDict *dict = qobject_to(QDict, qlist_entry_obj(entry));

        if (g_str_equal(qdict_get_str(dict, member), value)) {
            found = qobject_ref(dict);
            break;
        }
    }
    qobject_unref(list);
    if (!found) {
        g_error("no %s %s", member, value);
    }
    return found;
}

/* The command's result, which is a list */
static QList * G_GNUC_PRINTF(2, 3)
query_list(NyxTest *t, const char *fmt, ...)
{
    QDict *response;
    QList *list;
    va_list ap;

    va_start(ap, fmt);
    response = qtest_vqmp(t->qts, fmt, ap);
    va_end(ap);
    g_assert_nonnull(response);
    g_assert(qdict_haskey(response, "return"));
    list = qobject_ref(qdict_get_qlist(response, "return"));
    qobject_unref(response);
    return list;
}

QDict *nyx_query_device(NyxTest *t, const char *id)
{
    QList *list = query_list(t, "{ 'execute': 'query-nyx-devices',"
                             "  'arguments': { 'device': %s } }", id);

    g_assert_cmpuint(qlist_size(list), ==, 1);
    return find_in(list, "device", id);
}

QDict *nyx_query_domain(NyxTest *t, const char *domain)
{
    return find_in(query_list(t, "{ 'execute': 'query-nyx-domains' }"), "id",
                   domain);
}

QList *nyx_query_faults(NyxTest *t, const char *id)
{
    return query_list(t, "{ 'execute': 'query-nyx-faults',"
                      "  'arguments': { 'device': %s } }", id);
}

void nyx_assert_state(NyxTest *t, const char *id, const char *state)
{
    QDict *device = nyx_query_device(t, id);

    g_assert_cmpstr(qdict_get_str(device, "state"), ==, state);
    qobject_unref(device);
}

void nyx_assert_number(NyxTest *t, const char *id, const char *member,
                       uint64_t value)
{
    QDict *device = nyx_query_device(t, id);

    g_assert_cmpuint(qdict_get_uint(device, member), ==, value);
    qobject_unref(device);
}

/* To be given up with qobject_unref() */
static QDict *newest_fault(NyxTest *t, const char *id, const char *type,
                           const char *access)
{
    QList *faults = nyx_query_faults(t, id);
    QDict *fault = qobject_ref(qobject_to(QDict, qlist_peek(faults)));

    qobject_unref(faults);
    g_assert_nonnull(fault);
    g_assert_cmpstr(qdict_get_str(fault, "device"), ==, id);
    g_assert_cmpstr(qdict_get_str(fault, "type"), ==, type);
    g_assert_cmpstr(qdict_get_str(fault, "access"), ==, access);
    g_assert_false(qdict_get_bool(fault, "injected"));
    return fault;
}

void nyx_assert_fault_within(NyxTest *t, const char *id, const char *type,
                             uint64_t first, uint64_t size, const char *access)
{
    QDict *fault = newest_fault(t, id, type, access);

    g_assert_cmphex(qdict_get_uint(fault, "address"), >=, first);
    g_assert_cmphex(qdict_get_uint(fault, "address") - first, <, size);
    qobject_unref(fault);
}

void nyx_assert_fault(NyxTest *t, const char *id, const char *type,
                      uint64_t address, const char *access, uint64_t count)
{
    QDict *fault = newest_fault(t, id, type, access);

    g_assert_cmphex(qdict_get_uint(fault, "address"), ==, address);
    g_assert_cmpuint(qdict_get_uint(fault, "count"), ==, count);
    qobject_unref(fault);
}

void nyx_await_state(NyxTest *t, const char *id, const char *from,
                     const char *to)
{
    for (;;) {
        QDict *event = qtest_qmp_eventwait_ref(t->qts, "NYX_DEVICE_STATE");
        QDict *data = qdict_get_qdict(event, "data");
        bool found = g_str_equal(qdict_get_str(data, "device"), id) &&
                     g_str_equal(qdict_get_str(data, "old"), from) &&
                     g_str_equal(qdict_get_str(data, "new"), to);

        if (found) {
            g_assert_cmpstr(qdict_get_str(data, "reason"), !=, "");
            g_assert_cmpstr(qdict_get_str(data, "domain"), !=, "");
        }
        qobject_unref(event);
        if (found) {
            return;
        }
    }
}
