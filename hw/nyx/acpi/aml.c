/*
 * Nyx ACPI devices: what the guest's AML interpreter gets
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "aml.h"
#include "block.h"
#include "hw/core/boards.h"
#include "thermal-zone.h"

/* Names below NYX_ACPI_PATH */
#define REGISTERS   "NREG"
#define LOCK        "NLCK"
#define SELECT      "NSEL"
#define DATA        "NDAT"
#define NEXT        "NNXT"
#define GET         "NGET"
#define SET         "NSET"
#define NOTIFY      "NNTF"
#define CONTROL     "NPTC"
#define STATES      "NTSS"

/* As QEMU names processors */
#define PROCESSOR   "\\_SB.CPUS.C%.03X"

#define NO_TIMEOUT  0xffff

char *nyx_acpi_name(const NyxAcpiDevice *dev)
{
    return g_strdup_printf("%s%X", NYX_ACPI_DEVICE_GET_CLASS(dev)->name,
                           dev->number);
}

static Aml *selector(const NyxAcpiDevice *dev, unsigned reg)
{
    return aml_int(dev->index | reg << NYX_ACPI_REGISTER_SHIFT);
}

Aml *nyx_acpi_aml_read(const NyxAcpiDevice *dev, unsigned reg)
{
    return aml_call1(GET, selector(dev, reg));
}

Aml *nyx_acpi_aml_write(const NyxAcpiDevice *dev, unsigned reg, Aml *value)
{
    return aml_call2(SET, selector(dev, reg), value);
}

Aml *nyx_acpi_aml_getter(const char *name, const NyxAcpiDevice *dev,
                         unsigned reg)
{
    Aml *method = aml_method(name, 0, AML_NOTSERIALIZED);

    aml_append(method, aml_return(nyx_acpi_aml_read(dev, reg)));
    return method;
}

Aml *nyx_acpi_aml_device(const char *name, const char *hid, unsigned uid,
                         const char *text)
{
    Aml *device = aml_device("%s", name);

    aml_append(device, aml_name_decl("_HID", g_str_has_prefix(hid, "PNP")
                                             ? aml_eisaid(hid)
                                             : aml_string("%s", hid)));
    aml_append(device, aml_name_decl("_UID", aml_int(uid)));
    aml_append(device, aml_name_decl("_STR", aml_unicode(text)));
    return device;
}

/* Registers */

static void add_registers(Aml *scope)
{
    Aml *crs = aml_resource_template();
    Aml *field = aml_field(REGISTERS, AML_DWORD_ACC, AML_NOLOCK, AML_PRESERVE);

    aml_append(crs, aml_io(AML_DECODE16, NYX_ACPI_PORT, NYX_ACPI_PORT, 1,
                           NYX_ACPI_PORTS));
    aml_append(scope, aml_name_decl("_CRS", crs));
    aml_append(scope, aml_operation_region(REGISTERS, AML_SYSTEM_IO,
                                           aml_int(NYX_ACPI_PORT),
                                           NYX_ACPI_PORT_THROTTLE));
    aml_append(field, aml_named_field(SELECT, 32));
    aml_append(field, aml_named_field(DATA, 32));
    aml_append(field, aml_named_field(NEXT, 32));
    aml_append(scope, field);
    aml_append(scope, aml_mutex(LOCK, 0));
}

/* Select a register and use it, as one. */
static void add_accessors(Aml *scope)
{
    Aml *get = aml_method(GET, 1, AML_NOTSERIALIZED);
    Aml *set = aml_method(SET, 2, AML_NOTSERIALIZED);

    aml_append(get, aml_acquire(aml_name(LOCK), NO_TIMEOUT));
    aml_append(get, aml_store(aml_arg(0), aml_name(SELECT)));
    aml_append(get, aml_store(aml_name(DATA), aml_local(0)));
    aml_append(get, aml_release(aml_name(LOCK)));
    aml_append(get, aml_return(aml_local(0)));
    aml_append(scope, get);

    aml_append(set, aml_acquire(aml_name(LOCK), NO_TIMEOUT));
    aml_append(set, aml_store(aml_arg(0), aml_name(SELECT)));
    aml_append(set, aml_store(aml_arg(1), aml_name(DATA)));
    aml_append(set, aml_release(aml_name(LOCK)));
    aml_append(scope, set);
}

/* Notifications */

static void add_notify(Aml *scope, NyxAcpiBlock *block)
{
    Aml *method = aml_method(NOTIFY, 0, AML_NOTSERIALIZED);
    Aml *next = aml_local(0), *which = aml_local(1), *code = aml_local(2);
    Aml *loop = aml_while(next);

    aml_append(method, aml_store(aml_name(NEXT), next));
    aml_append(loop, aml_and(next, aml_int(0xff), which));
    aml_append(loop, aml_shiftright(next, aml_int(NYX_ACPI_CODE_SHIFT), code));
    for (guint i = 0; i < block->devices->len; i++) {
        NyxAcpiDevice *dev = g_ptr_array_index(block->devices, i);
        g_autofree char *name = nyx_acpi_name(dev);
        Aml *match = aml_if(aml_equal(which, aml_int(dev->index + 1)));

        aml_append(match, aml_notify(aml_name("%s", name), code));
        aml_append(loop, match);
    }
    aml_append(loop, aml_store(aml_name(NEXT), next));
    aml_append(method, loop);
    aml_append(scope, method);
}

static void add_event(Aml *scope)
{
    g_autofree char *name = g_strdup_printf("_E%.02X", NYX_ACPI_GPE);
    Aml *events = aml_scope("\\_GPE");
    Aml *method = aml_method(name, 0, AML_NOTSERIALIZED);

    aml_append(method, aml_call0(NYX_ACPI_PATH "." NOTIFY));
    aml_append(events, method);
    aml_append(scope, events);
}

/* Processors */

static const CPUArchIdList *possible_cpus(void)
{
    return MACHINE_GET_CLASS(current_machine)->possible_cpu_arch_ids(
        current_machine);
}

Aml *nyx_acpi_aml_processors(void)
{
    int count = possible_cpus()->len;
    /* A Package() has an 8-bit count. */
    Aml *list = count <= UINT8_MAX ? aml_package(count)
                                   : aml_varpackage(count);

    for (int i = 0; i < count; i++) {
        aml_append(list, aml_name(PROCESSOR, i));
    }
    return list;
}

/* ACPI 6.5, 6.4.3.7; as there is no bit field, the access has the width. */
static Aml *port_register(uint16_t port)
{
    Aml *crs = aml_resource_template();

    build_append_int_noprefix(crs->buf, 0x82, 1);   /* Generic Register */
    build_append_int_noprefix(crs->buf, 12, 2);     /* bytes that follow */
    build_append_gas(crs->buf, AML_AS_SYSTEM_IO, 8, 0, 1, port);
    return crs;
}

/* ACPI 6.5, 8.4.5.2; nobody can know the power of a vCPU, so it is relative. */
static Aml *throttling_states(void)
{
    Aml *list = aml_package(NYX_THROTTLE_STATES);

    for (int i = 0; i < NYX_THROTTLE_STATES; i++) {
        Aml *state = aml_package(5);
        unsigned percent = nyx_throttle_percent(i);

        aml_append(state, aml_int(percent));
        aml_append(state, aml_int(percent * 10));   /* power */
        aml_append(state, aml_int(0));              /* latency */
        aml_append(state, aml_int(i));              /* control */
        aml_append(state, aml_int(i));              /* status */
        aml_append(list, state);
    }
    return list;
}

static void add_return(Aml *scope, const char *name, Aml *value)
{
    Aml *method = aml_method(name, 0, AML_NOTSERIALIZED);

    aml_append(method, aml_return(value));
    aml_append(scope, method);
}

static void add_throttling(Aml *scope)
{
    Aml *control = aml_package(2);

    aml_append(control, port_register(NYX_ACPI_PORT + NYX_ACPI_PORT_THROTTLE));
    aml_append(control, port_register(NYX_ACPI_PORT + NYX_ACPI_PORT_THROTTLE));
    aml_append(scope, aml_name_decl(CONTROL, control));
    aml_append(scope, aml_name_decl(STATES, throttling_states()));
    for (int i = 0; i < possible_cpus()->len; i++) {
        Aml *cpu = aml_scope(PROCESSOR, i);

        add_return(cpu, "_PTC", aml_name(NYX_ACPI_PATH "." CONTROL));
        add_return(cpu, "_TSS", aml_name(NYX_ACPI_PATH "." STATES));
        add_return(cpu, "_TPC", aml_int(0));
        aml_append(scope, cpu);
    }
}

void nyx_acpi_build_aml(NyxAcpiBlock *block, Aml *scope)
{
    Aml *all = aml_device("NYXA");

    aml_append(all, aml_name_decl("_HID", aml_eisaid("PNP0A06")));
    aml_append(all, aml_name_decl("_UID", aml_string("Nyx ACPI devices")));
    /* present, functioning, decoding, not shown in UI */
    aml_append(all, aml_name_decl("_STA", aml_int(0xb)));
    add_registers(all);
    add_accessors(all);
    for (guint i = 0; i < block->devices->len; i++) {
        NyxAcpiDevice *dev = g_ptr_array_index(block->devices, i);

        NYX_ACPI_DEVICE_GET_CLASS(dev)->build_aml(dev, all);
    }
    add_notify(all, block);
    if (nyx_acpi_cools_passively(block)) {
        add_throttling(all);
    }
    add_event(all);
    aml_append(scope, all);
}
