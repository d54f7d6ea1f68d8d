/*
 * What the qtests of vCPU health share
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * A machine whose processors run a few bytes of code from the reset vector on,
 * in place of firmware, by TCG or KVM.
 */

#ifndef TESTS_QTEST_LIBNYX_VCPU_H
#define TESTS_QTEST_LIBNYX_VCPU_H

#include "qobject/qdict.h"
#include "tests/qtest/libqtest.h"

/* The code waits for this byte of RAM to be other than 0 where it says so. */
#define VCPU_GO_ON      0x500

typedef struct VcpuCode {
    const uint8_t *bytes;
    size_t size;
} VcpuCode;

#define VCPU_CODE(...) { \
    .bytes = (const uint8_t[]) { __VA_ARGS__ }, \
    .size = sizeof((uint8_t[]) { __VA_ARGS__ }), \
}

/* Interrupts are off at reset; none comes, as nobody has set one up. */
extern const VcpuCode vcpu_spins_closed;    /* until VCPU_GO_ON, then open */
extern const VcpuCode vcpu_spins_open;
extern const VcpuCode vcpu_spins_mostly_closed;
extern const VcpuCode vcpu_halts_closed;
extern const VcpuCode vcpu_halts_open;
extern const VcpuCode vcpu_starts_second;   /* then halts, open */

typedef struct VcpuTest {
    QTestState *qts;
    char *rom;
} VcpuTest;

/*
 * @first runs in the first vCPU, @second (which may be NULL) in one that it
 * starts.  @options: of the machine, may be "".  @accel: what follows -accel.
 */
VcpuTest *vcpu_test_start(const char *accel, const VcpuCode *first,
                          const VcpuCode *second, const char *options,
                          const char *arguments);
void vcpu_test_quit(VcpuTest *t);

/* Set an option while the VM runs. */
void vcpu_set(VcpuTest *t, const char *option, int value);

/* How vCPU @index stands; to be given up */
QDict *vcpu_query(VcpuTest *t, int index);

/* Ask until it is so, and is not (or is) taken for stuck then. */
void vcpu_await_state(VcpuTest *t, int index, const char *state);

/* Wait until it has made progress for @ms more of the virtual clock. */
void vcpu_await_progress(VcpuTest *t, int index, int ms);

/* Wait for the event, about vCPU @index. */
void vcpu_await_stuck(VcpuTest *t, int index, const char *reason);
void vcpu_await_recovered(VcpuTest *t, int index, const char *reason);

/* None of the vCPUs is stuck, and none was since the last event. */
void vcpu_assert_never_stuck(VcpuTest *t);

#endif
