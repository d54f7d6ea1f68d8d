/*
 * nyx-pc: the IOMMU model that the guest sees, as the machine creates it
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "hw/pci/pci_regs.h"
#include "libnyx-extra.h"
#include "qobject/qjson.h"

#define VTD_BASE        0xfed90000ULL
#define VTD_GCMD        0x18
#define VTD_GSTS        0x1c
#define VTD_RTADDR      0x20
#define VTD_GCMD_TE     (1u << 31)
#define VTD_GCMD_SRTP   (1u << 30)

#define AMDVI_BASE      0xfed80000ULL
#define AMDVI_DEVTAB    0x0
#define AMDVI_COMMANDS  0x8
#define AMDVI_CONTROL   0x18
#define AMDVI_COMMAND_TAIL      0x2008
#define AMDVI_COMMANDS_256      (8ULL << 56)
#define AMDVI_CONTROL_ENABLE    (1 | 1 << 12)   /* the IOMMU, commands */
#define AMDVI_INVALIDATE_DEVTAB (2ULL << 60)
#define AMDVI_DTE_SIZE          32
/* Valid, translates, 4 levels, may be read and written */
#define AMDVI_DTE_FLAGS         (3ULL | 4 << 9 | 3ULL << 61)

#define STAGE1_SLOT     0x17
#define TD_SLOT         2

#define MODEL_PATH      "/machine/stage1-model"

typedef struct Model {
    const char *name;       /* as stage1=... has it */
    const char *type;
} Model;

static const Model models[] = {
    { "intel", "intel-iommu" },
    { "amd", "amd-iommu" },
    { "virtio", "virtio-iommu-pci" },
};

static void assert_property(QTestState *qts, const char *path,
                            const char *property, const char *value)
{
    QDict *answer = qtest_qmp(qts, "{ 'execute': 'qom-get', 'arguments': {"
                              "  'path': %s, 'property': %s } }", path,
                              property);
    QObject *got = qdict_get(answer, "return");
    g_autoptr(GString) json = got ? qobject_to_json(got) : NULL;

    if (!json || !g_str_equal(json->str, value)) {
        g_error("%s.%s is %s, not %s", path, property,
                json ? json->str : "no property", value);
    }
    qobject_unref(answer);
}

/* What it is, and that all who may ask see it. */
static void test_created(const void *data)
{
    const Model *model = data;
    g_autofree char *machine = g_strdup_printf("nyx-pc,stage1=%s",
                                               model->name);
    g_autofree char *type = g_strdup_printf("\"%s\"", model->type);
    g_autofree char *quoted = g_strdup_printf("\"%s\"", model->name);
    g_autofree char *line = g_strdup_printf("dev: %s", model->type);
    NyxTest *t = nyx_test_start(machine, "-device nyx-testdev,id=td");
    g_autofree char *qtree = qtest_hmp(t->qts, "info qtree");
    QDict *info = nyx_query_iommu(t);

    assert_property(t->qts, MODEL_PATH, "type", type);
    assert_property(t->qts, "/machine", "stage1", quoted);
    g_assert_cmpstr(qdict_get_str(info, "stage1"), ==, model->name);
    g_assert_nonnull(strstr(qtree, line));
    qobject_unref(info);
    nyx_test_quit(t);
}

static void test_none(void)
{
    NyxTest *t = nyx_test_start("nyx-pc", "-device nyx-testdev,id=td");
    g_autofree char *qtree = qtest_hmp(t->qts, "info qtree");
    QDict *info = nyx_query_iommu(t);

    g_assert_cmpstr(qdict_get_str(info, "stage1"), ==, "none");
    for (unsigned i = 0; i < ARRAY_SIZE(models); i++) {
        g_assert_null(strstr(qtree, models[i].type));
    }
    qobject_unref(info);
    nyx_test_quit(t);
}

/* Its PCI function leaves the slots to the user that there are without it. */
static void test_slot(const void *data)
{
    const Model *model = data;
    g_autofree char *machine = g_strdup_printf("nyx-pc,stage1=%s",
                                               model->name);
    NyxTest *t = nyx_test_start(machine, "-device nyx-testdev,id=td");
    g_autofree char *name = nyx_device_at(t, "0000:00:01.0");
    QPCIDevice *pci = qpci_device_find(t->bus, QPCI_DEVFN(STAGE1_SLOT, 0));

    g_assert_cmpstr(name, ==, "td");
    if (g_str_equal(model->name, "intel")) {
        g_assert_null(pci);
    } else {
        g_assert_nonnull(pci);
        g_assert_cmphex(qpci_config_readw(pci, PCI_VENDOR_ID), ==,
                        g_str_equal(model->name, "amd") ? 0x1022 : 0x1af4);
    }
    g_free(pci);
    nyx_test_quit(t);
}

/* Settings */

typedef struct Setting {
    const char *name;
    const char *options;
    const char *property;
    const char *value;      /* as JSON */
} Setting;

static const Setting settings[] = {
    { "intel/intremap", "-M nyx-pc,stage1=intel", "intremap", "\"on\"" },
    { "intel/eim", "-M nyx-pc,stage1=intel", "eim", "\"on\"" },
    { "intel/caching-mode", "-M nyx-pc,stage1=intel", "caching-mode", "true" },
    { "intel/device-iotlb", "-M nyx-pc,stage1=intel", "device-iotlb", "true" },
    { "intel/aw-bits", "-M nyx-pc,stage1=intel", "aw-bits", "48" },
    { "intel/no-intremap", "-M nyx-pc,stage1=intel,stage1.intremap=off",
      "eim", "\"off\"" },
    { "intel/no-eim", "-M nyx-pc,stage1=intel,stage1.eim=off", "eim",
      "\"off\"" },
    { "amd/intremap", "-M nyx-pc,stage1=amd", "intremap", "\"on\"" },
    { "amd/xtsup", "-M nyx-pc,stage1=amd", "xtsup", "true" },
    { "amd/dma-remap", "-M nyx-pc,stage1=amd", "dma-remap", "true" },
    { "amd/pci-id", "-M nyx-pc,stage1=amd", "pci-id", "\"#stage1-pci\"" },
    { "virtio/boot-bypass", "-M nyx-pc,stage1=virtio", "boot-bypass", "true" },
    { "virtio/aw-bits", "-M nyx-pc,stage1=virtio", "aw-bits", "48" },
    { "virtio/msi", "-M nyx-pc,stage1=virtio", "reserved-regions",
      "[\"0xfee00000:0xfeefffff:1\"]" },
    { "virtio/confined", "-M nyx-pc,stage1=virtio", "iommu_platform", "true" },
    { "option", "-M nyx-pc,stage1=intel,stage1.scalable-mode=on",
      "scalable-mode", "true" },
    { "option-of-virtio", "-M nyx-pc,stage1=virtio,stage1.granule=64k",
      "granule", "\"64k\"" },
    { "option-before-model", "-M nyx-pc,stage1.aw-bits=39,stage1=intel",
      "aw-bits", "39" },
    { "option-before-machine", "-M stage1.aw-bits=39 -M nyx-pc,stage1=intel",
      "aw-bits", "39" },
    { "last-option", "-M nyx-pc,stage1=intel,stage1.aw-bits=39 "
      "-M stage1.aw-bits=48", "aw-bits", "48" },
    { "last-model", "-M nyx-pc,stage1=amd -M stage1=virtio", "boot-bypass",
      "true" },
    { "long-name", "-M nyx-pc,stage1=intel,stage1-options.aw-bits=39",
      "aw-bits", "39" },
    { "model-of-no-option", "-M nyx-pc,stage1=none -M stage1.aw-bits=39 "
      "-M stage1=intel", "aw-bits", "39" },
    { "global", "-global intel-iommu.caching-mode=off "
      "-M nyx-pc,stage1=intel", "caching-mode", "false" },
    { "global-after", "-M nyx-pc,stage1=amd -global amd-iommu.xtsup=off",
      "xtsup", "false" },
    { "option-before-global", "-M nyx-pc,stage1=intel,stage1.aw-bits=39 "
      "-global intel-iommu.aw-bits=48", "aw-bits", "39" },
    { "comma", "-M nyx-pc,stage1=intel,dt-compatible=a,,stage1.aw-bits=39",
      "aw-bits", "48" },
};

static void test_setting(const void *data)
{
    const Setting *setting = data;
    QTestState *qts = qtest_initf("-nodefaults %s", setting->options);

    assert_property(qts, MODEL_PATH, setting->property, setting->value);
    qtest_quit(qts);
}

/* A user who wants it elsewhere */
static void test_own_slot(void)
{
    NyxTest *t = nyx_test_start("nyx-pc,stage1=virtio,stage1.addr=9", " ");
    QPCIDevice *pci = qpci_device_find(t->bus, QPCI_DEVFN(9, 0));

    g_assert_nonnull(pci);
    g_assert_null(qpci_device_find(t->bus, QPCI_DEVFN(STAGE1_SLOT, 0)));
    g_free(pci);
    nyx_test_quit(t);
}

/* Refusals */

typedef struct Refusal {
    const char *name;
    const char *options;
    const char *words;
} Refusal;

static const Refusal refusals[] = {
    { "property", "-M nyx-pc,stage1=intel,stage1.xtsup=on",
      "stage1=intel: intel-iommu has no property 'xtsup'; -device "
      "intel-iommu,help lists" },
    { "property-amd", "-M nyx-pc,stage1=amd,stage1.scalable-mode=on",
      "stage1=amd: amd-iommu has no property 'scalable-mode'" },
    { "property-virtio", "-M nyx-pc,stage1=virtio,stage1.intremap=on",
      "stage1=virtio: virtio-iommu-pci has no property 'intremap'" },
    { "value", "-M nyx-pc,stage1=intel,stage1.caching-mode=maybe",
      "stage1=intel: Parameter 'caching-mode' expects 'on' or 'off'" },
    { "aw-bits", "-M nyx-pc,stage1=intel,stage1.aw-bits=47",
      "stage1=intel: Legacy mode: supported values for aw-bits are" },
    { "fsts", "-M nyx-pc,stage1=intel,stage1.fsts=on",
      "stage1=intel: fsts is only available in scalable mode" },
    { "eim", "-M nyx-pc,stage1=intel,stage1.intremap=off,stage1.eim=on",
      "stage1=intel: eim=on cannot be selected without intremap=on" },
    { "pci-id", "-M nyx-pc,stage1=amd,stage1.pci-id=x",
      "the machine itself sets amd-iommu's property 'pci-id'; leave it out" },
    { "realized", "-M nyx-pc,stage1=intel,stage1.realized=on",
      "the machine itself sets intel-iommu's property 'realized'" },
    { "no-model", "-M nyx-pc,stage1.aw-bits=39",
      "stage1.aw-bits has no IOMMU to go to; add stage1=intel, amd or "
      "virtio" },
    { "unknown-model", "-M nyx-pc,stage1=smmu",
      "Parameter 'stage1' does not accept value 'smmu'" },
    { "no-value", "-M nyx-pc,stage1=intel,stage1-options=on",
      "give stage1.PROPERTY=VALUE" },
    { "other-machine", "-M q35,stage1.aw-bits=39", "stage1-options" },
    { "device-intel", "-M nyx-pc -device intel-iommu",
      "intel-iommu cannot be added to nyx-pc, which itself creates the IOMMU "
      "that the guest sees; use -M nyx-pc,stage1=intel" },
    { "device-amd", "-M nyx-pc -device amd-iommu",
      "use -M nyx-pc,stage1=amd" },
    { "device-amd-function", "-M nyx-pc -device AMDVI-PCI,id=x",
      "use -M nyx-pc,stage1=amd" },
    { "device-virtio", "-M nyx-pc -device virtio-iommu-pci",
      "use -M nyx-pc,stage1=virtio" },
    { "device-second", "-device virtio-iommu-pci -M nyx-pc,stage1=intel",
      "virtio-iommu-pci cannot be added to nyx-pc" },
    { "slot", "-M nyx-pc,stage1=virtio -device nyx-testdev,addr=17.0",
      "17" },
};

static void test_refused(const void *data)
{
    const Refusal *refusal = data;

    nyx_refused_at_start(refusal->words, "%s", refusal->options);
}

static void test_no_change(void)
{
    NyxTest *t = nyx_test_start("nyx-pc,stage1=intel", " ");

    nyx_qmp_refused(t, "stage1 cannot change while the VM runs",
                    "{ 'execute': 'qom-set', 'arguments': {"
                    "  'path': '/machine', 'property': 'stage1',"
                    "  'value': 'none' } }");
    nyx_qmp_refused(t, "the properties of stage 1 cannot change while the VM "
                    "runs", "{ 'execute': 'qom-set', 'arguments': {"
                    "  'path': '/machine', 'property': 'stage1-options',"
                    "  'value': {} } }");
    assert_property(t->qts, "/machine", "stage1", "\"intel\"");
    nyx_test_quit(t);
}

/* In front of every device, wherever that stands on the command line */

static void intel_block(NyxTest *t)
{
    uint64_t root = guest_alloc(&t->alloc, PAGE);

    qtest_memset(t->qts, root, 0, PAGE);
    qtest_writeq(t->qts, VTD_BASE + VTD_RTADDR, root);
    qtest_writel(t->qts, VTD_BASE + VTD_GCMD, VTD_GCMD_SRTP);
    qtest_writel(t->qts, VTD_BASE + VTD_GCMD, VTD_GCMD_TE);
    g_assert_true(qtest_readl(t->qts, VTD_BASE + VTD_GSTS) & VTD_GCMD_TE);
}

/* Requester IDs 0 to 127 get a page table that maps nothing. */
static void amd_block(NyxTest *t)
{
    uint64_t device_table = guest_alloc(&t->alloc, PAGE);
    uint64_t page_table = guest_alloc(&t->alloc, PAGE);
    uint64_t commands = guest_alloc(&t->alloc, PAGE);

    qtest_memset(t->qts, page_table, 0, PAGE);
    qtest_memset(t->qts, device_table, 0, PAGE);
    qtest_memset(t->qts, commands, 0, PAGE);
    for (unsigned i = 0; i < PAGE; i += AMDVI_DTE_SIZE) {
        qtest_writeq(t->qts, device_table + i, AMDVI_DTE_FLAGS | page_table);
    }
    qtest_writeq(t->qts, commands, AMDVI_INVALIDATE_DEVTAB | TD_SLOT << 3);
    qtest_writeq(t->qts, AMDVI_BASE + AMDVI_DEVTAB, device_table);
    qtest_writeq(t->qts, AMDVI_BASE + AMDVI_COMMANDS,
                 commands | AMDVI_COMMANDS_256);
    qtest_writeq(t->qts, AMDVI_BASE + AMDVI_CONTROL, AMDVI_CONTROL_ENABLE);
    qtest_writeq(t->qts, AMDVI_BASE + AMDVI_COMMAND_TAIL, 16);
}

static void virtio_block(NyxTest *t)
{
    /* boot-bypass=off does. */
}

typedef struct Order {
    const char *name;
    const char *options;
    void (*block)(NyxTest *t);
} Order;

static const Order orders[] = {
    { "intel/machine-first", "-M nyx-pc,stage1=intel "
      "-device nyx-testdev,id=td,addr=2", intel_block },
    { "intel/device-first", "-device nyx-testdev,id=td,addr=2 "
      "-M nyx-pc,stage1=intel", intel_block },
    { "intel/domain-last", "-device nyx-testdev,id=td,addr=2,nyx-domain=d "
      "-M stage1=intel -object nyx-domain,id=d -M nyx-pc", intel_block },
    { "amd/machine-first", "-M nyx-pc,stage1=amd "
      "-device nyx-testdev,id=td,addr=2", amd_block },
    { "amd/device-first", "-device nyx-testdev,id=td,addr=2 "
      "-M nyx-pc,stage1=amd", amd_block },
    { "virtio/machine-first", "-M nyx-pc,stage1=virtio,stage1.boot-bypass=off "
      "-device nyx-testdev,id=td,addr=2", virtio_block },
    { "virtio/device-first", "-device nyx-testdev,id=td,addr=2 "
      "-M stage1.boot-bypass=off -M nyx-pc,stage1=virtio", virtio_block },
};

static void test_order(const void *data)
{
    const Order *order = data;
    NyxTest *t = nyx_test_start("usb=off", "%s", order->options);
    NyxTestdev *td = nyx_testdev_open(t, TD_SLOT);

    order->block(t);
    g_assert_cmpuint(nyx_testdev_write(td, MIB(16), 8), ==,
                     NTD_RESULT_DMA_ERROR);
    nyx_assert_fault(t, "td", "stage1", MIB(16), "w", 1);
    nyx_testdev_close(td);
    nyx_test_quit(t);
}

/* KVM's interrupt controllers */

static bool kvm_works(void)
{
    int fd = open("/dev/kvm", O_RDWR);

    if (fd < 0) {
        g_test_skip("/dev/kvm cannot be opened");
        return false;
    }
    close(fd);
    return true;
}

static void test_kvm_split(void)
{
    QTestState *qts;

    if (!kvm_works()) {
        return;
    }
    for (unsigned i = 0; i < 2; i++) {
        qts = qtest_initf("-accel kvm -M nyx-pc,stage1=%s -nodefaults -S",
                          models[i].name);
        assert_property(qts, MODEL_PATH, "intremap", "\"on\"");
        qtest_quit(qts);
    }
}

/* What QEMU says before it quits; its exit status must be @status. */
static char *run_with_kvm(const char *options, int status)
{
    g_autofree char *command = g_strdup_printf("echo quit | %s -accel kvm -S "
        "-display none -nodefaults -monitor stdio %s",
        qtest_qemu_binary(NULL), options);
    const char *argv[] = { "/bin/sh", "-c", command, NULL };
    char *errors = NULL;
    int got;

    g_assert_true(g_spawn_sync(NULL, (char **)argv, NULL,
                               G_SPAWN_STDOUT_TO_DEV_NULL, NULL, NULL, NULL,
                               &errors, &got, NULL));
    g_assert_true(WIFEXITED(got));
    g_assert_cmpint(WEXITSTATUS(got), ==, status);
    return errors;
}

/* Interrupts that KVM delivers by itself cannot be remapped: this is said. */
static void test_kvm_full(void)
{
    g_autofree char *warning = NULL;
    g_autofree char *error = NULL;

    if (!kvm_works()) {
        return;
    }
    warning = run_with_kvm("-M nyx-pc,kernel-irqchip=on,stage1=intel", 0);
    g_assert_nonnull(strstr(warning, "stage1=intel has no interrupt "
                            "remapping"));
    error = run_with_kvm("-M nyx-pc,kernel-irqchip=on,stage1=intel,"
                         "stage1.intremap=on", 1);
    g_assert_nonnull(strstr(error, "stage1=intel: Interrupt Remapping cannot "
                            "work with kernel-irqchip=on"));
}

static void add(const char *group, const char *name, const void *data,
                void (*test)(const void *data))
{
    g_autofree char *path = g_strdup_printf("/nyx/stage1-machine/%s/%s", group,
                                            name);

    qtest_add_data_func(path, data, test);
}

int main(int argc, char **argv)
{
    unsigned i;

    g_test_init(&argc, &argv, NULL);
    qtest_add_func("/nyx/stage1-machine/none", test_none);
    for (i = 0; i < ARRAY_SIZE(models); i++) {
        add("created", models[i].name, &models[i], test_created);
        add("slot", models[i].name, &models[i], test_slot);
    }
    qtest_add_func("/nyx/stage1-machine/own-slot", test_own_slot);
    for (i = 0; i < ARRAY_SIZE(settings); i++) {
        add("setting", settings[i].name, &settings[i], test_setting);
    }
    for (i = 0; i < ARRAY_SIZE(refusals); i++) {
        add("refused", refusals[i].name, &refusals[i], test_refused);
    }
    qtest_add_func("/nyx/stage1-machine/no-change", test_no_change);
    for (i = 0; i < ARRAY_SIZE(orders); i++) {
        add("order", orders[i].name, &orders[i], test_order);
    }
    qtest_add_func("/nyx/stage1-machine/kvm/split", test_kvm_split);
    qtest_add_func("/nyx/stage1-machine/kvm/full", test_kvm_full);
    return g_test_run();
}
