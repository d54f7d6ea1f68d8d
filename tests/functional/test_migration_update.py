# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""A Linux guest by way of a file, and into a newer QEMU on the same host."""

from concurrent.futures import ThreadPoolExecutor

from nyxtest.case import GuestTest, needs_nyx
from nyxtest.devices import add_disk, add_nic
from nyxtest.guest import (
    block_device, bring_up, disk_load, disk_sum, fetch_sum, sha256,
    write_random)
from nyxtest.move import SECONDS, move_by_file, update_in_place
from nyxtest.rogue import Rogue
from nyxtest.stage1 import add_stage1

MIB = 1 << 20
MEMORY = '256M'
DISKS = {'nvme0': 'nvme', 'vblk0': 'virtio-blk-pci', 'ahci0': 'ahci'}
NOWHERE = 1 << 30


class _UpdateTest(GuestTest):
    memory = MEMORY
    stage1 = None
    fetch_bytes = MIB // 2

    @classmethod
    def describe(cls, vm):
        vm.machine_options += ['memory-backend=ram0', 'aux-ram-share=on']
        vm.add('-object',
               f'memory-backend-memfd,id=ram0,size={MEMORY},share=on')
        if cls.stage1:
            add_stage1(vm, cls.stage1)
        vm.domain('disks', isolation='shared')
        vm.domain('cage', default_map='none', on_fault_limit='report')
        cls.disks = {name: add_disk(vm, driver, name, 'disks')
                     for name, driver in DISKS.items()}
        cls.nic = add_nic(vm, 'virtio-net-pci', 'vnet0')
        vm.device('nyx-testdev', domain='cage', id='rogue')
        cls.pool = ThreadPoolExecutor()
        cls.addClassCleanup(cls.pool.shutdown)

    @classmethod
    def prepare(cls, vm):
        bring_up(vm, cls.nic)
        cls.paths = {name: block_device(vm, name) for name in DISKS}
        cls.sums = {name: write_random(vm, path, 4, 4)
                    for name, path in cls.paths.items()}
        cls.loads = {name: disk_load(vm, name, path, 16, 8)
                     for name, path in cls.paths.items()}
        cls.rogue = Rogue(vm, 'rogue', NOWHERE)

    def check(self, before):
        """Loads and faults go on, and what was written is there."""
        for device in before['query-nyx-devices']:
            now = self.nyx_device(device['device'])
            self.assertEqual((now['domain'], now['state'], now['policy']),
                             (device['domain'], device['state'],
                              device['policy']))
            self.assertGreaterEqual(now['total-faults'],
                                    device['total-faults'])
        self.assertEqual(set(self.faults()), {'rogue'})
        self.rogue.wait_more('refused')
        self.assertEqual(self.rogue.outcome().ok, 0)
        for name, load in self.loads.items():
            load.wait_bytes(MIB, SECONDS)
            now = load.progress()
            self.assertEqual((now.mismatches, now.errors), (0, 0), name)
        for name, path in self.paths.items():
            self.assertEqual(disk_sum(self.vm, path, 4, 4), self.sums[name])
            self.sums[name] = write_random(self.vm, path, 4, 4)
            self.assertEqual(sha256(self.disks[name].read(4, 4)),
                             self.sums[name])
        self.assertEqual(fetch_sum(self.vm, self.server.url(self.nic)),
                         self.server.sha256)

    def test_1_file(self):
        self.check(move_by_file(self.vm, 'multifd'))

    def test_2_transfer(self):
        for _ in range(2):
            self.check(update_in_place(self.vm, self.pool))


@needs_nyx
class PlainTest(_UpdateTest):
    """Without an IOMMU of the guest's own"""


@needs_nyx
class IntelTest(_UpdateTest):
    stage1 = 'intel'
