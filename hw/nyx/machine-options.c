/*
 * nyx-pc: its options as -machine takes them
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "nyx/include/hw/nyx/machine-options.h"

/* The end of the option at @option: a comma; two of them stand for one. */
static const char *option_end(const char *option)
{
    for (; *option; option++) {
        if (*option == ',') {
            if (option[1] != ',') {
                break;
            }
            option++;
        }
    }
    return option;
}

const char *nyx_machine_options(const char *args)
{
    g_autoptr(GString) out = g_string_new(NULL);
    const char *option, *end;

    for (option = args; *option; option = end) {
        end = option_end(option);
        if (g_str_has_prefix(option, "stage1.")) {
            g_string_append(out, "stage1-options.");
            option += strlen("stage1.");
        }
        end += *end != '\0';
        g_string_append_len(out, option, end - option);
    }
    return g_intern_string(out->str);
}
