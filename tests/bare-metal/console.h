/*
 * Bare-metal payload: what it says and hears, on the first serial port
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef BARE_METAL_CONSOLE_H
#define BARE_METAL_CONSOLE_H

#include "io.h"

/* Formats: %s, %x (uint64_t), %d (uint64_t); no widths. */
void say(const char *format, ...);

/* Wait until there is a character to hear. */
void await_word(void);

/* Say so and stop for good. */
void fail(const char *format, ...) __attribute__((noreturn));

#define check(condition, ...) do {      \
    if (!(condition)) {                 \
        fail(__VA_ARGS__);              \
    }                                   \
} while (0)

#endif
