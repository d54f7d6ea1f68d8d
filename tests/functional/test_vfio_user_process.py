# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""A Linux guest whose devices are emulated by other QEMU processes."""

from qemu.qmp.qmp_client import ExecuteError

from nyxtest.case import GuestTest, has_nyx, needs_nyx
from nyxtest.guest import (
    block_device, bring_up, disk_sum, fetch_sum, find_class, network_load,
    pci_address, send_sum, sha256, write_random)
from nyxtest.process import Processes
from nyxtest.stage1 import MODELS, add_stage1


class _ProcessCase(GuestTest):

    @classmethod
    def describe(cls, vm):
        cls.processes = Processes(vm)
        cls.addClassCleanup(cls.processes.end)
        cls.add_devices(vm)

    def check_interrupts(self, name):
        """It has MSI-X, and these are what its driver works with."""
        address = pci_address(self.vm, name)
        vectors = self.vm.agent.check(
            f'ls /sys/bus/pci/devices/{address}/msi_irqs').split()
        self.assertTrue(vectors)
        counts = self.vm.agent.check(
            'for i in ' + ' '.join(vectors) + '; do '
            'grep "^ *$i:" /proc/interrupts; done')
        self.assertIn('PCI-MSI', counts)
        self.assertGreater(sum(int(word) for line in counts.splitlines()
                               for word in line.split()[1:3]), 0)

    def check_backend(self, name, domain):
        if has_nyx():
            info = self.nyx_device(name)
            self.assertEqual((info['backend'], info['domain'], info['state'],
                              info['total-faults']),
                             ('vfio-user', domain, 'operational', 0))
            self.assertTrue(info['server']['connected'])


class NetTest(_ProcessCase):
    """Network cards, by INTx and by MSI-X."""

    @classmethod
    def add_devices(cls, vm):
        cls.nics = {}
        for driver in ('e1000', 'e1000e', 'igb'):
            vm.domain(f'dom-{driver}', isolation='strict')
            cls.nics[driver] = cls.processes.nic(driver, driver,
                                                 f'dom-{driver}')

    @classmethod
    def prepare(cls, vm):
        for nic in cls.nics.values():
            bring_up(vm, nic)

    def check_nic(self, name):
        url = self.server.url(self.nics[name])
        self.assertEqual(fetch_sum(self.vm, url), self.server.sha256)
        here, there = send_sum(self.vm, url, 1)
        self.assertEqual(here, there)
        self.check_backend(name, f'dom-{name}')

    def test_e1000(self):
        self.check_nic('e1000')

    def test_e1000e(self):
        self.check_nic('e1000e')
        self.check_interrupts('e1000e')

    def test_igb(self):
        self.check_nic('igb')
        self.check_interrupts('igb')


@needs_nyx
class QuarantineTest(_ProcessCase):
    """One card is cut off under load, and another goes on."""

    @classmethod
    def add_devices(cls, vm):
        cls.nics = []
        for name in ('left', 'right'):
            vm.domain(f'dom-{name}')
            cls.nics.append(cls.processes.nic('e1000', name, f'dom-{name}'))

    @classmethod
    def prepare(cls, vm):
        for nic in cls.nics:
            bring_up(vm, nic)

    def test_1_quarantine_and_recovery(self):
        vm = self.vm
        left, right = (network_load(vm, nic.name, self.server, nic)
                       for nic in self.nics)
        right.wait_bytes(self.server.size)
        vm.monitor.command('nyx-quarantine-device', device='left')
        self.assert_state('left', 'quarantined')
        right.wait_bytes(3 * self.server.size)
        left.stop()
        vm.monitor.command('nyx-recover-device', device='left')
        self.assert_state('left', 'operational')
        # Its driver does not know: it is told as an administrator would.
        device = find_class(vm, 'net', 'left')
        vm.agent.check(f'ip link set {device} down; ip link set {device} up')
        bring_up(vm, self.nics[0])
        self.assertEqual(fetch_sum(vm, self.server.url(self.nics[0])),
                         self.server.sha256)
        progress = right.progress()
        self.assertEqual((progress.errors, progress.mismatches), (0, 0))
        right.stop()

    def test_2_the_process_dies(self):
        vm = self.vm
        load = network_load(vm, 'right', self.server, self.nics[1])
        since = vm.monitor.position()
        self.processes.kill('left')
        vm.monitor.wait_event('NYX_DEVICE_STATE', since, device='left',
                              new='quarantined')
        load.wait_bytes(3 * self.server.size)
        with self.assertRaises(ExecuteError) as caught:
            vm.monitor.command('nyx-recover-device', device='left')
        self.assertIn('closed the connection', str(caught.exception))
        self.assert_state('left', 'failed')
        load.wait_bytes(self.server.size)
        load.stop()


class DiskTest(_ProcessCase):
    """An NVMe disk, by MSI-X."""

    @classmethod
    def add_devices(cls, vm):
        vm.domain('dom-disk')
        cls.disk = cls.processes.disk('disk', 'dom-disk')

    def test_disk(self):
        device = block_device(self.vm, 'disk')
        self.assertEqual(disk_sum(self.vm, device, 0, 8),
                         sha256(self.disk.read(0, 8)), 'what was read')
        self.assertEqual(write_random(self.vm, device, 16, 8),
                         sha256(self.disk.read(16, 8)), 'what was written')
        self.check_interrupts('disk')
        self.check_backend('disk', 'dom-disk')


class _Stage1Case(_ProcessCase):
    """With an IOMMU that the guest sees and programs: each of its mappings is
    a window for the process, for as long as it lasts.
    """

    stage1 = None

    @classmethod
    def add_devices(cls, vm):
        add_stage1(vm, cls.stage1, 'iommu.strict=1')
        vm.domain('dom-nic')
        vm.domain('dom-disk')
        cls.nic = cls.processes.nic('e1000', 'nic', 'dom-nic')
        cls.disk = cls.processes.disk('disk', 'dom-disk')

    @classmethod
    def prepare(cls, vm):
        bring_up(vm, cls.nic)

    def test_nic(self):
        self.assertEqual(self.nyx_device('nic')['dma'], 'translating')
        url = self.server.url(self.nic)
        self.assertEqual(fetch_sum(self.vm, url), self.server.sha256)
        self.check_backend('nic', 'dom-nic')

    def test_disk(self):
        device = block_device(self.vm, 'disk')
        self.assertEqual(write_random(self.vm, device, 16, 8),
                         sha256(self.disk.read(16, 8)), 'what was written')
        self.check_backend('disk', 'dom-disk')


@needs_nyx
class IntelTest(_Stage1Case):
    stage1 = 'intel'


@needs_nyx
class AmdTest(_Stage1Case):
    stage1 = 'amd'


@needs_nyx
class VirtioTest(_Stage1Case):
    stage1 = 'virtio'
    rare_module = MODELS['virtio'].rare_module
