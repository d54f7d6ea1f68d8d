/*
 * Bare-metal payload: VT-d remapping hardware
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Legacy mode, one domain of 48 bits for one device.  Addresses are physical,
 * which in the payload are virtual ones, too.
 */

#ifndef BARE_METAL_VTD_H
#define BARE_METAL_VTD_H

#include "io.h"

#define VTD_READ    1u
#define VTD_WRITE   2u

typedef struct VtdFault {
    uint64_t address;           /* of the page; or the index << 48 */
    uint16_t source;
    uint8_t reason;
    bool is_read;
} VtdFault;

/* Fault reasons: VT-d specification, table of "Fault Reason Encodings" */
#define VTD_REASON_WRITE            0x05    /* no write permission */
#define VTD_REASON_READ             0x06
#define VTD_REASON_IRTE_ABSENT      0x22
#define VTD_REASON_IRTE_SOURCE      0x26

/* Tables are empty: with translation on, no device may access anything. */
void vtd_init(uint64_t registers);

/* Queued invalidation; returns when the hardware has written its status. */
void vtd_enable_queue(void);
void vtd_enable_translation(void);

/* @wide: destinations of 32 bits, for x2APIC mode */
void vtd_enable_interrupt_remapping(bool wide);

/* Let @source access what is mapped. */
void vtd_attach(uint16_t source);

/* @size: 4 KiB or 2 MiB, to which both addresses are aligned. */
void vtd_map(uint64_t iova, uint64_t address, uint64_t size, unsigned access);

/* One page of 4 KiB */
void vtd_unmap(uint64_t iova);

/* Entry @handle: @vector to the processor with this APIC ID */
void vtd_set_interrupt(uint16_t handle, uint8_t vector, bool level,
                       uint32_t apic_id, uint16_t source);
void vtd_clear_interrupt(uint16_t handle);

/* Address of a message that asks for it; its data is 0. */
uint64_t vtd_message_address(uint16_t handle);

/* Take the fault that the hardware has recorded; false if there is none. */
bool vtd_take_fault(VtdFault *fault);

#endif
