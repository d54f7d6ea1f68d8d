# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""Guest memory as a vhost-user backend gets at it: shared regions, IOTLB."""

import mmap
import os
from dataclasses import dataclass

from protocol import MEMORY_REGION, READ, WRITE

BASE = 8                            # of the regions in SET_MEM_TABLE


class Refused(Exception):
    """Nobody allows the backend this access."""


@dataclass
class Region:
    guest: int                      # guest physical address
    size: int
    user: int                       # QEMU's address of the same
    data: memoryview


class Regions:
    """All that QEMU shares, whatever the device may use of it."""

    def __init__(self):
        self.list = []

    def replace(self, payload, fds):
        """As SET_MEM_TABLE says."""
        self.list = []
        count = int.from_bytes(payload[:4], 'little')
        for number in range(count):
            guest, size, user, offset = MEMORY_REGION.unpack_from(
                payload, BASE + number * MEMORY_REGION.size)
            whole = mmap.mmap(fds[number], offset + size)
            os.close(fds[number])
            self.list.append(Region(guest, size, user,
                                    memoryview(whole)[offset:]))

    def _find(self, address, start):
        for region in self.list:
            offset = address - start(region)
            if 0 <= offset < region.size:
                return region.data[offset:]
        raise Refused(f'no shared memory at {address:#x}')

    def at_user(self, address):
        return self._find(address, lambda region: region.user)

    def at_guest(self, address):
        return self._find(address, lambda region: region.guest)


@dataclass(frozen=True)
class Translation:
    first: int
    last: int
    user: int
    access: int


class Iotlb:
    """Translations that QEMU gave and did not take back."""

    def __init__(self):
        self.entries = []
        self.log = []               # all messages, in order

    def update(self, iova, size, user, access):
        self.log.append(['update', iova, iova + size - 1, access])
        self._drop(iova, iova + size - 1)
        self.entries.append(Translation(iova, iova + size - 1, user, access))

    def invalidate(self, iova, size):
        last = min(iova + size - 1, (1 << 64) - 1)
        self.log.append(['invalidate', iova, last, 0])
        self._drop(iova, last)

    def _drop(self, first, last):
        self.entries = [entry for entry in self.entries
                        if entry.last < first or entry.first > last]

    def find(self, iova, access):
        for entry in self.entries:
            if entry.first <= iova <= entry.last and \
                    entry.access & access == access:
                return entry
        return None

    def dump(self):
        return [['holds', entry.first, entry.last, entry.access]
                for entry in self.entries]


def access_of(write):
    return WRITE if write else READ
