# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""Guests, processors and disks that do fail, and what the policy makes of it."""

import json
import shutil
import socket
import subprocess
import unittest

from nyxtest.case import GuestTest, needs_nyx
from nyxtest.devices import CONTROLLERS
from nyxtest.guest import block_device
from nyxtest.monitor import Monitor
from nyxtest.paths import BUILD, LOGS, QEMU, ROOT

SECONDS = 180
MIB = 1 << 20
SECTOR = 512
# Places of the disks whose first access fails, in MiB
BAD = (8, 16)
MARK = '/run/mark'
# Of the host's memory, as KVM reports it: uncorrected, with its address
MACHINE_CHECK = 'mce 0 1 0xbe00000000000000 0x5 0x1000000 0x8c'


def add_failing_disk(vm, driver, name, **properties):
    """A disk whose reads fail once at each bad place."""
    vm.folder.mkdir(parents=True, exist_ok=True)
    path = vm.folder / f'{name}.raw'
    with path.open('wb') as file:
        file.truncate(64 * MIB)
    errors = ','.join(
        f'inject-error.{i}.event=none,inject-error.{i}.iotype=read,'
        f'inject-error.{i}.errno=5,inject-error.{i}.once=on,'
        f'inject-error.{i}.sector={mib * MIB // SECTOR}'
        for i, mib in enumerate(BAD))
    # Read-only, as it would be in the way of snapshots.
    vm.add('-blockdev', f'driver=blkdebug,node-name={name},read-only=on,'
           f'image.driver=file,image.filename={path},image.read-only=on,'
           f'{errors}')
    vm.device(driver, CONTROLLERS[driver][0], id=name, drive=name,
              **properties)


class PolicyMonitor:
    """The error policy of a VM, through its monitor."""

    def set_policy(self, **options):
        """Options of the machine; an underscore stands for a dash."""
        for name, value in options.items():
            self.vm.monitor.command('qom-set', path='/machine',
                                    property=name.replace('_', '-'),
                                    value=value)

    def await_action(self, since, cause, action):
        """The decision, which must have been carried out."""
        data = self.vm.monitor.wait_event(
            'NYX_ERROR_ACTION', since, SECONDS, cause=cause)['data']
        self.assertEqual((data['action'], data['success']), (action, True),
                         data)
        return data

    def assert_status(self, status):
        self.assertEqual(self.vm.monitor.command('query-status')['status'],
                         status)


@needs_nyx
class LinuxTest(PolicyMonitor, GuestTest):
    """One guest that goes through it all."""

    memory = '256M'

    @classmethod
    def describe(cls, vm):
        cls.dumps = vm.folder / 'dumps'
        cls.dumps.mkdir(parents=True)
        vm.machine_options += [
            'recovery-snapshot=clean', f'dump={cls.dumps}', 'max-dumps=1',
            'max-resets=3', 'on-guest-panic=pause-vm',
            'on-triple-fault=reset-vm', 'on-watchdog=pause-vm']
        # The guest has -no-reboot otherwise.
        vm.add('-action', 'reboot=reset')
        vm.device('pvpanic-pci', ['pvpanic_pci'], id='panic')
        vm.device('i6300esb', id='wdt')
        vm.device('nyx-root-port', id='rp', chassis=1, slot=1)
        # With shadow doorbells Linux 6.1 loses requests in a reset, and finds
        # that out a minute later: docs/nyx/recovery.rst.
        add_failing_disk(vm, 'nvme', 'nvme0', bus='rp', serial='nvme0',
                         dbcs='off')
        add_failing_disk(vm, 'virtio-blk-pci', 'vblk0', rerror='report')
        vault = vm.folder / 'vault.qcow2'
        subprocess.run([BUILD / 'qemu-img', 'create', '-q', '-f', 'qcow2',
                        vault, '64M'], check=True)
        cls.addClassCleanup(vault.unlink)
        vm.add('-blockdev', 'driver=qcow2,node-name=vault,file.driver=file,'
               f'file.filename={vault}')
        vm.device('virtio-blk-pci', id='vault', drive='vault')

    @classmethod
    def prepare(cls, vm):
        cls.disks = {name: block_device(vm, name)
                     for name in ('nvme0', 'vblk0')}

    def read(self, name, mib):
        """The status of reading one sector there"""
        return self.vm.agent.run(
            f'dd if={self.disks[name]} of=/dev/null bs={SECTOR} count=1 '
            f'skip={mib * MIB // SECTOR} iflag=direct 2>&1', SECONDS).status

    def start_watchdog(self, module, seconds):
        """Have its driver set it, and nobody serve it."""
        self.vm.agent.check(
            'cd /lib/modules; '
            f'for f in $(grep -v ^{module}.ko {module}.load); do '
            'insmod $f 2>/dev/null; done; '
            f'insmod {module}.ko heartbeat={seconds} && echo >/dev/watchdog0')

    def test_1_disk_pause(self):
        """The guest gets its error, and the operator has a look, and a dump."""
        self.set_policy(on_device_error='pause-vm')
        since = self.vm.monitor.position()
        self.vm.agent.begin(
            f'dd if={self.disks["vblk0"]} of=/dev/null bs={SECTOR} count=1 '
            f'skip={BAD[0] * MIB // SECTOR} iflag=direct')
        data = self.await_action(since, 'device-error', 'pause-vm')
        self.assertEqual(data['device'], 'vblk0')
        self.assertIn('read failed', data['detail'])
        self.assert_status('paused')
        dump = json.loads((self.dumps / data['dump']).read_text())
        self.assertEqual(dump['error']['device'], 'vblk0')
        self.assertEqual(len(dump['registers']), self.cpus)
        self.assertIn('RIP=', dump['registers'][0])
        self.assertTrue(dump['nyx-dump']['devices'])
        self.vm.monitor.command('cont')
        self.assertEqual(self.read('vblk0', BAD[0]), 0)
        # max-dumps
        self.set_policy(dump='', on_device_error='default')

    def test_2_disk_reset(self):
        """Linux is led through the reset of the device, and works on."""
        self.set_policy(on_device_error='reset-device')
        since = self.vm.monitor.position()
        self.read('nvme0', BAD[0])
        data = self.await_action(since, 'device-error', 'reset-device')
        self.assertEqual(data['device'], 'nvme0')
        self.assert_state('nvme0', 'operational')
        self.assertEqual(self.nyx_device('nvme0')['recoveries'], 1)
        self.vm.agent.wait('[ "$(cat /sys/class/nvme/nvme0/state)" = live ]',
                           SECONDS)
        self.assertEqual(self.read('nvme0', BAD[0] + 1), 0)

    def test_3_disk_isolate(self):
        """Cut off until an operator says otherwise"""
        self.set_policy(on_device_error='isolate-device')
        since = self.vm.monitor.position()
        # Its driver waits for an answer that does not come.
        self.vm.agent.check(f'(dd if={self.disks["vblk0"]} of=/dev/null '
                            f'bs={SECTOR} count=1 iflag=direct '
                            f'skip={BAD[1] * MIB // SECTOR}) '
                            '</dev/null >/dev/null 2>&1 &')
        data = self.await_action(since, 'device-error', 'isolate-device')
        self.assertEqual(data['device'], 'vblk0')
        self.assert_state('vblk0', 'quarantined')
        self.vm.monitor.command('nyx-recover-device', device='vblk0')
        self.assert_state('vblk0', 'operational')
        self.set_policy(on_device_error='default')

    def test_4_plugged_watchdog(self):
        """i6300esb, which nobody serves"""
        since = self.vm.monitor.position()
        self.set_policy(on_watchdog='ignore')
        self.start_watchdog('i6300esb', 3)
        data = self.await_action(since, 'watchdog', 'ignore')
        self.assertEqual(data['device'], 'wdt')
        self.assertEqual(self.vm.agent.check('echo alive'), 'alive')
        self.vm.agent.run('rmmod i6300esb')

    def test_5_panic_and_back(self):
        """A kernel that panics, and the guest as it was before"""
        self.vm.agent.check(f'echo before >{MARK}')
        self.vm.monitor.command('stop')
        self.vm.monitor.command('human-monitor-command',
                                command_line='savevm clean')
        self.vm.monitor.command('cont')
        self.vm.agent.check(f'echo after >{MARK}')
        self.set_policy(on_guest_panic='restore-snapshot')
        since = self.vm.monitor.position()
        self.vm.agent.begin('echo c >/proc/sysrq-trigger')
        self.await_action(since, 'guest-panic', 'restore-snapshot')
        self.assertIn('sysrq triggered crash', self.vm.console())
        self.assertEqual(self.vm.agent.check(f'cat {MARK}'), 'before')

    def test_6_machine_check(self):
        """Linux does not survive it, and says so."""
        self.set_policy(on_machine_check='pause-vm', on_guest_panic='reset-vm')
        since = self.vm.monitor.position()
        self.vm.monitor.command('human-monitor-command',
                                command_line=MACHINE_CHECK)
        data = self.await_action(since, 'machine-check', 'pause-vm')
        self.assertEqual(data['vcpu'], 0)
        self.assertIn('address 0x1000000', data['detail'])
        self.assert_status('paused')
        self.vm.monitor.command('cont')
        self.await_action(since, 'guest-panic', 'reset-vm')
        self.vm.agent.wait_ready(SECONDS)

    def test_7_triple_fault(self):
        """Linux's last resort to reboot"""
        since = self.vm.monitor.position()
        self.vm.agent.begin('echo triple >/sys/kernel/reboot/type; '
                            'echo 1 >/sys/kernel/reboot/force; reboot -f')
        self.await_action(since, 'triple-fault', 'reset-vm')
        self.vm.agent.wait_ready(SECONDS)
        info = self.vm.monitor.command('query-nyx-error-policy')
        self.assertEqual((info['resets'], info['restores']), (2, 1))

    def test_8_chipset_watchdog(self):
        """iTCO, and a guest that is stopped when it expires"""
        since = self.vm.monitor.position()
        self.set_policy(on_watchdog='reset-vm')
        self.vm.agent.check('load-modules lpc_ich')
        self.start_watchdog('iTCO_wdt', 4)
        self.await_action(since, 'watchdog', 'reset-vm')
        self.vm.agent.wait_ready(SECONDS)

    def test_zz_kernel_unharmed(self):
        """What harmed it was wanted; in the end it runs."""
        self.assertEqual(self.vm.agent.check('echo alive'), 'alive')


def build_faults(folder, *defines):
    """The boot sector of tests/bare-metal/faults.S"""
    subprocess.run(['cc', '-m32', '-c', *defines, '-o', folder / 'faults.o',
                    ROOT / 'tests' / 'bare-metal' / 'faults.S'], check=True)
    subprocess.run(['objcopy', '-O', 'binary', '-j', '.text',
                    folder / 'faults.o', folder / 'faults.bin'], check=True)
    code = (folder / 'faults.bin').read_bytes()
    return code.ljust(SECTOR - 2, b'\0') + b'\x55\xaa'


FIRST_RUNS, SECOND_RUNS = b'\xf1', b'\xf2'
DEBUG_PORT = 0x402


class BareVM:
    """QEMU with a boot sector; what that says comes from the debug port."""

    def __init__(self, folder, defines, *options):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        disk = folder / 'disk.raw'
        disk.write_bytes(build_faults(folder, *defines).ljust(MIB, b'\0'))
        qmp, qmp_there = socket.socketpair()
        self._log = folder / 'debug.log'
        command = [str(QEMU), '-M', ','.join(['nyx-pc', *options]),
                   '-accel', 'tcg', '-smp', '2', '-m', '64M', '-nodefaults',
                   '-display', 'none', '-run-with', 'exit-with-parent=on',
                   '-chardev', f'socket,id=qmp-socket,fd={qmp_there.fileno()}',
                   '-object', 'monitor-qmp,id=qmp,chardev=qmp-socket',
                   '-chardev', f'file,id=port,path={self._log}',
                   '-device', f'isa-debugcon,iobase={DEBUG_PORT},chardev=port',
                   '-drive', f'if=none,id=disk,format=raw,file={disk}',
                   '-device', 'virtio-blk-pci,drive=disk']
        (folder / 'command').write_text(' '.join(command) + '\n')
        with qmp_there, (folder / 'qemu.log').open('w') as log:
            self._process = subprocess.Popen(
                command, pass_fds=[qmp_there.fileno()],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.monitor = Monitor(qmp)

    def said(self):
        """What came after all that SeaBIOS says on the same port."""
        return self._log.read_bytes()

    def stop(self):
        self.monitor.close()
        self._process.kill()
        self._process.wait()


@needs_nyx
class TripleFaultTest(PolicyMonitor, unittest.TestCase):
    """Without an operating system

    With TCG: there are KVMs that do not tell of a triple fault, as the one that
    these tests were made with.
    """

    def start(self, defines, *options):
        folder = LOGS / f'{type(self).__module__}.{type(self).__name__}'
        self.vm = BareVM(folder / self._testMethodName, defines,
                         *options)
        self.addCleanup(self.vm.stop)

    def await_limit(self, cause, action):
        """The decision that there was no budget for"""
        return self.vm.monitor.wait_event(
            'NYX_ERROR_ACTION', 0, SECONDS, cause=cause, action=action,
            success=False)['data']

    def done(self):
        return self.vm.monitor.seen('NYX_ERROR_ACTION', 0, success=True)

    def test_loop(self):
        """A VM that would reset for ever"""
        self.start([], 'on-triple-fault=reset-vm', 'max-resets=2')
        data = self.await_limit('triple-fault', 'reset-vm')
        self.assertIn('2 resets within the last hour', data['error'])
        self.assertEqual(data['vcpu'], 0)
        self.assertEqual(len(self.done()), 2)
        self.assert_status('internal-error')
        self.assertEqual(self.vm.said().count(FIRST_RUNS), 3)

    def test_second_processor(self):
        """The first one works on, and starts it again, as often as it may."""
        self.start(['-DSECOND'], 'on-triple-fault=reset-vcpu', 'max-resets=3')
        data = self.await_limit('triple-fault', 'reset-vcpu')
        self.assertIn('3 resets within the last hour', data['error'])
        self.assertEqual(data['vcpu'], 1)
        self.assertEqual(len(self.done()), 3)
        self.assert_status('internal-error')
        self.assertEqual(self.vm.said().count(SECOND_RUNS), 4)

    def test_first_processor(self):
        """Nobody could start it again."""
        self.start([], 'on-triple-fault=reset-vcpu')
        data = self.await_limit('triple-fault', 'reset-vcpu')
        self.assertIn('boots the VM', data['error'])
        self.assert_status('internal-error')
