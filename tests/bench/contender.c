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
#define TABLES_LAST     (CONTENDER_DMA - 1)

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
    { }
};

static NyxTest *start_q35(const ContenderKind *kind, size_t ram_size)
{
    g_autofree char *iommu = kind->stage1
        ? g_strdup_printf("-device %s", kind->stage1->q35) : g_strdup("");

    return nyx_test_start_sized(ram_size, "q35",
        "%s -device nyx-testdev,id=td0,addr=%d "
        "-device nyx-testdev,id=td1,addr=%d", iommu, SLOT, SLOT + 1);
}

/* Windows have the leaves that are asked for, however they lie. */
static NyxTest *start_nyx(const ContenderKind *kind, size_t ram_size)
{
    g_autofree char *machine = g_strdup_printf(
        "nyx-pc,on-fault-limit=report%s%s", kind->stage1 ? "," : "",
        kind->stage1 ? kind->stage1->nyx : "");
    const char *map = kind->window ? "none" : "ram";

    return nyx_test_start_sized(ram_size, machine,
        "-object nyx-domain,id=small,isolation=shared,default-map=%s,"
        "large-pages=off "
        "-object nyx-domain,id=large,isolation=shared,default-map=%s "
        "-device nyx-testdev,id=td0,addr=%d,nyx-domain=small "
        "-device nyx-testdev,id=td1,addr=%d,nyx-domain=small",
        map, map, SLOT, SLOT + 1);
}

Contender *contender_start(const ContenderKind *kind, size_t ram_size)
{
    static const uint16_t functions[] = {
        QPCI_DEVFN(SLOT, 0), QPCI_DEVFN(SLOT + 1, 0), 0
    };
    Contender *c = g_new0(Contender, 1);

    c->kind = kind;
    c->t = kind->nyx ? start_nyx(kind, ram_size) : start_q35(kind, ram_size);
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

static void set_leaves(Contender *c, uint64_t first, uint64_t size,
                       unsigned shift, unsigned may)
{
    for (uint64_t at = first; at < first + size; at += 1ULL << shift) {
        Span leaf = {
            .first = at, .last = at + (1ULL << shift) - 1, .to = at, .may = may,
        };

        c->stage1->ops->set_leaf(c->stage1, &leaf);
    }
    c->stage1->ops->invalidate(c->stage1, STAGE1_DOMAIN,
                               (Span) { first, first + size - 1 }, 0);
}

static void enter_domain(Contender *c, const char *domain)
{
    for (unsigned i = 0; i < CONTENDER_DEVICES; i++) {
        g_autofree char *id = g_strdup_printf("td%u", i);

        nyx_qmp(c->t, "{ 'execute': 'nyx-assign-device', 'arguments':"
                " { 'device': %s, 'domain': %s } }", id, domain);
    }
}

void contender_map(Contender *c, uint64_t first, uint64_t size, unsigned shift)
{
    const char *domain = shift == 12 ? "small" : "large";

    if (c->stage1) {
        set_leaves(c, first, size, shift, MAY_BOTH);
    } else if (c->kind->window) {
        nyx_qmp(c->t, "{ 'execute': 'nyx-map', 'arguments': { 'domain': %s,"
                " 'iova': %" PRIu64 ", 'gpa': %" PRIu64 ", 'size': %" PRIu64
                ", 'access': 'rw' } }", domain, first, first, size);
        enter_domain(c, domain);
    }
}

void contender_unmap(Contender *c, uint64_t first, uint64_t size,
                     unsigned shift)
{
    const char *domain = shift == 12 ? "small" : "large";

    if (c->stage1) {
        set_leaves(c, first, size, shift, 0);
    } else if (c->kind->window) {
        nyx_qmp(c->t, "{ 'execute': 'nyx-unmap', 'arguments': { 'domain': %s,"
                " 'iova': %" PRIu64 ", 'size': %" PRIu64 " } }", domain, first,
                size);
    }
}

void contender_begin(Contender *c, unsigned n, const ContenderRun *run)
{
    nyx_testdev_run(c->dev[n], run->first, run->length, run->count, run->slots,
                    run->stride, run->flags);
}

double contender_end(Contender *c, unsigned n, uint64_t errors)
{
    NyxTestdev *dev = c->dev[n];

    /* A question costs QEMU's main loop a part of what is measured. */
    while (nyx_testdev_get(dev, NTD_REG_STATUS) & NTD_STATUS_BUSY) {
        g_usleep(1000);
    }
    g_assert_cmpuint(nyx_testdev_get64(dev, NTD_REG_ERRORS_LO), ==, errors);
    return (double)nyx_testdev_get64(dev, NTD_REG_ELAPSED_LO) /
           nyx_testdev_get64(dev, NTD_REG_DONE_LO);
}

double contender_run(Contender *c, const ContenderRun *run)
{
    contender_begin(c, 0, run);
    return contender_end(c, 0, 0);
}
