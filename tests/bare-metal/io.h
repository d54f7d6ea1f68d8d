/*
 * Bare-metal payload: access to ports, registers and memory
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef BARE_METAL_IO_H
#define BARE_METAL_IO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PAGE        4096ULL

static inline void out8(uint16_t port, uint8_t value)
{
    asm volatile("outb %0, %1" : : "a"(value), "Nd"(port) : "memory");
}

static inline uint8_t in8(uint16_t port)
{
    uint8_t value;

    asm volatile("inb %1, %0" : "=a"(value) : "Nd"(port) : "memory");
    return value;
}

static inline void out32(uint16_t port, uint32_t value)
{
    asm volatile("outl %0, %1" : : "a"(value), "Nd"(port) : "memory");
}

static inline uint32_t in32(uint16_t port)
{
    uint32_t value;

    asm volatile("inl %1, %0" : "=a"(value) : "Nd"(port) : "memory");
    return value;
}

/* Registers, and memory that devices access: all of it volatile */

static inline uint32_t read32(uint64_t address)
{
    return *(volatile uint32_t *)address;   /* volatile: see above */
}

static inline void write32(uint64_t address, uint32_t value)
{
    *(volatile uint32_t *)address = value;  /* volatile: see above */
}

static inline uint64_t read64(uint64_t address)
{
    return *(volatile uint64_t *)address;   /* volatile: see above */
}

static inline void write64(uint64_t address, uint64_t value)
{
    *(volatile uint64_t *)address = value;  /* volatile: see above */
}

static inline uint64_t time_stamp(void)
{
    uint32_t low, high;

    asm volatile("rdtsc" : "=a"(low), "=d"(high));
    return low | ((uint64_t)high << 32);
}

static inline void enable_interrupts(void)
{
    asm volatile("sti" : : : "memory");
}

/* Of something that must happen: many seconds, whatever the clock */
#define PATIENCE    200000000000ULL

/* Wait until @condition holds; false if it does not. */
#define await(condition) ({                                         \
    uint64_t began_ = time_stamp();                                 \
                                                                    \
    while (!(condition) && time_stamp() - began_ < PATIENCE) {      \
        asm volatile("pause");                                      \
    }                                                               \
    (condition);                                                    \
})

#endif
