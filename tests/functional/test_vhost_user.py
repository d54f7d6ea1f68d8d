# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""Disks whose backend is another process, by vhost-user."""

import shutil
import subprocess
import time
import unittest

from nyxtest.case import GuestTest, needs_nyx
from nyxtest.devices import MIB, add_disk
from nyxtest.guest import (block_device, disk_load, disk_sum, sha256,
                           write_random)
from nyxtest.paths import LOGS, QEMU
from nyxtest.stage1 import add_stage1
from nyxtest.vhostuser import (STORAGE_DAEMON, OurServer, StorageDaemon,
                               add_vhost_disk, share_memory)
from nyxtest.vm import VM
from qemu.qmp.qmp_client import ExecuteError

BEYOND = 1 << 40        # an I/O virtual address that no guest uses
ALL = (1 << 48) - 1
HANG_SECONDS = 60       # one answer that never comes costs QEMU 10

needs_storage_daemon = unittest.skipUnless(
    STORAGE_DAEMON.exists(),
    f'there is no {STORAGE_DAEMON}: QEMU was built without its tools')


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
@needs_storage_daemon
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


class _Stage1Test(TranslatingTest):
    """The guest's own IOMMU comes first: what it maps is cut to the domain."""

    kind = None
    # What follows would be refused by the guest's IOMMU.
    test_20_map = test_30_unmap = test_40_reassignment = None
    test_45_unmanaged = test_50_quarantine = None

    @classmethod
    def describe(cls, vm):
        super().describe(vm)
        add_stage1(vm, cls.kind, 'iommu.strict=1')

    @classmethod
    def prepare(cls, vm):
        # Queues that the firmware left are refused once Linux has its IOMMU.
        cls.early = vm.monitor.command('query-nyx-devices', device='disk')[0][
            'total-faults']

    def assert_no_faults(self):
        self.assertEqual(self.nyx_device('disk')['total-faults'], self.early)

    def test_20_refused(self):
        """An address that the guest did not map is its fault."""
        self.assertIsNone(self.server.read(BEYOND, 64))
        self.assert_latest_fault('stage1', BEYOND, 'r')

    def test_30_reassignment(self):
        """The domain's range ends the guest's mapping, too, and comes back."""
        load = disk_load(self.vm, 'disk', block_device(self.vm, 'disk'), 32, 8)
        for domain in ('other', 'cage') * 3:
            self.monitor('nyx-assign-device', device='disk', domain=domain)
            load.wait_bytes(4 * MIB)
        load.stop()
        self.assertEqual(load.progress().mismatches, 0)
        self.check_disk()

    def test_40_nothing_allowed(self):
        self.monitor('nyx-assign-device', device='disk', domain='none')
        self.assertEqual(self.server.state()['iotlb'], [])
        self.assertTrue(overlap(self.server.state()['log'], 0, ALL))

    def test_50_recovery(self):
        self.monitor('nyx-assign-device', device='disk', domain='cage')
        self.monitor('nyx-quarantine-device', device='disk')
        self.assert_holds_nothing()
        self.recover()


class IntelTest(_Stage1Test):
    kind = 'intel'


class AmdTest(_Stage1Test):
    kind = 'amd'


class _FailingTest(_VhostTest):
    """The backend hangs, dies and comes back; other devices live on."""

    server_class = None
    translates = False

    @classmethod
    def describe(cls, vm):
        share_memory(vm)
        cls.server = cls.server_class(vm, 'disk')
        cls.server.start()
        cls.addClassCleanup(cls.server.kill)
        vm.domain('cage', isolation='shared', max_faults='1000')
        add_vhost_disk(vm, cls.server, 'cage', cls.translates,
                       reconnect_ms=100)
        cls.other = add_disk(vm, 'nvme', 'other')

    def check_other(self):
        device = block_device(self.vm, 'other')
        self.assertEqual(write_random(self.vm, device, 16, 4),
                         sha256(self.other.read(16, 4)))

    def test_1_dies(self):
        """What the guest asks for meanwhile waits for the next one."""
        self.check_disk()
        self.server.kill()
        self.check_other()
        self.server.start()
        self.check_disk()

    def test_2_dies_in_quarantine(self):
        """One that comes back finds the device stopped."""
        self.vm.monitor.command('nyx-quarantine-device', device='disk')
        self.server.kill()
        self.check_other()
        self.server.start()
        self.check_stopped()
        self.assert_state('disk', 'quarantined')
        self.recover()

    def check_stopped(self):
        """No queue of the backend that has just come back runs."""

    def check_others_work(self):
        """Also while QEMU tries to connect to the one that hangs."""
        began = time.monotonic()
        for _ in range(3):
            self.check_other()
        self.assertLess(time.monotonic() - began, HANG_SECONDS)

    def test_3_hangs(self):
        """It costs seconds, a connection, and a clear message; no more."""
        self.check_disk()
        self.server.freeze()
        began = time.monotonic()
        self.refused("device 'disk' is cut off, but a vhost-user backend did "
                     'not answer: end its process',
                     'nyx-quarantine-device', device='disk')
        self.assertLess(time.monotonic() - began, HANG_SECONDS)
        self.assert_state('disk', 'quarantined')
        self.check_others_work()
        self.server.kill()
        self.server.start()
        self.recover()
        self.check_other()


@needs_nyx
@needs_storage_daemon
class StorageDaemonFailingTest(_FailingTest):
    server_class = StorageDaemon


@needs_nyx
class TranslatingFailingTest(_FailingTest):
    server_class = OurServer
    translates = True

    def check_stopped(self):
        self.server.wait_state(lambda s: s['connected'], 'connect')
        state = self.server.state()
        self.assertEqual((state['running'], state['iotlb']), (0, []))
        self.assertIsNone(self.server.read(MIB, 64))

    def test_4_hangs_at_unmap(self):
        self.vm.monitor.command('nyx-map', domain='cage', iova=BEYOND, gpa=MIB,
                                size=4096, access='rw')
        self.assertIsNotNone(self.server.read(BEYOND, 64))
        self.server.freeze()
        self.refused('the range is not mapped any more, but a vhost-user '
                     'backend did not answer', 'nyx-unmap', domain='cage',
                     iova=BEYOND, size=4096)
        self.check_others_work()
        self.server.kill()
        self.server.start()
        self.check_disk()
        self.assertIsNone(self.server.read(BEYOND, 64))


@needs_nyx
class RulesTest(unittest.TestCase):
    """What cannot work is refused at start, with the reason."""

    @classmethod
    def setUpClass(cls):
        cls.vm = VM(None, LOGS / f'{cls.__module__}.{cls.__name__}', 'tcg')
        shutil.rmtree(cls.vm.folder, ignore_errors=True)
        cls.server = OurServer(cls.vm, 'disk', '--no-iotlb')
        cls.server.start()
        cls.addClassCleanup(cls.server.kill)

    def refused(self, words, device, *arguments, machine='nyx-pc'):
        done = subprocess.run(
            [str(QEMU), '-M', machine, '-accel', 'qtest', '-S', '-display',
             'none', '-nodefaults', '-chardev',
             f'socket,id=s,path={self.server.socket}', *arguments,
             '-device', device], text=True, capture_output=True, timeout=60,
            check=False)
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertIn(words, ' '.join(done.stderr.split()))

    def test_no_table(self):
        self.refused('with iommu_platform=off its vhost-user backend has all '
                     "guest RAM, and domain 'none' does not allow that; use "
                     'iommu_platform=on with a backend that can translate',
                     'vhost-user-blk-pci,chardev=s,nyx-domain=none',
                     '-object', 'nyx-domain,id=none,default-map=none')

    def test_no_stage1(self):
        self.refused('with iommu_platform=off its vhost-user backend does not '
                     "see the guest's IOMMU (stage1=intel)",
                     'vhost-user-blk-pci,chardev=s',
                     machine='nyx-pc,stage1=intel')

    def test_cannot_translate(self):
        """QEMU's own words, as it is the one who asks the backend."""
        self.refused('iommu_platform=true is not supported by the device',
                     'vhost-user-blk-pci,chardev=s,num-queues=1,'
                     'iommu_platform=on')

    def test_contained(self):
        self.refused("domain 'c' is contained, and its vhost-user backend "
                     'cannot work without guest RAM',
                     'vhost-user-blk-pci,chardev=s,nyx-domain=c',
                     '-object', 'nyx-domain,id=c,contained=on')

    def test_net_without_translation(self):
        """Its control queue is QEMU's, and would bypass everything."""
        self.refused('it would bypass the IOMMU, as a virtio device with '
                     'iommu_platform=off accesses memory directly',
                     'virtio-net-pci,netdev=n,iommu_platform=off',
                     '-netdev', 'user,id=n')
