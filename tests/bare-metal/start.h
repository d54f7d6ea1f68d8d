/*
 * Bare-metal payload: what start.S calls, and offers
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef BARE_METAL_START_H
#define BARE_METAL_START_H

#include <stdint.h>

/* In 64-bit mode, the first 4 GiB at their own addresses, no interrupts. */
void payload_main(uint64_t start_info);

/* The other processor, if it is started: on return it waits for interrupts. */
void second_main(void);

/* What it starts with: position independent, at most a page */
extern char trampoline[], trampoline_end[];

/* @word and @next: what the processor has pushed last (error code or RIP). */
void on_interrupt(uint64_t vector, uint64_t word, uint64_t next);

/* 256 stubs of 16 bytes that call it */
extern char interrupt_stubs[];

#endif
