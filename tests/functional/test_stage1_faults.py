# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""What goes wrong behind the guest's IOMMU: accesses that it refuses, devices
cut off while it translates, and what the operator's domain refuses after it.
"""

from nyxtest.devices import add_disk, add_nic
from nyxtest.guest import (block_device, bring_up, disk_load, disk_sum,
                           fetch_sum, network_load, pci_address,
                           set_disk_timeout, sha256, write_random)
from nyxtest.stage1 import Stage1Test, bind, logged_faults

MIB = 1 << 20
PAGE = 4096
NOWHERE = 0x12345000            # IOVA that no driver has mapped
THREADS_IOVA = 0x23456000       # nor this
DRIVER_SECONDS = 90
DISK_SECONDS = 3
LIMIT = 10                      # faults, unless told otherwise
# The guest's memory but for what PCs have below 1 MiB, as two windows.
MEMORY = 512 * MIB
WINDOWS = ((MIB, 199 * MIB), (200 * MIB, MEMORY - 200 * MIB))


class _FaultTest(Stage1Test):
    memory = f'{MEMORY // MIB}M'
    fetch_bytes = MIB // 2
    # A card that was cut off while in use: its driver says so.
    allowed_trouble = ('NETDEV WATCHDOG', 'already-disabled device')

    @classmethod
    def describe(cls, vm):
        super().describe(vm)
        for number in range(3):
            vm.device('pcie-root-port', id=f'port{number}', chassis=1 + number,
                      slot=1 + number)
        vm.domain('open', isolation='shared')
        vm.domain('cage', isolation='shared', default_map='none',
                  on_fault_limit='report')
        cls.disk = add_disk(vm, 'nvme', 'nvme0', 'open', bus='port0')
        cls.nic = add_nic(vm, 'e1000e', 'nic0', 'open', bus='port1')
        cls.neighbour = add_disk(vm, 'virtio-blk-pci', 'vblk0', 'open')
        vm.device('nyx-testdev', ('pci_stub',), id='buggy', bus='port2')
        vm.device('nyx-testdev', ('pci_stub',), id='buggy2')

    @classmethod
    def prepare(cls, vm):
        command = vm.monitor.command
        for first, size in WINDOWS:
            command('nyx-map', domain='cage', iova=first, gpa=first, size=size,
                    access='rw')
        for name in ('buggy', 'buggy2'):
            bind(vm, name, 'pci-stub')
        bring_up(vm, cls.nic)

    # A driver's bug

    def dma(self, name, *words):
        """Have the test device do DMA by its own address; what came of it."""
        address = pci_address(self.vm, name)
        text = ' '.join(str(word) for word in words)
        return self.vm.agent.run(f'nyx-dma {address} {text}').output.split()[0]

    def recorded(self, name):
        return self.vm.monitor.command('query-nyx-faults', device=name)

    def test_bug_is_told(self):
        """Both the guest and the operator learn of it, with its address."""
        since = self.vm.monitor.position()
        for step, (verb, more, access) in enumerate(
                (('write', [0x5a], 'w'), ('read', [], 'r'))):
            iova = NOWHERE + step * PAGE
            self.assertEqual(self.dma('buggy2', verb, iova, 8, *more),
                             'refused')
            fault = self.recorded('buggy2')[0]
            self.assertEqual((fault['type'], fault['address'],
                              fault['access']), ('stage1', iova, access))
            self.wait_logged(pci_address(self.vm, 'buggy2'),
                             verb.capitalize(), iova)
        event = self.vm.monitor.wait_event('NYX_DMA_FAULT', since,
                                           device='buggy2')
        self.assertEqual((event['data']['type'], event['data']['address']),
                         ('stage1', NOWHERE))
        self.assertEqual(self.nyx_device('buggy2')['total-faults'], 2)
        self.assertEqual(set(self.faults()), {'buggy2'})

    def test_bug_past_the_limit(self):
        """As with any fault, the device is cut off; then it works again."""
        monitor = self.vm.monitor
        since = monitor.position()
        self.dma('buggy', 'sweep', NOWHERE, 8, LIMIT)
        self.assert_state('buggy', 'operational')
        self.dma('buggy', 'write', NOWHERE, 8, 0)
        monitor.wait_event('NYX_DEVICE_STATE', since, device='buggy',
                           new='quarantined')
        self.assert_dma('buggy', 'blocked')
        self.assertEqual({fault['type'] for fault in self.recorded('buggy')},
                         {'stage1'})
        self.assertEqual(self.dma('buggy', 'write', NOWHERE, 8, 0), 'gone')
        monitor.command('nyx-recover-device', device='buggy')
        self.assert_state('buggy', 'operational')
        self.assert_dma('buggy', 'translating')

    def test_bug_that_does_not_count(self):
        """With count-stage1=off it is told, and nothing more."""
        monitor = self.vm.monitor
        monitor.command('nyx-set-policy', device='buggy', count_stage1=False)
        before = self.nyx_device('buggy')['total-faults']
        self.assertEqual(
            self.dma('buggy', 'sweep', NOWHERE, 8, 2 * LIMIT), 'refused')
        self.assert_state('buggy', 'operational')
        self.assertEqual(self.nyx_device('buggy')['total-faults'],
                         before + 2 * LIMIT)
        self.assertEqual(self.recorded('buggy')[0]['address'],
                         NOWHERE + (2 * LIMIT - 1) * PAGE)
        monitor.command('nyx-set-policy', device='buggy', count_stage1=True)
        since = monitor.position()
        self.dma('buggy', 'sweep', NOWHERE, 8, LIMIT + 1)
        monitor.wait_event('NYX_DEVICE_STATE', since, device='buggy',
                           new='quarantined')

    # Cut off and recovered

    def cut_off_and_recover(self, name, load):
        command = self.vm.monitor.command
        address = pci_address(self.vm, name)
        neighbour = disk_load(self.vm, 'vblk0',
                              block_device(self.vm, 'vblk0'), 32, 4)
        said = len(logged_faults(self.vm))
        command('nyx-quarantine-device', device=name)
        self.assert_dma(name, 'blocked')
        self.assert_dma('vblk0', 'translating')
        done = load.progress().bytes
        neighbour.wait_bytes(MIB)
        # What was on its way may still be counted.
        self.assertLessEqual(load.progress().bytes,
                             done + 2 * self.fetch_bytes)
        load.stop()
        self.vm.agent.check(f'echo 1 >/sys/bus/pci/devices/{address}/remove',
                            DRIVER_SECONDS)
        command('nyx-recover-device', device=name)
        self.assert_state(name, 'operational')
        self.vm.agent.check('echo 1 >/sys/bus/pci/rescan', DRIVER_SECONDS)
        neighbour.wait_bytes(MIB)
        now = neighbour.progress()
        self.assertEqual((now.errors, now.mismatches), (0, 0))
        neighbour.stop()
        # Nothing of this is an error of the guest's drivers.
        self.assertEqual(logged_faults(self.vm)[said:], [])

    def check_disk(self):
        device = block_device(self.vm, 'nvme0', DRIVER_SECONDS)
        self.assertEqual(disk_sum(self.vm, device, 0, 2),
                         sha256(self.disk.read(0, 2)))
        self.assertEqual(write_random(self.vm, device, 16, 2),
                         sha256(self.disk.read(16, 2)))

    def test_quarantine_of_disk(self):
        device = block_device(self.vm, 'nvme0')
        set_disk_timeout(self.vm, 'nvme0', DISK_SECONDS)
        load = disk_load(self.vm, 'nvme0', device, 32, 4)
        self.cut_off_and_recover('nvme0', load)
        self.check_disk()
        self.assert_dma('nvme0', 'translating')

    def test_quarantine_of_card(self):
        load = network_load(self.vm, 'nic0', self.server, self.nic)
        self.cut_off_and_recover('nic0', load)
        bring_up(self.vm, self.nic, DRIVER_SECONDS)
        self.assertEqual(fetch_sum(self.vm, self.server.url(self.nic)),
                         self.server.sha256)
        self.assert_dma('nic0', 'translating')

    # The operator's windows, behind the guest's IOMMU

    def in_cage(self, name):
        self.vm.monitor.command('nyx-assign-device', device=name,
                                domain='cage')
        self.addCleanup(self.vm.monitor.command, 'nyx-assign-device',
                        device=name, domain='open')

    def test_windows(self):
        """Windows for all of the guest's memory: it notices nothing."""
        before = self.faults()
        self.in_cage('nvme0')
        self.in_cage('nic0')
        self.check_disk()
        self.assertEqual(fetch_sum(self.vm, self.server.url(self.nic)),
                         self.server.sha256)
        self.assertEqual(self.faults(), before)

    def test_window_withdrawn(self):
        """A page of memory less: the fault has the guest's address of it."""
        monitor = self.vm.monitor
        said = len(logged_faults(self.vm))
        self.in_cage('vblk0')
        load = disk_load(self.vm, 'vblk0', block_device(self.vm, 'vblk0'), 32,
                         4)
        self.addCleanup(load.stop)
        where = self.vm.agent.check('cat /run/load/vblk0.log').split()[1]
        page = int(where, 16)
        since = monitor.position()
        monitor.command('nyx-unmap', domain='cage', iova=page, size=PAGE)
        event = monitor.wait_event('NYX_DMA_FAULT', since, device='vblk0')
        self.assertEqual(
            (event['data']['type'], event['data']['access'],
             event['data']['address'] // PAGE * PAGE, event['data']['domain']),
            ('unmapped', 'w', page, 'cage'))
        self.assertEqual({fault['address'] // PAGE * PAGE
                          for fault in self.recorded('vblk0')}, {page})
        monitor.command('nyx-map', domain='cage', iova=page, gpa=page,
                        size=PAGE, access='rw')
        before = self.faults()
        load.wait_bytes(MIB)
        self.assertEqual(self.faults(), before)
        # It is not the guest's IOMMU that refused.
        self.assertEqual(logged_faults(self.vm)[said:], [])

    # Last, as the kernel leaves out what comes too soon after it

    def test_writes_of_a_thread(self):
        """The guest is told of what a thread without QEMU's lock does, too."""
        monitor = self.vm.monitor
        monitor.command('nyx-set-policy', device='buggy2', count_stage1=False)
        before = self.nyx_device('buggy2')['total-faults']
        self.assertEqual(
            self.dma('buggy2', 'run', THREADS_IOVA, 8, 2 * LIMIT), 'refused')
        self.assertEqual(self.nyx_device('buggy2')['total-faults'],
                         before + 2 * LIMIT)
        self.wait_logged(pci_address(self.vm, 'buggy2'), 'Write',
                         THREADS_IOVA)


class IntelFaultTest(_FaultTest):
    kind = 'intel'


class AmdFaultTest(_FaultTest):
    kind = 'amd'


class VirtioFaultTest(_FaultTest):
    kind = 'virtio'
