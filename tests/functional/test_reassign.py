# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""Domains change under devices that are busy, and nobody notices."""

from nyxtest.case import GuestTest, needs_nyx
from nyxtest.devices import add_disk, add_nic
from nyxtest.guest import block_device, bring_up, disk_load, network_load

ROUNDS = 20
GIB = 1 << 30
HOLE = 1 << 40                  # no RAM there; only a place for mappings


@needs_nyx
class ReassignTest(GuestTest):
    """Two disks and a card move between a pass-through and a table domain."""

    @classmethod
    def describe(cls, vm):
        vm.domain('plain', isolation='shared')
        vm.domain('table', isolation='shared', large_pages='off')
        for name, driver in (('nvme0', 'nvme'), ('vblk0', 'virtio-blk-pci')):
            add_disk(vm, driver, name, 'plain')
        cls.nic = add_nic(vm, 'e1000e', 'nic0', 'plain')

    @classmethod
    def prepare(cls, vm):
        # A mapping beyond RAM is what makes this domain translate.
        vm.monitor.command('nyx-map', domain='table', iova=HOLE, gpa=0x100000,
                           size=0x200000, access='r')
        bring_up(vm, cls.nic)
        cls.loads = {name: disk_load(vm, name, block_device(vm, name), 16, 8)
                     for name in ('nvme0', 'vblk0')}
        cls.loads['nic0'] = network_load(vm, 'nic0', cls.server, cls.nic)

    def check_loads(self):
        for name, load in self.loads.items():
            load.wait_bytes(1 << 20)
            now = load.progress()
            self.assertEqual((now.errors, now.mismatches), (0, 0), name)
        self.assert_no_faults()

    def test_assign_under_load(self):
        for number in range(ROUNDS):
            domain = ('table', 'plain')[number % 2]
            for name in self.loads:
                self.vm.monitor.command('nyx-assign-device', device=name,
                                        domain=domain)
                self.assert_in_domain(name, domain)
            for load in self.loads.values():
                load.wait_bytes(1)
        self.check_loads()

    def test_map_under_load(self):
        """Other ranges come and go while the table is in use."""
        command = self.vm.monitor.command
        for name in self.loads:
            command('nyx-assign-device', device=name, domain='table')
            self.assertEqual(self.nyx_device(name)['dma'], 'translating')
        for number in range(ROUNDS * 10):
            iova = HOLE + GIB + number * 0x1000
            command('nyx-map', domain='table', iova=iova, gpa=0x100000,
                    size=0x200000, access='rw')
            command('nyx-unmap', domain='table', iova=iova, size=0x200000)
        self.check_loads()
