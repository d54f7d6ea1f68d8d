/*
 * Nyx IOMMU: interrupts that the guest's own IOMMU remaps
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The test plays the guest that sets up the tables.  What was delivered shows
 * in the IRR of the local APIC.
 */

#include "qemu/osdep.h"
#include "hw/i386/amd_iommu.h"
#include "hw/i386/intel_iommu_internal.h"
#include "hw/pci/pci_regs.h"
#include "libnyx.h"

#define SLOT            5
#define REQUESTER       (SLOT << 3)

#define MODE(n)         ((n) << 8)
#define SMI             MODE(2)
#define NMI             MODE(4)

/* Tables of the guest; the first one has up to 1 MiB. */
#define TABLE           MIB(16)
#define DEVICE_TABLE    MIB(18)

static NyxTestdev *start(const char *machine)
{
    NyxTest *t = nyx_test_start(machine, "-object nyx-domain,id=dom "
                                "-device nyx-testdev,id=td,addr=%d,"
                                "nyx-domain=dom", SLOT);

    return nyx_testdev_open(t, SLOT);
}

static void quit(NyxTestdev *dev)
{
    NyxTest *t = dev->t;

    nyx_testdev_close(dev);
    nyx_test_quit(t);
}

static uint64_t interrupts(NyxTestdev *dev, const char *which)
{
    QDict *device = nyx_query_device(dev->t, "td");
    uint64_t n = qdict_get_uint(qdict_get_qdict(device, "interrupts"), which);

    qobject_unref(device);
    return n;
}

/* The device sends a message, and the processor gets @vector. */
static void assert_delivers(NyxTestdev *dev, uint64_t address, uint32_t data,
                            uint8_t vector)
{
    uint64_t before = interrupts(dev, "delivered");

    g_assert_false(nyx_apic_pending(dev->t, vector));
    g_assert_cmpuint(nyx_testdev_message(dev, address, data), ==,
                     NTD_RESULT_OK);
    g_assert_true(nyx_apic_pending(dev->t, vector));
    g_assert_cmpuint(interrupts(dev, "delivered"), ==, before + 1);
}

/* It is refused; the fault's type says by whom. */
static void assert_refuses(NyxTestdev *dev, uint64_t address, uint32_t data,
                           const char *type)
{
    uint64_t before = interrupts(dev, "refused");
    QDict *fault;
    QList *faults;

    g_assert_cmpuint(nyx_testdev_message(dev, address, data), ==,
                     NTD_RESULT_DMA_ERROR);
    g_assert_cmpuint(interrupts(dev, "refused"), ==, before + 1);
    faults = nyx_query_faults(dev->t, "td");
    fault = qobject_to(QDict, qlist_peek(faults));
    g_assert_cmpstr(qdict_get_str(fault, "type"), ==, type);
    g_assert_cmphex(qdict_get_uint(fault, "address"), ==, address);
    qobject_unref(faults);
}

static void write64(NyxTest *t, uint64_t address, uint64_t value)
{
    qtest_writeq(t->qts, address, value);
}

/* The IOAPIC is no device: what it sends goes straight to stage 1. */

#define IOAPIC              0xfec00000ULL
#define IOAPIC_SELECT       IOAPIC
#define IOAPIC_WINDOW       (IOAPIC + 0x10)
#define PIN                 (20 + SLOT % 4)     /* of the device's INTA# */
#define PIN_LEVEL_LOW       (1u << 15 | 1u << 13)
#define PIN_REMAPPABLE      (1u << 16)          /* VT-d, in the upper half */

static void set_pin(NyxTest *t, uint32_t low, uint32_t high)
{
    qtest_writel(t->qts, IOAPIC_SELECT, 0x10 + 2 * PIN + 1);
    qtest_writel(t->qts, IOAPIC_WINDOW, high);
    qtest_writel(t->qts, IOAPIC_SELECT, 0x10 + 2 * PIN);
    qtest_writel(t->qts, IOAPIC_WINDOW, low | PIN_LEVEL_LOW);
}

/* @vector comes by the pin, and neither by the window nor as @not. */
static void assert_pin_raises(NyxTestdev *dev, uint8_t vector, uint8_t not)
{
    g_assert_false(nyx_apic_pending(dev->t, vector));
    nyx_testdev_set(dev, NTD_REG_INTX, 1);
    g_assert_true(nyx_apic_pending(dev->t, vector));
    g_assert_false(nyx_apic_pending(dev->t, not));
    nyx_testdev_set(dev, NTD_REG_INTX, 0);
    g_assert_cmpuint(interrupts(dev, "delivered"), ==, 0);
    g_assert_cmpuint(interrupts(dev, "refused"), ==, 0);
}

/* VT-d */

#define VTD_SHV             (1u << 3)
#define VTD_SIZE_256        7       /* 2^(7 + 1) entries */
#define VTD_SIZE_ALL        15
#define VTD_IRTE_P          1ULL
#define VTD_IRTE_DLM(mode)  ((uint64_t)(mode) << 5)
#define VTD_IRTE_VECTOR(v)  ((uint64_t)(v) << 16)
#define VTD_IRTE_LEVEL      (1ULL << 4)
#define VTD_IRTE_SVT        (1ULL << 18)
#define VTD_IOAPIC_SOURCE   0xff00  /* DMAR says so */

static uint64_t vtd_message(uint16_t handle)
{
    return NYX_MSI_BASE | 1u << 4 | (handle & 0x7fff) << 5 | handle >> 15 << 2;
}

static void vtd_set(NyxTestdev *dev, uint16_t index, uint64_t low,
                    uint16_t source)
{
    write64(dev->t, TABLE + index * 16, low);
    write64(dev->t, TABLE + index * 16 + 8, source | VTD_IRTE_SVT);
}

static void vtd_fixed(NyxTestdev *dev, uint16_t index, uint8_t vector)
{
    vtd_set(dev, index, VTD_IRTE_P | VTD_IRTE_VECTOR(vector), REQUESTER);
}

static uint64_t vtd_register(unsigned reg)
{
    return Q35_HOST_BRIDGE_IOMMU_ADDR + reg;
}

static void vtd_enable(NyxTestdev *dev, uint64_t irta)
{
    QTestState *qts = dev->t->qts;

    write64(dev->t, vtd_register(DMAR_IRTA_REG), TABLE | irta);
    qtest_writel(qts, vtd_register(DMAR_GCMD_REG), VTD_GCMD_SIRTP);
    qtest_writel(qts, vtd_register(DMAR_GCMD_REG), VTD_GCMD_IRE);
    g_assert_cmphex(qtest_readl(qts, vtd_register(DMAR_GSTS_REG)) &
                    VTD_GSTS_IRES, !=, 0);
}

static bool vtd_fault_pending(NyxTestdev *dev)
{
    return qtest_readq(dev->t->qts, vtd_register(DMAR_FRCD_REG_0_2)) &
           VTD_FRCD_F;
}

/* The guest finds one fault of the interrupt with @index, and clears it. */
static void vtd_assert_fault(NyxTestdev *dev, uint16_t index, uint8_t reason)
{
    QTestState *qts = dev->t->qts;
    uint64_t info = qtest_readq(qts, vtd_register(DMAR_FRCD_REG_0_0));
    uint64_t high = qtest_readq(qts, vtd_register(DMAR_FRCD_REG_0_2));

    g_assert_true(vtd_fault_pending(dev));
    g_assert_cmphex(info, ==, VTD_FRCD_IR_IDX((uint64_t)index));
    g_assert_cmphex(VTD_FRCD_SID(high), ==, REQUESTER);
    g_assert_cmphex((high >> 32) & 0xff, ==, reason);
    write64(dev->t, vtd_register(DMAR_FRCD_REG_0_2), VTD_FRCD_F);
    g_assert_false(vtd_fault_pending(dev));
}

static void test_vtd(void)
{
    NyxTestdev *dev = start("nyx-pc,stage1=intel,on-fault-limit=report");

    vtd_fixed(dev, 3, 0x41);
    vtd_fixed(dev, 4, 0x42);
    vtd_fixed(dev, 5, 0x43);
    vtd_enable(dev, VTD_SIZE_256);
    assert_delivers(dev, vtd_message(3), 0, 0x41);
    /* With a subhandle the data is added to the handle. */
    assert_delivers(dev, vtd_message(2) | VTD_SHV, 2, 0x42);
    /* Without, it does not count, though it looks like an SMI. */
    assert_delivers(dev, vtd_message(5), SMI | 2, 0x43);
    /* Compatibility format: as it is, but for what the filter refuses. */
    assert_delivers(dev, NYX_MSI_BASE, 0x51, 0x51);
    assert_refuses(dev, NYX_MSI_BASE, NMI, "interrupt");
    assert_refuses(dev, NYX_MSI_BASE, 3, "interrupt");
    g_assert_false(vtd_fault_pending(dev));
    quit(dev);
}

/* The guest may ask for an NMI from a device, as Linux does for watchdogs. */
static void test_vtd_nmi(void)
{
    NyxTestdev *dev = start("nyx-pc,stage1=intel,on-fault-limit=report");

    vtd_set(dev, 3, VTD_IRTE_P | VTD_IRTE_DLM(4), REQUESTER);
    vtd_enable(dev, VTD_SIZE_256);
    g_assert_cmpuint(nyx_testdev_message(dev, vtd_message(3), 0), ==,
                     NTD_RESULT_OK);
    g_assert_cmpuint(interrupts(dev, "delivered"), ==, 1);
    quit(dev);
}

/* What the guest's tables refuse is the guest's to know, and counted. */
static void test_vtd_refused(void)
{
    NyxTestdev *dev = start("nyx-pc,stage1=intel,on-fault-limit=report");

    vtd_set(dev, 7, VTD_IRTE_P | VTD_IRTE_VECTOR(0x61), REQUESTER + 8);
    vtd_fixed(dev, 8, 0x62);
    vtd_enable(dev, VTD_SIZE_256);
    assert_refuses(dev, vtd_message(6), 0, "stage1");
    vtd_assert_fault(dev, 6, VTD_FR_IR_ENTRY_P);
    assert_refuses(dev, vtd_message(4) | VTD_SHV, 2, "stage1");
    vtd_assert_fault(dev, 6, VTD_FR_IR_ENTRY_P);
    assert_refuses(dev, vtd_message(7), 0, "stage1");
    vtd_assert_fault(dev, 7, VTD_FR_IR_SID_ERR);
    assert_refuses(dev, vtd_message(256), 0, "stage1");
    vtd_assert_fault(dev, 256, VTD_FR_IR_INDEX_OVER);
    assert_refuses(dev, vtd_message(8) | VTD_SHV, 0x10000, "stage1");
    vtd_assert_fault(dev, 0, VTD_FR_IR_REQ_RSVD);
    g_assert_false(nyx_apic_pending(dev->t, 0x61));
    g_assert_false(nyx_apic_pending(dev->t, 0x62));
    nyx_assert_number(dev->t, "td", "total-faults", 5);
    quit(dev);
}

static void test_vtd_large_table(void)
{
    NyxTestdev *dev = start("nyx-pc,stage1=intel,on-fault-limit=report");

    vtd_fixed(dev, 0x8003, 0x44);
    vtd_fixed(dev, 0xffff, 0x45);
    vtd_enable(dev, VTD_SIZE_ALL);
    assert_delivers(dev, vtd_message(0x8003), 0, 0x44);
    assert_delivers(dev, vtd_message(0xfffe) | VTD_SHV, 1, 0x45);
    assert_refuses(dev, vtd_message(0x7fff) | VTD_SHV, 0x1235, "stage1");
    vtd_assert_fault(dev, 0x9234, VTD_FR_IR_ENTRY_P);
    assert_refuses(dev, vtd_message(0x9001), 0, "stage1");
    vtd_assert_fault(dev, 0x9001, VTD_FR_IR_ENTRY_P);
    quit(dev);
}

static void test_vtd_msix(void)
{
    NyxTestdev *dev = start("nyx-pc,stage1=intel,on-fault-limit=report");
    QPCIDevice *pci = dev->pci;
    unsigned i;

    vtd_fixed(dev, 3, 0x48);
    vtd_enable(dev, VTD_SIZE_256);
    qpci_msix_enable(pci);
    for (i = 0; i < 2; i++) {
        uint64_t entry = pci->msix_table_off + i * PCI_MSIX_ENTRY_SIZE;

        qpci_io_writeq(pci, pci->msix_table_bar, entry, vtd_message(3 + i));
        qpci_io_writel(pci, pci->msix_table_bar,
                       entry + PCI_MSIX_ENTRY_VECTOR_CTRL, 0);
        nyx_testdev_set(dev, NTD_REG_VECTOR, i);
        nyx_testdev_command(dev, NTD_CMD_INTERRUPT);
    }
    g_assert_true(nyx_apic_pending(dev->t, 0x48));
    vtd_assert_fault(dev, 4, VTD_FR_IR_ENTRY_P);
    nyx_assert_fault(dev->t, "td", "stage1", vtd_message(4), "w", 1);
    quit(dev);
}

static void test_vtd_ioapic(void)
{
    NyxTestdev *dev = start("nyx-pc,stage1=intel,on-fault-limit=report");

    vtd_set(dev, 9, VTD_IRTE_P | VTD_IRTE_LEVEL | VTD_IRTE_VECTOR(0x4a),
            VTD_IOAPIC_SOURCE);
    vtd_enable(dev, VTD_SIZE_256);
    set_pin(dev->t, 0x4b, 9 << 17 | PIN_REMAPPABLE);
    assert_pin_raises(dev, 0x4a, 0x4b);
    quit(dev);
}

/* No filter, but the guest's tables hold for an unmanaged device, too. */
static void test_vtd_unmanaged(void)
{
    NyxTest *t = nyx_test_start("nyx-pc,stage1=intel",
                                "-object nyx-domain,id=free,"
                                "isolation=unmanaged -device nyx-testdev,"
                                "id=td,addr=%d,nyx-domain=free", SLOT);
    NyxTestdev *dev = nyx_testdev_open(t, SLOT);

    vtd_fixed(dev, 3, 0x4c);
    vtd_set(dev, 4, VTD_IRTE_P | VTD_IRTE_VECTOR(0x4d), REQUESTER + 8);
    vtd_enable(dev, VTD_SIZE_256);
    g_assert_cmpuint(nyx_testdev_message(dev, vtd_message(3), 0), ==,
                     NTD_RESULT_OK);
    g_assert_true(nyx_apic_pending(t, 0x4c));
    g_assert_cmpuint(nyx_testdev_message(dev, vtd_message(4), 0), ==,
                     NTD_RESULT_DMA_ERROR);
    g_assert_false(nyx_apic_pending(t, 0x4d));
    vtd_assert_fault(dev, 4, VTD_FR_IR_SID_ERR);
    quit(dev);
}

/* Only messages are remapped, not DMA of another size, nor of the blocked. */
static void test_vtd_others(void)
{
    NyxTestdev *dev = start("nyx-pc,stage1=intel,on-fault-limit=report");

    vtd_fixed(dev, 3, 0x49);
    vtd_enable(dev, VTD_SIZE_256);
    nyx_testdev_fill(dev, 0);
    g_assert_cmpuint(nyx_testdev_write(dev, vtd_message(3), 8), ==,
                     NTD_RESULT_DMA_ERROR);
    nyx_assert_fault(dev->t, "td", "interrupt", vtd_message(3), "w", 1);
    g_assert_cmpuint(nyx_testdev_read(dev, vtd_message(3), 4), ==,
                     NTD_RESULT_DMA_ERROR);
    nyx_assert_fault(dev->t, "td", "interrupt", vtd_message(3), "r", 1);
    nyx_qmp(dev->t, "{ 'execute': 'nyx-quarantine-device',"
            "  'arguments': { 'device': 'td' } }");
    nyx_testdev_message(dev, vtd_message(3), 0);
    g_assert_false(nyx_apic_pending(dev->t, 0x49));
    nyx_qmp(dev->t, "{ 'execute': 'nyx-recover-device',"
            "  'arguments': { 'device': 'td' } }");
    assert_delivers(dev, vtd_message(3), 0, 0x49);
    g_assert_false(vtd_fault_pending(dev));
    quit(dev);
}

/* AMD-Vi */

#define AMD_CONTROL_REMAP   (2ULL << 60)
#define AMD_CONTROL_ABORT   (0ULL << 60)
#define AMD_IOAPIC_SOURCE   0xa0    /* IVRS says so */
#define AMD_SIZE_2048       (11ULL << 1)
#define AMD_IRTE_VALID      1u
#define AMD_IRTE_VECTOR(v)  ((uint32_t)(v) << 16)

static void amd_set(NyxTestdev *dev, unsigned index, uint8_t vector)
{
    qtest_writel(dev->t->qts, TABLE + index * 4,
                 AMD_IRTE_VALID | AMD_IRTE_VECTOR(vector));
}

/* Interrupts of @requester are remapped, or as @control says. */
static void amd_enable(NyxTestdev *dev, uint16_t requester, uint64_t control)
{
    write64(dev->t, DEVICE_TABLE + requester * AMDVI_DEVTAB_ENTRY_SIZE + 16,
            control | TABLE | AMD_SIZE_2048 | AMDVI_IR_REMAP_ENABLE);
    write64(dev->t, AMDVI_BASE_ADDR + AMDVI_MMIO_DEVICE_TABLE, DEVICE_TABLE);
    write64(dev->t, AMDVI_BASE_ADDR + AMDVI_MMIO_CONTROL,
            AMDVI_MMIO_CONTROL_AMDVIEN);
}

static void test_amd(void)
{
    NyxTestdev *dev = start("nyx-pc,stage1=amd,on-fault-limit=report");

    amd_set(dev, 5, 0x41);
    amd_set(dev, 0x131, 0x42);
    amd_enable(dev, REQUESTER, AMD_CONTROL_REMAP);
    /* The data is an index: neither an exception nor lowest priority. */
    assert_delivers(dev, NYX_MSI_BASE, 5, 0x41);
    assert_delivers(dev, NYX_MSI_BASE, 0x131, 0x42);
    g_assert_false(nyx_apic_pending(dev->t, 0x31));
    assert_refuses(dev, NYX_MSI_BASE, 6, "stage1");
    assert_refuses(dev, NYX_MSI_BASE, 0x51, "stage1");
    /* These AMD-Vi does not remap: it would block or pass them. */
    assert_refuses(dev, NYX_MSI_BASE, SMI, "interrupt");
    assert_refuses(dev, NYX_MSI_BASE, NMI | 5, "interrupt");
    quit(dev);
}

static void test_amd_abort(void)
{
    NyxTestdev *dev = start("nyx-pc,stage1=amd,on-fault-limit=report");

    amd_set(dev, 0x55, 0x41);
    amd_enable(dev, REQUESTER, AMD_CONTROL_ABORT);
    assert_refuses(dev, NYX_MSI_BASE, 0x55, "stage1");
    quit(dev);
}

/* The guest remaps the interrupts of other devices only. */
static void test_amd_not_this(void)
{
    NyxTestdev *dev = start("nyx-pc,stage1=amd,on-fault-limit=report");

    amd_set(dev, 5, 0x41);
    amd_enable(dev, REQUESTER + 8, AMD_CONTROL_REMAP);
    assert_refuses(dev, NYX_MSI_BASE, 5, "interrupt");
    assert_delivers(dev, NYX_MSI_BASE, 0x55, 0x55);
    quit(dev);
}

static void test_amd_ioapic(void)
{
    NyxTestdev *dev = start("nyx-pc,stage1=amd,on-fault-limit=report");

    amd_set(dev, 0x4b, 0x4a);
    amd_enable(dev, AMD_IOAPIC_SOURCE, AMD_CONTROL_REMAP);
    set_pin(dev->t, 0x4b, 0);
    assert_pin_raises(dev, 0x4a, 0x4b);
    quit(dev);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    qtest_add_func("/nyx/remap/vtd", test_vtd);
    qtest_add_func("/nyx/remap/vtd/nmi", test_vtd_nmi);
    qtest_add_func("/nyx/remap/vtd/refused", test_vtd_refused);
    qtest_add_func("/nyx/remap/vtd/large-table", test_vtd_large_table);
    qtest_add_func("/nyx/remap/vtd/msix", test_vtd_msix);
    qtest_add_func("/nyx/remap/vtd/ioapic", test_vtd_ioapic);
    qtest_add_func("/nyx/remap/vtd/unmanaged", test_vtd_unmanaged);
    qtest_add_func("/nyx/remap/vtd/others", test_vtd_others);
    qtest_add_func("/nyx/remap/amd", test_amd);
    qtest_add_func("/nyx/remap/amd/abort", test_amd_abort);
    qtest_add_func("/nyx/remap/amd/not-this-device", test_amd_not_this);
    qtest_add_func("/nyx/remap/amd/ioapic", test_amd_ioapic);
    return g_test_run();
}
