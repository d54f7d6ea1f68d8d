/*
 * Nyx ACPI devices: thermal zones
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * A zone has a temperature and points at which the guest does something: shut
 * down (critical), hibernate (hot), throttle its processors (passive), switch
 * fans on (active).  Each active point has a fan of its own; the first is that
 * of the highest one.  Which points there are is fixed, their temperatures are
 * not.
 */

#include "qemu/osdep.h"
#include "aml.h"
#include "hw/core/qdev-properties.h"
#include "migration/vmstate.h"
#include "qapi/error.h"
#include "qemu/module.h"
#include "thermal-zone.h"
#include "../trace.h"

#define TYPE_NYX_THERMAL_ZONE   "nyx-thermal-zone"
OBJECT_DECLARE_SIMPLE_TYPE(NyxThermalZone, NYX_THERMAL_ZONE)

/* Temperatures are in tenths of a degree Celsius, those of ACPI in Kelvin. */
#define ABSENT          INT32_MIN
#define LOWEST          (-400)
#define HIGHEST         1500
#define ZERO_CELSIUS    2732

#define FANS            3
#define FAN_FULL        100     /* percent */
#define FAN_RPM         3000    /* at full speed */

#define SAMPLING_UNIT   100     /* ms */
#define SAMPLING_MAX    3600000

typedef enum Point {
    POINT_CRITICAL,
    POINT_HOT,
    POINT_PASSIVE,
    POINT_ACTIVE0,
    POINTS = POINT_ACTIVE0 + FANS,
} Point;

/* Registers */
enum {
    REG_TEMPERATURE,
    REG_POINT0,
    REG_FAN0 = REG_POINT0 + POINTS,
    REG_RPM0 = REG_FAN0 + FANS,
    REG_END = REG_RPM0 + FANS,
};

struct NyxThermalZone {
    NyxAcpiDevice parent_obj;

    int32_t temperature;
    int32_t points[POINTS];
    uint8_t fans[FANS];         /* what the guest wants, in percent */
    uint8_t tc1, tc2;
    uint32_t sampling_ms;
    unsigned there;             /* points there are, as 1 << Point */
};

static const char *const point_names[POINTS] = {
    "critical", "hot", "passive", "active0", "active1", "active2"
};

bool nyx_acpi_cools_passively(const NyxAcpiBlock *block)
{
    for (guint i = 0; i < block->devices->len; i++) {
        Object *obj = g_ptr_array_index(block->devices, i);

        if (object_dynamic_cast(obj, TYPE_NYX_THERMAL_ZONE) &&
            NYX_THERMAL_ZONE(obj)->points[POINT_PASSIVE] != ABSENT) {
            return true;
        }
    }
    return false;
}

/* Checks */

static const char *zone_id(const NyxThermalZone *zone)
{
    return nyx_acpi_device_id(&zone->parent_obj);
}

static bool check_temperature(const NyxThermalZone *zone, const char *name,
                              int64_t value, Error **errp)
{
    if (value < LOWEST || value > HIGHEST) {
        error_setg(errp, "%s of '%s' cannot be %" PRId64 ": it is from %d to "
                   "%d tenths of a degree Celsius", name, zone_id(zone), value,
                   LOWEST, HIGHEST);
        return false;
    }
    return true;
}

static bool check_points(const NyxThermalZone *zone, const int32_t *points,
                         Error **errp)
{
    for (int i = 0; i < POINTS; i++) {
        if (points[i] != ABSENT &&
            !check_temperature(zone, point_names[i], points[i], errp)) {
            return false;
        }
        if (i != POINT_CRITICAL && points[i] >= points[POINT_CRITICAL]) {
            error_setg(errp, "%s (%d) of '%s' must be below critical (%d)",
                       point_names[i], points[i], zone_id(zone),
                       points[POINT_CRITICAL]);
            return false;
        }
        if (i > POINT_ACTIVE0 && points[i] != ABSENT &&
            (points[i - 1] == ABSENT || points[i] >= points[i - 1])) {
            error_setg(errp, "%s (%d) of '%s' needs an %s above it",
                       point_names[i], points[i], zone_id(zone),
                       point_names[i - 1]);
            return false;
        }
    }
    return true;
}

static unsigned points_there_are(const NyxThermalZone *zone)
{
    unsigned set = 0;

    for (int i = 0; i < POINTS; i++) {
        set |= (zone->points[i] != ABSENT) << i;
    }
    return set;
}

static bool check_zone(const NyxThermalZone *zone, Error **errp)
{
    if (zone->points[POINT_CRITICAL] == ABSENT) {
        error_setg(errp, "'%s' has no critical temperature; leave critical= "
                   "out, or give one", zone_id(zone));
        return false;
    }
    if (zone->sampling_ms < SAMPLING_UNIT || zone->sampling_ms > SAMPLING_MAX) {
        error_setg(errp, "sampling-ms of '%s' cannot be %" PRIu32 ": it is "
                   "from %d to %d", zone_id(zone), zone->sampling_ms,
                   SAMPLING_UNIT, SAMPLING_MAX);
        return false;
    }
    return check_temperature(zone, "temperature", zone->temperature, errp) &&
           check_points(zone, zone->points, errp);
}

static bool zone_check(NyxAcpiDevice *dev, Error **errp)
{
    NyxThermalZone *zone = NYX_THERMAL_ZONE(dev);

    zone->there = points_there_are(zone);
    return check_zone(zone, errp);
}

/* The guest */

static uint32_t to_kelvin(int32_t temperature)
{
    return ZERO_CELSIUS + temperature;
}

static uint32_t zone_read(NyxAcpiDevice *dev, unsigned reg)
{
    NyxThermalZone *zone = NYX_THERMAL_ZONE(dev);

    if (reg == REG_TEMPERATURE) {
        return to_kelvin(zone->temperature);
    } else if (reg < REG_FAN0) {
        return to_kelvin(zone->points[reg - REG_POINT0]);
    } else if (reg < REG_RPM0) {
        return zone->fans[reg - REG_FAN0];
    } else if (reg < REG_END) {
        return zone->fans[reg - REG_RPM0] * FAN_RPM / FAN_FULL;
    }
    return UINT32_MAX;
}

static void zone_write(NyxAcpiDevice *dev, unsigned reg, uint32_t value)
{
    NyxThermalZone *zone = NYX_THERMAL_ZONE(dev);

    if (reg >= REG_FAN0 && reg < REG_RPM0 && value <= FAN_FULL &&
        zone->points[POINT_ACTIVE0 + reg - REG_FAN0] != ABSENT) {
        trace_nyx_acpi_fan(zone_id(zone), reg - REG_FAN0, value);
        zone->fans[reg - REG_FAN0] = value;
    }
}

static void zone_reset(NyxAcpiDevice *dev)
{
    memset(NYX_THERMAL_ZONE(dev)->fans, 0, FANS);
}

/* Tables */

/* ACPI 6.5, 11.3.1.2: level, the point it is for, speed, noise, power */
static Aml *fan_level(unsigned level, uint32_t point)
{
    Aml *state = aml_package(5);

    aml_append(state, aml_int(level));
    aml_append(state, aml_int(point));
    aml_append(state, aml_int(level * FAN_RPM / FAN_FULL));
    aml_append(state, aml_int(UINT32_MAX));
    aml_append(state, aml_int(UINT32_MAX));
    return state;
}

static void add_fan_tables(Aml *device, unsigned fan)
{
    Aml *info = aml_package(4), *levels = aml_package(3);

    aml_append(info, aml_int(0));       /* revision */
    aml_append(info, aml_int(0));       /* levels, not fine grained */
    aml_append(info, aml_int(0));       /* step */
    aml_append(info, aml_int(0));       /* tells of no low speed */
    aml_append(device, aml_name_decl("_FIF", info));

    aml_append(levels, aml_int(0));     /* revision */
    aml_append(levels, fan_level(0, UINT32_MAX));
    aml_append(levels, fan_level(FAN_FULL, fan));
    aml_append(device, aml_name_decl("_FPS", levels));
}

static void add_fan_status(Aml *device, const NyxAcpiDevice *dev, unsigned fan)
{
    Aml *method = aml_method("_FST", 0, AML_SERIALIZED);
    Aml *status = aml_package(3);

    aml_append(status, aml_int(0));     /* revision */
    aml_append(status, aml_int(0));     /* level: filled in */
    aml_append(status, aml_int(0));     /* speed: filled in */
    aml_append(device, aml_name_decl("STAT", status));
    aml_append(method, aml_store(nyx_acpi_aml_read(dev, REG_FAN0 + fan),
                                 aml_index(aml_name("STAT"), aml_int(1))));
    aml_append(method, aml_store(nyx_acpi_aml_read(dev, REG_RPM0 + fan),
                                 aml_index(aml_name("STAT"), aml_int(2))));
    aml_append(method, aml_return(aml_name("STAT")));
    aml_append(device, method);
}

static void add_fan(Aml *scope, NyxAcpiDevice *dev, unsigned fan)
{
    g_autofree char *name = g_strdup_printf("FN%X%X", dev->number, fan);
    g_autofree char *text = g_strdup_printf("%s fan %u",
                                            nyx_acpi_device_id(dev), fan);
    Aml *device = nyx_acpi_aml_device(name, "PNP0C0B",
                                      dev->number * FANS + fan, text);
    Aml *set = aml_method("_FSL", 1, AML_NOTSERIALIZED);

    add_fan_tables(device, fan);
    add_fan_status(device, dev, fan);
    aml_append(set, nyx_acpi_aml_write(dev, REG_FAN0 + fan, aml_arg(0)));
    aml_append(device, set);
    aml_append(scope, device);
}

/* Fan 0 is that of _AC0, and _AL0 names it. */
static void add_active_point(Aml *tz, const NyxAcpiDevice *dev, unsigned fan)
{
    g_autofree char *point = g_strdup_printf("_AC%u", fan);
    g_autofree char *list = g_strdup_printf("_AL%u", fan);
    Aml *fans = aml_package(1);

    aml_append(tz, nyx_acpi_aml_getter(point, dev,
                                       REG_POINT0 + POINT_ACTIVE0 + fan));
    aml_append(fans, aml_name("FN%X%X", dev->number, fan));
    aml_append(tz, aml_name_decl(list, fans));
}

static void add_passive_point(Aml *tz, const NyxThermalZone *zone)
{
    aml_append(tz, nyx_acpi_aml_getter("_PSV", &zone->parent_obj,
                                       REG_POINT0 + POINT_PASSIVE));
    aml_append(tz, aml_name_decl("_PSL", nyx_acpi_aml_processors()));
    aml_append(tz, aml_name_decl("_TC1", aml_int(zone->tc1)));
    aml_append(tz, aml_name_decl("_TC2", aml_int(zone->tc2)));
    aml_append(tz, aml_name_decl("_TSP", aml_int(zone->sampling_ms /
                                                 SAMPLING_UNIT)));
}

/* A ThermalZone() is encoded as a Device() is, with another opcode. */
static Aml *thermal_zone(const char *name)
{
    Aml *tz = aml_device("%s", name);

    tz->op = 0x85;
    return tz;
}

static void zone_build_aml(NyxAcpiDevice *dev, Aml *scope)
{
    NyxThermalZone *zone = NYX_THERMAL_ZONE(dev);
    g_autofree char *name = nyx_acpi_name(dev);
    Aml *tz = thermal_zone(name);

    aml_append(tz, aml_name_decl("_STR", aml_unicode(zone_id(zone))));
    aml_append(tz, nyx_acpi_aml_getter("_TMP", dev, REG_TEMPERATURE));
    aml_append(tz, nyx_acpi_aml_getter("_CRT", dev,
                                       REG_POINT0 + POINT_CRITICAL));
    if (zone->points[POINT_HOT] != ABSENT) {
        aml_append(tz, nyx_acpi_aml_getter("_HOT", dev,
                                           REG_POINT0 + POINT_HOT));
    }
    if (zone->points[POINT_PASSIVE] != ABSENT) {
        add_passive_point(tz, zone);
    }
    for (unsigned fan = 0; fan < FANS; fan++) {
        if (zone->points[POINT_ACTIVE0 + fan] != ABSENT) {
            add_fan(scope, dev, fan);
            add_active_point(tz, dev, fan);
        }
    }
    aml_append(scope, tz);
}

/* The operator */

static bool set_point(const NyxThermalZone *zone, int32_t *points, Point point,
                      int64_t value, Error **errp)
{
    if (points[point] == ABSENT) {
        error_setg(errp, "'%s' has no %s temperature; start the VM with %s= "
                   "for one", zone_id(zone), point_names[point],
                   point_names[point]);
        return false;
    }
    if (!check_temperature(zone, point_names[point], value, errp)) {
        return false;
    }
    points[point] = value;
    return true;
}

static bool set_active(const NyxThermalZone *zone, int32_t *points,
                       const intList *values, Error **errp)
{
    unsigned count = 0, given = 0;

    for (unsigned fan = 0; fan < FANS; fan++) {
        count += points[POINT_ACTIVE0 + fan] != ABSENT;
    }
    for (const intList *item = values; item; item = item->next) {
        if (given < count &&
            !set_point(zone, points, POINT_ACTIVE0 + given, item->value,
                       errp)) {
            return false;
        }
        given++;
    }
    if (given != count) {
        error_setg(errp, "active has %u temperatures, but '%s' has %u; give "
                   "one for each", given, zone_id(zone), count);
        return false;
    }
    return true;
}

static bool set_points(const NyxThermalZone *zone, int32_t *points,
                       const NyxAcpiThermalSet *set, Error **errp)
{
    return (!set->has_critical ||
            set_point(zone, points, POINT_CRITICAL, set->critical, errp)) &&
           (!set->has_hot ||
            set_point(zone, points, POINT_HOT, set->hot, errp)) &&
           (!set->has_passive ||
            set_point(zone, points, POINT_PASSIVE, set->passive, errp)) &&
           (!set->has_active ||
            set_active(zone, points, set->active, errp)) &&
           check_points(zone, points, errp);
}

static bool zone_set(NyxAcpiDevice *dev, const NyxAcpiSet *all, Error **errp)
{
    NyxThermalZone *zone = NYX_THERMAL_ZONE(dev);
    const NyxAcpiThermalSet *set = &all->u.thermal_zone;
    int32_t points[POINTS];
    uint8_t notify = 0;

    memcpy(points, zone->points, sizeof(points));
    if (!set_points(zone, points, set, errp) ||
        (set->has_temperature &&
         !check_temperature(zone, "temperature", set->temperature, errp))) {
        return false;
    }
    if (memcmp(points, zone->points, sizeof(points))) {
        memcpy(zone->points, points, sizeof(points));
        notify |= NYX_ACPI_INFO_CHANGED;
    }
    if (set->has_temperature && set->temperature != zone->temperature) {
        zone->temperature = set->temperature;
        notify |= NYX_ACPI_CHANGED;
    }
    if (notify) {
        nyx_acpi_notify(dev, notify);
    }
    return true;
}

static void zone_query(NyxAcpiDevice *dev, NyxAcpiInfo *all)
{
    NyxThermalZone *zone = NYX_THERMAL_ZONE(dev);
    NyxAcpiThermalInfo *info = &all->u.thermal_zone;
    intList **active = &info->active;
    intList **fans = &info->fans;

    info->temperature = zone->temperature;
    info->critical = zone->points[POINT_CRITICAL];
    info->has_hot = zone->points[POINT_HOT] != ABSENT;
    info->hot = info->has_hot ? zone->points[POINT_HOT] : 0;
    info->has_passive = zone->points[POINT_PASSIVE] != ABSENT;
    info->passive = info->has_passive ? zone->points[POINT_PASSIVE] : 0;
    for (unsigned fan = 0; fan < FANS; fan++) {
        if (zone->points[POINT_ACTIVE0 + fan] != ABSENT) {
            QAPI_LIST_APPEND(active, zone->points[POINT_ACTIVE0 + fan]);
            QAPI_LIST_APPEND(fans, zone->fans[fan]);
        }
    }
}

/* Migration */

/* Temperatures come as they were; which of them there are has to be as here. */
static bool zone_post_load(void *opaque, int version_id, Error **errp)
{
    NyxThermalZone *zone = opaque;

    if (points_there_are(zone) != zone->there) {
        error_setg(errp, "'%s' has other points in the stream than here; start "
                   "both VMs with the same -device options", zone_id(zone));
        return false;
    }
    for (unsigned fan = 0; fan < FANS; fan++) {
        if (zone->fans[fan] > FAN_FULL) {
            error_setg(errp, "Fan %u of '%s' is at %u %% in the stream", fan,
                       zone_id(zone), zone->fans[fan]);
            return false;
        }
    }
    return check_zone(zone, errp) &&
           nyx_acpi_device_loaded(&zone->parent_obj, errp);
}

static const VMStateDescription vmstate_zone = {
    .name = TYPE_NYX_THERMAL_ZONE,
    .version_id = 1,
    .minimum_version_id = 1,
    .post_load_errp = zone_post_load,
    .fields = (const VMStateField[]) {
        NYX_VMSTATE_ACPI_DEVICE(NyxThermalZone),
        VMSTATE_INT32(temperature, NyxThermalZone),
        VMSTATE_INT32_ARRAY(points, NyxThermalZone, POINTS),
        VMSTATE_UINT8_ARRAY(fans, NyxThermalZone, FANS),
        VMSTATE_END_OF_LIST()
    }
};

static const Property zone_properties[] = {
    DEFINE_PROP_INT32("temperature", NyxThermalZone, temperature, 250),
    DEFINE_PROP_INT32("critical", NyxThermalZone, points[POINT_CRITICAL], 1000),
    DEFINE_PROP_INT32("hot", NyxThermalZone, points[POINT_HOT], ABSENT),
    DEFINE_PROP_INT32("passive", NyxThermalZone, points[POINT_PASSIVE], ABSENT),
    DEFINE_PROP_INT32("active0", NyxThermalZone, points[POINT_ACTIVE0], ABSENT),
    DEFINE_PROP_INT32("active1", NyxThermalZone, points[POINT_ACTIVE0 + 1],
                      ABSENT),
    DEFINE_PROP_INT32("active2", NyxThermalZone, points[POINT_ACTIVE0 + 2],
                      ABSENT),
    DEFINE_PROP_UINT8("tc1", NyxThermalZone, tc1, 2),
    DEFINE_PROP_UINT8("tc2", NyxThermalZone, tc2, 5),
    DEFINE_PROP_UINT32("sampling-ms", NyxThermalZone, sampling_ms, 1000),
};

static void zone_class_init(ObjectClass *oc, const void *data)
{
    DeviceClass *dc = DEVICE_CLASS(oc);
    NyxAcpiDeviceClass *nc = NYX_ACPI_DEVICE_CLASS(oc);

    dc->desc = "ACPI thermal zone";
    dc->vmsd = &vmstate_zone;
    device_class_set_props(dc, zone_properties);
    nc->type = NYX_ACPI_TYPE_THERMAL_ZONE;
    nc->name = "THM";
    nc->check = zone_check;
    nc->read = zone_read;
    nc->write = zone_write;
    nc->build_aml = zone_build_aml;
    nc->set = zone_set;
    nc->query = zone_query;
    nc->reset = zone_reset;
}

static const TypeInfo zone_info = {
    .name = TYPE_NYX_THERMAL_ZONE,
    .parent = TYPE_NYX_ACPI_DEVICE,
    .instance_size = sizeof(NyxThermalZone),
    .class_init = zone_class_init,
};

static void zone_register(void)
{
    type_register_static(&zone_info);
}

type_init(zone_register)
