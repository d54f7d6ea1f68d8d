/*
 * Nyx IOMMU: the IOMMU that the guest sees, in front of ours
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Stage 1 is one of QEMU's own models, which has given each requester an
 * address space.  That shows an IOMMU region while the guest has it translate,
 * and system memory while it lets pass (switched off, or told so by the guest).
 * A listener follows it, so that a device costs nothing extra in the latter
 * case.
 *
 * Locking: BQL, but for what DMA does: it reads @mr and asks it.
 */

#ifndef HW_IOMMU_NYX_STAGE1_H
#define HW_IOMMU_NYX_STAGE1_H

#include "hw/pci/pci.h"
#include "shadow.h"

typedef struct NyxEndpoint NyxEndpoint;
typedef struct NyxIommu NyxIommu;

/* IOMMU indexes that a model may have (VT-d has 2) */
#define NYX_STAGE1_INDEXES      4

typedef struct NyxStage1Model {
    DeviceState *dev;           /* NULL: stage1=none */
    const PCIIOMMUOps *ops;     /* what it gave the bus */
    void *opaque;
    /*
     * VT-d with first-stage tables: it takes the invalidation of a page for
     * that of its whole domain, but tells of the page alone; and it never tells
     * of mappings.
     */
    bool first_stage;
} NyxStage1Model;

/* Stage 1 as one endpoint has it */
typedef struct NyxStage1Link {
    AddressSpace *as;           /* NULL: the endpoint has none */
    MemoryListener listener;
    IOMMUMemoryRegion *seen;    /* that @as shows, by the listener; or NULL */
    IOMMUMemoryRegion *mr;      /* atomic; NULL: stage 1 lets pass */
    IOMMUNotifier unmapped;     /* and mapped, if a backend wants to know */
    IOMMUNotifier device_iotlb;
    bool notifies;              /* atomic; @unmapped is registered */
    bool notifies_device_iotlb;
    bool asked;                 /* atomic; DMA has had it registered */
    NyxShadow shadow;           /* both stages; in use only if @notifies */
} NyxStage1Link;

/* Put the endpoint behind the model, if there is one and it is not the model */
void nyx_stage1_link(NyxEndpoint *ep);
void nyx_stage1_unlink(NyxEndpoint *ep);

/*
 * @dev has been unrealized.  If it is a bridge: QEMU's models keep, for ever,
 * the bus of each requester that they have seen, and ask it for its number; but
 * it is part of the bridge.  So its memory stays, if all else of it goes.
 */
void nyx_stage1_bridge_gone(NyxIommu *iommu, PCIDevice *dev);

/*
 * Backends of the endpoint want to hear of @flags: have stage 1 tell of them.
 * Errors are stage 1's: what it lacks, or how it has to be set up.
 */
bool nyx_stage1_listen(NyxEndpoint *ep, IOMMUNotifierFlag flags, Error **errp);

/*
 * DMA has asked both stages, and found @t: keep it, as nyx_shadow_fill() does.
 * Without UNMAP notifications (VT-d with snoop-control=on has none, and others
 * have them from soon after the first DMA) nothing is kept, and every DMA asks
 * stage 1.  Any thread.
 */
void nyx_stage1_keep(NyxEndpoint *ep, uint64_t generation, hwaddr iova,
                     const NyxTranslation *t);

/* Send what stage 1 maps, cut to what stage 2 allows, to nyx_mirror_map(). */
void nyx_stage1_replay(NyxEndpoint *ep);

#endif
