/*
 * Nyx IOMMU: fuzzing of what the migration stream has of it
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Loads contents of our sections, changed at random, in this process: some
 * thousand in a second, where a whole QEMU takes one.  What is accepted must
 * come back the same, and what is refused must leave nothing behind.  Built
 * with sanitizers, these see the rest.
 *
 *   nyx-fuzz-state [--seconds N] [--seed N] [--only N] CORPUS-FOLDER
 *
 * Each try is made of the seed and its number, so that --seed and --only repeat
 * it.
 */

#include "qemu/osdep.h"
#include "io/channel-buffer.h"
#include "migration/qemu-file.h"
#include "nyx/hw/iommu-nyx/page-ranges.h"
#include "nyx/hw/iommu-nyx/saved-state.h"
#include "nyx/hw/iommu-nyx/table-codec.h"
#include "nyx/tests/unit/nyx-random.h"
#include "qapi/error.h"
#include "qemu/module.h"
#include "qemu/rcu.h"

#define RAM_BYTES       (16ULL << 20)
#define INPUT_MAX       (1 << 20)
/* The stream goes on: QEMU looks ahead for subsections. */
#define FOLLOWING       512

typedef enum Kind {
    STATE,
    FUNCTIONS,
    TABLES,
    KINDS,
} Kind;

typedef struct Saved {
    NyxSavedIommu iommu;
    NyxSavedFunctions functions;
    NyxSavedTables tables;
} Saved;

typedef struct Seed {
    Kind kind;
    GBytes *bytes;
} Seed;

static const struct {
    const char *name;           /* of files of the corpus */
    const VMStateDescription *vmsd;
    size_t offset;
} kinds[KINDS] = {
    [STATE] = { "state-", &nyx_vmstate_saved_iommu, offsetof(Saved, iommu) },
    [FUNCTIONS] = { "functions-", &nyx_vmstate_saved_functions,
                    offsetof(Saved, functions) },
    [TABLES] = { "tables-", &nyx_vmstate_saved_tables,
                 offsetof(Saved, tables) },
};

static unsigned long accepted, tables_accepted;

static void saved_init(Saved *s)
{
    nyx_saved_iommu_init(&s->iommu);
    nyx_saved_functions_init(&s->functions);
    nyx_saved_tables_init(&s->tables);
}

static void saved_clear(Saved *s)
{
    nyx_saved_iommu_clear(&s->iommu);
    nyx_saved_functions_clear(&s->functions);
    nyx_saved_tables_clear(&s->tables);
}

static bool load(Saved *s, Kind kind, const void *bytes, size_t size)
{
    QIOChannelBuffer *buffer = qio_channel_buffer_new(size + FOLLOWING);
    QEMUFile *f;
    bool ok;

    memcpy(buffer->data, bytes, size);
    memset(buffer->data + size, 0x7e, FOLLOWING);
    buffer->usage = size + FOLLOWING;
    f = qemu_file_new_input(QIO_CHANNEL(buffer));
    ok = vmstate_load_vmsd(f, kinds[kind].vmsd,
                           (uint8_t *)s + kinds[kind].offset,
                           kinds[kind].vmsd->version_id, NULL) &&
         !qemu_file_get_error(f);
    qemu_fclose(f);
    object_unref(OBJECT(buffer));
    return ok;
}

static GByteArray *save(Saved *s, Kind kind)
{
    QIOChannelBuffer *buffer = qio_channel_buffer_new(4096);
    QEMUFile *f = qemu_file_new_output(QIO_CHANNEL(buffer));
    GByteArray *bytes = g_byte_array_new();

    vmstate_save_vmsd(f, kinds[kind].vmsd,
                      (uint8_t *)s + kinds[kind].offset, NULL, &error_abort);
    qemu_fflush(f);
    g_byte_array_append(bytes, buffer->data, buffer->usage);
    qemu_fclose(f);
    object_unref(OBJECT(buffer));
    return bytes;
}

/* What was loaded is saved as something that loads, and is saved alike. */
static void check_again(Saved *s, Kind kind)
{
    g_autoptr(GByteArray) first = save(s, kind);
    g_autoptr(GByteArray) second = NULL;
    Saved copy;

    saved_init(&copy);
    g_assert_true(load(&copy, kind, first->data, first->len));
    second = save(&copy, kind);
    g_assert_cmpmem(first->data, first->len, second->data, second->len);
    saved_clear(&copy);
}

/* Strings and policies, as arrival.c looks at them */

static void look_at_state(const NyxSavedIommu *s)
{
    const NyxSavedDomain *domain;
    const NyxSavedEndpoint *ep;
    const NyxSavedFault *fault;
    NyxPolicyOverride policy;

    nyx_saved_get_policy(&s->policy, &policy, NULL);
    QTAILQ_FOREACH(domain, &s->domains, next) {
        nyx_saved_get_string(domain->id, "id", NULL);
        nyx_saved_get_policy(&domain->policy, &policy, NULL);
    }
    QTAILQ_FOREACH(ep, &s->endpoints, next) {
        nyx_saved_get_string(ep->device, "device", NULL);
        nyx_saved_get_string(ep->domain, "domain", NULL);
        nyx_saved_get_policy(&ep->policy, &policy, NULL);
        QTAILQ_FOREACH(fault, &ep->faults, next) {
            nyx_saved_get_string(fault->domain, "domain", NULL);
        }
    }
}

/* A guest with little memory: no table takes much of ours. */
static bool is_ram(uint64_t first, uint64_t last, uint64_t gpa,
                   IOMMUAccessFlags perm, void *opaque)
{
    NyxTableSum *sum = opaque;

    nyx_table_sum_add(sum, first, last, gpa, perm);
    return last - first < RAM_BYTES && gpa < RAM_BYTES - (last - first);
}

static void check_table(NyxPageTable *table, const NyxTableSum *sum)
{
    NyxTableSum own = nyx_table_sum_of(table, 0, NYX_IOVA_LAST);
    NyxPageTable *copy = nyx_page_table_new(true);
    g_autoptr(GByteArray) packed = g_byte_array_new();
    NyxTableSum again = {};

    g_assert_true(nyx_table_sum_equal(sum, &own));
    nyx_table_pack(table, NULL, packed);
    g_assert_true(nyx_table_decode(copy, packed->data, packed->len, is_ram,
                                   &again, &error_abort));
    g_assert_true(nyx_table_sum_equal(sum, &again));
    nyx_page_table_free(copy);
    tables_accepted++;
}

static void forget(NyxPageTable *table, NyxTableSum *sum,
                   const NyxPageRanges *ranges)
{
    for (guint i = 0; i < nyx_page_ranges_count(ranges); i++) {
        NyxPageRange range = nyx_page_ranges_get(ranges, i);
        NyxTableSum gone = nyx_table_sum_of(table, range.first, range.last);

        nyx_table_sum_subtract(sum, &gone);
        nyx_page_table_clear(table, range.first, range.last);
    }
}

/* All of them into one, as if they were of one domain */
static void look_at_tables(const NyxSavedTables *saved)
{
    NyxPageTable *table = nyx_page_table_new(true);
    const NyxSavedTable *s;
    NyxTableSum sum = {};

    QTAILQ_FOREACH(s, &saved->list, next) {
        NyxPageRanges ranges = {};

        nyx_saved_get_string(s->id, "id", NULL);
        if (s->changed) {
            if (!nyx_page_ranges_decode(&ranges, s->changed->data,
                                        s->changed->len)) {
                break;
            }
            forget(table, &sum, &ranges);
            nyx_page_ranges_clear(&ranges);
        }
        if (!nyx_table_decode(table, s->table->data, s->table->len, is_ram,
                              &sum, NULL)) {
            break;
        }
        check_table(table, &sum);
    }
    nyx_page_table_free(table);
}

static void try_input(Kind kind, const void *bytes, size_t size)
{
    Saved s;

    saved_init(&s);
    if (load(&s, kind, bytes, size)) {
        accepted++;
        check_again(&s, kind);
        if (kind == STATE) {
            look_at_state(&s.iommu);
        } else if (kind == TABLES) {
            look_at_tables(&s.tables);
        }
    }
    saved_clear(&s);
}

/* Changes of kinds that find their way into parsers */

static void put_value(GByteArray *b, NyxRandom *r)
{
    static const uint64_t values[] = {
        0, 1, 2, 4, 7, 0x3f, 0x40, 0x7f, 0x80, 0xff, 0x200, 0xffff, 0x7fffffff,
        0x80000000, 0xffffffff, 1ULL << 36, 1ULL << 47, 1ULL << 63, UINT64_MAX,
    };
    uint64_t value =
        cpu_to_be64(values[nyx_random_below(r, ARRAY_SIZE(values))]);
    guint size = 1 << nyx_random_below(r, 4);

    size = MIN(size, b->len);
    memcpy(b->data + nyx_random_below(r, b->len - size + 1),
           (uint8_t *)&value + sizeof(value) - size, size);
}

static void move_piece(GByteArray *b, NyxRandom *r, bool insert)
{
    guint size = 1 + nyx_random_below(r, MIN(b->len, 64));
    guint from = nyx_random_below(r, b->len - size + 1);
    g_autofree void *piece = g_memdup2(b->data + from, size);

    if (insert && b->len < INPUT_MAX) {
        guint at = nyx_random_below(r, b->len + 1), tail = b->len - at;

        g_byte_array_set_size(b, b->len + size);
        memmove(b->data + at + size, b->data + at, tail);
        memcpy(b->data + at, piece, size);
    } else {
        memcpy(b->data + nyx_random_below(r, b->len - size + 1), piece, size);
    }
}

static void change(GByteArray *b, NyxRandom *r)
{
    guint at;

    if (!b->len) {
        return;
    }
    at = nyx_random_below(r, b->len);
    switch (nyx_random_below(r, 7)) {
    case 0:
        b->data[at] ^= 1 << nyx_random_below(r, 8);
        break;
    case 1:
        b->data[at] = nyx_random(r);
        break;
    case 2:
        put_value(b, r);
        break;
    case 3:
        g_byte_array_remove_range(b, at,
                                  1 + nyx_random_below(r, b->len - at));
        break;
    case 4:
        b->data[at] += nyx_random_below(r, 2) ? 1 : -1;
        break;
    default:
        move_piece(b, r, nyx_random_below(r, 2));
    }
}

static void try_number(GArray *corpus, uint64_t seed, uint64_t number)
{
    NyxRandom r = { .state = seed ^ (number * 0x9e3779b97f4a7c15ULL) };
    const Seed *from;
    g_autoptr(GByteArray) input = g_byte_array_new();
    gconstpointer bytes;
    gsize size;

    nyx_random(&r);
    from = &g_array_index(corpus, Seed, nyx_random_below(&r, corpus->len));
    bytes = g_bytes_get_data(from->bytes, &size);
    g_byte_array_append(input, bytes, size);
    for (unsigned n = nyx_random_below(&r, 6); n > 0; n--) {
        change(input, &r);
    }
    try_input(from->kind, input->data, input->len);
}

static GArray *read_corpus(const char *folder)
{
    GArray *corpus = g_array_new(false, false, sizeof(Seed));
    g_autoptr(GDir) dir = g_dir_open(folder, 0, NULL);
    const char *name;

    while (dir && (name = g_dir_read_name(dir))) {
        g_autofree char *path = g_build_filename(folder, name, NULL);
        g_autofree char *text = NULL;
        gsize size;

        for (int kind = 0; kind < KINDS; kind++) {
            if (g_str_has_prefix(name, kinds[kind].name) &&
                g_file_get_contents(path, &text, &size, NULL)) {
                Seed seed = {
                    .kind = kind,
                    .bytes = g_bytes_new_take(g_steal_pointer(&text), size),
                };

                g_array_append_val(corpus, seed);
                break;
            }
        }
    }
    return corpus;
}

static void run(GArray *corpus, uint64_t seed, int64_t seconds)
{
    int64_t end = g_get_monotonic_time() + seconds * G_USEC_PER_SEC;
    int64_t told = g_get_monotonic_time();
    uint64_t number = 0;

    while (g_get_monotonic_time() < end) {
        try_number(corpus, seed, number++);
        if (g_get_monotonic_time() - told > 10 * G_USEC_PER_SEC) {
            told = g_get_monotonic_time();
            /* Tables that were freed wait for that. */
            drain_call_rcu();
            fprintf(stderr, "%" PRIu64 " tries\n", number);
        }
    }
    drain_call_rcu();
    g_assert_cmpuint(nyx_page_table_live_tables(), ==, 0);
    printf("%" PRIu64 " tries with seed %" PRIu64 ": %lu accepted, and %lu "
           "tables\n", number, seed, accepted, tables_accepted);
    /* Otherwise it has tried nothing. */
    g_assert_true(accepted && tables_accepted);
}

static int64_t opt_seconds = 60, opt_seed = -1, opt_only = -1;

static const GOptionEntry options[] = {
    { "seconds", 0, 0, G_OPTION_ARG_INT64, &opt_seconds, "how long", "N" },
    { "seed", 0, 0, G_OPTION_ARG_INT64, &opt_seed, "of all tries", "N" },
    { "only", 0, 0, G_OPTION_ARG_INT64, &opt_only, "this try alone", "N" },
    { NULL }
};

int main(int argc, char **argv)
{
    g_autoptr(GOptionContext) context = g_option_context_new("CORPUS-FOLDER");
    g_autoptr(GError) err = NULL;
    GArray *corpus;

    g_option_context_add_main_entries(context, options, NULL);
    if (!g_option_context_parse(context, &argc, &argv, &err) || argc != 2) {
        fprintf(stderr, "nyx-fuzz-state: %s\n",
                err ? err->message : "name the folder of the corpus");
        return 1;
    }
    module_call_init(MODULE_INIT_QOM);
    corpus = read_corpus(argv[1]);
    if (!corpus->len) {
        fprintf(stderr, "nyx-fuzz-state: there is no corpus in %s\n", argv[1]);
        return 1;
    }
    if (opt_seed < 0) {
        opt_seed = g_get_real_time() / G_USEC_PER_SEC;
    }
    fprintf(stderr, "nyx-fuzz-state: seed %" PRId64 ", %u files\n", opt_seed,
            corpus->len);
    if (opt_only >= 0) {
        try_number(corpus, opt_seed, opt_only);
    } else {
        run(corpus, opt_seed, opt_seconds);
    }
    for (guint i = 0; i < corpus->len; i++) {
        g_bytes_unref(g_array_index(corpus, Seed, i).bytes);
    }
    g_array_unref(corpus);
    return 0;
}
