/*
 * Nyx IOMMU: properties of a domain
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Locking: BQL.
 */

#ifndef HW_IOMMU_NYX_DOMAIN_PROPERTIES_H
#define HW_IOMMU_NYX_DOMAIN_PROPERTIES_H

#include "qom/object.h"

/*
 * Give the class of domains its properties: the kind of domain, which cannot
 * change once it is in use, and the policy, which can.
 */
void nyx_domain_add_class_properties(ObjectClass *oc);

#endif
