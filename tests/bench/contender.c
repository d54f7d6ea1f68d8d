/*
 * Nyx benchmarks: VMs that do the same DMA with different IOMMUs
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "contender.h"

#define SLOT            5       /* of the first device */
#define TABLES_FIRST    MIB(2)
#define TABLES_LAST     (MIB(64) - 1)
#define FRAMES_FIRST    MIB(64)
#define RAM_SIZE        (FRAMES_FIRST + (CONTENDER_FRAMES << LARGE))

#define SMALL           12
#define LARGE           21

/* Where pages begin that are mapped; above all RAM */
#define SMALL_FIRST     (1ULL << 36)
#define LARGE_FIRST     (1ULL << 37)
#define REFUSED         (1ULL << 38)

const ContenderKind contender_kinds[] = {
    { .name = "q35" },
    { .name = "q35 intel-iommu", .stage1 = &stage1_vtd_legacy },
    { .name = "q35 amd-iommu", .stage1 = &stage1_amdvi },
    { .name = "q35 virtio-iommu", .stage1 = &stage1_viommu },
    { .name = "nyx pass-through", .nyx = true },
    { .name = "nyx window", .nyx = true, .window = true },
    { .name = "nyx intel", .nyx = true, .stage1 = &stage1_vtd_legacy },
    { .name = "nyx amd", .nyx = true, .stage1 = &stage1_amdvi },
    { .name = "nyx virtio", .nyx = true, .stage1 = &stage1_viommu },
    {
        .name = "nyx window, large-pages=off", .nyx = true, .window = true,
        .split = true, .extra = true,
    },
    { }
};

static NyxTest *start_q35(const ContenderKind *kind)
{
    g_autofree char *iommu = kind->stage1
        ? g_strdup_printf("-device %s", kind->stage1->q35) : g_strdup("");

    return nyx_test_start_sized(RAM_SIZE, "q35",
        "%s -device nyx-testdev,id=td0,addr=%d "
        "-device nyx-testdev,id=td1,addr=%d", iommu, SLOT, SLOT + 1);
}

/* Windows have the leaves that are asked for, however they lie. */
static NyxTest *start_nyx(const ContenderKind *kind)
{
    g_autofree char *machine = g_strdup_printf(
        "nyx-pc,on-fault-limit=report%s%s", kind->stage1 ? "," : "",
        kind->stage1 ? kind->stage1->nyx : "");
    const char *map = kind->window ? "none" : "ram";

    return nyx_test_start_sized(RAM_SIZE, machine,
        "-object nyx-domain,id=small,isolation=shared,default-map=%s,"
        "large-pages=off "
        "-object nyx-domain,id=large,isolation=shared,default-map=%s "
        "-device nyx-testdev,id=td0,addr=%d,nyx-domain=small "
        "-device nyx-testdev,id=td1,addr=%d,nyx-domain=small",
        map, map, SLOT, SLOT + 1);
}

Contender *contender_start(const ContenderKind *kind)
{
    static const uint16_t functions[] = {
        QPCI_DEVFN(SLOT, 0), QPCI_DEVFN(SLOT + 1, 0), 0
    };
    Contender *c = g_new0(Contender, 1);

    c->kind = kind;
    c->t = kind->nyx ? start_nyx(kind) : start_q35(kind);
    for (unsigned i = 0; i < CONTENDER_DEVICES; i++) {
        c->dev[i] = nyx_testdev_open(c->t, SLOT + i);
    }
    table_pages_init(&c->pages, c->t->ram, TABLES_FIRST, TABLES_LAST);
    if (kind->stage1) {
        c->stage1 = stage1_open(kind->stage1, c->t, &c->pages, functions);
        stage1_set_mode(c->stage1, STAGE1_ON);
    }
    return c;
}

void contender_quit(Contender *c)
{
    if (c->stage1) {
        stage1_close(c->stage1);
    }
    for (unsigned i = 0; i < CONTENDER_DEVICES; i++) {
        nyx_testdev_close(c->dev[i]);
    }
    nyx_test_quit(c->t);
    table_pages_destroy(&c->pages);
    g_free(c);
}

static uint64_t page_address(uint64_t page, unsigned shift)
{
    return (shift == SMALL ? SMALL_FIRST : LARGE_FIRST) + (page << shift);
}

static uint64_t frame_address(uint64_t page, unsigned shift)
{
    return FRAMES_FIRST + (page % CONTENDER_FRAMES << shift);
}

static void set_leaves(Contender *c, uint64_t first, uint64_t count,
                       unsigned shift, unsigned may)
{
    Span all = {
        .first = page_address(first, shift),
        .last = page_address(first + count, shift) - 1,
    };

    for (uint64_t page = first; page < first + count; page++) {
        Span leaf = {
            .first = page_address(page, shift),
            .last = page_address(page + 1, shift) - 1,
            .to = frame_address(page, shift), .may = may,
        };

        c->stage1->ops->set_leaf(c->stage1, &leaf);
    }
    c->stage1->ops->invalidate(c->stage1, STAGE1_DOMAIN, all, 0);
}

static const char *domain_of(Contender *c, unsigned shift)
{
    return shift == SMALL || c->kind->split ? "small" : "large";
}

static void enter_domain(Contender *c, const char *domain)
{
    for (unsigned i = 0; i < CONTENDER_DEVICES; i++) {
        g_autofree char *id = g_strdup_printf("td%u", i);

        nyx_qmp(c->t, "{ 'execute': 'nyx-assign-device', 'arguments':"
                " { 'device': %s, 'domain': %s } }", id, domain);
    }
}

/* All frames in a row at once, as far as pages want them */
static void set_windows(Contender *c, uint64_t first, uint64_t count,
                        unsigned shift)
{
    uint64_t n;

    for (uint64_t page = first; page < first + count; page += n) {
        n = MIN(CONTENDER_FRAMES - page % CONTENDER_FRAMES,
                first + count - page);
        nyx_qmp(c->t, "{ 'execute': 'nyx-map', 'arguments': { 'domain': %s,"
                " 'iova': %" PRIu64 ", 'gpa': %" PRIu64 ", 'size': %" PRIu64
                ", 'access': 'rw' } }", domain_of(c, shift),
                page_address(page, shift), frame_address(page, shift),
                n << shift);
    }
    enter_domain(c, domain_of(c, shift));
}

void contender_map(Contender *c, uint64_t first, uint64_t count, unsigned shift)
{
    if (c->stage1) {
        set_leaves(c, first, count, shift, MAY_BOTH);
    } else if (c->kind->window) {
        set_windows(c, first, count, shift);
    }
}

void contender_unmap(Contender *c, uint64_t first, uint64_t count,
                     unsigned shift)
{
    if (c->stage1) {
        set_leaves(c, first, count, shift, 0);
    } else if (c->kind->window) {
        nyx_qmp(c->t, "{ 'execute': 'nyx-unmap', 'arguments': { 'domain': %s,"
                " 'iova': %" PRIu64 ", 'size': %" PRIu64 " } }",
                domain_of(c, shift), page_address(first, shift),
                count << shift);
    }
}

void contender_begin(Contender *c, unsigned n, const ContenderRun *run)
{
    bool translated = c->stage1 || c->kind->window;
    uint64_t first = translated ? page_address(0, run->shift) : FRAMES_FIRST;
    uint64_t pages = translated ? run->pages
                                : MIN(run->pages, CONTENDER_FRAMES);

    nyx_testdev_run(c->dev[n], run->refused ? REFUSED : first, run->length,
                    run->count, pages, 1ULL << run->shift, run->flags);
}

double contender_end(Contender *c, unsigned n, const ContenderRun *run)
{
    NyxTestdev *dev = c->dev[n];

    /* A question costs QEMU's main loop a part of what is measured. */
    while (nyx_testdev_get(dev, NTD_REG_STATUS) & NTD_STATUS_BUSY) {
        g_usleep(1000);
    }
    g_assert_cmpuint(nyx_testdev_get64(dev, NTD_REG_ERRORS_LO), ==,
                     run->refused ? run->count : 0);
    return (double)nyx_testdev_get64(dev, NTD_REG_ELAPSED_LO) /
           nyx_testdev_get64(dev, NTD_REG_DONE_LO);
}

double contender_run(Contender *c, const ContenderRun *run)
{
    contender_begin(c, 0, run);
    return contender_end(c, 0, run);
}
