/*
 * Composition tests of Nyx: what must be in guest RAM
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Pages that a device might reach get contents that are like no other's, and a
 * copy that is kept up to date as the device is allowed to write.  All others
 * stay zero.
 */

#ifndef TESTS_QTEST_COMPOSE_RAM_H
#define TESTS_QTEST_COMPOSE_RAM_H

#include "libnyx.h"

typedef struct RamModel {
    NyxTest *t;
    GHashTable *pages;      /* copies, by number of the page */
    uint64_t next;          /* word to fill pages with */
    uint64_t own_last;      /* RAM up to here is not the device's */
} RamModel;

void ram_model_init(RamModel *m, NyxTest *t, uint64_t own_last);
void ram_model_destroy(RamModel *m);

/*
 * The byte at @gpa in the copy, and those after it in its page.  A page that
 * has no copy yet gets contents.
 */
uint8_t *ram_model_at(RamModel *m, uint64_t gpa);

/* The pages with a copy must be as that is. */
void ram_model_check(RamModel *m);

/* Also, all others above own_last must be zero. */
void ram_model_check_all(RamModel *m);

#endif
