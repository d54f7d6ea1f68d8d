/*
 * Bare-metal payload: what the firmware's ACPI tables say
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * ACPI specification 6.5, section 5.2; VT-d specification, chapter 8.
 */

#include "acpi.h"
#include "console.h"

#define START_INFO_RSDP     32

#define BIOS_FIRST          0xe0000
#define BIOS_END            0x100000

typedef struct __attribute__((packed)) Rsdp {
    char signature[8];
    uint8_t checksum;
    char oem[6];
    uint8_t revision;
    uint32_t rsdt;
    uint32_t length;
    uint64_t xsdt;
} Rsdp;

typedef struct __attribute__((packed)) Table {
    char signature[4];
    uint32_t length;
    uint8_t rest[28];
} Table;

enum {
    DMAR_FLAGS = 37,
    DMAR_ENTRIES = 48,
    DMAR_FLAG_INTR_REMAP = 1,
    DMAR_TYPE_DRHD = 0,
    DRHD_BASE = 8,
    DRHD_SCOPES = 16,
    SCOPE_TYPE_IOAPIC = 3,
    SCOPE_BUS = 5,
    SCOPE_PATH = 6,
    MADT_ENTRIES = 44,
    MADT_TYPE_IOAPIC = 1,
};

static bool same(const char *a, const char *b, size_t size)
{
    while (size--) {
        if (a[size] != b[size]) {
            return false;
        }
    }
    return true;
}

static bool sums_to_zero(const void *data, size_t size)
{
    const uint8_t *byte = data;
    uint8_t sum = 0;

    while (size--) {
        sum += *byte++;
    }
    return !sum;
}

static const Rsdp *find_rsdp(uint64_t start_info)
{
    uint64_t address = start_info ? read64(start_info + START_INFO_RSDP) : 0;

    if (!address) {
        for (address = BIOS_FIRST; address < BIOS_END; address += 16) {
            if (same((char *)address, "RSD PTR ", 8)) {
                break;
            }
        }
    }
    check(same((char *)address, "RSD PTR ", 8), "no ACPI tables");
    return (Rsdp *)address;
}

static const Table *find_table(const Rsdp *rsdp, const char *signature)
{
    bool wide = rsdp->revision >= 2 && rsdp->xsdt;
    uint64_t root = wide ? rsdp->xsdt : rsdp->rsdt;
    unsigned size = wide ? 8 : 4;
    uint32_t i;

    for (i = 36; i < ((Table *)root)->length; i += size) {
        const Table *table = (Table *)(wide ? read64(root + i)
                                            : read32(root + i));

        if (same(table->signature, signature, 4)) {
            check(sums_to_zero(table, table->length), "checksum of %s",
                  signature);
            return table;
        }
    }
    fail("no ACPI table %s", signature);
}

static void parse_drhd(const uint8_t *drhd, uint16_t length, Platform *p)
{
    const uint8_t *scope;

    p->vtd = read64((uint64_t)drhd + DRHD_BASE);
    for (scope = drhd + DRHD_SCOPES; scope < drhd + length;
         scope += scope[1]) {
        if (scope[0] == SCOPE_TYPE_IOAPIC) {
            p->ioapic_source = scope[SCOPE_BUS] << 8 | scope[SCOPE_PATH] << 3 |
                               scope[SCOPE_PATH + 1];
        }
    }
}

static void parse_dmar(const Table *dmar, Platform *p)
{
    const uint8_t *start = (const uint8_t *)dmar;
    const uint8_t *entry;
    uint16_t length;

    p->remaps_interrupts = start[DMAR_FLAGS] & DMAR_FLAG_INTR_REMAP;
    for (entry = start + DMAR_ENTRIES; entry < start + dmar->length;
         entry += length) {
        length = entry[2] | entry[3] << 8;
        if ((entry[0] | entry[1] << 8) == DMAR_TYPE_DRHD) {
            parse_drhd(entry, length, p);
        }
    }
    check(p->vtd, "no DRHD in DMAR");
}

static void parse_madt(const Table *madt, Platform *p)
{
    const uint8_t *start = (const uint8_t *)madt;
    const uint8_t *entry;

    for (entry = start + MADT_ENTRIES; entry < start + madt->length;
         entry += entry[1]) {
        if (entry[0] == MADT_TYPE_IOAPIC) {
            p->ioapic = read32((uint64_t)entry + 4);
        }
    }
    check(p->ioapic, "no IOAPIC in APIC");
}

Platform acpi_find_platform(uint64_t start_info)
{
    const Rsdp *rsdp = find_rsdp(start_info);
    Platform platform = {};

    parse_dmar(find_table(rsdp, "DMAR"), &platform);
    parse_madt(find_table(rsdp, "APIC"), &platform);
    return platform;
}
