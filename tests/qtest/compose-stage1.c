/*
 * Composition tests of Nyx: what the drivers of stage-1 models share
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "compose-stage1.h"

const Stage1Ops *const stage1_drivers[] = {
    &stage1_vtd_legacy,
    &stage1_vtd_legacy_39,
    &stage1_vtd_second,
    &stage1_vtd_first,
    &stage1_amdvi,
    &stage1_viommu,
    NULL,
};

Stage1 *stage1_open(const Stage1Ops *ops, NyxTest *t, TablePages *pages,
                    const uint16_t *functions)
{
    Stage1 *s = ops->open(ops, t, pages);

    s->functions = g_array_new(false, false, sizeof(*functions));
    for (; *functions; functions++) {
        g_array_append_val(s->functions, *functions);
    }
    stage1_forget(s);
    return s;
}

void stage1_close(Stage1 *s)
{
    s->ops->close(s);
    g_array_unref(s->functions);
    g_free(s);
}

void stage1_set_mode(Stage1 *s, Stage1Mode mode)
{
    if (s->mode != mode) {
        s->ops->set_mode(s, mode);
        s->mode = mode;
    }
}

void stage1_forget(Stage1 *s)
{
    s->mode = STAGE1_OFF;
    s->ops->forget(s);
}

Span stage1_align(Span range)
{
    unsigned shift = 12;

    while (range.first >> shift != range.last >> shift) {
        shift++;
    }
    return (Span) {
        .first = range.first >> shift << shift,
        .last = range.last | ((1ULL << shift) - 1),
    };
}
