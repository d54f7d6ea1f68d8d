/*
 * nyx-pc: what is known of the VM, in a file, before anything is done to it
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The file is JSON: what QMP's queries say, under their names; the registers of
 * all processors; the tables of the IOMMU.  It appears when it is complete.
 */

#include "qemu/osdep.h"
#include <sys/statvfs.h>
#include "error-recovery.h"
#include "hw/core/cpu.h"
#include "monitor/monitor-internal.h"
#include "nyx/include/hw/iommu-nyx/nyx-iommu.h"
#include "qapi/error.h"
#include "qapi/qapi-commands-dump.h"
#include "qapi/qapi-commands-machine.h"
#include "qapi/qapi-visit-nyx-errors.h"
#include "qapi/qmp-registry.h"
#include "qapi/qobject-output-visitor.h"
#include "qemu/cutils.h"
#include "qemu/units.h"
#include "qobject/qdict.h"
#include "qobject/qjson.h"
#include "qobject/qlist.h"
#include "qobject/qstring.h"
#include "system/hw_accel.h"

/* What has to be left of a file system that others write to, too */
#define SLACK_BYTES     (64 * MiB)

static const char *const queries[] = {
    "query-version", "query-name", "query-uuid", "query-status", "query-kvm",
    "query-cpus-fast", "query-nyx-vcpus", "query-memory-size-summary",
    "query-nyx-error-policy", "query-pci", "query-named-block-nodes",
    "query-blockstats", "query-iothreads", "query-chardev", "query-migrate",
};

/* What the query says; one that fails, or is not built in, says why. */
static QObject *ask(const char *query)
{
    g_autoptr(QDict) request = qdict_new();
    g_autoptr(QDict) response = NULL;
    QObject *answer;

    qdict_put_str(request, "execute", query);
    response = qmp_dispatch(&qmp_commands, QOBJECT(request), false, NULL);
    answer = qdict_get(response, "return");
    return qobject_ref(answer ?: qdict_get(response, "error"));
}

static QList *registers(void)
{
    QList *list = qlist_new();
    CPUState *cs;

    CPU_FOREACH(cs) {
        g_autofree char *text = NULL;
        size_t size;
        FILE *stream = open_memstream(&text, &size);

        cpu_synchronize_state(cs);
        cpu_dump_state(cs, stream, CPU_DUMP_FPU | CPU_DUMP_CODE);
        fclose(stream);
        qlist_append_str(list, text);
    }
    return list;
}

static QObject *decision_object(NyxErrorDecision *decision)
{
    QObject *obj;
    Visitor *v = qobject_output_visitor_new(&obj);

    visit_type_NyxErrorDecision(v, NULL, &decision, &error_abort);
    visit_complete(v, &obj);
    visit_free(v);
    return obj;
}

static GString *all_that_is_known(NyxErrorDecision *decision)
{
    g_autoptr(QDict) dict = qdict_new();
    g_autoptr(GDateTime) now = g_date_time_new_now_utc();
    g_autofree char *time = g_date_time_format_iso8601(now);
    GString *json;

    qdict_put_str(dict, "time", time);
    qdict_put_obj(dict, "error", decision_object(decision));
    for (int i = 0; i < ARRAY_SIZE(queries); i++) {
        qdict_put_obj(dict, queries[i], ask(queries[i]));
    }
    qdict_put(dict, "registers", registers());
    qdict_put_obj(dict, "nyx-dump", nyx_iommu_dump(nyx_iommu_get()));
    json = qobject_to_json_pretty(QOBJECT(dict), true);
    return g_string_append_c(json, '\n');
}

static bool has_room(const char *folder, uint64_t bytes, Error **errp)
{
    g_autofree char *needed = size_to_str(bytes + SLACK_BYTES);
    struct statvfs fs;

    if (statvfs(folder, &fs)) {
        error_setg_errno(errp, errno, "no room can be found in '%s'", folder);
        return false;
    }
    if ((uint64_t)fs.f_bavail * fs.f_frsize < bytes + SLACK_BYTES) {
        error_setg(errp, "folder '%s' has not the room that it takes, %s",
                   folder, needed);
        return false;
    }
    return true;
}

/* Complete, or not there at all */
static bool write_file(const char *path, const GString *text, Error **errp)
{
    int fd = qemu_create(path, O_WRONLY | O_EXCL | O_BINARY, 0600, errp);
    bool done;

    if (fd < 0) {
        return false;
    }
    done = qemu_write_full(fd, text->str, text->len) == text->len &&
           !fsync(fd);
    if (qemu_close(fd) < 0 || !done) {
        error_setg_errno(errp, errno, "cannot write '%s'", path);
        unlink(path);
        return false;
    }
    return true;
}

static bool dump_json(const char *folder, const char *path,
                      NyxErrorDecision *decision, Error **errp)
{
    g_autoptr(GString) json = all_that_is_known(decision);
    g_autofree char *unfinished = g_strconcat(path, ".part", NULL);

    if (!has_room(folder, json->len, errp) ||
        !write_file(unfinished, json, errp)) {
        return false;
    }
    if (rename(unfinished, path)) {
        error_setg_errno(errp, errno, "cannot name '%s'", path);
        unlink(unfinished);
        return false;
    }
    return true;
}

static bool dump_memory(const char *folder, const char *path, Error **errp)
{
    g_autoptr(MemoryInfo) size = qmp_query_memory_size_summary(&error_abort);
    g_autofree char *protocol = g_strconcat("file:", path, NULL);
    ERRP_GUARD();

    if (!has_room(folder, size->base_memory + size->plugged_memory, errp)) {
        return false;
    }
    qmp_dump_guest_memory(false, protocol, true, false, false, 0, false, 0,
                          false, 0, errp);
    if (*errp) {
        unlink(path);
        return false;
    }
    return true;
}

void nyx_diagnostic_dump(NyxErrorPolicy *policy, NyxErrorDecision *decision)
{
    g_autofree char *path = NULL;
    g_autofree char *memory = NULL;
    Error *err = NULL;

    if (policy->dumps >= policy->max_dumps) {
        decision->dump_error = g_strdup_printf(
            "%" PRIu32 " dumps have been written; more are allowed by the "
            "machine option max-dumps", policy->dumps);
        return;
    }
    policy->dumps++;
    path = g_strdup_printf("%s/nyx-%d-%" PRIu32 ".json", policy->dump,
                           (int)getpid(), policy->dumps);
    memory = g_strdup_printf("%s/nyx-%d-%" PRIu32 ".elf", policy->dump,
                             (int)getpid(), policy->dumps);
    if (dump_json(policy->dump, path, decision, &err)) {
        decision->dump = g_steal_pointer(&path);
        if (policy->dump_memory &&
            dump_memory(policy->dump, memory, &err)) {
            decision->memory_dump = g_steal_pointer(&memory);
        }
    }
    if (err) {
        decision->dump_error = g_strdup(error_get_pretty(err));
        error_free(err);
    }
}
