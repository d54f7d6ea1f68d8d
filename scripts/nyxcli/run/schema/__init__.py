# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""All that a spec may contain, in the order of the manual."""

from .block import DISK, IOTHREAD
from .host import LOGGING, METRICS, MIGRATION, QEMU, SNAPSHOT
from .net import NIC
from .other import DEVICE, DISPLAY, PASSTHROUGH, SERIAL, CONSOLE, \
    VFIO_USER, VHOST_USER, WATCHDOG
from .policy import DOMAIN
from .vm import BOOT, CPUS, FIRMWARE, MACHINE, MEMORY, NUMA, TOP, TPM

SECTIONS = (MACHINE, CPUS, MEMORY, NUMA, FIRMWARE, BOOT, TPM, DOMAIN, IOTHREAD,
            DISK, NIC, PASSTHROUGH, VFIO_USER, VHOST_USER, DEVICE, DISPLAY,
            CONSOLE, SERIAL, WATCHDOG, LOGGING, METRICS, SNAPSHOT, MIGRATION,
            QEMU)
BY_NAME = {section.name: section for section in SECTIONS}

__all__ = ['BY_NAME', 'SECTIONS', 'TOP']
