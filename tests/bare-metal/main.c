/*
 * Bare-metal payload: a device behind a guest's IOMMU, without a guest's OS
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Programs VT-d for nyx-testdev, lets it do DMA and raise interrupts, right and
 * wrong ones, and says on the serial port what has happened.  With "nyx" on the
 * command line there is a second stage, and whoever started the payload cuts
 * the device off when it says "streaming" and recovers it after "cut off"; and
 * sends a character, whichever, when either is done.  With "far" interrupts go
 * to the processor with APIC ID 256, and all is in x2APIC mode.
 */

#include "acpi.h"
#include "apic.h"
#include "console.h"
#include "start.h"
#include "testdev.h"
#include "vtd.h"

#define START_INFO_CMDLINE  24

#define VECTOR_MSI          0x41
#define VECTOR_PIN          0x42
#define VECTOR_NEVER        0x43

enum {
    HANDLE_MSI = 5,
    HANDLE_BAD = 6,
    HANDLE_PIN = 200,
};

/* What the test names when it looks for faults */
#define IOVA                0x7f00000000ULL
#define IOVA_READ_ONLY      (IOVA + 4 * PAGE)
#define IOVA_UNMAPPED       (IOVA + 16 * PAGE)
#define IOVA_NO_RAM         (IOVA + 17 * PAGE)
#define IOVA_STREAM         (IOVA + 32 * PAGE)
#define IOVA_LARGE          0x4000000000ULL
#define NO_RAM              0x8000000000ULL

/* RAM of which nobody else makes use */
#define MEMORY              0x2000000ULL
#define MEMORY_LARGE        0x2200000ULL
#define MEMORY_STREAM       0x2400000ULL
#define LARGE_PAGE          0x200000ULL

#define STREAM_PAGES        16
#define STREAM_DMAS         1000

#define NMI_MESSAGE         0x400

#define FAR_CPU             256

static Platform platform;
static Testdev dev;
static uint32_t destination;            /* of interrupts: an APIC ID */
static volatile bool far_cpu_runs;      /* volatile: that one writes it */

static void fill(uint64_t address, uint64_t size, uint64_t seed)
{
    uint64_t i;

    for (i = 0; i < size; i += 8) {
        write64(address + i, (seed + i) * 0x9e3779b97f4a7c15ULL);
    }
}

static bool filled(uint64_t address, uint64_t size, uint64_t seed)
{
    uint64_t i;

    for (i = 0; i < size; i += 8) {
        if (read64(address + i) != (seed + i) * 0x9e3779b97f4a7c15ULL) {
            return false;
        }
    }
    return true;
}

static bool asked_for(uint64_t start_info, const char *word)
{
    const char *line = (char *)read64(start_info + START_INFO_CMDLINE);
    unsigned i;

    for (; line && *line; line++) {
        for (i = 0; word[i] && line[i] == word[i]; i++) {
            /* count what is the same */
        }
        if (!word[i]) {
            return true;
        }
    }
    return false;
}

/* The device was refused, and the remapping hardware says so. */
static void expect_fault(uint64_t address, uint8_t reason)
{
    VtdFault fault, again;

    check(vtd_take_fault(&fault), "no fault at 0x%x", address);
    check(fault.address == address && fault.reason == reason &&
          fault.source == dev.requester,
          "fault at 0x%x, reason 0x%x, source 0x%x", fault.address,
          (uint64_t)fault.reason, (uint64_t)fault.source);
    check(!vtd_take_fault(&again), "another fault at 0x%x", again.address);
    say("fault: 0x%x, reason 0x%x, source 0x%x", fault.address,
        (uint64_t)fault.reason, (uint64_t)fault.source);
}

static void expect_no_fault(void)
{
    VtdFault fault;

    check(!vtd_take_fault(&fault), "fault at 0x%x, reason 0x%x",
          fault.address, (uint64_t)fault.reason);
}

/* Two pages that are neighbours for the device only, and a large page */
static void do_dma(uint64_t seed)
{
    fill(dev.buffer, 2 * PAGE, seed);
    fill(MEMORY, 3 * PAGE, ~seed);
    check(testdev_write(&dev, IOVA, 2 * PAGE) == NTD_RESULT_OK, "write");
    check(filled(MEMORY, PAGE, seed) &&
          filled(MEMORY + 2 * PAGE, PAGE, seed + PAGE) &&
          filled(MEMORY + PAGE, PAGE, ~seed + PAGE), "write went astray");

    fill(MEMORY_LARGE, LARGE_PAGE, seed + 1);
    check(testdev_read(&dev, IOVA_LARGE + PAGE, NTD_BUFFER_SIZE) ==
          NTD_RESULT_OK, "read");
    check(filled(dev.buffer, NTD_BUFFER_SIZE, seed + 1 + PAGE),
          "read of other data");
    expect_no_fault();
}

static void dma_through_stage1(void)
{
    unsigned i;

    vtd_map(IOVA, MEMORY, PAGE, VTD_READ | VTD_WRITE);
    vtd_map(IOVA + PAGE, MEMORY + 2 * PAGE, PAGE, VTD_READ | VTD_WRITE);
    vtd_map(IOVA_LARGE, MEMORY_LARGE, LARGE_PAGE, VTD_READ | VTD_WRITE);
    vtd_map(IOVA_READ_ONLY, MEMORY + 3 * PAGE, PAGE, VTD_READ);
    for (i = 0; i < STREAM_PAGES; i++) {
        vtd_map(IOVA_STREAM + i * PAGE, MEMORY_STREAM + i * PAGE, PAGE,
                VTD_READ | VTD_WRITE);
    }
    do_dma(1);
    say("DMA");
}

static void faults(void)
{
    check(testdev_read(&dev, IOVA_UNMAPPED, 8) == NTD_RESULT_DMA_ERROR,
          "read of an unmapped page");
    expect_fault(IOVA_UNMAPPED, VTD_REASON_READ);

    /* Not after a read: QEMU does not report what its IOTLB refuses. */
    fill(MEMORY + 3 * PAGE, PAGE, 7);
    fill(dev.buffer, PAGE, 8);
    check(testdev_write(&dev, IOVA_READ_ONLY, 8) == NTD_RESULT_DMA_ERROR,
          "write to a read-only page");
    check(filled(MEMORY + 3 * PAGE, PAGE, 7), "read-only page written");
    expect_fault(IOVA_READ_ONLY, VTD_REASON_WRITE);
    check(testdev_read(&dev, IOVA_READ_ONLY, PAGE) == NTD_RESULT_OK,
          "read of a read-only page");
    check(filled(dev.buffer, PAGE, 7), "read of other data");
}

/* What a device has read once it may not read after an invalidation. */
static void unmap(void)
{
    uint64_t iova = IOVA + 8 * PAGE;

    vtd_map(iova, MEMORY, PAGE, VTD_READ);
    check(testdev_read(&dev, iova, 8) == NTD_RESULT_OK, "read");
    vtd_unmap(iova);
    check(testdev_read(&dev, iova, 8) == NTD_RESULT_DMA_ERROR,
          "read of a page that is gone");
    expect_fault(iova, VTD_REASON_READ);
    vtd_map(iova, MEMORY + 2 * PAGE, PAGE, VTD_READ);
    fill(MEMORY + 2 * PAGE, PAGE, 9);
    check(testdev_read(&dev, iova, PAGE) == NTD_RESULT_OK &&
          filled(dev.buffer, PAGE, 9), "read of a new page");
    expect_no_fault();
    say("unmapped");
}

/* Stage 1 has nothing against it, so it has nothing to report. */
static void refused_by_stage2(void)
{
    vtd_map(IOVA_NO_RAM, NO_RAM, PAGE, VTD_READ | VTD_WRITE);
    check(testdev_read(&dev, IOVA_NO_RAM, 8) == NTD_RESULT_DMA_ERROR,
          "read of what is no RAM");
    expect_no_fault();
    check(testdev_message(&dev, 0xfee00000 | apic_id() << 12, NMI_MESSAGE) ==
          NTD_RESULT_DMA_ERROR, "NMI");
    expect_no_fault();
    say("stage 2");
}

/* Interrupts go to another processor, with an ID of more than 8 bits. */
static void start_far_cpu(void)
{
    destination = FAR_CPU;
    apic_start(FAR_CPU);
    check(await(far_cpu_runs), "the other processor does not start");
    say("CPU 0x%x", (uint64_t)FAR_CPU);
}

void second_main(void)
{
    apic_init_second();
    far_cpu_runs = apic_id() == FAR_CPU;
}

static void expect_taken(uint8_t vector)
{
    check(apic_taken_by(vector) == destination, "0x%x taken by CPU 0x%x",
          (uint64_t)vector, (uint64_t)apic_taken_by(vector));
}

static void raise_msi(void)
{
    uint64_t before = apic_count(VECTOR_MSI);

    check(testdev_raise(&dev, 0) == NTD_RESULT_OK, "MSI-X is disabled");
    check(await(apic_count(VECTOR_MSI) == before + 1), "no interrupt by MSI-X");
    expect_taken(VECTOR_MSI);
}

static void remapped_msi(void)
{
    vtd_set_interrupt(HANDLE_MSI, VECTOR_MSI, false, destination,
                      dev.requester);
    testdev_set_vector(&dev, 0, vtd_message_address(HANDLE_MSI), 0);
    testdev_enable_msix(&dev);
    raise_msi();
    raise_msi();
    expect_no_fault();
    say("MSI-X");

    vtd_set_interrupt(HANDLE_BAD, VECTOR_NEVER, false, destination,
                      dev.requester + 8);
    testdev_set_vector(&dev, 1, vtd_message_address(HANDLE_BAD), 0);
    testdev_raise(&dev, 1);
    expect_fault((uint64_t)HANDLE_BAD << 48, VTD_REASON_IRTE_SOURCE);
    vtd_clear_interrupt(HANDLE_BAD);
    testdev_raise(&dev, 1);
    expect_fault((uint64_t)HANDLE_BAD << 48, VTD_REASON_IRTE_ABSENT);
    check(!apic_count(VECTOR_NEVER), "an interrupt that was refused");
}

static void release_pin(void)
{
    testdev_set(&dev, NTD_REG_INTX, 0);
}

static void raise_pin(void)
{
    uint64_t before = apic_count(VECTOR_PIN);

    testdev_set(&dev, NTD_REG_INTX, 1);
    check(await(apic_count(VECTOR_PIN) > before), "no interrupt by the IOAPIC");
    check(await(!ioapic_remote_irr(dev.gsi)), "no end of interrupt");
    /*
     * A level is sampled: on a slow host KVM has been seen to take one twice.
     * Once it is withdrawn, though, that ends.
     */
    check(apic_count(VECTOR_PIN) <= before + 2, "%d interrupts for one",
          apic_count(VECTOR_PIN) - before);
    expect_taken(VECTOR_PIN);
}

static void remapped_pin(void)
{
    vtd_set_interrupt(HANDLE_PIN, VECTOR_PIN, true, destination,
                      platform.ioapic_source);
    apic_set_handler(VECTOR_PIN, release_pin);
    ioapic_route_remapped(dev.gsi, HANDLE_PIN, VECTOR_PIN);
    raise_pin();
    raise_pin();
    expect_no_fault();
    say("IOAPIC");
}

static void start_stream(void)
{
    testdev_set64(&dev, NTD_REG_ADDRESS_LO, IOVA_STREAM);
    testdev_set(&dev, NTD_REG_LENGTH, PAGE);
    testdev_set(&dev, NTD_REG_COUNT, 0);
    testdev_set(&dev, NTD_REG_SLOTS, STREAM_PAGES);
    testdev_set64(&dev, NTD_REG_STRIDE_LO, PAGE);
    testdev_set(&dev, NTD_REG_FLAGS, NTD_FLAG_WRITE | NTD_FLAG_THREAD);
    check(testdev_command(&dev, NTD_CMD_START) == NTD_RESULT_OK, "stream");
    check(await(testdev_get64(&dev, NTD_REG_DONE_LO) > STREAM_DMAS),
          "no progress of the stream");
    check(!testdev_get64(&dev, NTD_REG_ERRORS_LO), "errors in the stream");
}

/* Someone else cuts the device off, and recovers it. */
static void quarantine_and_recovery(void)
{
    uint64_t interrupts;
    unsigned i;

    fill(dev.buffer, PAGE, 10);
    start_stream();
    say("streaming");
    await_word();
    check(testdev_get(&dev, NTD_REG_STATUS) == UINT32_MAX,
          "the device is not cut off");
    interrupts = apic_count(VECTOR_MSI) + apic_count(VECTOR_PIN);
    fill(MEMORY_STREAM, STREAM_PAGES * PAGE, 11);
    for (i = 0; i < STREAM_DMAS; i++) {
        testdev_raise(&dev, 0);
        testdev_set(&dev, NTD_REG_INTX, 1);
    }
    check(filled(MEMORY_STREAM, STREAM_PAGES * PAGE, 11),
          "DMA of a device that is cut off");
    check(apic_count(VECTOR_MSI) + apic_count(VECTOR_PIN) == interrupts,
          "interrupt of a device that is cut off");
    say("cut off");

    await_word();
    check(testdev_get(&dev, NTD_REG_ID) == NTD_ID,
          "the device has not recovered");
    check(filled(MEMORY_STREAM, STREAM_PAGES * PAGE, 11),
          "DMA between cut off and recovery");
    check(!testdev_get(&dev, NTD_REG_STATUS), "it streams on after its reset");
    do_dma(12);
    raise_msi();
    raise_pin();
    start_stream();
    testdev_command(&dev, NTD_CMD_STOP);
    expect_no_fault();
    say("recovered");
}

void payload_main(uint64_t start_info)
{
    bool nyx = asked_for(start_info, "nyx");
    bool far = asked_for(start_info, "far");

    platform = acpi_find_platform(start_info);
    say("ACPI: VT-d at 0x%x, IOAPIC at 0x%x from 0x%x", platform.vtd,
        platform.ioapic, (uint64_t)platform.ioapic_source);
    check(platform.remaps_interrupts, "DMAR without interrupt remapping");
    apic_init(platform.ioapic, far);
    destination = apic_id();
    dev = testdev_find();
    vtd_init(platform.vtd);
    vtd_enable_queue();
    vtd_attach(dev.requester);
    vtd_enable_translation();
    vtd_enable_interrupt_remapping(far);
    say("VT-d");

    dma_through_stage1();
    if (far) {
        start_far_cpu();
    }
    remapped_pin();
    remapped_msi();
    faults();
    unmap();
    if (nyx) {
        refused_by_stage2();
        quarantine_and_recovery();
    }
    say("done");
}
