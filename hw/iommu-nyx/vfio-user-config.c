/*
 * Nyx IOMMU: the PCI configuration space that a vfio-user server shows
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * QEMU walks the lists of capabilities and sets them up anew; a list that runs
 * in circles or past the end would be its own end.
 */

#include "qemu/osdep.h"
#include "hw/pci/pci.h"
#include "hw/pci/pci_regs.h"
#include "vfio-user-check.h"

#define BROKEN_LIST "has a list of PCI capabilities that cannot be"

/* Bytes that QEMU sets up, as of the capability's first */
static unsigned capability_size(uint8_t id)
{
    switch (id) {
    case PCI_CAP_ID_PM:
        return PCI_PM_SIZEOF;
    case PCI_CAP_ID_MSI:
        return PCI_MSI_PENDING_64 + 4;
    case PCI_CAP_ID_MSIX:
        return PCI_CAP_MSIX_SIZEOF;
    case PCI_CAP_ID_EXP:
        return PCI_EXP_LNKSTA + 2;
    default:
        return 4;
    }
}

static bool in_bar(const VuDevice *dev, uint32_t reg, uint64_t size)
{
    unsigned bar = reg & PCI_MSIX_TABLE_BIR;
    uint64_t offset = reg & PCI_MSIX_TABLE_OFFSET;

    return bar < ARRAY_SIZE(dev->bar_size) && offset <= dev->bar_size[bar] &&
           size <= dev->bar_size[bar] - offset;
}

static const char *check_msix(const VuDevice *dev, const uint8_t *cap)
{
    unsigned entries = (lduw_le_p(cap + PCI_MSIX_FLAGS) &
                        PCI_MSIX_FLAGS_QSIZE) + 1;

    if (!in_bar(dev, ldl_le_p(cap + PCI_MSIX_TABLE),
                entries * PCI_MSIX_ENTRY_SIZE) ||
        !in_bar(dev, ldl_le_p(cap + PCI_MSIX_PBA),
                QEMU_ALIGN_UP(entries, 64) / 8)) {
        return "has an MSI-X table outside of its BARs";
    }
    return NULL;
}

/* PCI Local Bus 3.0, section 6.8.1.3: up to 32 vectors, as a power of 2 */
const char *nyx_vu_check_msi(const uint8_t *control, size_t size)
{
    return size && (*control & PCI_MSI_FLAGS_QMASK) >> 1 > 5
           ? "has more MSI vectors than there can be" : NULL;
}

static const char *check_capability(VuDevice *dev, const uint8_t *config,
                                    unsigned at)
{
    switch (config[at]) {
    case PCI_CAP_ID_MSIX:
        return check_msix(dev, config + at);
    case PCI_CAP_ID_MSI:
        dev->msi = at;
        return nyx_vu_check_msi(config + at + PCI_MSI_FLAGS, 2);
    default:
        return NULL;
    }
}

static const char *check_standard(VuDevice *dev, const uint8_t *config)
{
    DECLARE_BITMAP(seen, PCI_CONFIG_SPACE_SIZE) = {};
    unsigned at = config[PCI_CAPABILITY_LIST];
    const char *why;

    if (!(lduw_le_p(config + PCI_STATUS) & PCI_STATUS_CAP_LIST)) {
        return NULL;
    }
    for (; at; at = config[at + PCI_CAP_LIST_NEXT]) {
        if (at < PCI_STD_HEADER_SIZEOF || at % 4 ||
            at + capability_size(config[at]) > PCI_CONFIG_SPACE_SIZE ||
            test_and_set_bit(at, seen)) {
            return BROKEN_LIST;
        }
        why = check_capability(dev, config, at);
        if (why) {
            return why;
        }
    }
    return NULL;
}

/* The most of a resizable BAR capability: its header and six BARs */
#define REBAR_SIZE (4 + 6 * 8)

static const char *check_extended(const uint8_t *config)
{
    unsigned at = PCI_CONFIG_SPACE_SIZE, next;
    DECLARE_BITMAP(seen, PCIE_CONFIG_SPACE_SIZE) = {};

    if (!ldl_le_p(config + at)) {
        return NULL;
    }
    for (; at; at = next) {
        uint32_t header = ldl_le_p(config + at);
        unsigned size = PCI_EXT_CAP_ID(header) == PCI_EXT_CAP_ID_REBAR
                        ? REBAR_SIZE : 8;

        next = PCI_EXT_CAP_NEXT(header);
        if (at < PCI_CONFIG_SPACE_SIZE || at % 4 ||
            at + size > PCIE_CONFIG_SPACE_SIZE ||
            PCI_EXT_CAP_ID(header) == UINT16_MAX ||
            /* Neither begins inside the other's first 8 bytes. */
            test_bit(at, seen) || test_bit(at + 4, seen)) {
            return BROKEN_LIST;
        }
        set_bit(at, seen);
        set_bit(at + 4, seen);
    }
    return NULL;
}

const char *nyx_vu_check_config(VuDevice *dev, const uint8_t *config,
                                size_t size)
{
    const char *why = check_standard(dev, config);

    if (!why && size == PCIE_CONFIG_SPACE_SIZE) {
        why = check_extended(config);
    }
    return why;
}
