/*
 * Nyx IOMMU: one PCI function and what it asked for
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * A child object "nyx" of each PCI device, which thus lives as long as the
 * device does.  Several functions share an endpoint if the IOMMU cannot tell
 * them apart.
 *
 * Locking: BQL.
 */

#ifndef HW_IOMMU_NYX_FUNCTION_H
#define HW_IOMMU_NYX_FUNCTION_H

#include "domain.h"
#include "qapi/qapi-types-nyx.h"
#include "quarantine.h"

#define TYPE_NYX_FUNCTION "nyx-function"
OBJECT_DECLARE_SIMPLE_TYPE(NyxFunction, NYX_FUNCTION)

struct NyxFunction {
    Object parent_obj;

    PCIDevice *dev;             /* parent */
    char *wanted_domain;        /* property nyx-domain; NULL: automatic */
    NyxEndpoint *endpoint;      /* while the device is realized */
    NyxEndpoint *claimed;       /* made for it while it is being realized */
    /* VFIO: whose host container it is in, for as long as it is there */
    NyxDomain *container;
    bool migratable;            /* VFIO: see vfio-migration.h */
    Error *migration_blocker;   /* the same; NULL: none */
    NyxQuarantine quarantine;
    unsigned resets;            /* that are under way: see device-reset.h */
    QTAILQ_ENTRY(NyxFunction) link;     /* in its endpoint */
};

/* The device's function object; made when there is none. */
NyxFunction *nyx_function_of(PCIDevice *dev);

/* qdev id, or QOM path */
char *nyx_function_name(NyxFunction *fn);

/* domain:bus:device.function, as the guest numbers buses now */
char *nyx_function_bdf(NyxFunction *fn);

/*
 * Block I/O of the device and of what hangs off it: has a request begun that
 * is not finished?  And: wait until none is, and keep the VM still meanwhile.
 */
bool nyx_function_io_under_way(NyxFunction *fn);
void nyx_function_drain_io(NyxFunction *fn);

#endif
