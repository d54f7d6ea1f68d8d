/*
 * Nyx IOMMU: holding one PCI function in quarantine
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Everything here is about the function itself: its registers, its
 * configuration space, its reset.  That its DMA is refused is its endpoint's
 * doing.  Nothing needs the guest's help, and nothing that the guest writes
 * lifts it.
 *
 * Bridges are left alone: their reset is that of everything behind them, or of
 * the chipset, and what they do on their own is write interrupts, which the
 * endpoint refuses.
 *
 * Locking: BQL, never inside the function's own DMA or register access.
 */

#ifndef HW_IOMMU_NYX_QUARANTINE_H
#define HW_IOMMU_NYX_QUARANTINE_H

#include "hw/pci/pci_device.h"

/* Bits of a configuration register that the guest cannot write meanwhile. */
typedef struct NyxConfigLock {
    uint16_t offset;            /* of a 16-bit register */
    uint16_t mask;
    uint16_t writable;          /* what was writable of these before */
    uint16_t before;            /* what the guest believes their value to be */
} NyxConfigLock;

#define NYX_CONFIG_LOCKS 3      /* command, MSI control, MSI-X control */

/* Embedded in a QOM object, which owns the memory regions. */
typedef struct NyxQuarantine {
    bool active;
    bool prepared;              /* the regions below are initialised */
    NyxConfigLock lock[NYX_CONFIG_LOCKS];
    unsigned locks;
    bool recovering;            /* nyx_quarantine_reset() is at work */
    PCIConfigWriteFunc *config_write;   /* the device's own */
    /* Over each BAR and the ROM: reads all-ones, drops writes. */
    MemoryRegion cover[PCI_NUM_REGIONS];
    MemoryRegion dma_trap;      /* where DMA goes without bus mastering */
} NyxQuarantine;

/* By class code: to other buses, ISA and the host's included. */
bool nyx_is_bridge(PCIDevice *dev);

/*
 * Bus mastering, INTx, MSI and MSI-X off and locked; BARs covered.  DMA that
 * the device attempts all the same reaches @trap.  @owner: the object that @q
 * is part of; @trap: the same at each call.
 */
void nyx_quarantine_enter(NyxQuarantine *q, Object *owner, PCIDevice *dev,
                          MemoryRegion *trap);

/*
 * After a reset that is not its recovery's, what the guest had enabled before
 * means nothing.
 */
void nyx_quarantine_was_reset(NyxQuarantine *q);

/* That of a device; function.c knows. */
NyxQuarantine *nyx_quarantine_of(PCIDevice *dev);

/* The function is about to go away; its configuration space is gone. */
void nyx_quarantine_abandon(NyxQuarantine *q);

/* What another process had locked; false if it does not fit this function. */
bool nyx_quarantine_load(NyxQuarantine *q, const NyxConfigLock *lock,
                         unsigned locks);

/* Leave quarantine without a reset: all of the function is about to change. */
void nyx_quarantine_release(NyxQuarantine *q, PCIDevice *dev);

/*
 * Reset the function and give it back the settings that its driver does not
 * know to have been lost (BARs, command, MSI and MSI-X).  Leaves quarantine.
 * False with @errp set if the function did not come back.
 */
bool nyx_quarantine_reset(NyxQuarantine *q, PCIDevice *dev, Error **errp);

#endif
