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
#define LAPIC_ID            0x20
#define LAPIC_TPR           0x80
#define LAPIC_EOI           0xb0
#define LAPIC_SVR           0xf0
#define LAPIC_SVR_ENABLE    (1u << 8)
#define X2APIC_MSR(reg)     (0x800 + (reg) / 16)
#define X2APIC_ICR          0x830
#define ICR_INIT            0x4500
#define ICR_STARTUP         0x4600
#define MSR_APIC_BASE       0x1b
#define APIC_BASE_X2APIC    (3u << 10)      /* with that it is enabled */
#define STARTUP_PAGE        8
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
static volatile uint32_t takers[256];    /* volatile: so do they this */
static uint64_t the_ioapic;
static bool x2apic_mode;

static uint64_t read_msr(uint32_t msr)
{
    uint32_t low, high;

    asm volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(msr));
    return low | (uint64_t)high << 32;
}

static void write_msr(uint32_t msr, uint64_t value)
{
    asm volatile("wrmsr" : : "c"(msr), "a"((uint32_t)value),
                 "d"((uint32_t)(value >> 32)) : "memory");
}

static void lapic_write(unsigned reg, uint32_t value)
{
    if (x2apic_mode) {
        write_msr(X2APIC_MSR(reg), value);
    } else {
        write32(LAPIC + reg, value);
    }
}

void on_interrupt(uint64_t vector, uint64_t word, uint64_t next)
{
    if (vector < VECTOR_FIRST) {
        fail("exception %d, stack 0x%x 0x%x", vector, word, next);
    }
    takers[vector] = apic_id();
    counts[vector]++;
    if (handlers[vector]) {
        handlers[vector]();
    }
    if (vector != VECTOR_SPURIOUS) {
        lapic_write(LAPIC_EOI, 0);
    }
}

static void fill_gates(void)
{
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
}

static void take_interrupts(void)
{
    struct __attribute__((packed)) {
        uint16_t limit;
        uint64_t base;
    } pointer = { sizeof(gates) - 1, (uint64_t)gates };

    asm volatile("lidt %0" : : "m"(pointer));
    if (x2apic_mode) {
        write_msr(MSR_APIC_BASE, read_msr(MSR_APIC_BASE) | APIC_BASE_X2APIC);
    }
    lapic_write(LAPIC_TPR, 0);
    lapic_write(LAPIC_SVR, LAPIC_SVR_ENABLE | VECTOR_SPURIOUS);
    enable_interrupts();
}

void apic_init(uint64_t ioapic, bool x2apic)
{
    the_ioapic = ioapic;
    x2apic_mode = x2apic;
    out8(PIC_MASTER_MASK, 0xff);
    out8(PIC_SLAVE_MASK, 0xff);
    fill_gates();
    take_interrupts();
}

void apic_init_second(void)
{
    take_interrupts();
}

void apic_start(uint32_t id)
{
    char *page = (char *)(STARTUP_PAGE * PAGE);
    size_t i;

    for (i = 0; trampoline + i < trampoline_end; i++) {
        page[i] = trampoline[i];
    }
    write_msr(X2APIC_ICR, (uint64_t)id << 32 | ICR_INIT);
    write_msr(X2APIC_ICR, (uint64_t)id << 32 | ICR_STARTUP | STARTUP_PAGE);
}

uint32_t apic_id(void)
{
    return x2apic_mode ? read_msr(X2APIC_MSR(LAPIC_ID))
                       : read32(LAPIC + LAPIC_ID) >> 24;
}

uint32_t apic_taken_by(uint8_t vector)
{
    return takers[vector];
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
