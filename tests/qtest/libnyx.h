/*
 * What the qtests of Nyx share
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * A machine whose RAM the test sees as plain memory, devices found by slot,
 * nyx-testdev driven through its registers, and the QMP commands of the IOMMU.
 * Whatever fails ends the test.
 */

#ifndef TESTS_QTEST_LIBNYX_H
#define TESTS_QTEST_LIBNYX_H

#include "nyx/include/hw/nyx/testdev.h"
#include "qobject/qdict.h"
#include "tests/qtest/libqos/libqos-malloc.h"
#include "tests/qtest/libqos/pci.h"
#include "tests/qtest/libqtest.h"

#define MIB(n)          ((n) * 1024ULL * 1024)
#define PAGE            4096ULL
#define NYX_RAM_SIZE    MIB(64)

#define NYX_MSI_BASE    0xfee00000ULL

typedef struct NyxTest {
    QTestState *qts;
    QGuestAllocator alloc;  /* of guest RAM */
    QPCIBus *bus;           /* the root bus */
    uint8_t *ram;           /* all of guest RAM */
    size_t ram_size;        /* bytes */
    int ram_fd;             /* the file that it is */
} NyxTest;

/*
 * @machine: what follows -M; @fmt: further command line.  Quitted with
 * nyx_test_quit().  RAM has NYX_RAM_SIZE bytes, or @ram_size, a multiple of
 * 1 MiB; it is sparse.
 */
NyxTest *nyx_test_start(const char *machine, const char *fmt, ...)
    G_GNUC_PRINTF(2, 3);
NyxTest *nyx_test_start_sized(size_t ram_size, const char *machine,
                              const char *fmt, ...) G_GNUC_PRINTF(3, 4);
void nyx_test_quit(NyxTest *t);

/* Fill all of RAM with bytes that differ from place to place. */
void nyx_ram_fill(NyxTest *t);

/*
 * Copy of RAM for nyx_ram_assert_same(), which asserts that RAM is as it was
 * but for @size bytes from @start on.  g_free() it.
 */
uint8_t *nyx_ram_copy(NyxTest *t);
void nyx_ram_assert_same(NyxTest *t, const uint8_t *before, uint64_t start,
                         uint64_t size);

/* A function on the root bus, with bus mastering and BARs enabled. */
QPCIDevice *nyx_pci_open(NyxTest *t, unsigned slot);

/* Whether the local APIC of the first vCPU waits to deliver @vector. */
bool nyx_apic_pending(NyxTest *t, unsigned vector);

/* nyx-testdev */

typedef struct NyxTestdev {
    NyxTest *t;
    QPCIDevice *pci;
    QPCIBar registers;
    QPCIBar buffer;
} NyxTestdev;

NyxTestdev *nyx_testdev_open(NyxTest *t, unsigned slot);
void nyx_testdev_close(NyxTestdev *dev);

/*
 * As a driver does after a reset: BARs (MSI-X's if it is in use) to where they
 * were, and enabled again.
 */
void nyx_testdev_enable(NyxTestdev *dev);
void nyx_testdev_place_bars(NyxTestdev *dev);

void nyx_testdev_flr(NyxTestdev *dev);

uint32_t nyx_testdev_get(NyxTestdev *dev, uint32_t reg);
uint64_t nyx_testdev_get64(NyxTestdev *dev, uint32_t reg);
void nyx_testdev_set(NyxTestdev *dev, uint32_t reg, uint32_t value);
void nyx_testdev_set64(NyxTestdev *dev, uint32_t reg, uint64_t value);

/* These return an NTD_RESULT. */
uint32_t nyx_testdev_command(NyxTestdev *dev, uint32_t command);
uint32_t nyx_testdev_read(NyxTestdev *dev, uint64_t address, uint32_t length);
uint32_t nyx_testdev_write(NyxTestdev *dev, uint64_t address, uint32_t length);
uint32_t nyx_testdev_message(NyxTestdev *dev, uint64_t address, uint32_t data);

/* The buffer; data is NTD_BUFFER_SIZE bytes at most. */
void nyx_testdev_fill(NyxTestdev *dev, uint8_t value);
void nyx_testdev_get_buffer(NyxTestdev *dev, void *data, size_t size);

/* Write the registers of a bulk run; nyx_testdev_run() starts it, too. */
void nyx_testdev_plan(NyxTestdev *dev, uint64_t address, uint32_t length,
                      uint32_t count, uint32_t slots, uint64_t stride,
                      uint32_t flags);
void nyx_testdev_run(NyxTestdev *dev, uint64_t address, uint32_t length,
                     uint32_t count, uint32_t slots, uint64_t stride,
                     uint32_t flags);
/* Wait until it is at its end, or until @count DMAs are done. */
void nyx_testdev_await_idle(NyxTestdev *dev);
void nyx_testdev_await_done(NyxTestdev *dev, uint64_t count);

/* QMP; @id is that of a device */

/* The command must succeed, or must fail with @words in its message. */
#define nyx_qmp(t, ...) qtest_qmp_assert_success((t)->qts, __VA_ARGS__)
void nyx_qmp_refused(NyxTest *t, const char *words, const char *fmt, ...)
    G_GNUC_PRINTF(3, 4);

/* Results to be given up with qobject_unref() */
QDict *nyx_query_iommu(NyxTest *t);
QDict *nyx_query_device(NyxTest *t, const char *id);
QDict *nyx_query_domain(NyxTest *t, const char *domain);
QList *nyx_query_faults(NyxTest *t, const char *id);

void nyx_assert_state(NyxTest *t, const char *id, const char *state);
void nyx_assert_number(NyxTest *t, const char *id, const char *member,
                       uint64_t value);
/*
 * The newest fault of the device.  A DMA of more than 8 bytes that the host
 * interrupts for long is more than one, of which the last starts somewhere
 * within.
 */
void nyx_assert_fault_within(NyxTest *t, const char *id, const char *type,
                             uint64_t first, uint64_t size, const char *access);
void nyx_assert_fault(NyxTest *t, const char *id, const char *type,
                      uint64_t address, const char *access, uint64_t count);

/* Wait for the event that says that a device went from a state to another. */
void nyx_await_state(NyxTest *t, const char *id, const char *from,
                     const char *to);

#endif
