/*
 * Nyx ACPI devices: batteries
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Nothing happens by itself: charge and rate are what the operator says.
 */

#include "qemu/osdep.h"
#include "aml.h"
#include "hw/core/qdev-properties.h"
#include "migration/vmstate.h"
#include "qapi/error.h"
#include "qemu/module.h"

#define TYPE_NYX_BATTERY    "nyx-battery"
OBJECT_DECLARE_SIMPLE_TYPE(NyxBattery, NYX_BATTERY)

/* Limits of what the operator may say: mWh, mW, mV, cycles */
#define MOST_CAPACITY   100000000
#define MOST_RATE       100000000
#define MOST_VOLTAGE    1000000
#define MOST_CYCLES     1000000

/* Below these parts of the design capacity, the guest warns, and is in need. */
#define WARNING(battery)    ((battery)->design_capacity / 10)
#define LOW(battery)        ((battery)->design_capacity / 20)

/* ACPI 6.5, 10.2.2.11: bits of the state */
#define BST_DISCHARGING 1
#define BST_CHARGING    2
#define BST_CRITICAL    4

/* Registers */
enum {
    REG_STATUS,
    REG_STATE,
    REG_RATE,
    REG_CHARGE,
    REG_VOLTAGE,
    REG_FULL_CHARGE,
    REG_CYCLES,
};

/* What changes while the VM runs */
typedef struct BatteryValues {
    bool present;
    uint8_t state;              /* of NyxBatteryState */
    int64_t charge;             /* mWh */
    int64_t full_charge;        /* mWh */
    int64_t rate;               /* mW */
    int64_t voltage;            /* mV */
    int64_t cycles;
} BatteryValues;

struct NyxBattery {
    NyxAcpiDevice parent_obj;

    uint32_t design_capacity;   /* mWh */
    uint32_t design_voltage;    /* mV */
    char *model;
    char *serial;
    char *technology;
    char *vendor;
    BatteryValues values;
    uint32_t saved_capacity;    /* design capacity, in a stream */
};

static const char *battery_id(const NyxBattery *battery)
{
    return nyx_acpi_device_id(&battery->parent_obj);
}

/* Checks */

static bool check_value(const NyxBattery *battery, const char *name,
                        const char *unit, int64_t value, int64_t first,
                        int64_t last, Error **errp)
{
    if (value < first || value > last) {
        error_setg(errp, "%s of '%s' cannot be %" PRId64 ": it is from %"
                   PRId64 " to %" PRId64 "%s", name, battery_id(battery), value,
                   first, last, unit);
        return false;
    }
    return true;
}

static bool check_values(const NyxBattery *b, const BatteryValues *v,
                         Error **errp)
{
    if (!check_value(b, "full-charge", " mWh, by design-capacity",
                     v->full_charge, 1, b->design_capacity, errp) ||
        !check_value(b, "charge", " mWh, by full-charge", v->charge, 0,
                     v->full_charge, errp) ||
        !check_value(b, "rate", " mW", v->rate, 0, MOST_RATE, errp) ||
        !check_value(b, "voltage", " mV", v->voltage, 1, MOST_VOLTAGE, errp) ||
        !check_value(b, "cycles", "", v->cycles, 0, MOST_CYCLES, errp)) {
        return false;
    }
    if (v->state == NYX_BATTERY_STATE_IDLE && v->rate) {
        error_setg(errp, "rate of '%s' cannot be %" PRId64 ": it is idle; set "
                   "state to charging or discharging, too", battery_id(b),
                   v->rate);
        return false;
    }
    return true;
}

/* What is not given follows from the design. */
static bool battery_check(NyxAcpiDevice *dev, Error **errp)
{
    NyxBattery *b = NYX_BATTERY(dev);
    BatteryValues *v = &b->values;

    if (!check_value(b, "design-capacity", " mWh", b->design_capacity, 1,
                     MOST_CAPACITY, errp) ||
        !check_value(b, "design-voltage", " mV", b->design_voltage, 1,
                     MOST_VOLTAGE, errp)) {
        return false;
    }
    if (v->full_charge < 0) {
        v->full_charge = b->design_capacity;
    }
    if (v->charge < 0) {
        v->charge = v->full_charge;
    }
    v->voltage = b->design_voltage;
    v->rate = 0;
    v->state = NYX_BATTERY_STATE_IDLE;
    return check_values(b, v, errp);
}

/* The guest */

static bool is_critical(const NyxBattery *battery)
{
    return battery->values.state == NYX_BATTERY_STATE_DISCHARGING &&
           battery->values.charge <= LOW(battery);
}

static uint32_t battery_state(const NyxBattery *battery)
{
    switch (battery->values.state) {
    case NYX_BATTERY_STATE_CHARGING:
        return BST_CHARGING;
    case NYX_BATTERY_STATE_DISCHARGING:
        return BST_DISCHARGING | (is_critical(battery) ? BST_CRITICAL : 0);
    default:
        return 0;
    }
}

static uint32_t battery_read(NyxAcpiDevice *dev, unsigned reg)
{
    const NyxBattery *battery = NYX_BATTERY(dev);
    const BatteryValues *v = &battery->values;

    switch (reg) {
    case REG_STATUS:
        /* bit 4: the bay has a battery in it */
        return v->present ? 0x1f : 0x0f;
    case REG_STATE:
        return battery_state(battery);
    case REG_RATE:
        return v->rate;
    case REG_CHARGE:
        return v->charge;
    case REG_VOLTAGE:
        return v->voltage;
    case REG_FULL_CHARGE:
        return v->full_charge;
    case REG_CYCLES:
        return v->cycles;
    default:
        return UINT32_MAX;
    }
}

/* Tables */

/* ACPI 6.5, 10.2.2.2; revision 0 */
static Aml *battery_information(const NyxBattery *b)
{
    const uint32_t figures[] = {
        0,                      /* revision */
        0,                      /* mWh and mW */
        b->design_capacity,
        0,                      /* last full charge: filled in */
        1,                      /* rechargeable */
        b->design_voltage,
        WARNING(b),
        LOW(b),
        0,                      /* cycles: filled in */
        100000,                 /* measured to 100.000 % */
        UINT32_MAX,             /* sampling time, longest: not known */
        UINT32_MAX,             /* shortest */
        UINT32_MAX,             /* averaging interval, longest: not known */
        UINT32_MAX,             /* shortest */
        1,                      /* granularity between low and warning */
        1,                      /* between warning and full */
    };
    Aml *information = aml_package(ARRAY_SIZE(figures) + 4);

    for (int i = 0; i < ARRAY_SIZE(figures); i++) {
        aml_append(information, aml_int(figures[i]));
    }
    aml_append(information, aml_string("%s", b->model));
    aml_append(information, aml_string("%s", b->serial));
    aml_append(information, aml_string("%s", b->technology));
    aml_append(information, aml_string("%s", b->vendor));
    return information;
}

/* A method that fills elements of a package of that name in and returns it. */
static void add_filled_in(Aml *device, const char *method_name,
                          const char *name, Aml *package, NyxAcpiDevice *dev,
                          const uint8_t (*elements)[2], int count)
{
    Aml *method = aml_method(method_name, 0, AML_SERIALIZED);

    aml_append(device, aml_name_decl(name, package));
    for (int i = 0; i < count; i++) {
        aml_append(method, aml_store(nyx_acpi_aml_read(dev, elements[i][1]),
                                     aml_index(aml_name("%s", name),
                                               aml_int(elements[i][0]))));
    }
    aml_append(method, aml_return(aml_name("%s", name)));
    aml_append(device, method);
}

static void battery_build_aml(NyxAcpiDevice *dev, Aml *scope)
{
    static const uint8_t information[][2] = {
        { 3, REG_FULL_CHARGE }, { 8, REG_CYCLES }
    };
    static const uint8_t status[][2] = {
        { 0, REG_STATE }, { 1, REG_RATE }, { 2, REG_CHARGE }, { 3, REG_VOLTAGE }
    };
    g_autofree char *name = nyx_acpi_name(dev);
    Aml *device = nyx_acpi_aml_device(name, "PNP0C0A", dev->number,
                                      nyx_acpi_device_id(dev));
    Aml *powers = aml_package(1), *state = aml_package(4);

    for (int i = 0; i < 4; i++) {
        aml_append(state, aml_int(0));
    }
    aml_append(powers, aml_name("\\_SB"));
    aml_append(device, nyx_acpi_aml_getter("_STA", dev, REG_STATUS));
    aml_append(device, aml_name_decl("_PCL", powers));
    add_filled_in(device, "_BIX", "INFO",
                  battery_information(NYX_BATTERY(dev)), dev, information,
                  ARRAY_SIZE(information));
    add_filled_in(device, "_BST", "STAT", state, dev, status,
                  ARRAY_SIZE(status));
    aml_append(scope, device);
}

/* The operator */

static void apply(BatteryValues *v, const NyxAcpiBatterySet *set)
{
    v->present = set->has_present ? set->present : v->present;
    v->full_charge = set->has_full_charge ? set->full_charge : v->full_charge;
    v->charge = set->has_charge ? set->charge : v->charge;
    v->voltage = set->has_voltage ? set->voltage : v->voltage;
    v->cycles = set->has_cycles ? set->cycles : v->cycles;
    if (set->has_state) {
        v->state = set->state;
        /* An idle one has no other. */
        v->rate = set->state == NYX_BATTERY_STATE_IDLE ? 0 : v->rate;
    }
    v->rate = set->has_rate ? set->rate : v->rate;
}

static bool battery_set(NyxAcpiDevice *dev, const NyxAcpiSet *all, Error **errp)
{
    NyxBattery *battery = NYX_BATTERY(dev);
    BatteryValues *old = &battery->values, new = *old;
    uint8_t notify = 0;

    apply(&new, &all->u.battery);
    if (!check_values(battery, &new, errp)) {
        return false;
    }
    if (new.present != old->present || new.full_charge != old->full_charge ||
        new.cycles != old->cycles) {
        notify |= NYX_ACPI_INFO_CHANGED;
    }
    if (new.state != old->state || new.charge != old->charge ||
        new.rate != old->rate || new.voltage != old->voltage) {
        notify |= NYX_ACPI_CHANGED;
    }
    *old = new;
    if (notify) {
        nyx_acpi_notify(dev, notify);
    }
    return true;
}

static void battery_query(NyxAcpiDevice *dev, NyxAcpiInfo *all)
{
    const NyxBattery *battery = NYX_BATTERY(dev);
    const BatteryValues *v = &battery->values;
    NyxAcpiBatteryInfo *info = &all->u.battery;

    info->present = v->present;
    info->state = v->state;
    info->critical = is_critical(battery);
    info->charge = v->charge;
    info->full_charge = v->full_charge;
    info->design_capacity = battery->design_capacity;
    info->rate = v->rate;
    info->voltage = v->voltage;
    info->cycles = v->cycles;
}

/* Migration */

static int battery_pre_save(void *opaque)
{
    NyxBattery *battery = opaque;

    battery->saved_capacity = battery->design_capacity;
    return 0;
}

static bool battery_post_load(void *opaque, int version_id, Error **errp)
{
    NyxBattery *battery = opaque;

    if (battery->saved_capacity != battery->design_capacity) {
        error_setg(errp, "'%s' has a design-capacity of %" PRIu32 " mWh in the "
                   "stream, here %" PRIu32 "; start both VMs with the same "
                   "-device options", battery_id(battery),
                   battery->saved_capacity, battery->design_capacity);
        return false;
    }
    if (battery->values.state >= NYX_BATTERY_STATE__MAX) {
        error_setg(errp, "'%s' is in state %u in the stream, which there is "
                   "not", battery_id(battery), battery->values.state);
        return false;
    }
    return check_values(battery, &battery->values, errp) &&
           nyx_acpi_device_loaded(&battery->parent_obj, errp);
}

static const VMStateDescription vmstate_battery = {
    .name = TYPE_NYX_BATTERY,
    .version_id = 1,
    .minimum_version_id = 1,
    .pre_save = battery_pre_save,
    .post_load_errp = battery_post_load,
    .fields = (const VMStateField[]) {
        NYX_VMSTATE_ACPI_DEVICE(NyxBattery),
        VMSTATE_UINT32(saved_capacity, NyxBattery),
        VMSTATE_BOOL(values.present, NyxBattery),
        VMSTATE_UINT8(values.state, NyxBattery),
        VMSTATE_INT64(values.charge, NyxBattery),
        VMSTATE_INT64(values.full_charge, NyxBattery),
        VMSTATE_INT64(values.rate, NyxBattery),
        VMSTATE_INT64(values.voltage, NyxBattery),
        VMSTATE_INT64(values.cycles, NyxBattery),
        VMSTATE_END_OF_LIST()
    }
};

static const Property battery_properties[] = {
    DEFINE_PROP_UINT32("design-capacity", NyxBattery, design_capacity, 50000),
    DEFINE_PROP_UINT32("design-voltage", NyxBattery, design_voltage, 12000),
    DEFINE_PROP_INT64("full-charge", NyxBattery, values.full_charge, -1),
    DEFINE_PROP_INT64("charge", NyxBattery, values.charge, -1),
    DEFINE_PROP_INT64("cycles", NyxBattery, values.cycles, 0),
    DEFINE_PROP_BOOL("present", NyxBattery, values.present, true),
    DEFINE_PROP_STRING("model", NyxBattery, model),
    DEFINE_PROP_STRING("serial", NyxBattery, serial),
    DEFINE_PROP_STRING("technology", NyxBattery, technology),
    DEFINE_PROP_STRING("vendor", NyxBattery, vendor),
};

/* What ACPI has for a text that is not given is an empty one. */
static void battery_instance_init(Object *obj)
{
    NyxBattery *battery = NYX_BATTERY(obj);

    battery->model = g_strdup("Nyx battery");
    battery->serial = g_strdup("");
    battery->technology = g_strdup("LION");
    battery->vendor = g_strdup("Nyx");
}

static void battery_class_init(ObjectClass *oc, const void *data)
{
    DeviceClass *dc = DEVICE_CLASS(oc);
    NyxAcpiDeviceClass *nc = NYX_ACPI_DEVICE_CLASS(oc);

    dc->desc = "ACPI control method battery";
    dc->vmsd = &vmstate_battery;
    device_class_set_props(dc, battery_properties);
    nc->type = NYX_ACPI_TYPE_BATTERY;
    nc->name = "BAT";
    nc->check = battery_check;
    nc->read = battery_read;
    nc->build_aml = battery_build_aml;
    nc->set = battery_set;
    nc->query = battery_query;
}

static const TypeInfo battery_info = {
    .name = TYPE_NYX_BATTERY,
    .parent = TYPE_NYX_ACPI_DEVICE,
    .instance_size = sizeof(NyxBattery),
    .instance_init = battery_instance_init,
    .class_init = battery_class_init,
};

static void battery_register(void)
{
    type_register_static(&battery_info);
}

type_init(battery_register)
