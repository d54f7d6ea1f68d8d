/*
 * Composition tests of Nyx: a driver of VT-d
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Legacy mode with second-stage tables of 3 or 4 levels, and scalable mode with
 * second-stage or first-stage tables, for requests without PASID.
 */

#include "qemu/osdep.h"
#include "hw/i386/intel_iommu_internal.h"
#include "compose-stage1.h"

#define DOMAIN_ID           7ULL
#define WAIT_DATA           0x600dULL
#define QUEUE_BYTES         4096u
#define GRANULARITY(n)      ((uint64_t)(n) << 4)

typedef struct Vtd {
    Stage1 s;
    Radix *radix;
    uint64_t root;          /* guest physical addresses, */
    uint64_t contexts;      /* of all functions of bus 0 */
    uint64_t upper;         /* the other half of them, in scalable mode */
    uint64_t pasid_directory;
    uint64_t pasids;
    uint64_t queue;
    uint64_t wait;          /* of the wait descriptor's status */
    unsigned tail;          /* bytes */
    uint32_t command;       /* bits of GCMD that stay */
} Vtd;

static bool is_scalable(const Stage1 *s)
{
    return s->ops == &stage1_vtd_second || s->ops == &stage1_vtd_first;
}

static bool is_first_stage(const Stage1 *s)
{
    return s->ops == &stage1_vtd_first;
}

/* Registers */

static void set64(Vtd *v, unsigned reg, uint64_t value)
{
    qtest_writeq(v->s.t->qts, Q35_HOST_BRIDGE_IOMMU_ADDR + reg, value);
}

static void set32(Vtd *v, unsigned reg, uint32_t value)
{
    qtest_writel(v->s.t->qts, Q35_HOST_BRIDGE_IOMMU_ADDR + reg, value);
}

static uint32_t get32(Vtd *v, unsigned reg)
{
    return qtest_readl(v->s.t->qts, Q35_HOST_BRIDGE_IOMMU_ADDR + reg);
}

/* GCMD and GSTS have the same bits. */
static void command_on(Vtd *v, uint32_t bit)
{
    v->command |= bit;
    set32(v, DMAR_GCMD_REG, v->command);
    g_assert_cmphex(get32(v, DMAR_GSTS_REG) & bit, ==, bit);
}

static void command_off(Vtd *v, uint32_t bit)
{
    v->command &= ~bit;
    set32(v, DMAR_GCMD_REG, v->command);
    g_assert_cmphex(get32(v, DMAR_GSTS_REG) & bit, ==, 0);
}

static void command_once(Vtd *v, uint32_t bit)
{
    set32(v, DMAR_GCMD_REG, v->command | bit);
    g_assert_cmphex(get32(v, DMAR_GSTS_REG) & bit, ==, bit);
}

/* Queued invalidation */

static void submit(Vtd *v, uint64_t low, uint64_t high)
{
    uint64_t at = v->queue + v->tail;

    table_write(v->s.pages, at, low);
    table_write(v->s.pages, at + 8, high);
    if (is_scalable(&v->s)) {
        table_write(v->s.pages, at + 16, 0);
        table_write(v->s.pages, at + 24, 0);
    }
    v->tail = (v->tail + (is_scalable(&v->s) ? 32 : 16)) % QUEUE_BYTES;
    set32(v, DMAR_IQT_REG, v->tail);
}

/* Until everything that was submitted before has taken effect */
static void submit_wait(Vtd *v)
{
    table_write(v->s.pages, v->wait, 0);
    submit(v, VTD_INV_DESC_WAIT | VTD_INV_DESC_WAIT_SW |
           WAIT_DATA << VTD_INV_DESC_WAIT_DATA_SHIFT, v->wait);
    g_assert_cmphex(*(uint32_t *)(v->s.pages->ram + v->wait), ==, WAIT_DATA);
}

static void submit_contexts(Vtd *v)
{
    submit(v, VTD_INV_DESC_CC | VTD_INV_DESC_CC_GLOBAL, 0);
    if (is_scalable(&v->s)) {
        submit(v, VTD_INV_DESC_PC | GRANULARITY(VTD_INV_DESC_PASIDC_G_GLOBAL),
               0);
    }
}

static void submit_functions(Vtd *v)
{
    guint i;

    for (i = 0; i < v->s.functions->len; i++) {
        uint64_t rid = g_array_index(v->s.functions, uint16_t, i);

        submit(v, VTD_INV_DESC_CC | VTD_INV_DESC_CC_DEVICE | DOMAIN_ID << 16 |
               rid << 32, 0);
    }
    if (is_scalable(&v->s)) {
        submit(v, VTD_INV_DESC_PC |
               GRANULARITY(VTD_INV_DESC_PASIDC_G_PASID_SI) | DOMAIN_ID << 16,
               0);
    }
}

static void submit_domain(Vtd *v, unsigned variant)
{
    if (is_first_stage(&v->s) && variant % 2) {
        submit(v, VTD_INV_DESC_PIOTLB | VTD_INV_DESC_PIOTLB_ALL_IN_PASID |
               DOMAIN_ID << 16, 0);
    } else {
        submit(v, VTD_INV_DESC_IOTLB | VTD_INV_DESC_IOTLB_DOMAIN |
               DOMAIN_ID << 16, 0);
    }
}

/* @range: from stage1_align(), of at most 1 GiB */
static void submit_pages(Vtd *v, Span range, unsigned variant)
{
    uint64_t high = range.first | ctz64(span_size(&range) / PAGE);

    if (is_first_stage(&v->s) && variant % 2) {
        submit(v, VTD_INV_DESC_PIOTLB | VTD_INV_DESC_PIOTLB_PSI_IN_PASID |
               DOMAIN_ID << 16, high);
    } else {
        submit(v, VTD_INV_DESC_IOTLB | VTD_INV_DESC_IOTLB_PAGE |
               DOMAIN_ID << 16, high);
    }
}

static Span vtd_invalidate(Stage1 *s, Stage1Scope scope, Span range,
                           unsigned variant)
{
    Vtd *v = (Vtd *)s;
    Span all = { .first = 0, .last = UINT64_MAX };
    Span pages = stage1_align(range);

    if (scope == STAGE1_PAGES && span_size(&pages) <= 1ULL << 30) {
        submit_pages(v, pages, variant);
        submit_wait(v);
        return pages;
    }
    if (scope == STAGE1_DEVICE) {
        submit_functions(v);
    } else if (scope == STAGE1_GLOBAL && variant % 2) {
        submit_contexts(v);
    }
    if (scope == STAGE1_GLOBAL) {
        submit(v, VTD_INV_DESC_IOTLB | VTD_INV_DESC_IOTLB_GLOBAL, 0);
    } else {
        submit_domain(v, variant);
    }
    submit_wait(v);
    return all;
}

/* Context entries, and the PASID entry that all functions share */

static void write_legacy_context(Vtd *v, uint16_t rid)
{
    uint64_t at = v->contexts + (rid & 0xff) * VTD_CTX_ENTRY_LEGACY_SIZE;
    uint64_t width = v->s.ops->iova_bits == 48 ? 2 : 1;
    uint64_t low = VTD_CONTEXT_ENTRY_P;

    if (v->s.mode == STAGE1_BYPASS) {
        low |= VTD_CONTEXT_TT_PASS_THROUGH;
    } else {
        low |= VTD_CONTEXT_TT_MULTI_LEVEL | radix_root(v->radix);
    }
    table_write(v->s.pages, at + 8, DOMAIN_ID << 8 | width);
    table_write(v->s.pages, at, low);
}

static void write_scalable_context(Vtd *v, uint16_t rid)
{
    uint64_t table = rid & VTD_DEVFN_CHECK_MASK ? v->upper : v->contexts;
    uint64_t at = table + (rid & 0x7f) * VTD_CTX_ENTRY_SCALABLE_SIZE;

    table_write(v->s.pages, at, v->pasid_directory | VTD_CONTEXT_ENTRY_P);
}

/* Of PASID 0, which requests without PASID have */
static void write_pasid(Vtd *v)
{
    /* The width, 48 bits, counts for first-stage tables in QEMU, too. */
    uint64_t low = VTD_PASID_ENTRY_P | 2 << 2;
    uint64_t pointer = 0;

    if (v->s.mode == STAGE1_BYPASS) {
        low |= (uint64_t)VTD_SM_PASID_ENTRY_PT << 6;
    } else if (is_first_stage(&v->s)) {
        low |= (uint64_t)VTD_SM_PASID_ENTRY_FST << 6;
        pointer = radix_root(v->radix);
    } else {
        low |= (uint64_t)VTD_SM_PASID_ENTRY_SST << 6 | radix_root(v->radix);
    }
    table_write(v->s.pages, v->pasids + 8, DOMAIN_ID);
    table_write(v->s.pages, v->pasids + 16, pointer);
    table_write(v->s.pages, v->pasids, low);
    table_write(v->s.pages, v->pasid_directory, v->pasids | VTD_PASID_ENTRY_P);
}

static void write_functions(Vtd *v)
{
    guint i;

    if (is_scalable(&v->s)) {
        write_pasid(v);
    }
    for (i = 0; i < v->s.functions->len; i++) {
        uint16_t rid = g_array_index(v->s.functions, uint16_t, i);

        if (is_scalable(&v->s)) {
            write_scalable_context(v, rid);
        } else {
            write_legacy_context(v, rid);
        }
    }
    table_write(v->s.pages, v->root, v->contexts | VTD_ROOT_ENTRY_P);
    if (is_scalable(&v->s)) {
        table_write(v->s.pages, v->root + 8, v->upper | VTD_ROOT_ENTRY_P);
    }
}

/* Modes */

static void turn_on(Vtd *v)
{
    bool scalable = is_scalable(&v->s);

    set64(v, DMAR_RTADDR_REG, v->root | (scalable ? VTD_RTADDR_SMT : 0));
    command_once(v, VTD_GCMD_SRTP);
    v->tail = 0;
    set64(v, DMAR_IQA_REG, v->queue | (scalable ? VTD_IQA_DW_MASK : 0));
    set32(v, DMAR_IQT_REG, 0);
    command_on(v, VTD_GCMD_QIE);
    submit_contexts(v);
    submit(v, VTD_INV_DESC_IOTLB | VTD_INV_DESC_IOTLB_GLOBAL, 0);
    submit_wait(v);
    command_on(v, VTD_GCMD_TE);
}

static void turn_off(Vtd *v)
{
    submit_wait(v);
    command_off(v, VTD_GCMD_TE);
    command_off(v, VTD_GCMD_QIE);
}

static void vtd_set_mode(Stage1 *s, Stage1Mode mode)
{
    Vtd *v = (Vtd *)s;
    Stage1Mode before = s->mode;

    s->mode = mode;
    if (mode == STAGE1_OFF) {
        turn_off(v);
        return;
    }
    write_functions(v);
    if (before == STAGE1_OFF) {
        turn_on(v);
        return;
    }
    submit_functions(v);
    submit_domain(v, 0);
    submit_wait(v);
}

static void vtd_forget(Stage1 *s)
{
    Vtd *v = (Vtd *)s;

    v->command = 0;
}

/* Leaves */

static uint64_t second_leaf(unsigned level, unsigned shift, const Span *span)
{
    /* The bits are Span.may's. */
    return span->to | span->may | (level > 1 ? VTD_PT_PAGE_SIZE_MASK : 0);
}

static uint64_t second_directory(unsigned level, uint64_t table)
{
    return table | VTD_SS_R | VTD_SS_W;
}

static uint64_t first_leaf(unsigned level, unsigned shift, const Span *span)
{
    return span->to | VTD_FS_P | VTD_FS_US |
           (span->may & MAY_WRITE ? VTD_FS_RW : 0) |
           (level > 1 ? VTD_PT_PAGE_SIZE_MASK : 0);
}

static uint64_t first_directory(unsigned level, uint64_t table)
{
    return table | VTD_FS_P | VTD_FS_US | VTD_FS_RW;
}

static const RadixFormat second_format = {
    .levels = 4, .leaf = second_leaf, .directory = second_directory,
};

static const RadixFormat second_format_39 = {
    .levels = 3, .leaf = second_leaf, .directory = second_directory,
};

static const RadixFormat first_format = {
    .levels = 4, .leaf = first_leaf, .directory = first_directory,
};

static const RadixFormat *format_of(const Stage1 *s)
{
    if (is_first_stage(s)) {
        return &first_format;
    }
    return s->ops->iova_bits == 39 ? &second_format_39 : &second_format;
}

static Stage1 *vtd_open(const Stage1Ops *ops, NyxTest *t, TablePages *pages)
{
    Vtd *v = g_new0(Vtd, 1);
    uint64_t *page[] = {
        &v->root, &v->contexts, &v->upper, &v->pasid_directory, &v->pasids,
        &v->queue, &v->wait,
    };
    unsigned i;

    v->s = (Stage1) { .ops = ops, .t = t, .pages = pages };
    for (i = 0; i < ARRAY_SIZE(page); i++) {
        *page[i] = table_pages_take(pages);
    }
    v->radix = radix_new(pages, format_of(&v->s));
    return &v->s;
}

static void vtd_close(Stage1 *s)
{
    radix_free(((Vtd *)s)->radix);
}

static void vtd_set_leaf(Stage1 *s, const Span *leaf)
{
    radix_set(((Vtd *)s)->radix, leaf);
}

static const uint8_t vtd_shifts[] = { 12, 21, 30, 0 };

#define VTD_OPERATIONS              \
    .open = vtd_open,               \
    .close = vtd_close,             \
    .set_mode = vtd_set_mode,       \
    .forget = vtd_forget,           \
    .set_leaf = vtd_set_leaf,       \
    .invalidate = vtd_invalidate,   \
    .shifts = vtd_shifts,           \
    .caches = true,                 \
    .refuses_msi = true

const Stage1Ops stage1_vtd_legacy = {
    VTD_OPERATIONS,
    .name = "intel-legacy",
    .nyx = "stage1=intel",
    .q35 = "intel-iommu,caching-mode=on,aw-bits=48",
    .iova_bits = 48,
    .write_only = true,
    .caches_absence = true,
};

/* Without caching mode nothing needs to be invalidated where nothing was. */
const Stage1Ops stage1_vtd_legacy_39 = {
    VTD_OPERATIONS,
    .name = "intel-legacy-39",
    .nyx = "stage1=intel,stage1.aw-bits=39,stage1.caching-mode=off",
    .q35 = "intel-iommu,aw-bits=39",
    .iova_bits = 39,
    .write_only = true,
};

const Stage1Ops stage1_vtd_second = {
    VTD_OPERATIONS,
    .name = "intel-scalable-second",
    .nyx = "stage1=intel,stage1.scalable-mode=on",
    .q35 = "intel-iommu,caching-mode=on,aw-bits=48,scalable-mode=on",
    .iova_bits = 48,
    .write_only = true,
    .caches_absence = true,
};

/* Addresses with bit 47 would have to be canonical. */
const Stage1Ops stage1_vtd_first = {
    VTD_OPERATIONS,
    .name = "intel-scalable-first",
    .nyx = "stage1=intel,stage1.scalable-mode=on,stage1.fsts=on",
    .q35 = "intel-iommu,caching-mode=on,aw-bits=48,scalable-mode=on,fsts=on",
    .iova_bits = 47,
    .caches_absence = true,
};
