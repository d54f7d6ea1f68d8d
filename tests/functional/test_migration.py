# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""The IOMMU's state moves from one QEMU to another, and does what it did."""

import json
import os
import socket
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

from qemu.qmp.qmp_client import ExecuteError

from nyxtest.errors import NyxTestError
from nyxtest.migration import (
    DONE, IDENTITY, PAGE, READ, REFUSED, SECOND_NS, SECONDS, WRITE,
    MigrationCase, Testdev, await_migration, device_state, set_capabilities,
    state, state_of)
from nyxtest.monitor import Monitor
from nyxtest.paths import BUILD, QEMU
from nyxtest.qtest import NATIVE_HOTPLUG
from nyxtest.vfiousercase import VfioUserCase
from nyxtest.vm import machine_name

STAGE1 = ('none', 'intel', 'amd', 'virtio')
WINDOW = 0x100000               # IOVA; guest memory behind it:
TARGET = 0x200000
READ_ONLY, SOURCE = 0x400000, 0x300000
DOMAINS = ('-object', 'nyx-domain,id=win,isolation=shared,default-map=none',
           '-object', 'nyx-domain,id=open,isolation=shared')
DEVICES = (
    '-device', 'nyx-testdev,id=caged,addr=6,nyx-domain=win',
    '-device', 'nyx-testdev,id=free,addr=7',
    '-device', 'e1000e,id=nic,addr=8,romfile=',
    '-device', 'virtio-rng-pci,id=rng,addr=9',
    '-device', 'pcie-root-port,id=rp,addr=10,chassis=1',
    '-device', 'nyx-testdev,id=below,bus=rp',
    '-device', 'nyx-root-port,id=dpc,addr=14,chassis=2',
    '-device', 'e1000e,id=contained,bus=dpc,romfile=',
    '-device', 'pcie-pci-bridge,id=bridge,addr=11',
    '-device', 'e1000,id=left,bus=bridge,addr=1,romfile=,nyx-domain=open',
    '-device', 'nyx-testdev,id=right,bus=bridge,addr=2,nyx-domain=open')
ALL = DOMAINS + DEVICES
CAGED, FREE = 6, 7


def populate(vm):
    """Something of everything that has to travel."""
    command = vm.monitor.command
    command('nyx-map', domain='win', iova=WINDOW, gpa=TARGET, size=0x10000,
            access='rw')
    command('nyx-map', domain='win', iova=READ_ONLY, gpa=SOURCE, size=PAGE,
            access='r')
    command('nyx-unmap', domain='open', iova=0x10000, size=0x4000)
    command('nyx-set-policy', device='nic', max_faults=3,
            on_recovery_limit='pause-vm')
    command('nyx-set-policy', device='free', fault_window_ms=1000,
            on_fault_limit='report')
    command('nyx-set-policy', domain='open', max_recoveries=1)
    command('nyx-inject-fault', device='nic', address=0x5000, access='w',
            count=2)
    command('nyx-inject-fault', device='nic', address=0x7000, access='r')
    command('nyx-assign-device', device='nic', domain='open')
    command('nyx-inject-fault', device='free', address=0x5000, access='r',
            count=20)
    command('nyx-quarantine-device', device='rng', reason='drill')
    command('nyx-inject-fault', device='below', address=0x5000, access='r',
            count=12)
    command('nyx-quarantine-device', device='contained')
    fail(vm, 'left')


def fail(vm, name):
    """Recover a device until it may not any more."""
    command = vm.monitor.command
    command('nyx-quarantine-device', device=name)
    command('nyx-recover-device', device=name)
    command('nyx-quarantine-device', device=name)
    try:
        command('nyx-recover-device', device=name)
    except ExecuteError:        # that is how it fails
        pass


class PrecopyTest(MigrationCase):
    """All of the state is there afterwards, and is the same."""

    def check(self, stage1):
        options = [f'stage1={stage1}']
        source = self.start(*ALL, options=options)
        populate(source)
        states = {name: device_state(source, name)
                  for name in ('rng', 'below', 'left', 'nic')}
        self.assertEqual(states, {'rng': 'quarantined', 'below': 'quarantined',
                                  'left': 'failed', 'nic': 'operational'})
        before = state(source)
        self.assertTrue(before['query-nyx-migration']['ready'],
                        before['query-nyx-migration']['obstacles'])
        destination = self.start(*ALL, options=options,
                                 incoming=self.socket())
        self.assertNotEqual(state(destination), before)
        self.migrate(source)
        self.assert_arrived(source, destination, before)

    def test_no_stage1(self):
        self.check('none')

    def test_intel(self):
        self.check('intel')

    def test_amd(self):
        self.check('amd')

    def test_virtio(self):
        self.check('virtio')

    def test_twice(self):
        """There and on to a third machine; the loads on the way are no cost."""
        machines = [self.start(*ALL)]
        populate(machines[0])
        before = state(machines[0])
        for _ in range(2):
            machines.append(self.start(*ALL, incoming=self.socket()))
            self.migrate(machines[-2])
            machines[-2].stop()
        self.assert_arrived(None, machines[-1], before)


class BehaviourTest(MigrationCase):
    """What the state means holds on the destination."""

    def pair(self, prepare, clock=0):
        source = self.start(*ALL)
        devices = [Testdev(source, slot) for slot in (CAGED, FREE)]
        for device in devices:
            device.set_up()
        if clock:
            source.qtest('clock_step', clock)
        prepare(source, *devices)
        destination = self.start(*ALL, incoming=self.socket())
        if clock:
            destination.qtest('clock_step', clock)
        self.migrate(source)
        source.stop()
        return destination, *(Testdev(destination, slot)
                              for slot in (CAGED, FREE))

    def test_windows(self):
        """DMA goes where the source had mapped it, and nowhere else."""
        def prepare(vm, caged, _):
            populate(vm)
            self.assertEqual(caged.dma(WRITE, WINDOW, b'source!!'), DONE)

        vm, caged, _ = self.pair(prepare)
        self.assertEqual(vm.read(TARGET, 8), b'source!!')
        self.assertEqual(caged.dma(WRITE, WINDOW + PAGE, b'windows!'), DONE)
        self.assertEqual(vm.read(TARGET + PAGE, 8), b'windows!')
        self.assertEqual(caged.dma(READ, READ_ONLY), DONE)
        for address in (READ_ONLY, WINDOW + 0x10000, TARGET):
            self.assertEqual(caged.dma(WRITE, address, b'escaped!'), REFUSED)
        self.assertEqual(vm.read(SOURCE, 8), bytes(8))
        fault = vm.monitor.command('query-nyx-faults', device='caged')[0]
        self.assertEqual((fault['address'], fault['type'], fault['domain']),
                         (TARGET, 'unmapped', 'win'))

    def test_quarantine(self):
        """Cut off: DMA, registers, configuration; works again afterwards."""
        def prepare(vm, _, free):
            self.assertEqual(free.dma(WRITE, TARGET, b'first!!!'), DONE)
            vm.monitor.command('nyx-quarantine-device', device='free')

        vm, _, free = self.pair(prepare)
        self.assertEqual(device_state(vm, 'free'), 'quarantined')
        self.assertEqual(free.identity(), 0xffffffff)
        self.assertEqual(free.dma(WRITE, TARGET, b'escaped!'), 0xffffffff)
        vm.enable(free.devfn)
        self.assertEqual(vm.config_read(free.devfn, 4, 2) & 0x404, 0x400)
        self.assertEqual(vm.read(TARGET, 8), b'first!!!')
        vm.monitor.command('nyx-recover-device', device='free')
        free.set_up()
        self.assertEqual(free.identity(), IDENTITY)
        self.assertEqual(free.dma(WRITE, TARGET, b'again!!!'), DONE)
        self.assertEqual(vm.read(TARGET, 8), b'again!!!')

    def test_budget(self):
        """Recoveries of the last hour count wherever they were."""
        def prepare(vm, *_):
            vm.monitor.command('nyx-set-policy', device='free',
                               max_recoveries=2)
            for _ in range(2):
                vm.monitor.command('nyx-quarantine-device', device='free')
                vm.monitor.command('nyx-recover-device', device='free')
            vm.monitor.command('nyx-quarantine-device', device='free')

        vm, *_ = self.pair(prepare, 100 * SECOND_NS)
        recover = vm.monitor.command
        self.assert_refused('has had 2 recoveries', recover,
                            'nyx-recover-device', device='free')
        self.assertEqual(device_state(vm, 'free'), 'failed')
        recover('nyx-recover-device', device='free', force=True)
        self.assertEqual(device_state(vm, 'free'), 'operational')

    def test_budget_comes_back(self):
        """And an hour after them, they do not."""
        def prepare(vm, *_):
            vm.monitor.command('nyx-set-policy', device='free',
                               max_recoveries=1)
            vm.monitor.command('nyx-quarantine-device', device='free')
            vm.monitor.command('nyx-recover-device', device='free')
            vm.qtest('clock_step', 1800 * SECOND_NS)
            vm.monitor.command('nyx-quarantine-device', device='free')

        vm, *_ = self.pair(prepare, 100 * SECOND_NS)
        vm.qtest('clock_step', 3601 * SECOND_NS)
        vm.monitor.command('nyx-recover-device', device='free')
        self.assertEqual(device_state(vm, 'free'), 'operational')

    def test_fault_window(self):
        """Faults before and after the move add up to the limit."""
        def prepare(vm, caged, _):
            for number in range(6):
                caged.dma(READ, 0x1000000 + 2 * number * PAGE)
            self.assertEqual(device_state(vm, 'caged'), 'operational')

        vm, caged, _ = self.pair(prepare, 100 * SECOND_NS)
        for number in range(4):
            caged.dma(READ, 0x2000000 + 2 * number * PAGE)
        self.assertEqual(device_state(vm, 'caged'), 'operational')
        since = vm.monitor.position()
        caged.dma(READ, 0x3000000)
        vm.monitor.wait_event('NYX_DEVICE_STATE', since, device='caged',
                              new='quarantined')

    def test_fault_window_passes(self):
        def prepare(vm, caged, _):
            for number in range(10):
                caged.dma(READ, 0x1000000 + 2 * number * PAGE)

        vm, caged, _ = self.pair(prepare, 100 * SECOND_NS)
        vm.qtest('clock_step', 61 * SECOND_NS)
        for number in range(10):
            caged.dma(READ, 0x2000000 + 2 * number * PAGE)
        self.assertEqual(device_state(vm, 'caged'), 'operational')

    def test_pending_report(self):
        """An event that was held back for a while comes on the other side."""
        def prepare(vm, caged, _):
            for number in range(3):
                caged.dma(READ, 0x1000000 + 2 * number * PAGE)
            vm.monitor.wait_event('NYX_DMA_FAULT', device='caged')
            self.assertEqual(
                [e['data']['count'] for e in
                 vm.monitor.seen('NYX_DMA_FAULT', device='caged')], [1])

        vm, *_ = self.pair(prepare, 100 * SECOND_NS)
        self.assertEqual(vm.monitor.seen('NYX_DMA_FAULT'), [])
        vm.qtest('clock_step', 2 * SECOND_NS)
        event = vm.monitor.wait_event('NYX_DMA_FAULT', device='caged')
        self.assertEqual(event['data']['count'], 3)


class MismatchTest(MigrationCase):
    """What differs is named, before and after, and the source goes on."""

    def check(self, words, *arguments, options=(), foretold=None):
        source = self.start(*ALL)
        populate(source)
        before = state(source)
        set_capabilities(source, 'return-path')
        destination = self.start(*arguments, options=options,
                                 incoming=self.socket())
        there = destination.monitor.command('query-nyx-migration')
        set_capabilities(destination, 'return-path')
        told = source.monitor.command(
            'query-nyx-migration', destination=there['configuration'])
        self.assertFalse(told['ready'])
        self.assertIn(foretold or words,
                      [o['reason'] for o in told['obstacles']
                       if o['kind'] == 'destination'][0])
        source.monitor.command('migrate', uri=self.socket())
        self.assert_ended(destination, words)
        await_migration(source, 'failed')
        self.assert_goes_on(source, before)

    def assert_goes_on(self, source, before):
        self.assertEqual(source.monitor.command('query-status')['status'],
                         'running')
        self.assertEqual(state(source), before)
        other = self.start(*ALL, incoming=self.socket())
        set_capabilities(other, 'return-path')
        self.migrate(source)
        self.assert_arrived(source, other, before)

    def test_stage1(self):
        self.check('stage1 is virtio here, and not so on the source', *ALL,
                   options=['stage1=virtio'],
                   foretold='stage1 is none here and virtio')

    def test_default_isolation(self):
        self.check('default-isolation is shared here', *ALL,
                   options=['default-isolation=shared'],
                   foretold='default-isolation is strict here and shared')

    def test_missing_domain(self):
        self.check("there is no domain 'open' here",
                   *(word.replace('open', 'other') for word in ALL),
                   foretold="the destination has no domain 'open'")

    def test_other_domain(self):
        for this, that, words in (
                ('isolation=shared,default-map=none',
                 'isolation=shared,default-map=ram', 'default-map'),
                ('id=open', 'id=open,peer-to-peer=on', 'peer-to-peer'),
                ('id=open', 'id=open,large-pages=off', 'large-pages'),
                ('id=open', 'id=open,contained=on', 'contained')):
            with self.subTest(words):
                self.check(f'{words} of domain', *(
                    word.replace(this, that) if 'nyx-domain,' in word else word
                    for word in ALL))

    def test_moved_device(self):
        self.check('there is no device 0000:00:08.0 here',
                   *(word.replace('addr=8', 'addr=12') for word in ALL),
                   foretold='the destination has no device at 0000:00:08.0')

    def test_missing_device(self):
        at = ALL.index('virtio-rng-pci,id=rng,addr=9')
        self.check('there is no device 0000:00:09.0 here', *ALL[:at - 1],
                   *ALL[at + 1:],
                   foretold='the destination has no device at 0000:00:09.0')

    def test_second_device(self):
        self.check("device 'more' is not on the source", *ALL, '-device',
                   'virtio-rng-pci,id=more,addr=13',
                   foretold='the destination has virtio-rng-pci at '
                   '0000:00:13.0')

    def test_two_in_a_strict_domain(self):
        """An assignment that the destination's domains do not allow."""
        source = self.start(*ALL)
        there = source.monitor.command('query-nyx-migration')
        self.assertTrue(source.monitor.command(
            'query-nyx-migration', destination=there['configuration'])['ready'])
        self.check('isolation of domain', *(
            word.replace('id=win,isolation=shared', 'id=win,isolation=strict')
            for word in ALL))


class ChannelTest(MigrationCase):
    """Ways other than a socket from start to end."""

    def pair(self, incoming):
        source = self.start(*ALL)
        populate(source)
        return source, self.start(*ALL, incoming=incoming), state(source)

    def test_multifd(self):
        source, destination, before = self.pair('defer')
        for vm in source, destination:
            set_capabilities(vm, 'multifd')
            vm.monitor.command('migrate-set-parameters', multifd_channels=4)
        destination.monitor.command('migrate-incoming', uri=self.socket())
        self.migrate(source)
        self.assert_arrived(source, destination, before)

    def test_mapped_ram(self):
        source, destination, before = self.pair('defer')
        path = f'file:{self.folder / "saved"}'
        for vm in source, destination:
            set_capabilities(vm, 'mapped-ram', 'multifd')
        self.migrate(source, path)
        destination.monitor.command('migrate-incoming', uri=path)
        await_migration(destination, 'completed')
        self.assert_arrived(source, destination, before)

    def test_cancel_and_retry(self):
        source = self.start(*ALL)
        populate(source)
        source.write(0x1000000, bytes(range(256)) * 4096)
        before = state(source)
        source.monitor.command('migrate-set-parameters', max_bandwidth=4096)
        for _ in range(3):
            with self.subTest('cancel'):
                first = self.start(*ALL, incoming=self.socket())
                source.monitor.command('migrate', uri=self.socket())
                await_migration(source, 'active')
                source.monitor.command('migrate_cancel')
                await_migration(source, 'cancelled')
                first.stop()
                self.assertEqual(state(source), before)
        # What happens between two attempts goes along, too.
        source.monitor.command('nyx-recover-device', device='rng')
        after = state(source)
        source.monitor.command('migrate-set-parameters', max_bandwidth=0)
        destination = self.start(*ALL, incoming=self.socket())
        self.migrate(source)
        self.assert_arrived(source, destination, after)

    def test_fault_meanwhile(self):
        """A device that misbehaves while memory is being copied"""
        source = self.start(*ALL)
        populate(source)
        source.write(0x1000000, bytes(range(256)) * 4096)
        source.monitor.command('migrate-set-parameters', max_bandwidth=4096)
        destination = self.start(*ALL, incoming=self.socket())
        source.monitor.command('migrate', uri=self.socket())
        await_migration(source, 'active')
        since = source.monitor.position()
        source.monitor.command('nyx-inject-fault', device='caged',
                               address=0x9000, access='w', count=12)
        source.monitor.wait_event('NYX_DEVICE_STATE', since, device='caged',
                                  new='quarantined')
        source.monitor.command('nyx-map', domain='win', iova=0x800000,
                               gpa=0x500000, size=PAGE, access='rw')
        after = state(source)
        source.monitor.command('migrate-set-parameters', max_bandwidth=0)
        await_migration(source, 'completed')
        self.assertEqual(device_state(destination, 'caged'), 'quarantined')
        self.assert_arrived(source, destination, after)


class SnapshotTest(MigrationCase):
    """Into a VM that runs, whatever its devices have been through since."""

    def setUp(self):
        super().setUp()
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        disk = self.folder.with_suffix('.qcow2')
        subprocess.run([BUILD / 'qemu-img', 'create', '-q', '-f', 'qcow2',
                        disk, '16M'], check=True)
        self.addCleanup(disk.unlink)
        self.vm = self.start(
            *ALL, '-drive', f'if=none,id=disk,file={disk}', '-device',
            'virtio-blk-pci,id=vblk,drive=disk,addr=15')

    def hmp(self, line):
        self.assertEqual(self.vm.monitor.command(
            'human-monitor-command', command_line=line), '')

    def test_operational_now(self):
        """Quarantined there: it is cut off once more."""
        free = Testdev(self.vm, FREE)
        free.set_up()
        populate(self.vm)
        for name in 'free', 'vblk':
            self.vm.monitor.command('nyx-quarantine-device', device=name)
        before = state(self.vm)
        self.hmp('savevm one')
        for name in 'free', 'vblk', 'rng':
            self.vm.monitor.command('nyx-recover-device', device=name)
        self.vm.monitor.command('nyx-recover-device', device='left',
                                force=True)
        free.set_up()
        self.assertEqual(free.identity(), IDENTITY)
        self.vm.monitor.command('nyx-unmap', domain='win', iova=WINDOW,
                                size=0x10000)
        self.vm.monitor.command('nyx-assign-device', device='nic',
                                domain='win')
        self.hmp('loadvm one')
        self.assert_arrived(None, self.vm, before)
        self.assertEqual(free.identity(), 0xffffffff)
        self.vm.monitor.command('nyx-recover-device', device='free')
        free.set_up()
        self.assertEqual(free.dma(WRITE, TARGET, b'again!!!'), DONE)

    def test_quarantined_now(self):
        """Operational there: it works at once, set up as it was."""
        free, caged = Testdev(self.vm, FREE), Testdev(self.vm, CAGED)
        free.set_up()
        caged.set_up()
        populate(self.vm)
        before = state(self.vm)
        self.hmp('savevm one')
        for name in 'free', 'vblk', 'caged':
            self.vm.monitor.command('nyx-quarantine-device', device=name)
        self.vm.monitor.command('nyx-map', domain='win', iova=0x1000000,
                                gpa=TARGET, size=PAGE, access='rw')
        self.hmp('loadvm one')
        self.assert_arrived(None, self.vm, before)
        self.assertEqual(free.dma(WRITE, TARGET, b'at once!'), DONE)
        self.assertEqual(caged.dma(WRITE, WINDOW + 8, b'and here'), DONE)
        self.assertEqual(caged.dma(WRITE, 0x1000000, b'not here'), REFUSED)
        self.assertEqual(self.vm.read(TARGET, 16), b'at once!and here')


class PreflightTest(VfioUserCase):
    """What would refuse to migrate, before the start"""

    def obstacles(self):
        told = self.command('query-nyx-migration')
        self.assertEqual(told['ready'], not told['obstacles'])
        return [(o['kind'], o['reason']) for o in told['obstacles']]

    def test_vfio_user(self):
        """Its state would be left behind; without it there is no obstacle."""
        self.start()
        (kind, reason), = self.obstacles()
        self.assertEqual(kind, 'qemu')
        self.assertIn("device 'vu0' is in its vfio-user server", reason)
        self.assert_refused("device 'vu0' is in its vfio-user server",
                            'migrate', uri=f'file:{self.folder / "saved"}')

    def test_plugged(self):
        """It goes by what is there now."""
        self.start_without()
        self.assertEqual(self.obstacles(), [])
        server = self.serve('late')
        self.command('device_add', driver='vfio-user-pci', id='late', bus='rp',
                     socket={'type': 'unix', 'path': str(server.path)})
        self.assertEqual(len(self.obstacles()), 1)
        self.vm.unplug(0x12 << 3, 'late')
        self.assertEqual(self.obstacles(), [])

    def start_without(self):
        self.vm = self.run_vm('-device', 'pcie-root-port,id=rp,addr=12,'
                              'chassis=1', *NATIVE_HOTPLUG)
        self.command = self.vm.monitor.command

    def test_model(self):
        """A device model that cannot migrate"""
        self.vm = self.run_vm('-device', 'qemu-xhci,id=usb', '-device',
                              'usb-mtp,bus=usb.0,rootdir=/')
        self.command = self.vm.monitor.command
        (kind, reason), = self.obstacles()
        self.assertEqual(kind, 'qemu')
        self.assertIn('usb-mtp', reason)


class UpdateTest(MigrationCase):
    """Another QEMU takes over the same memory on the same host."""

    MEMORY = ('-object', 'memory-backend-memfd,id=ram0,size=64M,share=on')
    OPTIONS = ['memory-backend=ram0', 'aux-ram-share=on']

    def prepare(self):
        source = self.start(*self.MEMORY, *ALL, options=self.OPTIONS)
        device = Testdev(source, CAGED)
        device.set_up()
        populate(source)
        self.assertEqual(device.dma(WRITE, WINDOW, b'before!!'), DONE)
        source.write(0x1000000, b'memory')
        return source

    def check(self, destination, before):
        self.assert_arrived(None, destination, before)
        self.assertEqual(destination.read(0x1000000, 6), b'memory')
        device = Testdev(destination, CAGED)
        self.assertEqual(device.dma(WRITE, WINDOW + 8, b'after!!!'), DONE)
        self.assertEqual(device.dma(WRITE, TARGET, b'escaped!'), REFUSED)
        self.assertEqual(destination.read(TARGET, 16), b'before!!after!!!')

    def test_transfer(self):
        source = self.prepare()
        before = state(source)
        cpr = str(self.folder / 'cpr')
        main = str(self.folder / 'main')
        channel = json.dumps({'channel-type': 'cpr', 'addr': {
            'transport': 'socket', 'type': 'unix', 'path': cpr}})
        incoming = json.dumps({'channel-type': 'main', 'addr': {
            'transport': 'socket', 'type': 'unix', 'path': main}})
        source.monitor.command('migrate-set-parameters', mode='cpr-transfer')
        # It says nothing before it has what comes through the CPR channel, and
        # ends with the thread that started it.
        pool = ThreadPoolExecutor(1)
        self.addCleanup(pool.shutdown)
        future = pool.submit(self.start, *self.MEMORY, *ALL, '-incoming',
                             channel, options=self.OPTIONS, incoming=incoming)
        while not os.path.exists(cpr):
            self.assertFalse(future.done(), 'QEMU has ended')
            time.sleep(0.02)
        source.monitor.command('migrate', channels=[
            json.loads(channel), json.loads(incoming)])
        destination = future.result()
        await_migration(source, 'completed')
        self.check(destination, before)

    def connect(self, path, process):
        """The monitor of the QEMU that listens there now."""
        limit = time.monotonic() + SECONDS
        while True:
            self.assertIsNone(process.poll(), 'QEMU has ended')
            sock = socket.socket(socket.AF_UNIX)
            try:
                sock.connect(str(path))
                monitor = Monitor(sock)
                self.addCleanup(monitor.close)
                return monitor
            except (OSError, NyxTestError):
                sock.close()
                self.assertLess(time.monotonic(), limit, 'QEMU is not there')
                time.sleep(0.02)

    def test_exec(self):
        """The same process runs another program."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path, saved = self.folder / 'qmp', f'file:{self.folder / "saved"}'
        command = [
            str(QEMU), '-M', ','.join([machine_name(), *self.OPTIONS]),
            '-accel', 'qtest', '-m', '64M', '-nodefaults', '-display', 'none',
            '-no-user-config', '-qmp', f'unix:{path},server=on,wait=off',
            *self.MEMORY, *ALL]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        old = self.connect(path, process)
        populate(SimpleNamespace(monitor=old))
        before = state_of(old)
        old.command('migrate-set-parameters', **{
            'mode': 'cpr-exec',
            'cpr-exec-command': [*command, '-incoming', saved]})
        path.unlink()
        old.command('migrate', uri=saved)
        new = self.connect(path, process)
        limit = time.monotonic() + SECONDS
        while new.command('query-status')['status'] == 'inmigrate':
            self.assertLess(time.monotonic(), limit)
            time.sleep(0.02)
        self.assertEqual(state_of(new), before)
