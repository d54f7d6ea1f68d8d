/*
 * vCPU health: find stuck vCPUs from the host's side
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "host-thread.h"
#include "migration/misc.h"
#include "nyx/include/hw/nyx/error-policy.h"
#include "nyx/include/hw/nyx/vcpu-health.h"
#include "qapi/qapi-events-nyx-vcpus.h"
#include "qemu/main-loop.h"
#include "qemu/timer.h"
#include "system/cpus.h"
#include "system/qtest.h"
#include "system/replay.h"
#include "system/reset.h"
#include "system/runstate.h"
#include "trace.h"
#include "vcpu-health.h"

/*
 * A vCPU that was seen without interrupts is looked at so often within the
 * limit, at times that no loop of the guest keeps step with.  One that has them
 * on for a fiftieth of its time is then missed with a probability of 1e-9.
 */
#define LOOKS               1024
#define LOOK_NS_MIN         (2 * SCALE_MS)

static NyxVcpuHealth health = {
    .check_ms = 1000,
    .stuck_ms = 30000,
};

NyxVcpuHealth *nyx_vcpu_health_get(void)
{
    return &health;
}

NyxVcpu *nyx_vcpu_health_find(NyxVcpuHealth *h, CPUState *cpu)
{
    return h->vcpus ? g_hash_table_lookup(h->vcpus, cpu) : NULL;
}

static NyxVcpu *find_or_add(NyxVcpuHealth *h, CPUState *cpu)
{
    NyxVcpu *v = nyx_vcpu_health_find(h, cpu);

    if (!v) {
        v = g_new0(NyxVcpu, 1);
        v->cpu = cpu;
        v->progress_ns = -1;
        g_hash_table_insert(h->vcpus, cpu, v);
    }
    return v;
}

/* How many vCPUs run in turn in one thread, as with -accel tcg,thread=single */
static unsigned vcpus_per_thread(void)
{
    CPUState *next = CPU_NEXT(first_cpu), *cpu;
    unsigned count = 0;

    if (!next || next->thread != first_cpu->thread) {
        return 1;
    }
    CPU_FOREACH(cpu) {
        count++;
    }
    return count;
}

/*
 * What of @ns, which have passed, counts.  When more time passes between two
 * looks than was planned, the host is busy, or all of QEMU was stopped: nobody
 * knows what the vCPU could have done meanwhile.
 */
static uint64_t fair_ns(const NyxVcpuHealth *h, int64_t ns)
{
    return CLAMP(ns, 0, 2 * h->period_ns);
}

/* Tell the world */

static void report(const NyxVcpu *v)
{
    static const char *const details[] = {
        [NYX_VCPU_STUCK_REASON_THREAD] = "its thread does not answer",
        [NYX_VCPU_STUCK_REASON_INTERRUPTS_OFF] =
            "it runs with interrupts off",
        [NYX_VCPU_STUCK_REASON_HALTED] =
            "it is halted with interrupts off, and no other runs",
    };
    NyxVcpuStuckReason reason = v->tracker.reason;

    nyx_error_report(&(NyxErrorReport) {
        .cause = NYX_ERROR_CAUSE_VCPU_STUCK,
        .vcpu = v->cpu->cpu_index,
        .detail = details[reason],
        .thread_is_stuck = reason == NYX_VCPU_STUCK_REASON_THREAD,
    });
}

static void tell(NyxVcpu *v, NyxVcpuChange change, uint64_t time_ns)
{
    const NyxVcpuTracker *t = &v->tracker;
    g_autofree char *path = object_get_canonical_path(OBJECT(v->cpu));
    bool has_pc = t->reason == NYX_VCPU_STUCK_REASON_INTERRUPTS_OFF;

    if (change == NYX_VCPU_GOT_STUCK) {
        v->stuck_ns = qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL);
        trace_nyx_vcpu_stuck(v->cpu->cpu_index,
                             NyxVcpuStuckReason_str(t->reason), time_ns);
        qapi_event_send_nyx_vcpu_stuck(v->cpu->cpu_index, path, t->reason,
                                       time_ns, has_pc, t->sight.pc);
        report(v);
    } else if (change == NYX_VCPU_GOT_WELL) {
        trace_nyx_vcpu_recovered(v->cpu->cpu_index,
                                 NyxVcpuStuckReason_str(t->reason));
        qapi_event_send_nyx_vcpu_recovered(v->cpu->cpu_index, path, t->reason);
    }
}

/* Look at a vCPU, in its thread or while that is idle */

static void look(NyxVcpuHealth *h, NyxVcpu *v)
{
    NyxVcpuTracker *t = &v->tracker;
    bool was_halted = t->seen && t->sight.halted;
    int64_t now = get_clock();
    uint64_t cpu_ns = nyx_thread_cpu_ns(v->cpu->thread);
    uint64_t passed = fair_ns(h, now - v->seen_ns);
    uint64_t ran = (cpu_ns - v->seen_cpu_ns) / vcpus_per_thread();
    NyxVcpuSight sight;

    nyx_vcpu_look(v->cpu, &sight);
    nyx_vcpu_tracker_saw(t, &sight, MIN(passed, ran));
    if (was_halted && sight.halted) {
        v->halted_ns += passed;
    }
    if (!nyx_vcpu_runs_closed(&sight)) {
        v->progress_ns = qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL);
    }
    v->seen_ns = now;
    v->seen_cpu_ns = cpu_ns;
    trace_nyx_vcpu_sight(v->cpu->cpu_index, sight.halted, sight.wait_for_sipi,
                         sight.interrupts, sight.pc, t->closed_ns);
}

static void answer(CPUState *cpu, run_on_cpu_data question)
{
    NyxVcpuHealth *h = nyx_vcpu_health_get();
    NyxVcpu *v = nyx_vcpu_health_find(h, cpu);

    if (!v || v->asked != question.host_int) {
        return;
    }
    v->asked = 0;
    if (!cpu_can_run(cpu)) {
        /* The VM is being stopped; the thread is well at least. */
        v->tracker.silent_ns = 0;
        return;
    }
    look(h, v);
}

static void ask(NyxVcpuHealth *h, NyxVcpu *v, int64_t now)
{
    h->questions = h->questions == INT_MAX ? 1 : h->questions + 1;
    v->asked = h->questions;
    v->asked_ns = now;
    v->silent_cpu_ns = nyx_thread_cpu_ns(v->cpu->thread);
    async_run_on_cpu(v->cpu, answer, RUN_ON_CPU_HOST_INT(v->asked));
}

/*
 * A thread that waits for something else is silent, and so is one that is busy
 * with something else.  One that waits for a processor of the host is not.
 */
static void count_silence(NyxVcpu *v, uint64_t passed)
{
    uint64_t cpu_ns = nyx_thread_cpu_ns(v->cpu->thread);
    bool waiting = nyx_thread_is_waiting(v->cpu->thread_id);

    nyx_vcpu_tracker_silent(&v->tracker, waiting ? passed :
                            MIN(passed, cpu_ns - v->silent_cpu_ns));
    v->silent_cpu_ns = cpu_ns;
    trace_nyx_vcpu_silent(v->cpu->cpu_index, waiting, v->tracker.silent_ns);
}

static void check(NyxVcpuHealth *h, NyxVcpu *v, int64_t now, uint64_t passed)
{
    int64_t check_ns = (int64_t)h->check_ms * SCALE_MS;

    if (!cpu_can_run(v->cpu) || v->cpu->singlestep_flags) {
        nyx_vcpu_tracker_restart(&v->tracker);
    } else if (v->asked) {
        count_silence(v, passed);
    } else if (cpu_thread_is_idle(v->cpu)) {
        look(h, v);
    } else if (nyx_vcpu_tracker_is_suspect(&v->tracker) ||
               now - v->asked_ns > check_ns - h->period_ns / 2) {
        ask(h, v, now);
    }
}

/*
 * When all vCPUs are halted for good, or were never started, nothing will
 * happen in this guest any more.  One that is, beside others that are not, is
 * usual: it is offline.  Returns the first one that is, or NULL.
 */
static NyxVcpu *find_dead(NyxVcpuHealth *h)
{
    NyxVcpu *dead = NULL;
    CPUState *cpu;

    CPU_FOREACH(cpu) {
        NyxVcpu *v = nyx_vcpu_health_find(h, cpu);

        if (!v || !v->tracker.seen) {
            return NULL;
        }
        if (nyx_vcpu_halts_closed(&v->tracker.sight)) {
            dead = dead ?: v;
        } else if (!v->tracker.sight.wait_for_sipi) {
            return NULL;
        }
    }
    return dead;
}

/* On the destination of postcopy a vCPU waits for memory that may not come. */
static bool can_judge(void)
{
    return runstate_is_running() && !migration_in_incoming_postcopy();
}

static void judge(NyxVcpuHealth *h, uint64_t passed)
{
    uint64_t limit_ns = (uint64_t)h->stuck_ms * SCALE_MS;
    NyxVcpu *dead = find_dead(h);
    CPUState *cpu;

    h->dead_ns = dead ? h->dead_ns + passed : 0;
    CPU_FOREACH(cpu) {
        NyxVcpu *v = nyx_vcpu_health_find(h, cpu);
        bool is_dead = v && v == dead && h->dead_ns >= limit_ns;
        uint64_t time_ns;

        if (!v) {
            continue;
        }
        time_ns = is_dead ? h->dead_ns : nyx_vcpu_tracker_time(&v->tracker);
        tell(v, nyx_vcpu_tracker_judge(&v->tracker, limit_ns, is_dead),
             time_ns);
    }
}

/* Forget what was, but for what is stuck, until it is seen not to be. */
static void restart(NyxVcpuHealth *h)
{
    GHashTableIter it;
    NyxVcpu *v;

    h->dead_ns = 0;
    g_hash_table_iter_init(&it, h->vcpus);
    while (g_hash_table_iter_next(&it, NULL, (void **)&v)) {
        nyx_vcpu_tracker_restart(&v->tracker);
    }
}

static bool has_suspect(NyxVcpuHealth *h)
{
    GHashTableIter it;
    NyxVcpu *v;

    g_hash_table_iter_init(&it, h->vcpus);
    while (g_hash_table_iter_next(&it, NULL, (void **)&v)) {
        if (nyx_vcpu_tracker_is_suspect(&v->tracker)) {
            return true;
        }
    }
    return false;
}

static void plan(NyxVcpuHealth *h, int64_t now)
{
    int64_t period = (int64_t)h->check_ms * SCALE_MS;

    if (has_suspect(h)) {
        int64_t look_ns = (int64_t)h->stuck_ms * SCALE_MS / LOOKS;

        look_ns = MIN(MAX(look_ns, LOOK_NS_MIN), period);
        period = look_ns / 2 + g_random_int_range(0, look_ns);
    }
    h->tick_ns = now;
    h->period_ns = period;
    timer_mod_ns(h->timer, now + period);
}

static void tick(void *opaque)
{
    NyxVcpuHealth *h = opaque;
    int64_t now = get_clock();
    uint64_t passed = fair_ns(h, now - h->tick_ns);
    CPUState *cpu;

    if (can_judge()) {
        CPU_FOREACH(cpu) {
            if (cpu->created && !cpu->unplug) {
                check(h, find_or_add(h, cpu), now, passed);
            }
        }
        judge(h, passed);
    } else {
        restart(h);
    }
    plan(h, now);
}

void nyx_vcpu_health_update(NyxVcpuHealth *h)
{
    if (!h->started) {
        return;
    }
    restart(h);
    if (h->check_ms) {
        plan(h, get_clock());
    } else {
        timer_del(h->timer);
    }
}

static void vm_state_changed(void *opaque, bool running, RunState state)
{
    restart(opaque);
}

/* Nothing is as it was, so nothing is stuck. */
static void vm_reset(void *opaque)
{
    NyxVcpuHealth *h = opaque;
    GHashTableIter it;
    NyxVcpu *v;

    restart(h);
    g_hash_table_iter_init(&it, h->vcpus);
    while (g_hash_table_iter_next(&it, NULL, (void **)&v)) {
        if (v->tracker.is_stuck) {
            v->tracker.is_stuck = false;
            tell(v, NYX_VCPU_GOT_WELL, 0);
        }
    }
}

/* A question that is open then is never answered. */
static void device_unrealized(DeviceListener *listener, DeviceState *dev)
{
    NyxVcpuHealth *h = container_of(listener, NyxVcpuHealth, listener);

    g_hash_table_remove(h->vcpus, dev);
}

bool nyx_vcpu_health_start(Error **errp)
{
    NyxVcpuHealth *h = nyx_vcpu_health_get();

    if (!nyx_vcpu_options_check(h, errp)) {
        return false;
    }
    /* With these, vCPUs run no guest, or only as it was recorded. */
    if (qtest_enabled() || replay_mode != REPLAY_MODE_NONE) {
        return true;
    }
    h->vcpus = g_hash_table_new_full(NULL, NULL, NULL, g_free);
    h->timer = timer_new_ns(QEMU_CLOCK_REALTIME, tick, h);
    h->listener.unrealize = device_unrealized;
    device_listener_register(&h->listener);
    qemu_add_vm_change_state_handler(vm_state_changed, h);
    qemu_register_reset(vm_reset, h);
    h->started = true;
    nyx_vcpu_health_update(h);
    return true;
}
