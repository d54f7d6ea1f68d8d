# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""A Linux guest moves from process to process, and its devices work on."""

from nyxtest.case import GuestTest, needs_nyx
from nyxtest.devices import add_disk, add_nic
from nyxtest.guest import (
    block_device, bring_up, disk_load, disk_sum, fetch_sum, network_load,
    send_sum, sha256, write_random)
from nyxtest.move import move
from nyxtest.stage1 import add_stage1

MIB = 1 << 20
DISKS = {'nvme0': 'nvme', 'vblk0': 'virtio-blk-pci', 'ahci0': 'ahci'}
NICS = {'nic0': 'e1000e', 'vnet0': 'virtio-net-pci'}
HOLE = 1 << 40
# A connection to QEMU's user-mode network does not survive: fetch tries again.
BROKEN_CONNECTIONS = 3


class _MoveTest(GuestTest):
    memory = '256M'
    stage1 = None
    fetch_bytes = MIB // 2

    @classmethod
    def describe(cls, vm):
        if cls.stage1:
            add_stage1(vm, cls.stage1)
        vm.domain('disks', isolation='shared')
        vm.domain('cards', isolation='shared', large_pages='off')
        cls.disks = {name: add_disk(vm, driver, name, 'disks')
                     for name, driver in DISKS.items()}
        cls.nics = {name: add_nic(vm, driver, name, 'cards')
                    for name, driver in NICS.items()}
        vm.device('nyx-testdev', id='rogue')

    @classmethod
    def prepare(cls, vm):
        # What makes this domain translate
        vm.monitor.command('nyx-map', domain='cards', iova=HOLE, gpa=0x100000,
                           size=0x200000, access='r')
        vm.monitor.command('nyx-quarantine-device', device='rogue')
        for nic in cls.nics.values():
            bring_up(vm, nic)
        cls.paths = {name: block_device(vm, name) for name in DISKS}
        cls.sums = {name: write_random(vm, path, 4, 4)
                    for name, path in cls.paths.items()}
        cls.loads = {name: disk_load(vm, name, path, 16, 8)
                     for name, path in cls.paths.items()}
        cls.loads['nic0'] = network_load(vm, 'nic0', cls.server,
                                         cls.nics['nic0'])

    def check_all(self, before):
        """Same state, no fault, loads go on, and what was written is there."""
        devices = {dev['device']: dev for dev in before['query-nyx-devices']}
        for name, device in devices.items():
            now = self.nyx_device(name)
            for what in ('domain', 'state', 'policy', 'total-faults',
                         'recoveries'):
                self.assertEqual(now[what], device[what], (name, what))
        self.assertEqual(devices['rogue']['state'], 'quarantined')
        self.assertEqual(self.nyx_device('nic0')['dma'], 'translating')
        self.assertEqual(self.nyx_device('vblk0')['dma'],
                         'translating' if self.stage1 else 'pass-through')
        for name, load in self.loads.items():
            load.wait_bytes(MIB, 120)
            now = load.progress()
            self.assertEqual(now.mismatches, 0, name)
            self.assertLessEqual(
                now.errors, BROKEN_CONNECTIONS if name in NICS else 0, name)
        for name, path in self.paths.items():
            self.assertEqual(disk_sum(self.vm, path, 4, 4), self.sums[name])
            self.sums[name] = write_random(self.vm, path, 4, 4)
            self.assertEqual(sha256(self.disks[name].read(4, 4)),
                             self.sums[name])
        for nic in self.nics.values():
            url = self.server.url(nic)
            self.assertEqual(fetch_sum(self.vm, url), self.server.sha256)
            here, there = send_sum(self.vm, url, 1)
            self.assertEqual(here, there)
        self.assertEqual(set(self.faults()), self.expected_faults)

    expected_faults = frozenset()

    def move(self, *capabilities, **how):
        console = self.vm.trouble(self.allowed_trouble)
        self.assertEqual(console, [])
        info, before = move(self.vm, *capabilities, **how)
        self.check_all(before)
        return info

    def test_1_precopy(self):
        for _ in range(2):
            self.move()

    def test_2_postcopy(self):
        info = self.move('postcopy-ram', postcopy=True)
        self.assertEqual(info['status'], 'completed')

    def test_3_multifd(self):
        self.move('multifd')

    def test_4_faults_meanwhile(self):
        """A device goes past its limit while memory is being copied."""
        def misbehave():
            self.vm.monitor.command('nyx-recover-device', device='rogue')
            self.vm.monitor.command('nyx-inject-fault', device='rogue',
                                    address=0x5000, access='w', count=11)

        type(self).expected_faults = frozenset({'rogue'})
        self.move(meanwhile=misbehave)
        self.assertEqual(self.nyx_device('rogue')['total-faults'], 11)


@needs_nyx
class PlainTest(_MoveTest):
    """Without an IOMMU of the guest's own"""


@needs_nyx
class IntelTest(_MoveTest):
    """Drivers map and unmap through VT-d all the time."""
    stage1 = 'intel'
