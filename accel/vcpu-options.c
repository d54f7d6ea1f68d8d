/*
 * vCPU health: the machine's options
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "nyx/include/hw/nyx/vcpu-health.h"
#include "qapi/error.h"
#include "qapi/visitor.h"
#include "vcpu-health.h"

#define CHECK_MS_MIN    10
#define CHECK_MS_MAX    60000
#define STUCK_MS_MIN    100
#define STUCK_MS_MAX    (24 * 3600 * 1000)

static void get_option(Object *obj, Visitor *v, const char *name, void *opaque,
                       Error **errp)
{
    uint32_t value = *(uint32_t *)opaque;

    visit_type_uint32(v, name, &value, errp);
}

/* Two looks at least; asked when both are known. */
static bool fit(uint32_t check_ms, uint32_t stuck_ms, Error **errp)
{
    if (stuck_ms / 2 < check_ms) {
        error_setg(errp, "vcpu-stuck-ms=%" PRIu32 " is less than twice "
                   "vcpu-check-ms=%" PRIu32 "; check more often", stuck_ms,
                   check_ms);
        return false;
    }
    return true;
}

static void set_check(Object *obj, Visitor *v, const char *name, void *opaque,
                      Error **errp)
{
    NyxVcpuHealth *h = nyx_vcpu_health_get();
    uint32_t value;

    if (!visit_type_uint32(v, name, &value, errp)) {
        return;
    }
    if (value && (value < CHECK_MS_MIN || value > CHECK_MS_MAX)) {
        error_setg(errp, "vcpu-check-ms must be from %d to %d, or 0 for no "
                   "checks", CHECK_MS_MIN, CHECK_MS_MAX);
        return;
    }
    if (h->started && !fit(value, h->stuck_ms, errp)) {
        return;
    }
    h->check_ms = value;
    nyx_vcpu_health_update(h);
}

static void set_stuck(Object *obj, Visitor *v, const char *name, void *opaque,
                      Error **errp)
{
    NyxVcpuHealth *h = nyx_vcpu_health_get();
    uint32_t value;

    if (!visit_type_uint32(v, name, &value, errp)) {
        return;
    }
    if (value < STUCK_MS_MIN || value > STUCK_MS_MAX) {
        error_setg(errp, "vcpu-stuck-ms must be from %d to %d; "
                   "vcpu-check-ms=0 switches the checks off", STUCK_MS_MIN,
                   STUCK_MS_MAX);
        return;
    }
    if (h->started && !fit(h->check_ms, value, errp)) {
        return;
    }
    h->stuck_ms = value;
    nyx_vcpu_health_update(h);
}

bool nyx_vcpu_options_check(const NyxVcpuHealth *h, Error **errp)
{
    return fit(h->check_ms, h->stuck_ms, errp);
}

void nyx_vcpu_health_add_options(ObjectClass *oc)
{
    NyxVcpuHealth *h = nyx_vcpu_health_get();

    object_class_property_add(oc, "vcpu-check-ms", "uint32", get_option,
                              set_check, NULL, &h->check_ms);
    object_class_property_set_description(oc, "vcpu-check-ms",
        "Time between two checks of each vCPU, in ms; 0 for none (default: "
        "1000)");
    object_class_property_add(oc, "vcpu-stuck-ms", "uint32", get_option,
                              set_stuck, NULL, &h->stuck_ms);
    object_class_property_set_description(oc, "vcpu-stuck-ms",
        "Time without an answer, or without interrupts, after which a vCPU is "
        "stuck, in ms (default: 30000)");
}
