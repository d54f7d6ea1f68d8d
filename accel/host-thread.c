/*
 * vCPU health: what the host says of a thread of this process
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "host-thread.h"
#include "qemu/timer.h"

uint64_t nyx_thread_cpu_ns(const QemuThread *thread)
{
    struct timespec ts;
    clockid_t clock;

    if (pthread_getcpuclockid(thread->thread, &clock) ||
        clock_gettime(clock, &ts)) {
        return 0;
    }
    return (uint64_t)ts.tv_sec * NANOSECONDS_PER_SECOND + ts.tv_nsec;
}

bool nyx_thread_is_waiting(int thread_id)
{
    g_autofree char *path = g_strdup_printf("/proc/self/task/%d/stat",
                                            thread_id);
    g_autofree char *text = NULL;
    const char *end;

    /* PID (NAME) STATE ..., where the name may have parentheses, too */
    if (!g_file_get_contents(path, &text, NULL, NULL)) {
        return true;
    }
    end = strrchr(text, ')');
    return !end || !g_str_has_prefix(end, ") R");
}
