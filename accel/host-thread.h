/*
 * vCPU health: what the host says of a thread of this process
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef NYX_ACCEL_HOST_THREAD_H
#define NYX_ACCEL_HOST_THREAD_H

#include "qemu/thread.h"

/*
 * Nanoseconds that the thread, which must be there, has been running on
 * processors of the host: as a guest, in QEMU and in the host's kernel.
 */
uint64_t nyx_thread_cpu_ns(const QemuThread *thread);

/*
 * Whether the thread sleeps or is stopped, rather than runs or would if only
 * the host had a processor for it.  True as well if the host does not say.
 */
bool nyx_thread_is_waiting(int thread_id);

#endif
