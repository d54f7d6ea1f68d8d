/*
 * nyx-pc: its options as -machine takes them
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_NYX_MACHINE_OPTIONS_H
#define HW_NYX_MACHINE_OPTIONS_H

/*
 * The argument of -machine, with "stage1.PROP" spelled "stage1-options.PROP":
 * keyval_parse() does not accept that "stage1" has a value, too.  The result
 * stays valid.  Any thread.
 */
const char *nyx_machine_options(const char *args);

#endif
