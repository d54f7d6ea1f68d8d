# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""Faults are put down to the device that caused them, and to no other."""

from nyxtest.case import GuestTest, needs_nyx
from nyxtest.devices import DISK_MODELS, NIC_MODELS, add_disk, add_nic
from nyxtest.guest import block_device, bring_up, disk_load

PAGE = 4096
# Report and do not cut off; the faults themselves are what is looked at.
REPORT = {'max_faults': 65535, 'on_fault_limit': 'report'}


@needs_nyx
class DiskAttributionTest(GuestTest):
    """Five disks in one shared domain, which loses one page at a time.

    The page is the first of the buffer into which one of them reads; so the
    faults must name that disk, that page and the direction, whatever the
    others do at the same time.
    """

    models = DISK_MODELS

    @classmethod
    def describe(cls, vm):
        vm.domain('storage', isolation='shared', **REPORT)
        for name, driver in cls.models.items():
            add_disk(vm, driver, name, 'storage')

    @classmethod
    def prepare(cls, vm):
        cls.loads = {name: disk_load(vm, name, block_device(vm, name), 16, 8)
                     for name in cls.models}

    def wait_fault(self, name, page):
        """Take the page away until the disk stumbles over it; the event."""
        monitor = self.vm.monitor
        since = monitor.position()
        monitor.command('nyx-unmap', domain='storage', iova=page, size=PAGE)
        try:
            event = monitor.wait_event('NYX_DMA_FAULT', since, device=name)
            # The guest clears its buffer before each read.
            self.page_then = self.vm.read_memory(page, PAGE)
            for load in self.loads.values():
                load.wait_bytes(1 << 20)
            return event['data']
        finally:
            monitor.command('nyx-map', domain='storage', iova=page, gpa=page,
                            size=PAGE, access='rw')

    def check_disk(self, name):
        where = self.vm.agent.check(f'cat /run/load/{name}.log').split()[1]
        page = int(where, 16)
        before = self.faults()
        # What it reads will be wrong, as it must be: no more is asked of it.
        self.addCleanup(self.loads.pop(name).stop)
        data = self.wait_fault(name, page)
        self.assertEqual((data['domain'], data['type'], data['access']),
                         ('storage', 'unmapped', 'w'))
        self.assertEqual(data['address'] // PAGE * PAGE, page)
        self.assertEqual(self.page_then, bytes(PAGE), 'what was refused came')
        after = self.faults()
        self.assertGreater(after.pop(name), before.pop(name, 0))
        self.assertEqual(after, before, 'faults of other devices')
        for fault in self.vm.monitor.command('query-nyx-faults', device=name):
            self.assertEqual(fault['address'] // PAGE * PAGE, page)
        for other, load in self.loads.items():
            now = load.progress()
            self.assertEqual((now.errors, now.mismatches), (0, 0), other)

    def test_nvme(self):
        self.check_disk('nvme0')

    def test_virtio_blk(self):
        self.check_disk('vblk0')

    def test_virtio_scsi(self):
        self.check_disk('vscsi0')

    def test_ahci(self):
        self.check_disk('ahci0')

    def test_xhci(self):
        self.check_disk('xhci0')


@needs_nyx
class NicAttributionTest(GuestTest):
    """Four cards in a shared domain that allows nothing; one sends at a time.

    Also a sound device: what it plays comes from memory that it may not read.
    """

    models = NIC_MODELS
    # A card that cannot send is what these tests are about.
    allowed_trouble = ('NETDEV WATCHDOG',)

    @classmethod
    def describe(cls, vm):
        vm.domain('open', isolation='shared')
        vm.domain('closed', isolation='shared', default_map='none', **REPORT)
        cls.nics = {name: add_nic(vm, driver, name, 'open')
                    for name, driver in cls.models.items()}
        vm.add('-audiodev', 'none,id=none')
        vm.device('ich9-intel-hda', ['snd_hda_codec_generic', 'snd_hda_intel',
                                     'snd_pcm_oss'], 'open', id='sound')
        vm.device('hda-output', bus='sound.0', audiodev='none')

    @classmethod
    def prepare(cls, vm):
        cls.interfaces = {name: bring_up(vm, nic)
                          for name, nic in cls.nics.items()}
        for name in (*cls.models, 'sound'):
            vm.monitor.command('nyx-assign-device', device=name,
                               domain='closed')

    def check_device(self, name, command):
        monitor = self.vm.monitor
        before = self.faults()
        self.assertEqual(before.pop(name, 0), 0)
        since = monitor.position()
        self.vm.agent.run(command)
        event = monitor.wait_event('NYX_DMA_FAULT', since, device=name)
        self.assertEqual(event['data']['domain'], 'closed')
        self.assertEqual(event['data']['type'], 'unmapped')
        after = self.faults()
        self.assertGreater(after.pop(name), 0)
        self.assertEqual(after, before, 'faults of other devices')
        self.assertTrue(monitor.command('query-nyx-faults', device=name))

    def check_nic(self, name):
        nic = self.nics[name]
        self.check_device(name, f'arping -c 2 -w 3 -I {self.interfaces[name]} '
                          f'{nic.host}')

    def test_e1000(self):
        self.check_nic('e1000')

    def test_e1000e(self):
        self.check_nic('e1000e')

    def test_igb(self):
        self.check_nic('igb')

    def test_virtio_net(self):
        self.check_nic('vnet')

    def test_sound(self):
        self.check_device('sound', 'timeout 5 nyx-play /dev/dsp 300')
        # Its driver goes on for a while, during the tests that follow.
        self.vm.monitor.command('nyx-assign-device', device='sound',
                                domain='open')
