# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""A Linux guest goes back to a snapshot, with its disks and their domains."""

from nyxtest.case import GuestTest, needs_nyx
from nyxtest.devices import CONTROLLERS, add_nic
from nyxtest.guest import (
    block_device, bring_up, disk_load, disk_sum, write_random)
from nyxtest.jobs import snapshot, snapshot_disk
from nyxtest.migration import state
from nyxtest.rogue import Rogue
from nyxtest.stage1 import add_stage1

MIB = 1 << 20
SECONDS = 180
DISKS = {'nvme0': 'nvme', 'vblk0': 'virtio-blk-pci'}
NOWHERE = 1 << 30
HOLE = 1 << 40


def lasting(vm):
    """The state, without how many interrupts there were: a VM that has been
    stopped has some yet to come.
    """
    seen = state(vm)
    del seen['query-nyx-migration'], seen['query-nyx-iommu']['interrupts']
    for device in seen['query-nyx-devices']:
        del device['interrupts']
    return seen


class _SnapshotTest(GuestTest):
    memory = '256M'
    stage1 = None

    @classmethod
    def describe(cls, vm):
        if cls.stage1:
            add_stage1(vm, cls.stage1)
        vm.domain('disks', isolation='shared')
        vm.domain('cage', default_map='none', on_fault_limit='report')
        for name, driver in DISKS.items():
            path = vm.folder / f'{name}.qcow2'
            vm.add(*snapshot_disk(path, '64M', name))
            cls.addClassCleanup(path.unlink)
            vm.device(driver, CONTROLLERS[driver][0], 'disks', id=name,
                      drive=name, serial=name)
        cls.nic = add_nic(vm, 'e1000e', 'nic0')
        vm.device('nyx-testdev', domain='cage', id='rogue')

    @classmethod
    def prepare(cls, vm):
        bring_up(vm, cls.nic)
        cls.paths = {name: block_device(vm, name) for name in DISKS}
        cls.loads = {name: disk_load(vm, name, path, 16, 8)
                     for name, path in cls.paths.items()}
        cls.write(vm)

    @classmethod
    def write(cls, vm):
        """New data on the disks"""
        cls.sums = {name: write_random(vm, path, 4, 4)
                    for name, path in cls.paths.items()}

    def check_work(self):
        """I/O goes on as if nothing had been."""
        for name, load in self.loads.items():
            load.wait_bytes(MIB, SECONDS)
            now = load.progress()
            self.assertEqual((now.mismatches, now.errors), (0, 0), name)
        # No TCP: QEMU's network may think that it knows the connection.
        self.vm.agent.wait(f'ping -c 1 -W 10 {self.nic.host}', SECONDS)

    def check_disks(self, sums):
        """They are as they were then, and from here on so are the sums."""
        type(self).sums = sums
        for name, path in self.paths.items():
            self.assertEqual(disk_sum(self.vm, path, 4, 4), sums[name], name)

    def command(self, name, **arguments):
        return self.vm.monitor.command(name, **arguments)

    def save(self, tag):
        """What comes back when it is loaded"""
        self.command('stop')
        snapshot(self.vm, 'save', tag, list(DISKS))
        before = lasting(self.vm)
        self.command('cont')
        return before

    def check_state(self, before, after=None):
        after = after or lasting(self.vm)
        for name, then in before.items():
            self.assertEqual(after[name], then, name)

    def load(self, tag, before):
        self.command('stop')
        snapshot(self.vm, 'load', tag, list(DISKS))
        after = lasting(self.vm)
        self.command('cont')
        self.check_state(before, after)

    def test_1_back(self):
        """Devices that work, and one that does what it must not"""
        rogue = Rogue(self.vm, 'rogue', NOWHERE)
        sums = self.sums
        before = self.save('one')
        self.check_work()
        for _ in range(2):
            self.write(self.vm)
            self.command('nyx-quarantine-device', device='nic0')
            self.command('nyx-map', domain='disks', iova=HOLE, gpa=0x100000,
                         size=0x200000, access='r')
            self.load('one', before)
            self.check_disks(sums)
            self.check_work()
            rogue.wait_more('refused')
        self.assertEqual(rogue.stop().ok, 0)
        self.assertLessEqual(set(self.faults()), {'rogue'})

    def test_2_cut_off(self):
        """What is in quarantine, or has failed, is so again; its driver finds
        it as it was when it is recovered.
        """
        self.command('nyx-set-policy', device='rogue', max_recoveries=0)
        for name in 'rogue', 'nic0':
            self.command('nyx-quarantine-device', device=name)
        with self.assertRaisesRegex(Exception, 'has had 0 recoveries'):
            self.command('nyx-recover-device', device='rogue')
        before = self.save('two')
        sums = self.sums
        self.command('nyx-recover-device', device='nic0')
        self.command('nyx-recover-device', device='rogue', force=True)
        self.write(self.vm)
        self.load('two', before)
        self.assert_state('rogue', 'failed')
        self.assert_state('nic0', 'quarantined')
        self.check_disks(sums)
        self.command('nyx-recover-device', device='nic0')
        # What its driver had set up is gone, and nothing tells it so here.
        self.vm.agent.check('ip link set eth0 down && ip link set eth0 up')
        self.check_work()

    def test_3_other_process(self):
        before = self.save('three')
        sums = self.sums
        self.write(self.vm)
        self.vm.stop()
        self.vm.start(snapshot='three')
        self.check_state(before)
        self.check_disks(sums)
        self.check_work()


@needs_nyx
class PlainTest(_SnapshotTest):
    """Without an IOMMU of the guest's own"""


@needs_nyx
class IntelTest(_SnapshotTest):
    stage1 = 'intel'


@needs_nyx
class AmdTest(_SnapshotTest):
    stage1 = 'amd'
