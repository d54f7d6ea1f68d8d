/*
 * Bare-metal payload: VT-d remapping hardware
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * VT-d specification, chapters 6 (invalidation), 9 (tables), 11 (registers).
 */

#include "console.h"
#include "vtd.h"

enum {
    REG_CAP = 0x08,
    REG_ECAP = 0x10,
    REG_GCMD = 0x18,
    REG_GSTS = 0x1c,
    REG_RTADDR = 0x20,
    REG_FSTS = 0x34,
    REG_IQT = 0x88,
    REG_IQA = 0x90,
    REG_IRTA = 0xb8,
};

#define CAP_SAGAW_48        (1ULL << 10)
#define CAP_FAULTS(cap)     ((((cap) >> 24) & 0x3ff) * 16)
#define ECAP_QI             (1ULL << 1)
#define ECAP_IR             (1ULL << 3)
#define ECAP_EIM            (1ULL << 4)

/* The same bit asks in GCMD and answers in GSTS. */
#define GLOBAL_TE           (1u << 31)
#define GLOBAL_RTP          (1u << 30)
#define GLOBAL_QIE          (1u << 26)
#define GLOBAL_IRE          (1u << 25)
#define GLOBAL_IRTP         (1u << 24)
#define GLOBAL_ONE_SHOT     (GLOBAL_RTP | GLOBAL_IRTP)

#define FSTS_OVERFLOW       (1u << 0)
#define FSTS_PENDING        (1u << 1)
#define FAULT_VALID         (1ULL << 63)
#define FAULT_READ          (1ULL << 62)

#define PRESENT             1ULL
#define ADDRESS_WIDTH_48    2ULL
#define DOMAIN              1ULL
#define ENTRY_ADDRESS       0x0000fffffffff000ULL
#define ENTRY_LARGE         (1ULL << 7)
#define LARGE_PAGE          0x200000ULL

#define QUEUE_ENTRIES       256
#define QUEUE_CONTEXT       1ULL
#define QUEUE_IOTLB         2ULL
#define QUEUE_INTERRUPT     4ULL
#define QUEUE_WAIT          5ULL
#define CONTEXT_GLOBAL      (1ULL << 4)
#define IOTLB_GLOBAL        (1ULL << 4)
#define IOTLB_PAGE          (3ULL << 4)
#define IOTLB_DRAIN         (3ULL << 6)
#define WAIT_STATUS         (1ULL << 5)

#define INTERRUPTS          256
#define INTERRUPTS_LOG      7           /* 2^(this + 1) entries */
#define IRTA_WIDE           (1ULL << 11)
#define IRTE_LEVEL          (1ULL << 4)
#define IRTE_CHECK_SOURCE   (1ULL << 18)

#define TABLES              64

typedef uint64_t Table[512] __attribute__((aligned(4096)));

static Table root, context, interrupts, queue;
static Table tables[TABLES];    /* the first is the top level */
static unsigned tables_used = 1;
static unsigned queue_tail;
static volatile uint32_t queue_status;  /* volatile: hardware writes it */
static uint64_t regs;
static bool wide_destinations;

void vtd_init(uint64_t registers)
{
    uint64_t cap = read64(registers + REG_CAP);
    uint64_t ecap = read64(registers + REG_ECAP);

    regs = registers;
    check(cap & CAP_SAGAW_48, "VT-d without 48-bit tables: 0x%x", cap);
    check((ecap & ECAP_QI) && (ecap & ECAP_IR),
          "VT-d without queued invalidation or interrupt remapping: 0x%x",
          ecap);
}

static void global_command(uint32_t bit)
{
    uint32_t now = read32(regs + REG_GSTS) & ~GLOBAL_ONE_SHOT;

    write32(regs + REG_GCMD, now | bit);
    check(await(read32(regs + REG_GSTS) & bit), "VT-d ignores command 0x%x",
          (uint64_t)bit);
}

static void enqueue(uint64_t low, uint64_t high)
{
    queue[2 * queue_tail] = low;
    queue[2 * queue_tail + 1] = high;
    queue_tail = (queue_tail + 1) % QUEUE_ENTRIES;
}

/* What was enqueued is done when this returns. */
static void flush_queue(void)
{
    queue_status = 0;
    enqueue(QUEUE_WAIT | WAIT_STATUS | 1ULL << 32, (uint64_t)&queue_status);
    write64(regs + REG_IQT, queue_tail * 16);
    check(await(queue_status), "no answer from the invalidation queue");
}

static void invalidate_all(void)
{
    enqueue(QUEUE_CONTEXT | CONTEXT_GLOBAL, 0);
    enqueue(QUEUE_IOTLB | IOTLB_GLOBAL | IOTLB_DRAIN, 0);
    flush_queue();
}

void vtd_enable_queue(void)
{
    write64(regs + REG_IQT, 0);
    write64(regs + REG_IQA, (uint64_t)queue);
    global_command(GLOBAL_QIE);
}

void vtd_enable_translation(void)
{
    write64(regs + REG_RTADDR, (uint64_t)root);
    global_command(GLOBAL_RTP);
    invalidate_all();
    global_command(GLOBAL_TE);
}

void vtd_enable_interrupt_remapping(bool wide)
{
    check(!wide || (read64(regs + REG_ECAP) & ECAP_EIM), "VT-d without EIM");
    wide_destinations = wide;
    write64(regs + REG_IRTA, (uint64_t)interrupts | INTERRUPTS_LOG |
            (wide ? IRTA_WIDE : 0));
    global_command(GLOBAL_IRTP);
    enqueue(QUEUE_INTERRUPT, 0);
    flush_queue();
    global_command(GLOBAL_IRE);
}

void vtd_attach(uint16_t source)
{
    uint64_t *entry = &context[2 * (source & 0xff)];

    entry[1] = ADDRESS_WIDTH_48 | DOMAIN << 8;
    entry[0] = (uint64_t)tables[0] | PRESENT;
    root[2 * (source >> 8)] = (uint64_t)context | PRESENT;
    invalidate_all();
}

/* Entry of @iova in a table of @level (1: of 4 KiB pages), which is made. */
static uint64_t *entry_at(uint64_t iova, unsigned level)
{
    uint64_t *table = tables[0];
    unsigned l;

    for (l = 4; l > level; l--) {
        uint64_t *entry = &table[(iova >> (3 + 9 * l)) & 511];

        if (!*entry) {
            check(tables_used < TABLES, "no tables left");
            *entry = (uint64_t)tables[tables_used++] | VTD_READ | VTD_WRITE;
        }
        table = (uint64_t *)(*entry & ENTRY_ADDRESS);
    }
    return &table[(iova >> (3 + 9 * level)) & 511];
}

static void invalidate_page(uint64_t iova)
{
    enqueue(QUEUE_IOTLB | IOTLB_PAGE | IOTLB_DRAIN | DOMAIN << 16, iova);
    flush_queue();
}

void vtd_map(uint64_t iova, uint64_t address, uint64_t size, unsigned access)
{
    bool large = size == LARGE_PAGE;

    *entry_at(iova, large ? 2 : 1) = address | access |
                                     (large ? ENTRY_LARGE : 0);
    invalidate_page(iova);
}

void vtd_unmap(uint64_t iova)
{
    *entry_at(iova, 1) = 0;
    invalidate_page(iova);
}

static void set_interrupt(uint16_t handle, uint64_t low, uint64_t high)
{
    check(handle < INTERRUPTS, "no interrupt entry %d", (uint64_t)handle);
    interrupts[2 * handle] = 0;
    interrupts[2 * handle + 1] = high;
    interrupts[2 * handle] = low;
    enqueue(QUEUE_INTERRUPT, 0);
    flush_queue();
}

void vtd_set_interrupt(uint16_t handle, uint8_t vector, bool level,
                       uint32_t apic_id, uint16_t source)
{
    set_interrupt(handle, PRESENT | (level ? IRTE_LEVEL : 0) |
                  (uint64_t)vector << 16 |
                  (uint64_t)apic_id << (wide_destinations ? 32 : 40),
                  source | IRTE_CHECK_SOURCE);
}

void vtd_clear_interrupt(uint16_t handle)
{
    set_interrupt(handle, 0, 0);
}

uint64_t vtd_message_address(uint16_t handle)
{
    return 0xfee00010ULL | (handle & 0x7fff) << 5 | (handle >> 15) << 2;
}

bool vtd_take_fault(VtdFault *fault)
{
    uint64_t record = regs + CAP_FAULTS(read64(regs + REG_CAP));
    uint64_t high = read64(record + 8);

    if (!(read32(regs + REG_FSTS) & FSTS_PENDING) || !(high & FAULT_VALID)) {
        return false;
    }
    *fault = (VtdFault) {
        .address = read64(record),
        .source = high,
        .reason = high >> 32,
        .is_read = high & FAULT_READ,
    };
    write64(record + 8, FAULT_VALID);
    write32(regs + REG_FSTS, FSTS_OVERFLOW);
    return true;
}
