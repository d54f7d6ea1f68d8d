/*
 * Bare-metal payload: nyx-testdev and its PCI function
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef BARE_METAL_TESTDEV_H
#define BARE_METAL_TESTDEV_H

#include "hw/nyx/testdev.h"
#include "io.h"

typedef struct Testdev {
    uint16_t requester;         /* bus, device, function */
    uint64_t registers;         /* addresses of its BARs */
    uint64_t buffer;
    uint64_t msix;
    unsigned gsi;               /* IOAPIC pin of its INTA# */
} Testdev;

/* On bus 0, as the firmware has set it up; with bus mastering on. */
Testdev testdev_find(void);

uint32_t testdev_get(const Testdev *dev, uint32_t reg);
uint64_t testdev_get64(const Testdev *dev, uint32_t reg);
void testdev_set(const Testdev *dev, uint32_t reg, uint32_t value);
void testdev_set64(const Testdev *dev, uint32_t reg, uint64_t value);

/* These return an NTD_RESULT. */
uint32_t testdev_command(const Testdev *dev, uint32_t command);
uint32_t testdev_read(const Testdev *dev, uint64_t iova, uint32_t length);
uint32_t testdev_write(const Testdev *dev, uint64_t iova, uint32_t length);
uint32_t testdev_message(const Testdev *dev, uint64_t address, uint32_t data);

/* MSI-X: the message of a vector, unmasked; then all vectors on. */
void testdev_set_vector(const Testdev *dev, unsigned vector, uint64_t address,
                        uint32_t data);
void testdev_enable_msix(const Testdev *dev);
uint32_t testdev_raise(const Testdev *dev, unsigned vector);

#endif
