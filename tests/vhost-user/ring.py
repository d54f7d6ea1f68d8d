# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""A split virtqueue, read and written through a function that does DMA."""

import struct

DESCRIPTOR = struct.Struct('<QIHH')     # address, length, flags, next
NEXT = 1
DEVICE_WRITES = 2


class Ring:
    """What QEMU said of it; dma(address, size or data) copies ring memory."""

    def __init__(self, index):
        self.index = index
        self.size = 0
        self.desc = self.avail = self.used = 0
        self.next = 0               # of the available ring
        self.kick = self.call = None
        self.enabled = False

    @property
    def running(self):
        return self.kick is not None and self.enabled

    def pending(self, dma):
        index, = struct.unpack('<H', dma(self.avail + 2, 2))
        return (index - self.next) & 0xffff

    def take(self, dma):
        """The next chain: its head, and (address, length, to write) parts."""
        slot = self.avail + 4 + 2 * (self.next % self.size)
        head, = struct.unpack('<H', dma(slot, 2))
        parts = []
        at = head
        while True:
            address, length, flags, at_next = DESCRIPTOR.unpack(
                dma(self.desc + DESCRIPTOR.size * at, DESCRIPTOR.size))
            parts.append((address, length, bool(flags & DEVICE_WRITES)))
            if not flags & NEXT:
                return head, parts
            at = at_next

    def give_back(self, dma, head, written):
        index, = struct.unpack('<H', dma(self.used + 2, 2))
        dma(self.used + 4 + 8 * (index % self.size),
            struct.pack('<II', head, written))
        dma(self.used + 2, struct.pack('<H', (index + 1) & 0xffff))
        self.next = (self.next + 1) & 0xffff
