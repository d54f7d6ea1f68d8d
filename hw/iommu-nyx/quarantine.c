/*
 * Nyx IOMMU: holding one PCI function in quarantine
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "hw/pci/msi.h"
#include "hw/pci/msix.h"
#include "hw/pci/pci.h"
#include "hw/pci/pci_host.h"
#include "host-reset.h"
#include "qapi/error.h"
#include "quarantine.h"

/* Above anything that a device model puts into its BAR. */
#define COVER_PRIORITY  INT_MAX

/* More than any device can address with the 48 bits that are translated */
#define DMA_TRAP_SIZE   (1ULL << 63)

bool nyx_is_bridge(PCIDevice *dev)
{
    return pci_get_byte(dev->config + PCI_CLASS_DEVICE + 1) ==
           PCI_BASE_CLASS_BRIDGE;
}

static uint64_t nyx_cover_read(void *opaque, hwaddr addr, unsigned size)
{
    return UINT64_MAX;
}

static void nyx_cover_write(void *opaque, hwaddr addr, uint64_t data,
                            unsigned size)
{
}

static const MemoryRegionOps nyx_cover_ops = {
    .read = nyx_cover_read,
    .write = nyx_cover_write,
    .endianness = DEVICE_LITTLE_ENDIAN,
    .valid = { .min_access_size = 1, .max_access_size = 8, .unaligned = true },
    .impl = { .min_access_size = 1, .max_access_size = 8, .unaligned = true },
};

/* Subregions of an alias are not rendered: cover what it shows instead. */
static MemoryRegion *resolve_alias(MemoryRegion *mr, hwaddr *offset)
{
    *offset = 0;
    while (mr->alias) {
        *offset += mr->alias_offset;
        mr = mr->alias;
    }
    return mr;
}

static bool has_bar(PCIDevice *dev, int i)
{
    return dev->io_regions[i].size && dev->io_regions[i].memory;
}

/* Once: old views of memory may refer to the regions as long as @owner lives */
static void prepare_regions(NyxQuarantine *q, Object *owner, PCIDevice *dev,
                            MemoryRegion *trap)
{
    if (q->prepared) {
        return;
    }
    q->prepared = true;
    for (int i = 0; i < PCI_NUM_REGIONS; i++) {
        PCIIORegion *bar = &dev->io_regions[i];

        if (has_bar(dev, i)) {
            memory_region_init_io(&q->cover[i], owner, &nyx_cover_ops, NULL,
                                  "nyx-bar-cover",
                                  memory_region_size(bar->memory));
        }
    }
    /* Not all of it: see nyx_endpoint_update_view() about 2^64 bytes. */
    memory_region_init_alias(&q->dma_trap, owner, "nyx-dma-trap", trap, 0,
                             DMA_TRAP_SIZE);
}

static void cover_bars(NyxQuarantine *q, PCIDevice *dev)
{
    for (int i = 0; i < PCI_NUM_REGIONS; i++) {
        MemoryRegion *target;
        hwaddr offset;

        if (has_bar(dev, i)) {
            target = resolve_alias(dev->io_regions[i].memory, &offset);
            memory_region_add_subregion_overlap(target, offset, &q->cover[i],
                                                COVER_PRIORITY);
        }
    }
}

/* A region whose container is gone (with its device) has none any more. */
static void take_out(MemoryRegion *mr)
{
    if (mr->container) {
        memory_region_del_subregion(mr->container, mr);
    }
}

static void take_out_regions(NyxQuarantine *q)
{
    for (int i = 0; i < PCI_NUM_REGIONS; i++) {
        take_out(&q->cover[i]);
    }
    take_out(&q->dma_trap);
}

/* Through the device model: with VFIO most of it is only in the hardware. */
static uint32_t config_read(PCIDevice *dev, uint16_t offset, unsigned len)
{
    return dev->config_read(dev, offset, len);
}

static void config_write(PCIDevice *dev, uint16_t offset, uint32_t value,
                         unsigned len)
{
    pci_host_config_write_common(dev, offset, pci_config_size(dev), value, len);
}

/*
 * Write the register through the device model, so that it acts on the change,
 * then make the bits read-only.
 */
static void lock_bits(NyxQuarantine *q, PCIDevice *dev, uint16_t offset,
                      uint16_t mask, uint16_t value)
{
    uint16_t now = pci_get_word(dev->config + offset);
    uint16_t writable = pci_get_word(dev->wmask + offset);
    NyxConfigLock *lock = &q->lock[q->locks++];

    *lock = (NyxConfigLock) {
        .offset = offset,
        .mask = mask,
        .writable = writable & mask,
        .before = now & mask,
    };
    config_write(dev, offset, (now & ~mask) | value, 2);
    pci_set_word(dev->config + offset,
                 (pci_get_word(dev->config + offset) & ~mask) | value);
    pci_set_word(dev->wmask + offset, writable & ~mask);
}

/* @byte of the guest's for @addr: keep those of its bits that are locked. */
static void remember_byte(NyxConfigLock *lock, uint32_t addr, uint8_t byte)
{
    unsigned shift = 8 * (addr - lock->offset);
    uint16_t mask;

    if (addr < lock->offset || addr > lock->offset + 1) {
        return;
    }
    mask = (0xff << shift) & lock->mask & lock->writable;
    lock->before = (lock->before & ~mask) | ((byte << shift) & mask);
}

static void lock_config(NyxQuarantine *q, PCIDevice *dev)
{
    q->locks = 0;
    lock_bits(q, dev, PCI_COMMAND,
              PCI_COMMAND_MASTER | PCI_COMMAND_INTX_DISABLE,
              PCI_COMMAND_INTX_DISABLE);
    if (msi_present(dev)) {
        lock_bits(q, dev, dev->msi_cap + PCI_MSI_FLAGS, PCI_MSI_FLAGS_ENABLE,
                  0);
    }
    if (msix_present(dev)) {
        lock_bits(q, dev, dev->msix_cap + PCI_MSIX_FLAGS, PCI_MSIX_FLAGS_ENABLE,
                  0);
    }
}

static void unlock_config(NyxQuarantine *q, PCIDevice *dev)
{
    for (unsigned i = 0; i < q->locks; i++) {
        const NyxConfigLock *lock = &q->lock[i];

        pci_word_test_and_set_mask(dev->wmask + lock->offset, lock->writable);
    }
}

/*
 * A byte as the device gets it.  wmask does not do for VFIO, which hands what
 * the guest writes to the hardware before it looks there.
 */
static uint8_t locked_byte(const NyxQuarantine *q, PCIDevice *dev,
                           uint32_t addr, uint8_t byte)
{
    for (unsigned i = 0; i < q->locks; i++) {
        const NyxConfigLock *lock = &q->lock[i];

        if (addr == lock->offset || addr == lock->offset + 1) {
            uint8_t mask = lock->mask >> (8 * (addr - lock->offset));

            byte = (byte & ~mask) | (dev->config[addr] & mask);
        }
    }
    return byte;
}

/*
 * Stands in for the device's own config_write meanwhile: what the guest writes
 * to locked bits is remembered, to be in force after recovery.
 */
static void quarantined_config_write(PCIDevice *dev, uint32_t addr,
                                     uint32_t val, int len)
{
    NyxQuarantine *q = nyx_quarantine_of(dev);
    uint32_t devctl = dev->exp.exp_cap + PCI_EXP_DEVCTL;
    bool flr = dev->exp.exp_cap &&
               (pci_get_long(dev->config + dev->exp.exp_cap +
                             PCI_EXP_DEVCAP) & PCI_EXP_DEVCAP_FLR);
    uint32_t locked = 0;

    for (int i = 0; i < len; i++) {
        uint8_t byte = val >> (8 * i);

        for (unsigned l = 0; l < q->locks; l++) {
            remember_byte(&q->lock[l], addr + i, byte);
        }
        /* With VFIO it is the hardware's, and nobody else tells of it. */
        if (flr && addr + i == devctl + 1 &&
            (byte & (PCI_EXP_DEVCTL_BCR_FLR >> 8))) {
            nyx_quarantine_was_reset(q);
        }
        locked |= (uint32_t)locked_byte(q, dev, addr + i, byte) << (8 * i);
    }
    q->config_write(dev, addr, locked, len);
}

void nyx_quarantine_enter(NyxQuarantine *q, Object *owner, PCIDevice *dev,
                          MemoryRegion *trap)
{
    if (q->active || nyx_is_bridge(dev)) {
        return;
    }
    q->active = true;
    prepare_regions(q, owner, dev, trap);
    /* Not inside the transaction: devices may wait for I/O as they stop. */
    lock_config(q, dev);
    q->config_write = dev->config_write;
    dev->config_write = quarantined_config_write;

    memory_region_transaction_begin();
    cover_bars(q, dev);
    memory_region_add_subregion_overlap(&dev->bus_master_container_region, 0,
                                        &q->dma_trap, -1);
    memory_region_transaction_commit();
}

/* Bus mastering and interrupts stay off; the caller restores them. */
static void leave(NyxQuarantine *q, PCIDevice *dev)
{
    q->active = false;
    dev->config_write = q->config_write;
    unlock_config(q, dev);
    memory_region_transaction_begin();
    take_out_regions(q);
    memory_region_transaction_commit();
}

void nyx_quarantine_release(NyxQuarantine *q, PCIDevice *dev)
{
    if (q->active) {
        leave(q, dev);
    }
}

bool nyx_quarantine_load(NyxQuarantine *q, const NyxConfigLock *lock,
                         unsigned locks)
{
    bool fits = q->locks == locks;

    for (unsigned i = 0; fits && i < locks; i++) {
        fits = lock[i].offset == q->lock[i].offset &&
               lock[i].mask == q->lock[i].mask &&
               !(lock[i].before & ~lock[i].mask);
    }
    for (unsigned i = 0; fits && i < locks; i++) {
        q->lock[i].before = lock[i].before;
    }
    return fits;
}

void nyx_quarantine_was_reset(NyxQuarantine *q)
{
    if (q->recovering) {
        return;
    }
    for (unsigned i = 0; i < q->locks; i++) {
        q->lock[i].before = 0;
    }
}

void nyx_quarantine_abandon(NyxQuarantine *q)
{
    q->active = false;
    take_out_regions(q);
}

/*
 * What a driver sets up once, when it binds, and would not set up again for a
 * device that resets behind its back.
 */
typedef struct SavedConfig {
    uint32_t id;
    uint32_t bar[PCI_ROM_SLOT];
    uint32_t rom;
    uint16_t command;
    uint8_t cache_line;
    uint8_t interrupt_line;
    uint16_t devctl;
    uint8_t msi[PCI_MSI_PENDING_64 + 4];
    uint8_t *msix_table;        /* owned */
    uint16_t msix_flags;
} SavedConfig;

static unsigned msi_size(PCIDevice *dev)
{
    uint16_t flags = pci_get_word(dev->config + dev->msi_cap + PCI_MSI_FLAGS);

    if (flags & PCI_MSI_FLAGS_MASKBIT) {
        return flags & PCI_MSI_FLAGS_64BIT ? PCI_MSI_PENDING_64
                                           : PCI_MSI_PENDING_32;
    }
    return flags & PCI_MSI_FLAGS_64BIT ? PCI_MSI_DATA_64 + 2
                                       : PCI_MSI_DATA_32 + 2;
}

/* The register as it would be without our lock on some of its bits. */
static uint16_t unlocked_value(const NyxQuarantine *q, PCIDevice *dev,
                               uint16_t offset)
{
    uint16_t value = pci_get_word(dev->config + offset);

    for (unsigned i = 0; i < q->locks; i++) {
        if (q->lock[i].offset == offset) {
            value = (value & ~q->lock[i].mask) | q->lock[i].before;
        }
    }
    return value;
}

static void save_config(const NyxQuarantine *q, PCIDevice *dev, SavedConfig *s)
{
    s->id = config_read(dev, PCI_VENDOR_ID, 4);
    for (int i = 0; i < PCI_ROM_SLOT; i++) {
        s->bar[i] = config_read(dev, PCI_BASE_ADDRESS_0 + 4 * i, 4);
    }
    s->rom = config_read(dev, PCI_ROM_ADDRESS, 4);
    s->command = unlocked_value(q, dev, PCI_COMMAND);
    s->cache_line = config_read(dev, PCI_CACHE_LINE_SIZE, 1);
    s->interrupt_line = config_read(dev, PCI_INTERRUPT_LINE, 1);
    if (dev->exp.exp_cap) {
        s->devctl = config_read(dev, dev->exp.exp_cap + PCI_EXP_DEVCTL, 2);
    }
    if (msi_present(dev)) {
        memcpy(s->msi, dev->config + dev->msi_cap, msi_size(dev));
        pci_set_word(s->msi + PCI_MSI_FLAGS,
                     unlocked_value(q, dev, dev->msi_cap + PCI_MSI_FLAGS));
    }
    if (msix_present(dev)) {
        s->msix_flags = unlocked_value(q, dev, dev->msix_cap + PCI_MSIX_FLAGS);
        s->msix_table = g_memdup2(dev->msix_table,
                                  dev->msix_entries_nr * PCI_MSIX_ENTRY_SIZE);
    }
}

static void restore_msi(PCIDevice *dev, const SavedConfig *s)
{
    for (unsigned i = PCI_MSI_ADDRESS_LO; i + 2 <= msi_size(dev); i += 2) {
        config_write(dev, dev->msi_cap + i, pci_get_word(s->msi + i), 2);
    }
    config_write(dev, dev->msi_cap + PCI_MSI_FLAGS,
                 pci_get_word(s->msi + PCI_MSI_FLAGS), 2);
}

static void restore_config(PCIDevice *dev, const SavedConfig *s)
{
    for (int i = 0; i < PCI_ROM_SLOT; i++) {
        config_write(dev, PCI_BASE_ADDRESS_0 + 4 * i, s->bar[i], 4);
    }
    config_write(dev, PCI_ROM_ADDRESS, s->rom, 4);
    config_write(dev, PCI_CACHE_LINE_SIZE, s->cache_line, 1);
    config_write(dev, PCI_INTERRUPT_LINE, s->interrupt_line, 1);
    if (dev->exp.exp_cap) {
        config_write(dev, dev->exp.exp_cap + PCI_EXP_DEVCTL,
                     s->devctl & ~PCI_EXP_DEVCTL_BCR_FLR, 2);
    }
    if (msi_present(dev)) {
        restore_msi(dev, s);
    }
    if (msix_present(dev)) {
        memcpy(dev->msix_table, s->msix_table,
               dev->msix_entries_nr * PCI_MSIX_ENTRY_SIZE);
        config_write(dev, dev->msix_cap + PCI_MSIX_FLAGS, s->msix_flags, 2);
    }
    config_write(dev, PCI_COMMAND, s->command, 2);
}

bool nyx_quarantine_reset(NyxQuarantine *q, PCIDevice *dev, Error **errp)
{
    g_autofree uint8_t *msix_table = NULL;
    SavedConfig saved = {};

    if (nyx_is_bridge(dev)) {
        return true;
    }
    if (!nyx_host_can_reset(dev, errp)) {
        return false;
    }
    save_config(q, dev, &saved);
    msix_table = saved.msix_table;
    q->recovering = true;
    pci_device_reset(dev);
    q->recovering = false;
    if (config_read(dev, PCI_VENDOR_ID, 4) != saved.id ||
        (config_read(dev, PCI_COMMAND, 2) & PCI_COMMAND_MASTER)) {
        error_setg(errp, "the device did not come back from its reset");
        return false;
    }
    leave(q, dev);
    restore_config(dev, &saved);
    return true;
}
