# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""What a policy names for a limit, done to a Linux guest."""

import subprocess

from nyxtest.case import GuestTest, needs_nyx
from nyxtest.devices import CONTROLLERS, add_disk
from nyxtest.guest import block_device, disk_load, pci_address
from nyxtest.paths import BUILD

MIB = 1 << 20
HOLE = 1 << 40                  # no memory is there
MAX_FAULTS = 10
MAX_RESTORES = 3
SECONDS = 120
FILE, MEMORY = '/mnt/file', '/run/mark'


def add_snapshot_disk(vm, driver, name):
    """A PCI function with a disk in whose file snapshots can be kept."""
    vm.folder.mkdir(parents=True, exist_ok=True)
    path = vm.folder / f'{name}.qcow2'
    subprocess.run([BUILD / 'qemu-img', 'create', '-q', '-f', 'qcow2', path,
                    '64M'], check=True)
    vm.add('-blockdev', f'driver=qcow2,node-name={name},file.driver=file,'
           f'file.filename={path}')
    vm.device(driver, CONTROLLERS[driver][0], id=name, drive=name, serial=name)
    return path


@needs_nyx
class RestoreTest(GuestTest):
    """The guest's own device misbehaves, and the guest is as it was before."""

    memory = '256M'

    @classmethod
    def describe(cls, vm):
        vm.machine_options += [
            f'max-faults={MAX_FAULTS}', 'max-recoveries=1',
            'on-fault-limit=restore-snapshot', 'recovery-snapshot=clean',
            f'max-restores={MAX_RESTORES}']
        cls.image = add_snapshot_disk(vm, 'nvme', 'nvme0')
        cls.addClassCleanup(cls.image.unlink)
        vm.device('nyx-testdev', id='rogue', addr=8)
        vm.device('nyx-root-port', id='rp', chassis=1, slot=1, addr=9)

    @classmethod
    def prepare(cls, vm):
        device = block_device(vm, 'nvme0')
        vm.agent.check(f'load-modules crc32c_generic ext4; mke2fs {device} '
                       f'>/dev/null 2>&1 && mount -t ext4 {device} /mnt')
        cls.rogue = pci_address(vm, 'rogue')

    def hmp(self, line):
        self.assertEqual(self.vm.monitor.command(
            'human-monitor-command', command_line=line), '')

    def mark(self, text):
        self.vm.agent.check(f'echo {text} >{FILE}; sync; echo {text} >{MEMORY}')

    def assert_marked(self, text):
        """On the disk, in the file system that is mounted, and in memory"""
        self.vm.agent.check('echo 3 >/proc/sys/vm/drop_caches')
        self.assertEqual(self.vm.agent.check(f'cat {FILE} {MEMORY}').split(),
                         [text, text])

    def snapshot(self):
        """What is under way in the guest is under way in it, too."""
        self.vm.monitor.command('stop')
        self.hmp('savevm clean')
        self.vm.monitor.command('cont')

    def misbehave(self):
        """DMA that the domain refuses, until the device is cut off.

        No answer comes: the guest goes back to a time before it was asked.
        """
        since = self.vm.monitor.position()
        self.vm.agent.begin(f'nyx-dma {self.rogue} sweep {HOLE:#x} 4096 '
                            f'{MAX_FAULTS + 1}')
        return since

    def await_action(self, since, limit, action='restore-snapshot', **more):
        event = self.vm.monitor.wait_event(
            'NYX_LIMIT_ACTION', since, SECONDS, device='rogue', limit=limit,
            action=action, **more)
        return event['data']

    def restores(self):
        return self.vm.monitor.command('query-nyx-iommu')['restores']

    def test_1_memory_and_disk(self):
        self.mark('before')
        self.snapshot()
        self.mark('after')
        self.assert_marked('after')
        self.await_action(self.misbehave(), 'faults', success=True)
        self.assert_marked('before')
        self.assert_state('rogue', 'operational')
        self.assertEqual(self.nyx_device('rogue')['total-faults'], 0)
        self.assertEqual(self.restores(), 1)
        # It works on: that is no picture of a guest.
        self.mark('later')
        self.assert_marked('later')

    def test_2_chain(self):
        """A reset first; when that does not help, the snapshot."""
        self.vm.monitor.command('nyx-set-policy', device='rogue',
                                on_fault_limit='reset-device',
                                on_recovery_limit='restore-snapshot')
        self.mark('chained')
        self.snapshot()
        self.mark('after')
        since = self.vm.monitor.position()
        self.vm.agent.run(f'nyx-dma {self.rogue} sweep {HOLE:#x} 4096 '
                          f'{MAX_FAULTS + 1}')
        self.await_action(since, 'faults', 'reset-device', success=True)
        self.assert_marked('after')
        since = self.misbehave()
        self.await_action(since, 'recoveries', success=True)
        failure = self.await_action(since, 'faults', 'reset-device',
                                    success=False)
        self.assertIn('recoveries within the last hour', failure['error'])
        self.assert_marked('chained')
        # What was spent in the meantime is not spent there.
        device = self.nyx_device('rogue')
        self.assertEqual((device['state'], device['recoveries']),
                         ('operational', 0))
        self.assertEqual(self.restores(), 2)

    def test_3_loop(self):
        """A snapshot in which the device misbehaves already"""
        self.vm.monitor.command('nyx-set-policy', device='rogue', max_faults=40,
                                fault_window_ms=0,
                                on_fault_limit='restore-snapshot')
        self.vm.agent.check(
            '(while :; do nyx-dma %s write %#x 8 1; usleep 20000; done) '
            '>/dev/null 2>&1 &' % (self.rogue, HOLE))
        self.snapshot()
        self.assert_state('rogue', 'operational')
        since = self.vm.monitor.position()
        failure = self.await_action(since, 'faults', success=False)
        self.assertIn(f'back to a snapshot {MAX_RESTORES} times',
                      failure['error'])
        done = self.vm.monitor.seen('NYX_LIMIT_ACTION', since, success=True)
        self.assertEqual(len(done), MAX_RESTORES - 2)
        self.assertEqual(self.restores(), MAX_RESTORES)
        # The guest runs on with the device cut off.
        self.assert_state('rogue', 'quarantined')
        self.assertEqual(self.vm.monitor.command('query-status')['status'],
                         'running')
        self.mark('on')
        self.assert_marked('on')

    def test_4_unfit(self):
        """The VM has another device by now: it stops, and says why."""
        self.vm.monitor.command('qom-set', path='/machine',
                                property='max-restores', value=255)
        self.vm.monitor.command('device_add', driver='nyx-testdev', id='new',
                                bus='rp')
        self.vm.monitor.command('nyx-recover-device', device='rogue')
        since = self.vm.monitor.position()
        self.vm.monitor.command('nyx-inject-fault', device='rogue', count=100,
                                address=HOLE, access='w')
        failure = self.await_action(since, 'faults', success=False)
        self.assertIn('the VM is stopped', failure['error'])
        self.assertIn("device 'new' is not on the source", failure['error'])
        self.assertEqual(self.vm.monitor.command('query-status')['status'],
                         'restore-vm')
        self.assert_state('rogue', 'quarantined')

    def test_zz_kernel_unharmed(self):
        """Until it was stopped"""
        self.assertEqual(self.vm.trouble(self.allowed_trouble), [])


@needs_nyx
class UnplugTest(GuestTest):
    """The guest is asked to let go of a device; its other disk goes on."""

    memory = '256M'

    @classmethod
    def describe(cls, vm):
        vm.machine_options += [f'max-faults={MAX_FAULTS}', 'max-recoveries=0']
        for number, port in enumerate(('rp0', 'rp1', 'rp2'), 1):
            vm.device('nyx-root-port', id=port, chassis=number, slot=number,
                      addr=f'{number + 8}')
        vm.device('nyx-testdev', id='rogue', bus='rp0')
        add_disk(vm, 'nvme', 'nvme0', bus='rp1')
        add_disk(vm, 'nvme', 'nvme1', bus='rp2')
        add_disk(vm, 'virtio-blk-pci', 'other')

    @classmethod
    def prepare(cls, vm):
        cls.load = disk_load(vm, 'other', block_device(vm, 'other'), 16, 8)

    def check_gone(self, name, address, since):
        """Out of the VM, and out of the guest"""
        self.vm.monitor.wait_event('DEVICE_DELETED', since, SECONDS,
                                   device=name)
        self.assertNotIn(name, [dev['device'] for dev in
                                self.vm.monitor.command('query-nyx-devices')])
        self.assertNotIn(f'auto:{name}', [
            d['id'] for d in self.vm.monitor.command('query-nyx-domains')])
        self.vm.agent.wait(f'[ ! -e /sys/bus/pci/devices/{address} ]')
        self.load.wait_bytes(4 * MIB)
        now = self.load.progress()
        self.assertEqual((now.errors, now.mismatches), (0, 0))

    def test_fault_limit(self):
        self.vm.monitor.command('nyx-set-policy', device='rogue',
                                on_fault_limit='unplug')
        address = pci_address(self.vm, 'rogue')
        since = self.vm.monitor.position()
        self.vm.agent.run(f'nyx-dma {address} sweep {HOLE:#x} 4096 '
                          f'{MAX_FAULTS + 1}')
        self.vm.monitor.wait_event('NYX_LIMIT_ACTION', since, device='rogue',
                                   limit='faults', action='unplug',
                                   success=True)
        self.check_gone('rogue', address, since)

    def test_recovery_limit(self):
        """A disk in use: its driver loses it as one that was pulled out."""
        self.vm.monitor.command('nyx-set-policy', device='nvme0',
                                on_fault_limit='reset-device',
                                on_recovery_limit='unplug')
        block_device(self.vm, 'nvme0')
        address = pci_address(self.vm, 'nvme0')
        since = self.vm.monitor.position()
        self.vm.monitor.command('nyx-inject-fault', device='nvme0',
                                address=HOLE, access='w',
                                count=MAX_FAULTS + 1)
        self.vm.monitor.wait_event('NYX_LIMIT_ACTION', since, device='nvme0',
                                   limit='recoveries', action='unplug',
                                   success=True)
        self.check_gone('nvme0', address, since)

    def test_recovery_limit_with_dpc(self):
        """No drivers are led to a recovery that there is not going to be.

        Linux would remove the device in the midst of it, and never end.
        """
        self.vm.monitor.command('nyx-set-policy', device='nvme1',
                                recovery='auto', on_recovery_limit='unplug')
        block_device(self.vm, 'nvme1')
        address = pci_address(self.vm, 'nvme1')
        self.assertIn('DPC: enabled', self.vm.console())
        since = self.vm.monitor.position()
        self.vm.monitor.command('nyx-inject-fault', device='nvme1',
                                address=HOLE, access='w',
                                count=MAX_FAULTS + 1)
        self.vm.monitor.wait_event('NYX_LIMIT_ACTION', since, device='nvme1',
                                   limit='recoveries', action='unplug',
                                   success=True)
        self.check_gone('nvme1', address, since)
        self.assertEqual(
            self.vm.console().count('DPC: containment event'), 0)
