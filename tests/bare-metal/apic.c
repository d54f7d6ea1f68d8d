/*
 * Bare-metal payload: interrupts of the processor and the IOAPIC
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Intel SDM volume 3, "Advanced Programmable Interrupt Controller"; 82093AA
 * data sheet; VT-d specification, section 5.1.2.1 (remappable IOAPIC entries).
 */

#include "apic.h"
#include "console.h"
#include "start.h"

#define LAPIC               0xfee00000ULL
#define LAPIC_ID            (LAPIC + 0x20)
#define LAPIC_TPR           (LAPIC + 0x80)
#define LAPIC_EOI           (LAPIC + 0xb0)
#define LAPIC_SVR           (LAPIC + 0xf0)
#define LAPIC_SVR_ENABLE    (1u << 8)
#define VECTOR_SPURIOUS     0xff
#define VECTOR_FIRST        32      /* below: exceptions */

#define PIC_MASTER_MASK     0x21
#define PIC_SLAVE_MASK      0xa1

#define IOAPIC_SELECT       0x00
#define IOAPIC_WINDOW       0x10
#define IOAPIC_ENTRY(pin)   (0x10 + 2 * (pin))
#define ENTRY_ACTIVE_LOW    (1u << 13)
#define ENTRY_REMOTE_IRR    (1u << 14)
#define ENTRY_LEVEL         (1u << 15)
#define ENTRY_MASKED        (1u << 16)
#define ENTRY_REMAPPABLE    (1u << 16)  /* in the upper half */

#define CODE_64             8
#define GATE_INTERRUPT      0x8e

typedef struct Gate {
    uint16_t offset_0;
    uint16_t selector;
    uint8_t ist;
    uint8_t type;
    uint16_t offset_16;
    uint32_t offset_32;
    uint32_t reserved;
} Gate;

static Gate gates[256];
static volatile uint64_t counts[256];    /* volatile: interrupts change it */
static void (*handlers[256])(void);
static uint64_t the_ioapic;

void on_interrupt(uint64_t vector, uint64_t word, uint64_t next)
{
    if (vector < VECTOR_FIRST) {
        fail("exception %d, stack 0x%x 0x%x", vector, word, next);
    }
    counts[vector]++;
    if (handlers[vector]) {
        handlers[vector]();
    }
    if (vector != VECTOR_SPURIOUS) {
        write32(LAPIC_EOI, 0);
    }
}

static void load_gates(void)
{
    struct __attribute__((packed)) {
        uint16_t limit;
        uint64_t base;
    } pointer = { sizeof(gates) - 1, (uint64_t)gates };
    unsigned i;

    for (i = 0; i < 256; i++) {
        uint64_t stub = (uint64_t)interrupt_stubs + 16 * i;

        gates[i] = (Gate) {
            .offset_0 = stub,
            .selector = CODE_64,
            .type = GATE_INTERRUPT,
            .offset_16 = stub >> 16,
            .offset_32 = stub >> 32,
        };
    }
    asm volatile("lidt %0" : : "m"(pointer));
}

void apic_init(uint64_t ioapic)
{
    the_ioapic = ioapic;
    out8(PIC_MASTER_MASK, 0xff);
    out8(PIC_SLAVE_MASK, 0xff);
    load_gates();
    write32(LAPIC_TPR, 0);
    write32(LAPIC_SVR, LAPIC_SVR_ENABLE | VECTOR_SPURIOUS);
    enable_interrupts();
}

uint8_t apic_id(void)
{
    return read32(LAPIC_ID) >> 24;
}

uint64_t apic_count(uint8_t vector)
{
    return counts[vector];
}

void apic_set_handler(uint8_t vector, void (*handler)(void))
{
    handlers[vector] = handler;
}

static void ioapic_write(unsigned index, uint32_t value)
{
    write32(the_ioapic + IOAPIC_SELECT, index);
    write32(the_ioapic + IOAPIC_WINDOW, value);
}

void ioapic_route_remapped(unsigned pin, uint16_t handle, uint8_t vector)
{
    ioapic_mask(pin);
    ioapic_write(IOAPIC_ENTRY(pin) + 1,
                 (uint32_t)(handle & 0x7fff) << 17 | ENTRY_REMAPPABLE);
    ioapic_write(IOAPIC_ENTRY(pin),
                 ENTRY_LEVEL | ENTRY_ACTIVE_LOW | (handle >> 15) << 11 |
                 vector);
}

void ioapic_mask(unsigned pin)
{
    ioapic_write(IOAPIC_ENTRY(pin), ENTRY_MASKED);
}

bool ioapic_remote_irr(unsigned pin)
{
    write32(the_ioapic + IOAPIC_SELECT, IOAPIC_ENTRY(pin));
    return read32(the_ioapic + IOAPIC_WINDOW) & ENTRY_REMOTE_IRR;
}
