/*
 * What the qtests of plugging, recovery and AHCI share beyond libnyx.h
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Functions on buses behind a bridge, devices that come and go, and counts of
 * what the IOMMU has.  Whatever fails ends the test.
 */

#ifndef TESTS_QTEST_LIBNYX_EXTRA_H
#define TESTS_QTEST_LIBNYX_EXTRA_H

#include "libnyx.h"

/*
 * A slot of any bus, for nyx_pci_open() and nyx_testdev_open(): libqos takes
 * what lies above devfn as the bus number.
 */
#define NYX_SLOT(bus, slot)     ((bus) * 32 + (slot))

/*
 * Lead the bridge at @slot to bus number @bus, with a window for the BARs that
 * are placed from now on until the next call; up to 8 MiB.
 */
QPCIDevice *nyx_bridge_open(NyxTest *t, unsigned slot, unsigned bus);

/*
 * The first @size bytes of configuration space, without the status registers of
 * PCI and PCIe, which tell of events.  g_free() it.
 */
uint8_t *nyx_config_copy(QPCIDevice *pci, size_t size);
void nyx_config_assert_same(QPCIDevice *pci, const uint8_t *before,
                            size_t size);

/* device_del, and a reset in which the guest lets go of the device. */
void nyx_unplug(NyxTest *t, const char *id);

/* How much the IOMMU has at the moment */
typedef struct NyxCount {
    unsigned endpoints;     /* objects below /machine/nyx-iommu */
    uint64_t devices;
    uint64_t domains;
} NyxCount;

NyxCount nyx_count(NyxTest *t);

/* Wait until it is @count again: RCU frees what is left of a device. */
void nyx_await_count(NyxTest *t, NyxCount count);

void nyx_assert_domain(NyxTest *t, const char *id, const char *domain);

/* The name of the device at @bdf, as in "0000:00:1f.0".  g_free() it. */
char *nyx_device_at(NyxTest *t, const char *bdf);

/* Commands about one device that must succeed */
void nyx_quarantine(NyxTest *t, const char *id);
void nyx_recover(NyxTest *t, const char *id);
void nyx_assign(NyxTest *t, const char *id, const char *domain);
void nyx_inject(NyxTest *t, const char *id, unsigned count);

/*
 * The next NYX_LIMIT_ACTION is of that device, limit and action: done (@error
 * NULL), or not, with @error in its text.
 */
void nyx_await_action(NyxTest *t, const char *id, const char *limit,
                      const char *action, const char *error);

/* Begin a migration to nowhere that is under way until it is cancelled. */
void nyx_migrate_for_ever(NyxTest *t);

/* query-status says so. */
void nyx_assert_vm_status(NyxTest *t, const char *status);

/*
 * Let QEMU do all that is due: timers within two seconds, and what was handed
 * to the main loop.
 */
void nyx_settle(NyxTest *t);

/*
 * From now on count the events by name instead of keeping them, until
 * nyx_events_stop().
 */
typedef struct NyxEvents NyxEvents;

NyxEvents *nyx_events_start(NyxTest *t);
unsigned nyx_events_count(NyxEvents *events, const char *name);
void nyx_events_stop(NyxEvents *events);

/* QEMU with these options must exit and say @words. */
void nyx_refused_at_start(const char *words, const char *fmt, ...)
    G_GNUC_PRINTF(2, 3);

/*
 * Extended configuration space of a device on the root bus, which is only to be
 * had by ECAM.
 */
uint32_t nyx_ecam_readl(NyxTest *t, unsigned slot, unsigned offset);
uint16_t nyx_ecam_readw(NyxTest *t, unsigned slot, unsigned offset);
void nyx_ecam_writew(NyxTest *t, unsigned slot, unsigned offset,
                     uint16_t value);

#endif
