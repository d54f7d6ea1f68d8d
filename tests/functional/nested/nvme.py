# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""The admin queue of an NVMe controller, driven by qtest: DMA on demand."""

import struct
import time

from nyxtest.errors import GuestTimeout

PAGE = 4096
ENTRIES = 32
SECONDS = 30
COMMAND = 4
BAR0 = 0x10
MEMORY_AND_MASTER = 6

CC, CSTS, AQA, ASQ, ACQ, DOORBELL = 0x14, 0x1c, 0x24, 0x28, 0x30, 0x1000
CC_ENABLE = 6 << 16 | 4 << 20 | 1       # entries of 64 and 16 bytes
READY, FATAL = 1, 2
IDENTIFY, IDENTIFY_CONTROLLER = 0x06, 1
SERIAL = slice(4, 24)                   # in the identify controller data


class Failed(Exception):
    """The controller could not do its DMA: how it said so."""


class Nvme:
    """Queues at the first two pages of a range of IOVA, data where asked.

    memory is where the range lies in the guest's memory.
    """

    def __init__(self, qtest, devfn, bar, iova, memory):
        self._qtest = qtest
        self._devfn = devfn
        self._bar = bar
        self._iova = iova
        self._memory = memory

    def place(self):
        """What firmware does: an address for the BAR."""
        self._qtest.config_write(self._devfn, BAR0, self._bar & 0xffffffff)
        self._qtest.config_write(self._devfn, BAR0 + 4, self._bar >> 32)
        self._qtest.config_write(self._devfn, COMMAND, MEMORY_AND_MASTER, 2)

    def status(self):
        return self._qtest.readl(self._bar + CSTS)

    def _wait_status(self, mask, value):
        limit = time.monotonic() + SECONDS
        while self.status() & mask != value:
            if time.monotonic() > limit:
                raise GuestTimeout(f'CSTS stays {self.status():#x}.')

    def enable(self):
        """Reset the controller, set up empty queues and enable it."""
        q = self._qtest
        q.writel(self._bar + CC, 0)
        self._wait_status(READY, 0)
        q.write(self._memory, bytes(2 * PAGE))
        q.writel(self._bar + AQA, (ENTRIES - 1) << 16 | ENTRIES - 1)
        q.writeq(self._bar + ASQ, self._iova)
        q.writeq(self._bar + ACQ, self._iova + PAGE)
        q.writel(self._bar + CC, CC_ENABLE)
        self._wait_status(READY, READY)
        self._tail = self._head = 0
        self._phase = 1

    def queue_identify(self, iova):
        """Put the command into the queue; the controller does not know yet.

        Returns the new tail, for its doorbell.
        """
        entry = struct.pack('<IIQQQQ6I', IDENTIFY | self._tail << 16, 0, 0, 0,
                            iova, 0, IDENTIFY_CONTROLLER, 0, 0, 0, 0, 0)
        self._qtest.write(self._memory + 64 * self._tail, entry)
        self._tail = (self._tail + 1) % ENTRIES
        return self._tail

    def ring(self, tail):
        self._qtest.writel(self._bar + DOORBELL, tail)

    def _completion(self):
        """Status of the next command; Failed if there will be none."""
        limit = time.monotonic() + SECONDS
        where = self._memory + PAGE + 16 * self._head
        while True:
            status, = struct.unpack_from('<H', self._qtest.read(where, 16), 14)
            if status & 1 == self._phase:
                break
            if self.status() & FATAL:
                raise Failed('fatal controller status')
            if time.monotonic() > limit:
                raise GuestTimeout('no completion came.')
        self._head += 1
        if self._head == ENTRIES:
            self._head, self._phase = 0, 1 - self._phase
        self._qtest.writel(self._bar + DOORBELL + 4, self._head)
        return status >> 1

    def identify(self, iova):
        """IDENTIFY with iova as its buffer; returns the status.

        It is no proof that the data has arrived: the model in QEMU 11.1 says
        0 also when its write was refused.
        """
        self.ring(self.queue_identify(iova))
        return self._completion()

    def delivers(self, iova, memory):
        """Whether what is written to iova comes to memory."""
        self._qtest.write(memory, bytes(PAGE))
        try:
            self.identify(iova)
        except Failed:
            return False
        return bool(serial(self._qtest.read(memory, PAGE)))


def serial(data):
    """The serial number in identify controller data."""
    return data[SERIAL].decode('ascii', 'replace').strip('\0 ')
