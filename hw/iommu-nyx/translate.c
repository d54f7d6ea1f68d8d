/*
 * Nyx IOMMU: translation of a device's accesses
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * An access goes through stage 1, if the guest has that translate, and then
 * through stage 2, the domain.  What either refuses leads to a trap.  This is
 * the path of each DMA: it takes no lock, unless it asks stage 1.
 */

#include "qemu/osdep.h"
#include "endpoint.h"
#include "iommu.h"
#include "nyx/include/hw/iommu-nyx/permission.h"
#include "qemu/module.h"
#include "system/address-spaces.h"
#include "translate.h"

/* Stage 2 */

NyxPageTable *nyx_endpoint_table(NyxEndpoint *ep, NyxDomain *domain)
{
    NyxPageTable *table = qatomic_rcu_read(&domain->table);

    return table ?: qatomic_rcu_read(&ep->iommu->ram_table);
}

/* What a domain with peer-to-peer and without a table allows besides RAM */
static bool is_peer_memory(NyxEndpoint *ep, NyxDomain *domain, uint64_t address)
{
    return domain->peer_to_peer && !qatomic_read(&domain->table) &&
           !nyx_ram_map_in_window(&ep->iommu->ram, address) &&
           address <= NYX_IOVA_LAST;
}

void nyx_endpoint_stage2(NyxEndpoint *ep, NyxDomain *domain, uint64_t address,
                         NyxTranslation *t)
{
    NyxPageTable *table = nyx_endpoint_table(ep, domain);

    if (table && nyx_page_table_lookup(table, address, t)) {
        return;
    }
    *t = (NyxTranslation) { .mask = NYX_PAGE_SIZE - 1 };
    if (is_peer_memory(ep, domain, address)) {
        t->gpa = address & ~t->mask;
        t->perm = IOMMU_RW;
    }
}

NyxFaultType nyx_endpoint_refusal(NyxEndpoint *ep, uint64_t address,
                                  IOMMUAccessFlags flag)
{
    NyxDomain *domain = qatomic_rcu_read(&ep->domain);
    NyxTranslation t;

    if (qatomic_read(&ep->blocked) || !domain) {
        return NYX_FAULT_TYPE_BLOCKED;
    }
    if (address > NYX_IOVA_LAST) {
        return NYX_FAULT_TYPE_ADDRESS_WIDTH;
    }
    nyx_endpoint_stage2(ep, domain, address, &t);
    return (t.perm & IOMMU_RW) && !(t.perm & flag) ? NYX_FAULT_TYPE_PERMISSION
                                                   : NYX_FAULT_TYPE_UNMAPPED;
}

/* Refusal */

/*
 * QEMU itself refuses an access with MemTxAttrs.memory that hits no memory, so
 * it never comes to the trap.  It is translated once, though: an IOMMU index
 * of its own tells it, and the translation records it.  Beside that, an index
 * says what stage 1's index is.
 */
#define INDEX_MEMORY_ONLY   1
#define INDEX_STAGE1_SHIFT  1

static int nyx_attrs_to_index(IOMMUMemoryRegion *mr, MemTxAttrs attrs)
{
    NyxEndpoint *ep = container_of(mr, NyxEndpoint, view.translate);
    int index = attrs.memory ? INDEX_MEMORY_ONLY : 0;
    IOMMUMemoryRegion *stage1;

    /* Most devices say nothing, which is 0 to every model: stage1.c checks. */
    if (likely(attrs.unspecified)) {
        return index;
    }
    stage1 = qatomic_rcu_read(&ep->stage1.mr);
    if (stage1) {
        int inner = memory_region_iommu_attrs_to_index(stage1, attrs);

        assert(inner < NYX_STAGE1_INDEXES);
        index |= inner << INDEX_STAGE1_SHIFT;
    }
    return index;
}

static int nyx_gate_attrs_to_index(IOMMUMemoryRegion *mr, MemTxAttrs attrs)
{
    return attrs.memory ? INDEX_MEMORY_ONLY : 0;
}

static int nyx_num_indexes(IOMMUMemoryRegion *mr)
{
    return NYX_STAGE1_INDEXES << INDEX_STAGE1_SHIFT;
}

typedef struct Refusal {
    AddressSpace *trap;
    NyxFaultType type;
    hwaddr iova;
    hwaddr address;             /* that is recorded */
} Refusal;

/*
 * The trap records an access when, and if, it really happens.  Not so one that
 * a backend asks for (vhost looks at addresses only, and would find memory), or
 * that never comes to the trap: these are refused, and recorded, at once.
 */
static IOMMUTLBEntry refuse(NyxEndpoint *ep, const Refusal *r,
                            IOMMUAccessFlags flag, int index)
{
    IOMMUTLBEntry entry = {
        .target_as = r->trap,
        .iova = r->iova & ~(hwaddr)(NYX_PAGE_SIZE - 1),
        .translated_addr = r->address & ~(hwaddr)(NYX_PAGE_SIZE - 1),
        .addr_mask = NYX_PAGE_SIZE - 1,
        .perm = flag,
    };

    if (flag != IOMMU_NONE &&
        ((index & INDEX_MEMORY_ONLY) || ep->backend_caches)) {
        nyx_endpoint_fault(ep, r->type,
                           flag == IOMMU_RO ? NYX_ACCESS_R : NYX_ACCESS_W,
                           r->address, 1, false);
        entry.perm = IOMMU_NONE;
    }
    return entry;
}

/* @address: what stage 2 was asked for */
static IOMMUTLBEntry refuse_stage2(NyxEndpoint *ep, hwaddr iova, hwaddr address,
                                   IOMMUAccessFlags flag, int index)
{
    Refusal r = {
        .trap = &ep->trap_as,
        .type = nyx_endpoint_refusal(ep, address, flag),
        .iova = iova,
        .address = address,
    };

    return refuse(ep, &r, flag, index);
}

static IOMMUTLBEntry refuse_stage1(NyxEndpoint *ep, hwaddr iova,
                                   IOMMUAccessFlags flag, int index)
{
    Refusal r = {
        .trap = &ep->stage1_trap_as,
        .type = NYX_FAULT_TYPE_STAGE1,
        .iova = iova,
        .address = iova,
    };

    return refuse(ep, &r, flag, index);
}

/* The gate of the trap, for DMA that is not translated otherwise */

static IOMMUTLBEntry nyx_gate_translate(IOMMUMemoryRegion *mr, hwaddr iova,
                                        IOMMUAccessFlags flag, int index)
{
    return refuse_stage2(container_of(mr, NyxEndpoint, gate), iova, iova, flag,
                         index);
}

/* Nothing is mapped there; QEMU's own replay would try each page of 2^64. */
static void nyx_gate_replay(IOMMUMemoryRegion *mr, IOMMUNotifier *n)
{
}

static void nyx_gate_class_init(ObjectClass *oc, const void *data)
{
    IOMMUMemoryRegionClass *imrc = IOMMU_MEMORY_REGION_CLASS(oc);

    imrc->translate = nyx_gate_translate;
    imrc->attrs_to_index = nyx_gate_attrs_to_index;
    imrc->num_indexes = nyx_num_indexes;
    imrc->replay = nyx_gate_replay;
}

/* Both stages */

static IOMMUTLBEntry final(NyxEndpoint *ep, NyxDomain *domain, hwaddr iova,
                           const NyxTranslation *t)
{
    return (IOMMUTLBEntry) {
        .target_as = likely(!domain->peer_to_peer) ||
                     nyx_ram_map_in_window(&ep->iommu->ram, t->gpa)
                     ? &address_space_memory : &ep->peers_as,
        .iova = iova & ~t->mask,
        .translated_addr = t->gpa,
        .addr_mask = t->mask,
        .perm = t->perm,
    };
}

/* The part of stage 1's mapping that one mapping of stage 2 continues */
static NyxTranslation join(const IOMMUTLBEntry *first, hwaddr address,
                           const NyxTranslation *second)
{
    uint64_t mask = MIN(first->addr_mask | (NYX_PAGE_SIZE - 1), second->mask);

    return (NyxTranslation) {
        .gpa = (second->gpa | (address & second->mask)) & ~mask,
        .mask = mask,
        .perm = first->perm & second->perm & IOMMU_RW,
    };
}

/*
 * What an access goes by.  The generation was read before the others: whatever
 * changes one of them changes it afterwards, so what follows from the old ones
 * is not kept.
 */
typedef struct Way {
    uint64_t generation;        /* of the shadow */
    NyxDomain *domain;          /* NULL: none */
    IOMMUMemoryRegion *stage1;  /* NULL: lets pass */
} Way;

static Way current_way(NyxEndpoint *ep)
{
    uint64_t generation = nyx_shadow_generation(&ep->stage1.shadow);

    return (Way) {
        .generation = generation,
        .domain = qatomic_rcu_read(&ep->domain),
        .stage1 = qatomic_rcu_read(&ep->stage1.mr),
    };
}

/* False if stage 1 refuses; else @address is what it makes of @iova. */
static bool ask_stage1(IOMMUMemoryRegion *stage1, hwaddr iova,
                       IOMMUAccessFlags flag, int inner, IOMMUTLBEntry *entry,
                       hwaddr *address)
{
    IOMMUMemoryRegionClass *imrc =
        memory_region_get_iommu_class_nocheck(stage1);

    *entry = imrc->translate(stage1, iova, flag, inner);
    *address = (entry->translated_addr & ~entry->addr_mask) |
               (iova & entry->addr_mask);
    return (entry->perm & flag) == flag &&
           entry->target_as == &address_space_memory;
}

static IOMMUTLBEntry ask_both(NyxEndpoint *ep, const Way *way, hwaddr iova,
                              IOMMUAccessFlags flag, int index)
{
    int inner = index >> INDEX_STAGE1_SHIFT;
    NyxTranslation second, both;
    IOMMUTLBEntry first;
    hwaddr address;

    if (!ask_stage1(way->stage1, iova, flag, inner, &first, &address)) {
        return refuse_stage1(ep, iova, flag, index);
    }
    nyx_endpoint_stage2(ep, way->domain, address, &second);
    if ((second.perm & flag) != flag) {
        return refuse_stage2(ep, iova, address, flag, index);
    }
    both = join(&first, address, &second);
    if (!inner) {
        nyx_stage1_keep(ep, way->generation, iova, &both);
    }
    return final(ep, way->domain, iova, &both);
}

/*
 * Keep what was found under @generation, which was read before the search: what
 * was found cannot be older than it.
 */
static void remember(NyxEndpoint *ep, uint64_t generation, hwaddr iova,
                     const NyxTranslation *t)
{
    /* Where nothing that is cached would be right, nothing is. */
    if (nyx_iotlb_missed(&ep->iotlb, generation) &&
        qatomic_read(&ep->generation)) {
        nyx_iotlb_fill(&ep->iotlb, generation, iova, t);
    }
}

/* Index 0 is for requests that are not translated yet: these are cached. */
static IOMMUTLBEntry translate_both(NyxEndpoint *ep, const Way *way,
                                    hwaddr iova, IOMMUAccessFlags flag,
                                    int index)
{
    NyxTranslation t;

    if (!(index >> INDEX_STAGE1_SHIFT) &&
        nyx_shadow_lookup(&ep->stage1.shadow, iova, &t) &&
        (t.perm & flag) == flag) {
        remember(ep, way->generation, iova, &t);
        return final(ep, way->domain, iova, &t);
    }
    return ask_both(ep, way, iova, flag, index);
}

/* Stage 2 alone */

static IOMMUTLBEntry translate_stage2(NyxEndpoint *ep, NyxDomain *domain,
                                      hwaddr iova, IOMMUAccessFlags flag,
                                      int index)
{
    uint64_t generation = qatomic_load_acquire(&domain->generation);
    NyxTranslation t;

    nyx_endpoint_stage2(ep, domain, iova, &t);
    if (unlikely((t.perm & flag) != flag)) {
        return refuse_stage2(ep, iova, iova, flag, index);
    }
    remember(ep, generation, iova, &t);
    return final(ep, domain, iova, &t);
}

/*
 * Ask the view that the endpoint has now.  Only for who left the domain's view
 * before: a view that is yet to change would send the access back here.
 */
static IOMMUTLBEntry ask_view(NyxEndpoint *ep, hwaddr iova)
{
    return (IOMMUTLBEntry) {
        .target_as = &ep->as,
        .iova = iova & ~(hwaddr)(NYX_PAGE_SIZE - 1),
        .translated_addr = iova & ~(hwaddr)(NYX_PAGE_SIZE - 1),
        .addr_mask = NYX_PAGE_SIZE - 1,
        .perm = IOMMU_RW,
    };
}

/* What is not cached */
static IOMMUTLBEntry __attribute__((noinline))
find(NyxEndpoint *ep, hwaddr iova, IOMMUAccessFlags flag, int index)
{
    Way way = current_way(ep);

    if (unlikely(!way.domain || qatomic_read(&ep->blocked))) {
        return refuse_stage2(ep, iova, iova, flag, index);
    }
    if (way.stage1) {
        return translate_both(ep, &way, iova, flag, index);
    }
    /* It has just left a managed domain: see nyx_endpoint_show_domain(). */
    if (unlikely(way.domain->isolation == NYX_ISOLATION_UNMANAGED)) {
        return ask_view(ep, iova);
    }
    return translate_stage2(ep, way.domain, iova, flag, index);
}

static IOMMUTLBEntry nyx_translate(IOMMUMemoryRegion *mr, hwaddr iova,
                                   IOMMUAccessFlags flag, int index)
{
    NyxEndpoint *ep = container_of(mr, NyxEndpoint, view.translate);
    const uint64_t *generation = qatomic_rcu_read(&ep->generation);
    QEMU_UNINITIALIZED NyxTranslation t;

    if (likely(generation && !(index >> INDEX_STAGE1_SHIFT) &&
               !qatomic_read(&ep->blocked) &&
               nyx_iotlb_lookup(&ep->iotlb, qatomic_load_acquire(generation),
                                iova, &t) &&
               (t.perm & flag) == flag)) {
        return (IOMMUTLBEntry) {
            .target_as = &address_space_memory,
            .iova = iova & ~t.mask,
            .translated_addr = t.gpa,
            .addr_mask = t.mask,
            .perm = t.perm,
        };
    }
    return find(ep, iova, flag, index);
}

static IOMMUTLBEntry __attribute__((noinline))
translate_timed(IOMMUMemoryRegion *mr, hwaddr iova, IOMMUAccessFlags flag,
                int index)
{
    NyxEndpoint *ep = container_of(mr, NyxEndpoint, view.translate);
    int64_t begin_ns = get_clock();
    IOMMUTLBEntry entry = nyx_translate(mr, iova, flag, index);

    nyx_histogram_add(&ep->latency.dma.histogram, get_clock() - begin_ns);
    return entry;
}

/* The same, and time one in so many */
static IOMMUTLBEntry nyx_translate_sampled(IOMMUMemoryRegion *mr, hwaddr iova,
                                           IOMMUAccessFlags flag, int index)
{
    NyxEndpoint *ep = container_of(mr, NyxEndpoint, view.translate);
    uint32_t interval = qatomic_read(&ep->iommu->latency_sampling);

    if (unlikely(interval && nyx_sampler_due(&ep->latency.dma, interval))) {
        return translate_timed(mr, iova, flag, index);
    }
    return nyx_translate(mr, iova, flag, index);
}

/*
 * Either of both will do for a thread that translates at this moment.  So
 * sampling costs nothing while it is off, not even a look whether it is.
 */
void nyx_translate_set_sampling(bool on)
{
    ObjectClass *oc = object_class_by_name(TYPE_NYX_TRANSLATE);
    IOMMUMemoryRegionClass *imrc = IOMMU_MEMORY_REGION_CLASS(oc);

    qatomic_set(&imrc->translate, on ? nyx_translate_sampled : nyx_translate);
}

/*
 * Of a translation that has just been found, for a backend that caches it.  A
 * backend that writes asks for both kinds of access, and waits until it has
 * them; so it may also read what the guest lets it only write, if the domain
 * allows that.  The guest, or the domain, may have changed meanwhile: then it
 * gets for @gpa what it was found for.
 */
static IOMMUAccessFlags found_permission(NyxEndpoint *ep, hwaddr iova,
                                         bool write, hwaddr gpa)
{
    IOMMUAccessFlags asked = write ? IOMMU_WO : IOMMU_RO;
    Way way = current_way(ep);
    NyxTranslation second;
    IOMMUTLBEntry first = { .perm = IOMMU_RW };
    hwaddr address = iova;

    if (!way.domain || qatomic_read(&ep->blocked)) {
        return IOMMU_NONE;
    }
    if (way.stage1 &&
        !ask_stage1(way.stage1, iova, asked, 0, &first, &address)) {
        return IOMMU_NONE;
    }
    nyx_endpoint_stage2(ep, way.domain, address, &second);
    if ((second.gpa | (address & second.mask)) != gpa) {
        return asked;
    }
    return second.perm & (write ? IOMMU_RW : first.perm);
}

/* Devices do DMA through an address space of their own, which shows ours. */
static NyxEndpoint *endpoint_behind(AddressSpace *as)
{
    Object *owner = memory_region_owner(as->root);

    return nyx_iommu_get() && owner &&
           object_dynamic_cast(owner, TYPE_PCI_DEVICE)
           ? nyx_function_of(PCI_DEVICE(owner))->endpoint : NULL;
}

IOMMUAccessFlags nyx_iommu_permission(AddressSpace *as, hwaddr iova,
                                      bool write, hwaddr gpa)
{
    NyxEndpoint *ep = endpoint_behind(as);

    if (!ep || nyx_endpoint_dma_mode(ep) == NYX_DMA_MODE_UNMANAGED) {
        return IOMMU_RW;
    }
    return found_permission(ep, iova, write, gpa);
}

static int nyx_notify_flag_changed(IOMMUMemoryRegion *mr,
                                   IOMMUNotifierFlag old, IOMMUNotifierFlag new,
                                   Error **errp)
{
    NyxEndpoint *ep = container_of(mr, NyxEndpoint, view.translate);

    return nyx_mirror_set_flags(ep, new, errp) ? 0 : -ENOTSUP;
}

static void nyx_replay(IOMMUMemoryRegion *mr, IOMMUNotifier *n)
{
    nyx_mirror_replay(container_of(mr, NyxEndpoint, view.translate), n);
}

static void nyx_translate_class_init(ObjectClass *oc, const void *data)
{
    IOMMUMemoryRegionClass *imrc = IOMMU_MEMORY_REGION_CLASS(oc);

    imrc->translate = nyx_translate;
    imrc->attrs_to_index = nyx_attrs_to_index;
    imrc->num_indexes = nyx_num_indexes;
    imrc->notify_flag_changed = nyx_notify_flag_changed;
    imrc->replay = nyx_replay;
}

static const TypeInfo nyx_translate_types[] = {
    {
        .name = TYPE_NYX_TRANSLATE,
        .parent = TYPE_IOMMU_MEMORY_REGION,
        .class_init = nyx_translate_class_init,
    }, {
        .name = TYPE_NYX_GATE,
        .parent = TYPE_IOMMU_MEMORY_REGION,
        .class_init = nyx_gate_class_init,
    },
};

DEFINE_TYPES(nyx_translate_types)
