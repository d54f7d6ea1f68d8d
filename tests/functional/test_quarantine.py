# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""A device in use is cut off and recovered; guest and neighbours live on."""

from nyxtest.case import GuestTest, needs_nyx
from nyxtest.devices import add_disk, add_nic
from nyxtest.display import add_display, draw, wait_shown
from nyxtest.guest import (block_device, bring_up, disk_load, disk_sum,
                           fetch_sum, network_load, pci_address,
                           set_disk_timeout, sha256, sound_load, write_random)

MIB = 1 << 20
# A driver of the kernel may take this long to give up or to try again.
DRIVER_SECONDS = 90
DISK_SECONDS = 3
GAP_LIMIT_MS = 5000


class _QuarantineTest(GuestTest):
    """The victim shares its domain with a neighbour, both under load."""

    driver = None
    where = {}                  # bus and address of the victim
    # Some drivers give up at once a device whose registers read all-ones, and
    # wait long for one that has forgotten all. With others it is the reverse.
    removed_first = False

    @classmethod
    def add_victim(cls, vm):
        """Add the device 'victim' in the domain 'common'."""

    @classmethod
    def start_victim(cls, vm):
        """Start its load, named 'victim'."""

    def check_victim(self):
        """The victim does I/O, checked at both ends."""

    @classmethod
    def describe(cls, vm):
        vm.domain('common', isolation='shared')
        cls.add_victim(vm)
        neighbour = 'virtio-blk-pci' if cls.driver == 'nvme' else 'nvme'
        cls.neighbour = add_disk(vm, neighbour, 'neighbour', 'common')

    @classmethod
    def prepare(cls, vm):
        cls.load = disk_load(vm, 'neighbour', block_device(vm, 'neighbour'),
                             16, 8)
        cls.victim_load = cls.start_victim(vm)

    def quarantine(self):
        self.vm.monitor.command('nyx-quarantine-device', device='victim',
                                reason='a test')
        self.assert_state('victim', 'quarantined')
        self.assert_state('neighbour', 'operational')

    def recover(self):
        self.vm.monitor.command('nyx-recover-device', device='victim')
        self.assert_state('victim', 'operational')

    def guest_writes(self, path):
        self.vm.agent.check(f'echo 1 >/sys/bus/pci/{path}', DRIVER_SECONDS)

    def recover_and_rebind(self):
        """The operator recovers it; the guest takes it out and in again."""
        address = pci_address(self.vm, 'victim')
        if self.removed_first:
            self.guest_writes(f'devices/{address}/remove')
            self.recover()
        else:
            self.recover()
            self.guest_writes(f'devices/{address}/remove')
        self.guest_writes('rescan')

    def check_neighbour(self, when):
        self.load.wait_bytes(4 * MIB)
        now = self.load.progress()
        self.assertEqual((now.errors, now.mismatches), (0, 0), when)
        self.assertLess(now.longest_gap_ms, GAP_LIMIT_MS, when)

    def test_quarantine_and_recovery(self):
        since = self.vm.monitor.position()
        self.load.restart_gap()
        self.check_neighbour('before')
        moved = self.victim_load.progress().bytes
        self.assertGreater(moved, 0)
        self.quarantine()
        cut_off = self.victim_load.progress().bytes
        self.check_neighbour('in quarantine')
        # A block that was on its way may still be counted, no more.
        self.assertLessEqual(self.victim_load.progress().bytes,
                             cut_off + 2 * self.server.size)
        self.victim_load.stop()
        self.recover_and_rebind()
        self.check_victim()
        self.check_neighbour('after recovery')
        states = [e['data']['new'] for e in self.vm.monitor.seen(
            'NYX_DEVICE_STATE', since, device='victim')]
        self.assertEqual(states, ['quarantined', 'recovering', 'operational'])
        self.assertEqual([e for e in self.vm.monitor.seen(
            'NYX_DEVICE_STATE', since, device='neighbour')], [])
        self.assertNotIn('neighbour', self.faults())


class _DiskQuarantineTest(_QuarantineTest):
    @classmethod
    def add_victim(cls, vm):
        cls.disk = add_disk(vm, cls.driver, 'victim', 'common', **cls.where)

    @classmethod
    def start_victim(cls, vm):
        device = block_device(vm, 'victim')
        if cls.removed_first:
            set_disk_timeout(vm, 'victim', DISK_SECONDS)
        return disk_load(vm, 'victim', device, 16, 8)

    def check_victim(self):
        device = block_device(self.vm, 'victim', DRIVER_SECONDS)
        self.assertEqual(disk_sum(self.vm, device, 0, 4),
                         sha256(self.disk.read(0, 4)))
        self.assertEqual(write_random(self.vm, device, 32, 4),
                         sha256(self.disk.read(32, 4)))


class _VirtioDiskQuarantineTest(_DiskQuarantineTest):
    """Linux waits without end for a request to a virtio disk.

    So does whoever takes the disk out of the guest while one is under way; the
    guest has to start anew, and then the recovered disk works.
    """

    def recover_and_rebind(self):
        self.recover()
        self.check_neighbour('before the guest starts anew')
        self.assertEqual(self.vm.trouble(), [])
        self.vm.reset()
        self.load = disk_load(self.vm, 'neighbour',
                              block_device(self.vm, 'neighbour'), 16, 8)


class _NicQuarantineTest(_QuarantineTest):
    # These drivers warn when registers read all-ones or nothing is sent.
    allowed_trouble = ('NETDEV WATCHDOG', 'igb_rd32')

    @classmethod
    def add_victim(cls, vm):
        cls.nic = add_nic(vm, cls.driver, 'victim', 'common', **cls.where)

    @classmethod
    def start_victim(cls, vm):
        bring_up(vm, cls.nic)
        return network_load(vm, 'victim', cls.server, cls.nic)

    def check_victim(self):
        bring_up(self.vm, self.nic, DRIVER_SECONDS)
        url = self.server.url(self.nic)
        self.assertEqual(fetch_sum(self.vm, url), self.server.sha256)


@needs_nyx
class SoundTest(_QuarantineTest):
    """Its load plays short pieces, one after another."""

    driver = 'ich9-intel-hda'

    @classmethod
    def add_victim(cls, vm):
        vm.add('-audiodev', 'none,id=none')
        vm.device(cls.driver, ['snd_hda_codec_generic', 'snd_hda_intel',
                               'snd_pcm_oss'], 'common', id='victim')
        vm.device('hda-output', bus='victim.0', audiodev='none')

    @classmethod
    def start_victim(cls, vm):
        vm.agent.wait('[ -c /dev/dsp ]')
        return sound_load(vm, 'victim')

    def check_victim(self):
        self.vm.agent.wait('[ -c /dev/dsp ]', DRIVER_SECONDS)
        self.vm.agent.check('timeout 20 nyx-play /dev/dsp 500')


@needs_nyx
class DisplayTest(GuestTest):
    """A display has no DMA; its memory vanishes under the guest's driver."""

    @classmethod
    def describe(cls, vm):
        add_display(vm, 'victim')

    def test_quarantine_and_recovery(self):
        vm = self.vm
        address = pci_address(vm, 'victim')
        draw(vm, 'aZbY')
        self.assertTrue(wait_shown(vm, 'victim', 'aZbY'))
        vm.monitor.command('nyx-quarantine-device', device='victim')
        draw(vm, 'cXdW')
        self.assertFalse(wait_shown(vm, 'victim', 'cXdW'),
                         'it went through to a device in quarantine')
        vm.monitor.command('nyx-recover-device', device='victim')
        self.assert_state('victim', 'operational')
        vm.agent.check(f'echo 1 >/sys/bus/pci/devices/{address}/remove && '
                       'echo 1 >/sys/bus/pci/rescan', DRIVER_SECONDS)
        vm.agent.wait('[ -c /dev/fb0 ]', DRIVER_SECONDS)
        draw(vm, 'cXdW')
        self.assertTrue(wait_shown(vm, 'victim', 'cXdW'))


@needs_nyx
class FaultLimitTest(_DiskQuarantineTest):
    """A disk that goes past its limit by itself, in a shared domain."""

    driver = 'nvme'
    removed_first = True

    def quarantine(self):
        monitor = self.vm.monitor
        where = self.vm.agent.check('cat /run/load/victim.log').split()[1]
        page = int(where, 16)
        since = monitor.position()
        monitor.command('nyx-set-policy', device='victim', max_faults=3)
        monitor.command('nyx-unmap', domain='common', iova=page, size=4096)
        monitor.wait_event('NYX_FAULT_LIMIT', since, device='victim',
                           action='quarantine')
        monitor.wait_event('NYX_DEVICE_STATE', since, device='victim',
                           new='quarantined')
        monitor.command('nyx-map', domain='common', iova=page, gpa=page,
                        size=4096, access='rw')
        self.assert_state('victim', 'quarantined')
        self.assert_state('neighbour', 'operational')


@needs_nyx
class NvmeTest(_DiskQuarantineTest):
    driver = 'nvme'
    removed_first = True


@needs_nyx
class VirtioBlkTest(_VirtioDiskQuarantineTest):
    driver = 'virtio-blk-pci'


@needs_nyx
class VirtioScsiTest(_VirtioDiskQuarantineTest):
    driver = 'virtio-scsi-pci'


@needs_nyx
class AhciTest(_DiskQuarantineTest):
    driver = 'ahci'
    removed_first = True


@needs_nyx
class XhciTest(_DiskQuarantineTest):
    driver = 'qemu-xhci'


@needs_nyx
class E1000Test(_NicQuarantineTest):
    driver = 'e1000'


@needs_nyx
class E1000eTest(_NicQuarantineTest):
    driver = 'e1000e'


@needs_nyx
class IgbTest(_NicQuarantineTest):
    driver = 'igb'


@needs_nyx
class VirtioNetTest(_NicQuarantineTest):
    driver = 'virtio-net-pci'


class _OnPort:
    """The guest is told of the quarantine by the root port above."""

    port = 'port0'
    where = {'bus': 'port0'}

    @classmethod
    def describe(cls, vm):
        vm.device('pcie-root-port', id=cls.port, chassis=1, slot=1)
        super().describe(vm)

    def quarantine(self):
        super().quarantine()
        address = pci_address(self.vm, self.port)
        self.vm.agent.wait('dmesg | grep -q '
                           f'"{address}: AER: .*Uncorrected.*{address}"')
        self.vm.agent.wait(f'dmesg | grep -q "{address}:.*UnsupReq"')


@needs_nyx
class NvmeOnPortTest(_OnPort, NvmeTest):
    pass


@needs_nyx
class E1000eOnPortTest(_OnPort, E1000eTest):
    pass


@needs_nyx
class IgbOnPortTest(_OnPort, IgbTest):
    pass


@needs_nyx
class VirtioNetOnPortTest(_OnPort, VirtioNetTest):
    pass


@needs_nyx
class ErrorHeaderTest(GuestTest):
    """The error at the port tells which request was refused."""

    @classmethod
    def describe(cls, vm):
        vm.domain('cage', default_map='none', max_faults=0)
        vm.device('pcie-root-port', id='port0', chassis=1, slot=1)
        vm.device('nyx-testdev', (), 'cage', id='rogue', bus='port0')

    def test_header(self):
        vm = self.vm
        since = vm.monitor.position()
        rogue = pci_address(vm, 'rogue')
        vm.agent.run(f'nyx-dma {rogue} write 0x1000000 64')
        vm.monitor.wait_event('NYX_DEVICE_STATE', since, device='rogue',
                              new='quarantined')
        # A write with a 64-bit address, by 01:00.0, to 0x1000000.
        self.assertEqual(rogue, '0000:01:00.0')
        vm.agent.wait('dmesg | grep -q '
                      '"TLP Header: 60000001 0100000f 00000000 01000000"')
