/*
 * Bare-metal payload: what it says and hears, on the first serial port
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <stdarg.h>
#include "console.h"

/* 16550, as the firmware has set it up */
#define COM1                0x3f8
#define COM1_STATUS         (COM1 + 5)
#define STATUS_RECEIVED     (1u << 0)
#define STATUS_CAN_SEND     (1u << 5)

static void put_character(char c)
{
    while (!(in8(COM1_STATUS) & STATUS_CAN_SEND)) {
        asm volatile("pause");
    }
    out8(COM1, c);
}

static void put(const char *text)
{
    while (*text) {
        put_character(*text++);
    }
}

static void put_number(uint64_t number, unsigned base)
{
    char digits[24];
    char *p = digits + sizeof(digits) - 1;

    *p = '\0';
    do {
        *--p = "0123456789abcdef"[number % base];
        number /= base;
    } while (number);
    put(p);
}

static void put_formatted(const char *format, va_list ap)
{
    for (; *format; format++) {
        if (*format != '%') {
            put_character(*format);
            continue;
        }
        switch (*++format) {
        case 's':
            put(va_arg(ap, const char *));
            break;
        case 'x':
            put_number(va_arg(ap, uint64_t), 16);
            break;
        case 'd':
            put_number(va_arg(ap, uint64_t), 10);
            break;
        }
    }
    put("\n");
}

void say(const char *format, ...)
{
    va_list ap;

    va_start(ap, format);
    put_formatted(format, ap);
    va_end(ap);
}

void await_word(void)
{
    check(await(in8(COM1_STATUS) & STATUS_RECEIVED), "nobody says anything");
    in8(COM1);
}

void fail(const char *format, ...)
{
    va_list ap;

    put("failed: ");
    va_start(ap, format);
    put_formatted(format, ap);
    va_end(ap);
    for (;;) {
        asm volatile("cli; hlt");
    }
}

/* The compiler calls these, though there is no library. */

void *memset(void *to, int value, size_t size)
{
    void *start = to;

    asm volatile("rep stosb" : "+D"(to), "+c"(size) : "a"(value) : "memory");
    return start;
}

void *memcpy(void *to, const void *from, size_t size)
{
    void *start = to;

    asm volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(size) : : "memory");
    return start;
}
