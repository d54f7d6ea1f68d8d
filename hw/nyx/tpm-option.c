/*
 * nyx-pc: the machine options "tpm" and "tpm-model"
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "hw/core/qdev-properties.h"
#include "hw/isa/isa.h"
#include "qapi/error.h"
#include "system/tpm.h"
#include "system/tpm_backend.h"
#include "tpm-option.h"

/* As in system/tpm.h, which has them only where QEMU has TPMs. */
static const char *const model_types[NYX_TPM_MODEL__MAX] = {
    [NYX_TPM_MODEL_CRB] = "tpm-crb",
    [NYX_TPM_MODEL_TIS] = "tpm-tis",
};

static const QEnumLookup model_names = {
    .array = (const char *const[]) {
        [NYX_TPM_MODEL_CRB] = "crb",
        [NYX_TPM_MODEL_TIS] = "tis",
    },
    .size = NYX_TPM_MODEL__MAX,
};

/* The options */

static ptrdiff_t option_offset;

static NyxTpmOption *option_of(Object *machine)
{
    return (NyxTpmOption *)((char *)machine + option_offset);
}

/* The board is made once, from what was said before. */
static bool check_early(Object *machine, const char *name, Error **errp)
{
    if (MACHINE(machine)->ram) {
        error_setg(errp, "%s cannot change while the VM runs", name);
        return false;
    }
    return true;
}

static char *get_tpm(Object *obj, Error **errp)
{
    const char *tpmdev = option_of(obj)->tpmdev;

    return g_strdup(tpmdev ? tpmdev : "");
}

static void set_tpm(Object *obj, const char *value, Error **errp)
{
    NyxTpmOption *option = option_of(obj);

    if (check_early(obj, "tpm", errp)) {
        g_free(option->tpmdev);
        option->tpmdev = *value ? g_strdup(value) : NULL;
    }
}

static int get_model(Object *obj, Error **errp)
{
    return option_of(obj)->model;
}

static void set_model(Object *obj, int value, Error **errp)
{
    NyxTpmOption *option = option_of(obj);

    if (check_early(obj, "tpm-model", errp)) {
        option->model = value;
        option->model_chosen = true;
    }
}

void nyx_tpm_add_options(ObjectClass *oc, ptrdiff_t offset)
{
    option_offset = offset;
    object_class_property_add_str(oc, "tpm", get_tpm, set_tpm);
    object_class_property_set_description(oc, "tpm",
        "The -tpmdev, by its id, that is the guest's TPM (default: none)");
    object_class_property_add_enum(oc, "tpm-model", "NyxTpmModel", &model_names,
                                   get_model, set_model);
    object_class_property_set_description(oc, "tpm-model",
        "How the guest talks to its TPM: crb (default) or tis");
}

void nyx_tpm_finalize(NyxTpmOption *option)
{
    g_free(option->tpmdev);
}

/* The device */

#ifdef CONFIG_TPM

/* NULL with an error that says how @id comes to be. */
static TPMBackend *find_backend(const char *id, Error **errp)
{
    TPMBackend *backend = qemu_find_tpm_be(id);

    if (!backend) {
        error_setg(errp, "there is no -tpmdev with id=%s; start swtpm, and add "
                   "-chardev socket,id=CHR,path=SOCKET "
                   "-tpmdev emulator,id=%s,chardev=CHR", id, id);
    }
    return backend;
}

static bool check_version(TPMBackend *backend, NyxTpmModel model, Error **errp)
{
    if (model == NYX_TPM_MODEL_CRB &&
        tpm_backend_get_tpm_version(backend) == TPM_VERSION_1_2) {
        error_setg(errp, "it is a TPM 1.2, which has no CRB; start swtpm with "
                   "--tpm2, or use tpm-model=tis");
        return false;
    }
    return true;
}

/* The chipset's LPC bridge is the one ISA bus. */
static BusState *bus_for(NyxTpmModel model)
{
    return model == NYX_TPM_MODEL_TIS
        ? BUS(object_resolve_path_type("", TYPE_ISA_BUS, NULL)) : NULL;
}

static bool create(MachineState *machine, const NyxTpmOption *option,
                   Error **errp)
{
    const char *type = model_types[option->model];
    TPMBackend *backend = find_backend(option->tpmdev, errp);
    DeviceState *dev;

    if (!backend || !check_version(backend, option->model, errp)) {
        return false;
    }
    dev = qdev_try_new(type);
    if (!dev) {
        error_setg(errp, "this QEMU was built without %s", type);
        return false;
    }
    object_property_add_child(OBJECT(machine), "tpm-device", OBJECT(dev));
    object_unref(OBJECT(dev));
    return object_property_set_str(OBJECT(dev), "tpmdev", option->tpmdev,
                                   errp) &&
           qdev_realize(dev, bus_for(option->model), errp);
}

#else

static bool create(MachineState *machine, const NyxTpmOption *option,
                   Error **errp)
{
    error_setg(errp, "this QEMU was built without TPMs; leave the option out, "
               "or configure it with --enable-tpm");
    return false;
}

#endif

bool nyx_tpm_create(MachineState *machine, const NyxTpmOption *option,
                    Error **errp)
{
    ERRP_GUARD();

    if (!option->tpmdev) {
        if (option->model_chosen) {
            error_setg(errp, "tpm-model=%s names no TPM; add tpm=TPMDEV, the "
                       "id of a -tpmdev",
                       qapi_enum_lookup(&model_names, option->model));
            return false;
        }
        return true;
    }
    if (!create(machine, option, errp)) {
        error_prepend(errp, "tpm=%s: ", option->tpmdev);
        return false;
    }
    return true;
}
