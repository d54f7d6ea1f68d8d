# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""A device behind VT-d and nyx-iommu, driven by a payload without an OS.

The payload (tests/bare-metal) looks at it from inside: data, interrupts, what
VT-d reports. The test looks at it from outside, and quarantines the device in
the middle of a stream of DMA.
"""

import os
import platform
import unittest

from nyxtest.case import needs_nyx
from nyxtest.paths import LOGS
from nyxtest.payload import PayloadVM

TESTDEV = ('-device', 'nyx-testdev,id=td,addr=5')
SOURCE = 0x28                       # bus 0, slot 5

IOVA = 0x7f00000000                 # as in tests/bare-metal/main.c
IOVA_READ_ONLY = IOVA + 0x4000
IOVA_GONE = IOVA + 0x8000
IOVA_UNMAPPED = IOVA + 0x10000
NO_RAM = 0x8000000000
BAD_MESSAGE = 0xfee000d0            # handle 6, remappable format
NMI_MESSAGE = 0xfee00000

SEEN_BY_GUEST = [
    'ACPI: VT-d at 0xfed90000, IOAPIC at 0xfec00000 from 0xff00',
    'VT-d',
    'DMA',
    'IOAPIC',
    'MSI-X',
    f'fault: 0x6000000000000, reason 0x26, source {SOURCE:#x}',
    f'fault: 0x6000000000000, reason 0x22, source {SOURCE:#x}',
    f'fault: {IOVA_UNMAPPED:#x}, reason 0x6, source {SOURCE:#x}',
    f'fault: {IOVA_READ_ONLY:#x}, reason 0x5, source {SOURCE:#x}',
    f'fault: {IOVA_GONE:#x}, reason 0x6, source {SOURCE:#x}',
    'unmapped',
]

# Type, access, address; the message that was refused twice is one record.
SEEN_BY_OPERATOR = [
    ('stage1', 'w', BAD_MESSAGE, 2),
    ('stage1', 'r', IOVA_UNMAPPED, 1),
    ('stage1', 'w', IOVA_READ_ONLY, 1),
    ('stage1', 'r', IOVA_GONE, 1),
    ('unmapped', 'r', NO_RAM, 1),
    ('interrupt', 'w', NMI_MESSAGE, 1),
]


@unittest.skipUnless(platform.machine() == 'x86_64',
                     'the payload is built with the compiler of this machine, '
                     'which is not for x86-64')
class TcgTest(unittest.TestCase):
    """Once with QEMU's own IOMMU alone, once composed with nyx-iommu."""

    accel = 'tcg'
    maxDiff = None

    def start(self, *arguments):
        folder = LOGS / f'{type(self).__module__}.{type(self).__name__}'
        vm = PayloadVM(folder / self._testMethodName, '-accel', self.accel,
                       '-m', '256M', *arguments)
        self.addCleanup(vm.stop)
        return vm

    def assert_says(self, vm, lines):
        for line in lines:
            self.assertEqual(vm.line(), line)

    def device(self, vm):
        return vm.monitor.command('query-nyx-devices', device='td')[0]

    def assert_faults(self, vm):
        found = [(f['type'], f['access'], f['address'], f['count'])
                 for f in reversed(vm.monitor.command('query-nyx-faults'))]
        self.assertEqual(found, SEEN_BY_OPERATOR)

    def test_q35(self):
        """What the payload expects of VT-d holds where it is alone."""
        vm = self.start('-M', 'q35,kernel-irqchip=split',
                        '-device', 'intel-iommu,intremap=on', *TESTDEV)
        self.assert_says(vm, SEEN_BY_GUEST + ['done'])

    @needs_nyx
    def test_nyx_pc(self):
        vm = self.start('-M', 'nyx-pc,stage1=intel,kernel-irqchip=split',
                        *TESTDEV, '-append', 'nyx')
        self.check_all(vm, SEEN_BY_GUEST)

    @needs_nyx
    def test_nyx_pc_x2apic(self):
        """All interrupts go to a CPU whose number needs more than 8 bits."""
        vm = self.start('-M', 'nyx-pc,stage1=intel,kernel-irqchip=split',
                        *TESTDEV, '-append', 'nyx far', '-cpu', 'max',
                        '-smp', '1,maxcpus=512,sockets=2,cores=256',
                        '-device', 'max-x86_64-cpu,socket-id=1,core-id=0,'
                        'thread-id=0')
        at = SEEN_BY_GUEST.index('DMA') + 1
        self.check_all(vm, SEEN_BY_GUEST[:at] + ['CPU 0x100'] +
                       SEEN_BY_GUEST[at:])

    def check_all(self, vm, seen_by_guest):
        self.assert_says(vm, seen_by_guest + ['stage 2', 'streaming'])
        self.assert_faults(vm)
        device = self.device(vm)
        self.assertEqual(device['state'], 'operational')
        self.assertEqual(device['interrupts'], {'delivered': 2, 'refused': 3})

        vm.monitor.command('nyx-quarantine-device', device='td')
        vm.go_on()
        self.assert_says(vm, ['cut off'])
        device = self.device(vm)
        self.assertEqual((device['state'], device['dma']),
                         ('quarantined', 'blocked'))
        self.assertEqual(device['interrupts'], {'delivered': 2, 'refused': 3})

        vm.monitor.command('nyx-recover-device', device='td')
        vm.go_on()
        self.assert_says(vm, ['recovered', 'done'])
        device = self.device(vm)
        self.assertEqual((device['state'], device['dma']),
                         ('operational', 'translating'))
        self.assertEqual(device['interrupts'], {'delivered': 3, 'refused': 3})


@unittest.skipUnless(os.access('/dev/kvm', os.R_OK | os.W_OK),
                     '/dev/kvm cannot be opened')
class KvmTest(TcgTest):
    accel = 'kvm'
