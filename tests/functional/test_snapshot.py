# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""Snapshots by jobs: the state comes back, whatever has been done since."""

import contextlib

from nyxtest.errors import GuestDied
from nyxtest.jobs import NODE, JobFailed, snapshot, snapshot_disk
from nyxtest.migration import (
    DONE, IDENTITY, PAGE, REFUSED, WRITE, MigrationCase, Testdev, device_state,
    state)
from qemu.qmp.qmp_client import ExecuteError
from test_migration import ALL, CAGED, FREE, TARGET, WINDOW, populate

MANY = 20000                    # mappings: more than one table page holds
FAR = 1 << 40
DISK_SLOT = 15


class _SnapshotTest(MigrationCase):
    stage1 = 'none'

    def setUp(self):
        super().setUp()
        disk = self.folder.with_suffix('.qcow2')
        self.disk = (*snapshot_disk(disk), '-device',
                     f'virtio-blk-pci,id=vblk,drive={NODE},addr={DISK_SLOT}')
        self.addCleanup(disk.unlink)
        self.vm = self.run_vm(*ALL)
        self.free, self.caged = (Testdev(self.vm, slot)
                                 for slot in (FREE, CAGED))
        for device in self.free, self.caged:
            device.set_up()

    def run_vm(self, *arguments):
        return self.start(*arguments, *self.disk,
                          options=[f'stage1={self.stage1}'])

    def fill(self):
        """State of every kind, and a table that is not small."""
        populate(self.vm)
        for number in range(0, 2 * MANY, 2 * MANY // 64):
            self.vm.monitor.command(
                'nyx-map', domain='win', iova=FAR + number * PAGE,
                gpa=0x100000, size=MANY // 64 * PAGE, access='rw')
        for name in 'free', 'vblk':
            self.vm.monitor.command('nyx-quarantine-device', device=name)

    def change(self):
        """Undo much of it: what was cut off works, and the other way round."""
        command = self.vm.monitor.command
        for name in 'free', 'vblk', 'rng', 'below':
            command('nyx-recover-device', device=name)
        command('nyx-recover-device', device='left', force=True)
        command('nyx-quarantine-device', device='caged')
        command('nyx-unmap', domain='win', iova=WINDOW, size=0x10000)
        command('nyx-map', domain='win', iova=0x1000000, gpa=TARGET, size=PAGE,
                access='rw')
        command('nyx-assign-device', device='nic', domain='win')
        command('nyx-set-policy', domain='open', max_recoveries=9)
        self.free.set_up()
        self.assertEqual(self.free.identity(), IDENTITY)

    def assert_filled(self, vm):
        """What the state of fill() means for devices"""
        free, caged = self.free.on(vm), self.caged.on(vm)
        self.assertEqual(free.identity(), 0xffffffff)
        self.assertEqual(caged.dma(WRITE, WINDOW, b'windows!'), DONE)
        self.assertEqual(caged.dma(WRITE, FAR, b'far away'), DONE)
        self.assertEqual(vm.read(TARGET, 8), b'windows!')
        self.assertEqual(vm.read(0x100000, 8), b'far away')
        self.assertEqual(caged.dma(WRITE, 0x1000000, b'escaped!'), REFUSED)

    def test_there_and_back(self):
        vm = self.vm
        self.fill()
        filled = state(vm)
        snapshot(vm, 'save', 'filled')
        self.assertEqual(state(vm), filled)
        self.change()
        changed = state(vm)
        snapshot(vm, 'save', 'changed')
        for _ in range(2):
            snapshot(vm, 'load', 'filled')
            self.assert_arrived(None, vm, filled)
            self.assert_filled(vm)
            snapshot(vm, 'load', 'changed')
            self.assert_arrived(None, vm, changed)
            self.assertEqual(self.free.dma(WRITE, TARGET, b'all RAM!'), DONE)
            self.assertEqual(self.caged.identity(), 0xffffffff)
        self.assertTrue(vm.monitor.command('query-status')['running'])

    def test_deleted(self):
        vm = self.vm
        self.fill()
        for name in 'kept', 'gone':
            snapshot(vm, 'save', name)
        before = state(vm)
        snapshot(vm, 'delete', 'gone')
        with self.assertRaisesRegex(JobFailed, 'gone'):
            snapshot(vm, 'load', 'gone')
        self.assertEqual(state(vm), before)
        # QEMU leaves it to the operator whether it goes on.
        vm.monitor.command('cont')
        self.change()
        snapshot(vm, 'load', 'kept')
        self.assert_arrived(None, vm, before)

    def test_while_it_stands_still(self):
        """Saved from a VM that is paused, and loaded into one"""
        vm = self.vm
        self.fill()
        vm.monitor.command('stop')
        before = state(vm)
        snapshot(vm, 'save', 'still')
        vm.monitor.command('cont')
        self.change()
        vm.monitor.command('stop')
        snapshot(vm, 'load', 'still')
        self.assert_arrived(None, vm, before)
        vm.monitor.command('cont')
        self.assert_filled(vm)

    def test_other_process(self):
        self.fill()
        before = state(self.vm)
        snapshot(self.vm, 'save', 'one')
        self.vm.stop()
        there = self.run_vm(*ALL, '-loadvm', 'one')
        self.assert_arrived(None, there, before)
        self.assert_filled(there)

    def test_other_configuration(self):
        """What differs is named, and nothing runs on."""
        snapshot(self.vm, 'save', 'one')
        self.vm.stop()
        less = [word.replace('id=open', 'id=other').replace(
            'nyx-domain=open', 'nyx-domain=other') for word in ALL]
        with self.assertRaisesRegex(GuestDied, "no domain 'open' here"):
            self.run_vm(*less, '-loadvm', 'one')
        there = self.run_vm(*less)
        before = state(there)
        with self.assertRaisesRegex(JobFailed, "no domain 'open' here"):
            snapshot(there, 'load', 'one')
        after = state(there)
        self.assertEqual(after['query-nyx-domains'],
                         before['query-nyx-domains'])
        self.assertFalse(there.monitor.command('query-status')['running'])


class PlainTest(_SnapshotTest):
    """Without an IOMMU of the guest's own"""

    def test_failed_between(self):
        """A device that has failed since works again, with the budget it had;
        one that had failed when the snapshot was taken has failed again.
        """
        vm = self.vm
        command = vm.monitor.command
        command('nyx-set-policy', device='free', max_recoveries=1)
        populate(vm)
        snapshot(vm, 'save', 'one')
        command('nyx-recover-device', device='left', force=True)
        for _ in range(2):
            command('nyx-quarantine-device', device='free')
            with contextlib.suppress(ExecuteError):
                command('nyx-recover-device', device='free')
        self.assertEqual(device_state(vm, 'free'), 'failed')
        snapshot(vm, 'load', 'one')
        self.assertEqual(device_state(vm, 'free'), 'operational')
        self.assertEqual(device_state(vm, 'left'), 'failed')
        command('nyx-quarantine-device', device='free')
        command('nyx-recover-device', device='free')
        self.assertEqual(device_state(vm, 'free'), 'operational')


class IntelTest(_SnapshotTest):
    stage1 = 'intel'


class AmdTest(_SnapshotTest):
    stage1 = 'amd'


class VirtioTest(_SnapshotTest):
    stage1 = 'virtio'
