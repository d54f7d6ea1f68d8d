/*
 * Bare-metal payload: interrupts of the processor and the IOAPIC
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef BARE_METAL_APIC_H
#define BARE_METAL_APIC_H

#include "io.h"

/* Take interrupts; the old interrupt controllers are masked. */
void apic_init(uint64_t ioapic, bool x2apic);

/* Of the processor that asks */
uint32_t apic_id(void);

/* Start the processor with this ID, in x2APIC mode; it calls second_main(). */
void apic_start(uint32_t id);

/* It takes interrupts from here on. */
void apic_init_second(void);

/* Interrupts that came in by @vector so far */
uint64_t apic_count(uint8_t vector);

/* The processor that took the latest of them */
uint32_t apic_taken_by(uint8_t vector);

/* Called when @vector comes in, before the end of interrupt; or NULL */
void apic_set_handler(uint8_t vector, void (*handler)(void));

/* What the IOAPIC is to send for @pin: level triggered, active low */
void ioapic_route_remapped(unsigned pin, uint16_t handle, uint8_t vector);
void ioapic_mask(unsigned pin);

/* Does it wait for the end of an interrupt that it has sent for @pin? */
bool ioapic_remote_irr(unsigned pin);

#endif
