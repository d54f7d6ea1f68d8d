# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""Two machines without a guest, one of which moves into the other."""

import time
import unittest

from qemu.qmp.qmp_client import ExecuteError

from .case import needs_nyx
from .errors import GuestTimeout
from .paths import LOGS
from .qtest import QtestVM

SECONDS = 60
PAGE = 4096
SECOND_NS = 10 ** 9

# nyx-testdev: registers and commands
RESULT, ADDRESS, LENGTH, OFFSET, COMMAND = 0x10, 0x20, 0x28, 0x2c, 0x08
READ, WRITE = 1, 2
DONE, REFUSED = 0, 4
IDENTITY = 0x4458594e
BAR = 0xe0000000
BUFFER_BAR = 0xe1000000


class Testdev:
    """nyx-testdev in a slot of the root bus, set up by set_up()."""

    def __init__(self, vm, slot):
        self.vm = vm
        self.devfn = slot << 3
        self.base = BAR + slot * 0x10000
        self.buffer = BUFFER_BAR + slot * 0x200000

    def set_up(self):
        self.vm.set_bar(self.devfn, 0, self.base)
        self.vm.set_bar(self.devfn, 2, self.buffer)
        self.vm.set_bar(self.devfn, 3, 0)
        self.vm.enable(self.devfn)

    def on(self, vm):
        """The same device in another machine, as it is there."""
        there = Testdev(vm, self.devfn >> 3)
        return there

    def identity(self):
        return self.vm.read32(self.base)

    def dma(self, command, address, data=b'\0' * 8):
        """Do one DMA; what came of it."""
        if command == WRITE:
            self.vm.write(self.buffer, data)
        self.vm.write32(self.base + ADDRESS, address & 0xffffffff)
        self.vm.write32(self.base + ADDRESS + 4, address >> 32)
        self.vm.write32(self.base + LENGTH, len(data))
        self.vm.write32(self.base + OFFSET, 0)
        self.vm.write32(self.base + COMMAND, command)
        return self.vm.read32(self.base + RESULT)


def state(vm):
    """All that the monitor shows of the IOMMU."""
    return state_of(vm.monitor)


def state_of(monitor):
    seen = {name: monitor.command(name) for name in (
        'query-nyx-iommu', 'query-nyx-domains', 'query-nyx-devices',
        'query-nyx-faults', 'query-nyx-migration')}
    # How caches fared is no state.
    for figure in 'hits', 'misses':
        del seen['query-nyx-iommu']['iotlb'][figure]
    return seen


def device_state(vm, name):
    return vm.monitor.command('query-nyx-devices', device=name)[0]['state']


def set_capabilities(vm, *names):
    vm.monitor.command('migrate-set-capabilities', capabilities=[
        {'capability': name, 'state': True} for name in names])


def await_migration(vm, *wanted, seconds=SECONDS):
    """Wait until the migration has one of these states; what QEMU says."""
    limit = time.monotonic() + seconds
    while True:
        info = vm.monitor.command('query-migrate')
        if info.get('status') in wanted:
            return info
        if time.monotonic() > limit or (
                info.get('status') in ('failed', 'cancelled', 'completed')):
            raise GuestTimeout(f'migration is {info}, not {wanted}')
        time.sleep(0.02)


@needs_nyx
class MigrationCase(unittest.TestCase):
    """Machines that are stopped with the test."""

    def setUp(self):
        self.folder = LOGS / f'{type(self).__module__}.{type(self).__name__}'
        self.folder /= self._testMethodName
        self.machines = 0

    def start(self, *arguments, options=(), incoming=None, **more):
        self.machines += 1
        if incoming:
            arguments += '-incoming', incoming
        vm = QtestVM(self.folder / f'vm{self.machines}', *arguments,
                     machine_options=options, **more)
        self.addCleanup(vm.stop)
        return vm

    def socket(self):
        return f'unix:{self.folder / "channel"}'

    def migrate(self, source, uri=None):
        source.monitor.command('migrate', uri=uri or self.socket())
        return await_migration(source, 'completed')

    def assert_arrived(self, source, destination, before=None):
        there = state(destination)
        for name, here in (before or state(source)).items():
            self.assertEqual(there[name], here, name)

    def assert_refused(self, words, call, *args, **kwargs):
        with self.assertRaises(ExecuteError) as caught:
            call(*args, **kwargs)
        self.assertIn(words, str(caught.exception))

    def assert_ended(self, vm, words):
        """QEMU ends by itself with status 1, having said so."""
        self.assertEqual(vm.process.wait(SECONDS), 1, vm.said())
        self.assertIn(words, vm.said())
