/*
 * Composition tests of Nyx: what must be in guest RAM
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "compose-ram.h"
#include "qemu/cutils.h"

void ram_model_init(RamModel *m, NyxTest *t, uint64_t own_last)
{
    *m = (RamModel) {
        .t = t,
        .pages = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free,
                                       g_free),
        .own_last = own_last,
    };
}

void ram_model_destroy(RamModel *m)
{
    g_hash_table_unref(m->pages);
}

uint8_t *ram_model_at(RamModel *m, uint64_t gpa)
{
    int64_t number = gpa / PAGE;
    uint64_t *words = g_hash_table_lookup(m->pages, &number);
    unsigned i;

    g_assert_cmphex(gpa, >, m->own_last);
    g_assert_cmphex(gpa, <, m->t->ram_size);
    if (!words) {
        words = g_malloc(PAGE);
        for (i = 0; i < PAGE / sizeof(*words); i++) {
            /* Multiples of an odd number: no two are alike. */
            words[i] = ++m->next * 0x9e3779b97f4a7c15ULL;
        }
        memcpy(m->t->ram + number * PAGE, words, PAGE);
        g_hash_table_insert(m->pages, g_memdup2(&number, sizeof(number)),
                            words);
    }
    return (uint8_t *)words + gpa % PAGE;
}

void ram_model_check(RamModel *m)
{
    GHashTableIter iter;
    int64_t *number;
    uint8_t *copy;

    g_hash_table_iter_init(&iter, m->pages);
    while (g_hash_table_iter_next(&iter, (void **)&number, (void **)&copy)) {
        uint64_t gpa = *number * PAGE;

        if (memcmp(m->t->ram + gpa, copy, PAGE)) {
            g_error("guest memory changed in the page at 0x%" PRIx64, gpa);
        }
    }
}

/* [@first, @end) has been written to, by somebody. */
static void check_data(RamModel *m, uint64_t first, uint64_t end)
{
    uint64_t page;

    for (page = first; page < end; page += PAGE) {
        int64_t number = page / PAGE;

        if (page > m->own_last &&
            !g_hash_table_contains(m->pages, &number) &&
            !buffer_is_zero(m->t->ram + page, PAGE)) {
            g_error("guest memory was written to at 0x%" PRIx64, page);
        }
    }
}

void ram_model_check_all(RamModel *m)
{
    off_t at = lseek(m->t->ram_fd, 0, SEEK_DATA);

    ram_model_check(m);
    while (at >= 0) {
        off_t hole = lseek(m->t->ram_fd, at, SEEK_HOLE);

        check_data(m, at, hole);
        at = lseek(m->t->ram_fd, hole, SEEK_DATA);
    }
}
