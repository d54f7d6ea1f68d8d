# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""A disk whose backend cannot translate: qemu-storage-daemon, vhost-user."""

import unittest

from nyxtest.case import GuestTest, needs_nyx
from nyxtest.devices import MIB, add_disk
from nyxtest.guest import (block_device, disk_load, disk_sum, sha256,
                           write_random)
from nyxtest.vhostuser import (STORAGE_DAEMON, OurServer, StorageDaemon,
                               add_vhost_disk, share_memory)
from qemu.qmp.qmp_client import ExecuteError

BEYOND = 1 << 40        # an I/O virtual address that no guest uses
ALL = (1 << 48) - 1
HANG_SECONDS = 20       # more than QEMU waits for a backend that hangs


class _VhostTest(GuestTest):
    def check_disk(self):
        disk = self.server.disk
        device = block_device(self.vm, 'disk')
        self.assertEqual(disk_sum(self.vm, device, 0, 8),
                         sha256(disk.read(0, 8)), 'what was read')
        self.assertEqual(write_random(self.vm, device, 16, 8),
                         sha256(disk.read(16, 8)), 'what was written')

    def refused(self, words, command, **arguments):
        with self.assertRaises(ExecuteError) as caught:
            self.vm.monitor.command(command, **arguments)
        self.assertIn(words, str(caught.exception))

    def recover(self):
        """Linux waits without end for its request, so it starts anew."""
        self.vm.monitor.command('nyx-recover-device', device='disk')
        self.assert_state('disk', 'operational')
        self.vm.reset()
        self.check_disk()


@needs_nyx
@unittest.skipUnless(STORAGE_DAEMON.exists(),
                     f'there is no {STORAGE_DAEMON}: QEMU was built without '
                     'its tools')
class StorageDaemonTest(_VhostTest):
    """It has all RAM, and may join domains that allow all RAM."""

    @classmethod
    def describe(cls, vm):
        share_memory(vm)
        cls.server = StorageDaemon(vm, 'disk')
        cls.server.start()
        cls.addClassCleanup(cls.server.kill)
        add_vhost_disk(vm, cls.server)
        vm.domain('common', isolation='shared')
        vm.domain('none', isolation='shared', default_map='none')
        vm.domain('table', isolation='shared')
        cls.other = add_disk(vm, 'nvme', 'other', 'common')

    def test_1_io(self):
        self.check_disk()
        found = self.nyx_device('disk')
        self.assertEqual((found['backend'], found['dma'], found['domain'],
                          found['faults-observable']),
                         ('vhost-user', 'pass-through', 'auto:disk', False))
        self.assert_no_faults()

    def test_2_rules(self):
        """Nothing that it would not obey is accepted."""
        range_ = {'iova': 1 << 40, 'size': 4096}
        keep = "domain 'auto:disk' must keep allowing all RAM, as the " \
               "vhost-user backend of device 'disk'"
        self.refused(keep, 'nyx-map', domain='auto:disk', gpa=0, access='rw',
                     **range_)
        self.refused(keep, 'nyx-unmap', domain='auto:disk', iova=MIB,
                     size=4096)
        has_all = "device 'disk': with iommu_platform=off its vhost-user " \
                  "backend has all guest RAM, and domain '{}' does not"
        self.refused(has_all.format('none'), 'nyx-assign-device',
                     device='disk', domain='none')
        self.vm.monitor.command('nyx-map', domain='table', gpa=0, access='rw',
                                **range_)
        self.refused(has_all.format('table'), 'nyx-assign-device',
                     device='disk', domain='table')
        self.check_disk()

    def test_3_reassignment(self):
        self.vm.monitor.command('nyx-assign-device', device='disk',
                                domain='common')
        self.refused("domain 'common' must keep allowing all RAM", 'nyx-map',
                     domain='common', iova=1 << 40, gpa=0, size=4096,
                     access='rw')
        self.check_disk()
        self.vm.monitor.command('nyx-assign-device', device='other',
                                domain='table')

    def test_4_quarantine(self):
        """It stops before the command returns, and works after recovery."""
        device = block_device(self.vm, 'disk')
        load = disk_load(self.vm, 'disk', device, 32, 8)
        load.wait_bytes(4 * MIB)
        self.vm.monitor.command('nyx-quarantine-device', device='disk')
        before = sha256(self.server.disk.read(0, 64))
        moved = load.progress().bytes
        self.assert_state('disk', 'quarantined')
        block_device(self.vm, 'other')
        disk_sum(self.vm, block_device(self.vm, 'other'), 0, 16)
        self.assertLessEqual(load.progress().bytes, moved + MIB)
        self.assertEqual(sha256(self.server.disk.read(0, 64)), before,
                         'what was on the disk once it was cut off')
        self.recover()


def overlap(log, first, last):
    return [entry for entry in log if entry[1] <= last and entry[2] >= first]


@needs_nyx
class TranslatingTest(_VhostTest):
    """A backend that translates holds what its domain allows, and no more."""

    @classmethod
    def describe(cls, vm):
        share_memory(vm)
        cls.server = OurServer(vm, 'disk')
        cls.server.start()
        cls.addClassCleanup(cls.server.kill)
        vm.domain('cage', isolation='strict', max_faults='1000')
        vm.domain('other', isolation='strict', max_faults='1000')
        vm.domain('none', isolation='strict', default_map='none',
                  max_faults='1000')
        vm.domain('open', isolation='unmanaged')
        add_vhost_disk(vm, cls.server, 'cage', translates=True)

    def monitor(self, command, **arguments):
        return self.vm.monitor.command(command, **arguments)

    def ram(self, gpa, size):
        return self.vm.read_memory(gpa, size)

    def assert_holds_nothing(self, first=0, last=ALL):
        """The backend has been told to forget, and has."""
        state = self.server.state()
        self.assertEqual(overlap(state['iotlb'], first, last), [])
        self.assertTrue([entry for entry in overlap(state['log'], first, last)
                         if entry[0] == 'invalidate'])

    def assert_latest_fault(self, kind, address, access):
        fault = self.monitor('query-nyx-faults', device='disk', limit=1)[0]
        self.assertEqual((fault['type'], fault['address'], fault['access']),
                         (kind, address, access))

    def test_10_io(self):
        self.check_disk()
        found = self.nyx_device('disk')
        self.assertEqual((found['backend'], found['dma'], found['domain'],
                          found['faults-observable']),
                         ('vhost-user', 'translating', 'cage', True))
        self.assertTrue(self.server.state()['translates'])
        self.assert_no_faults()

    def test_20_map(self):
        """It reads where the window leads, and only as is allowed."""
        self.monitor('nyx-map', domain='cage', iova=BEYOND, gpa=MIB,
                     size=8192, access='rw')
        self.monitor('nyx-map', domain='cage', iova=BEYOND + 8192, gpa=MIB,
                     size=4096, access='r')
        self.monitor('nyx-map', domain='cage', iova=BEYOND + 12288, gpa=MIB,
                     size=4096, access='w')
        here = self.ram(MIB, 8192)
        self.assertEqual(self.server.read(BEYOND, 8192), here)
        self.assertTrue(self.server.write(BEYOND, here[:64]))
        self.assertEqual(self.server.read(BEYOND + 8192, 4096), here[:4096])
        self.assert_no_faults()
        self.assertFalse(self.server.write(BEYOND + 8192, b'no'))
        self.assert_latest_fault('permission', BEYOND + 8192, 'w')
        self.assertTrue(self.server.write(BEYOND + 12288, here[:64]))
        self.assertIsNone(self.server.read(BEYOND + 12288, 64))
        self.assert_latest_fault('permission', BEYOND + 12288, 'r')
        self.assertIsNone(self.server.read(BEYOND + 16384, 64))
        self.assert_latest_fault('unmapped', BEYOND + 16384, 'r')
        self.check_disk()

    def test_30_unmap(self):
        """What it held of a window is gone when nyx-unmap returns."""
        self.assertTrue(overlap(self.server.state()['iotlb'], BEYOND,
                                BEYOND + 4095))
        self.monitor('nyx-unmap', domain='cage', iova=BEYOND, size=4096)
        self.assert_holds_nothing(BEYOND, BEYOND + 4095)
        self.assertIsNone(self.server.read(BEYOND, 64))
        self.assert_latest_fault('unmapped', BEYOND, 'r')
        self.assertIsNotNone(self.server.read(BEYOND + 4096, 64))
        self.monitor('nyx-map', domain='cage', iova=BEYOND, gpa=2 * MIB,
                     size=4096, access='r')
        self.assertEqual(self.server.read(BEYOND, 4096),
                         self.ram(2 * MIB, 4096), 'another page there')
        self.check_disk()

    def test_40_reassignment(self):
        """With the domain all that it held goes; its queues go on."""
        self.assertIsNotNone(self.server.read(BEYOND, 64))
        self.monitor('nyx-assign-device', device='disk', domain='other')
        self.assert_holds_nothing(BEYOND, BEYOND + 4095)
        self.assertIsNone(self.server.read(BEYOND, 64))
        self.check_disk()
        self.monitor('nyx-assign-device', device='disk', domain='none')
        self.assert_holds_nothing()
        self.assertIsNone(self.server.read(MIB, 64))
        self.monitor('nyx-assign-device', device='disk', domain='cage')

    def test_45_unmanaged(self):
        """What an unmanaged domain let it cache does not survive a move."""
        self.monitor('nyx-assign-device', device='disk', domain='open')
        self.assertEqual(self.server.read(MIB, 64), self.ram(MIB, 64))
        self.monitor('nyx-assign-device', device='disk', domain='none')
        self.assertIsNone(self.server.read(MIB, 64))
        self.assert_holds_nothing(MIB, MIB + 4095)
        self.monitor('nyx-assign-device', device='disk', domain='cage')
        self.monitor('nyx-quarantine-device', device='disk')
        self.recover()

    def test_50_quarantine(self):
        device = block_device(self.vm, 'disk')
        load = disk_load(self.vm, 'disk', device, 32, 8)
        load.wait_bytes(4 * MIB)
        self.assertIsNotNone(self.server.read(BEYOND, 64))
        self.monitor('nyx-quarantine-device', device='disk')
        before = self.server.state()
        self.assert_holds_nothing()
        self.assertEqual(before['running'], 0)
        self.assertIsNone(self.server.read(BEYOND, 64))
        self.assertIsNone(self.server.read(MIB, 64))
        self.assertFalse(self.server.write(MIB, b'no'))
        self.assertEqual(self.server.state()['accesses'], before['accesses'])
        self.recover()
        self.assertEqual(self.server.read(MIB, 64), self.ram(MIB, 64))
