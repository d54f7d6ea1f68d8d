# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""A Linux guest moves from process to process, and its devices work on."""

import os
import time

from nyxtest.case import GuestTest, needs_nyx
from nyxtest.devices import add_disk, add_nic
from nyxtest.guest import (
    block_device, bring_up, disk_load, disk_sum, fetch_sum, network_load,
    send_sum, sha256, write_random)
from nyxtest.migration import await_migration
from nyxtest.move import SECONDS, move, moves_of, prepare_move
from nyxtest.rogue import Rogue
from nyxtest.stage1 import ANY_FAULT, MODELS, add_stage1

MIB = 1 << 20
DISKS = {'nvme0': 'nvme', 'vblk0': 'virtio-blk-pci', 'ahci0': 'ahci'}
NICS = {'nic0': 'e1000e', 'vnet0': 'virtio-net-pci'}
HOLE = 1 << 40
NOWHERE = 1 << 30               # no RAM, and no device
LIMIT = 40                      # faults
PATTERN_MIB = 16
# bytes/s: memory takes long enough for things to happen meanwhile
SLOWLY = MIB
# How many moves the loop makes; for a longer one, say so in the environment.
MOVES = int(os.environ.get('NYX_MOVES', '3'))
WAYS = ((), {}), (('postcopy-ram',), {'postcopy': True}), (('multifd',), {})
# A connection to QEMU's user-mode network does not survive: fetch tries again,
# and may so do more than once when the guest stands still in the midst of it.
BROKEN_CONNECTIONS = 2          # at each move


class _MoveTest(GuestTest):
    memory = '256M'
    stage1 = None
    stage1_properties = {}
    tells = False               # stage 1, the guest, of the rogue's faults
    fetch_bytes = MIB // 2

    @classmethod
    def describe(cls, vm):
        if cls.stage1:
            add_stage1(vm, cls.stage1, **cls.stage1_properties)
        vm.domain('disks', isolation='shared')
        vm.domain('cards', isolation='shared', large_pages='off')
        cls.disks = {name: add_disk(vm, driver, name, 'disks')
                     for name, driver in DISKS.items()}
        cls.nics = {name: add_nic(vm, driver, name, 'cards')
                    for name, driver in NICS.items()}
        vm.domain('cage', default_map='none', max_faults=LIMIT,
                  fault_window_ms=0)
        vm.device('nyx-testdev', domain='cage', id='rogue')

    @classmethod
    def prepare(cls, vm):
        # What makes this domain translate
        vm.monitor.command('nyx-map', domain='cards', iova=HOLE, gpa=0x100000,
                           size=0x200000, access='r')
        vm.monitor.command('nyx-quarantine-device', device='rogue')
        vm.agent.check(f'dd if=/dev/urandom of=/run/pattern bs=1M '
                       f'count={PATTERN_MIB} 2>/dev/null')
        cls.pattern = vm.agent.check('sha256sum /run/pattern')
        for nic in cls.nics.values():
            bring_up(vm, nic)
        cls.paths = {name: block_device(vm, name) for name in DISKS}
        cls.sums = {name: write_random(vm, path, 4, 4)
                    for name, path in cls.paths.items()}
        cls.loads = {name: disk_load(vm, name, path, 16, 8)
                     for name, path in cls.paths.items()}
        cls.loads['nic0'] = network_load(vm, 'nic0', cls.server,
                                         cls.nics['nic0'])

    def check_all(self, before):
        """Same state, loads go on, and what was written is there."""
        devices = {dev['device']: dev for dev in before['query-nyx-devices']}
        for name, device in devices.items():
            now = self.nyx_device(name)
            for what in ('domain', 'state', 'policy', 'total-faults',
                         'recoveries'):
                if what == 'total-faults' and name in self.faulting:
                    self.assertGreaterEqual(now[what], device[what])
                else:
                    self.assertEqual(now[what], device[what], (name, what))
        self.assertEqual(self.nyx_device('nic0')['dma'], 'translating')
        self.assertEqual(self.nyx_device('vblk0')['dma'],
                         'translating' if self.stage1 else 'pass-through')
        self.assertEqual(self.vm.agent.check('sha256sum /run/pattern'),
                         self.pattern)
        broken = BROKEN_CONNECTIONS * moves_of(self.vm)
        for name, load in self.loads.items():
            load.wait_bytes(MIB, 120)
            now = load.progress()
            self.assertEqual(now.mismatches, 0, name)
            self.assertLessEqual(now.errors, broken if name in NICS else 0,
                                 name)
        for name, path in self.paths.items():
            self.assertEqual(disk_sum(self.vm, path, 4, 4), self.sums[name])
            self.sums[name] = write_random(self.vm, path, 4, 4)
            self.assertEqual(sha256(self.disks[name].read(4, 4)),
                             self.sums[name])
        for nic in self.nics.values():
            url = self.server.url(nic)
            self.assertEqual(fetch_sum(self.vm, url), self.server.sha256)
            here, there = send_sum(self.vm, url, 1)
            self.assertEqual(here, there)
        self.assertLessEqual(set(self.faults()), {'rogue'})

    faulting = ()               # devices that go on misbehaving

    def move(self, *capabilities, **how):
        console = self.vm.trouble(self.allowed_trouble)
        self.assertEqual(console, [])
        info, before = move(self.vm, *capabilities, **how)
        self.check_all(before)
        return info

    def test_1_precopy(self):
        for _ in range(2):
            self.move()

    def test_2_postcopy(self):
        info = self.move('postcopy-ram', postcopy=True)
        self.assertEqual(info['status'], 'completed')

    def test_3_multifd(self):
        self.move('multifd')

    def test_4_cancel_and_retry(self):
        """Whatever an attempt had begun is undone; the next one arrives."""
        for _ in range(2):
            there, uri = prepare_move(self.vm)
            self.vm.monitor.command('migrate-set-parameters',
                                    max_bandwidth=SLOWLY)
            self.vm.monitor.command('migrate', uri=uri)
            await_migration(self.vm, 'active', seconds=SECONDS)
            self.vm.monitor.command('migrate_cancel')
            await_migration(self.vm, 'cancelled', seconds=SECONDS)
            there.stop()
            self.loads['nvme0'].wait_bytes(MIB, 120)
        self.vm.monitor.command('migrate-set-parameters', max_bandwidth=0)
        self.move()

    def test_5_faults_meanwhile(self):
        """A driver has its device go past the limit, in the midst of it."""
        def misbehave():
            command = self.vm.monitor.command
            command('migrate-set-parameters', max_bandwidth=SLOWLY)
            since = self.vm.monitor.position()
            command('nyx-recover-device', device='rogue')
            self.rogue = Rogue(self.vm, 'rogue', NOWHERE)
            self.addCleanup(self.rogue.stop)
            self.vm.monitor.wait_event('NYX_DEVICE_STATE', since,
                                       seconds=SECONDS, device='rogue',
                                       new='quarantined')
            self.assertEqual(command('query-migrate')['status'], 'active')
            command('migrate-set-parameters', max_bandwidth=0)

        self.move(meanwhile=misbehave)
        self.assert_state('rogue', 'quarantined')
        self.assertEqual(self.nyx_device('rogue')['total-faults'], LIMIT + 1)
        self.rogue.wait_more('gone')
        # From here on it is this process that counts.
        since = self.vm.monitor.position()
        self.vm.monitor.command('nyx-recover-device', device='rogue')
        self.vm.monitor.wait_event('NYX_DEVICE_STATE', since, seconds=SECONDS,
                                   device='rogue', new='quarantined')
        outcome = self.rogue.stop()
        self.assertEqual(outcome.ok, 0)
        self.assertEqual(self.nyx_device('rogue')['total-faults'],
                         2 * (LIMIT + 1))

    def wait_told(self):
        """Until the guest's own IOMMU has told this process's guest."""
        limit = time.monotonic() + SECONDS
        while not ANY_FAULT.search(self.vm.console()):
            self.assertLess(time.monotonic(), limit, 'the guest has not heard')
            time.sleep(0.2)

    def test_6_loop(self):
        """From process to process, with faults on the way all the time."""
        command = self.vm.monitor.command
        command('nyx-set-policy', device='rogue', on_fault_limit='report')
        command('nyx-recover-device', device='rogue', force=True)
        earlier = self.nyx_device('rogue')['total-faults']
        self.faulting = ('rogue',)
        rogue = Rogue(self.vm, 'rogue', NOWHERE)
        for number in range(MOVES):
            capabilities, how = WAYS[number % len(WAYS)]
            with self.subTest(number=number, capabilities=capabilities):
                self.move(*capabilities, **how)
                rogue.wait_more('refused')
                if self.tells:
                    self.wait_told()
        outcome = rogue.stop()
        self.assertEqual((outcome.ok, outcome.gone), (0, 0))
        # One that the host interrupts counts twice: see fault_log_record().
        self.assertGreaterEqual(self.nyx_device('rogue')['total-faults'],
                                earlier + outcome.refused)


@needs_nyx
class PlainTest(_MoveTest):
    """Without an IOMMU of the guest's own"""


@needs_nyx
class IntelTest(_MoveTest):
    """Drivers map and unmap through VT-d all the time."""
    stage1 = 'intel'
    tells = True


@needs_nyx
class AmdTest(_MoveTest):
    """Through AMD-Vi, whose own interrupt is an MSI without x2APIC."""
    stage1 = 'amd'
    tells = True
    stage1_properties = {'xtsup': 'off'}


@needs_nyx
class VirtioTest(_MoveTest):
    """Through virtio-iommu, which lets devices pass that have no driver."""
    stage1 = 'virtio'
    rare_module = MODELS['virtio'].rare_module
