/*
 * Composition tests of Nyx: what must come of an access
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Two lists of spans, one for each stage, looked up one after the other.  A
 * change of stage 1 that the guest has not invalidated yet leaves more than one
 * outcome possible; a change of stage 2 counts at once.
 */

#ifndef TESTS_QTEST_COMPOSE_ORACLE_H
#define TESTS_QTEST_COMPOSE_ORACLE_H

#include "compose-spans.h"

typedef enum OutcomeKind {
    OUTCOME_OK,
    OUTCOME_STAGE1,
    OUTCOME_UNMAPPED,
    OUTCOME_PERMISSION,
} OutcomeKind;

typedef struct Outcome {
    OutcomeKind kind;
    uint64_t address;       /* guest physical if OK, else the fault's */
    uint64_t middle;        /* what stage 1 gave out, if it did */
} Outcome;

#define OUTCOMES_MAX    32

typedef struct Oracle {
    bool translates;        /* else stage 1 is off, or passes all through */
    /* Until it is invalidated, stage 1 may know that nothing is there. */
    bool caches_absence;
    GArray *leaves;         /* stage 1 as it is */
    GArray *stale;          /* as it was, as far as that may be remembered */
    GArray *windows;        /* of the domain that the device is in */
} Oracle;

void oracle_init(Oracle *o, bool caches_absence);
void oracle_destroy(Oracle *o);

/* The guest writes, or zeroes, one leaf; it overlaps no other one. */
void oracle_set_leaf(Oracle *o, const Span *leaf);
void oracle_clear_leaf(Oracle *o, guint index);

/* The guest invalidates stage 1's caches. */
void oracle_invalidate(Oracle *o, uint64_t first, uint64_t last);

/*
 * All that may come of an access of the kinds in @access to @iova, each once;
 * returns how many there are, at least 1.
 */
unsigned oracle_outcomes(const Oracle *o, uint64_t iova, unsigned access,
                         Outcome outcomes[OUTCOMES_MAX]);

#endif
