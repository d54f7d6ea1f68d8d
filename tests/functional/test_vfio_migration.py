# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""Devices of the host move from QEMU to QEMU, as far as their domains let QEMU
know what they have written.
"""

from nested.case import NestedTest
from nested.kernel import iommufd_image
from nested.mtty import SCRATCH, Mtty, create_mtty, needs_mtty, remove_mtty
from nyxtest.errors import GuestDied
from nyxtest.migration import await_migration, state_of
from qemu.qmp.qmp_client import ExecuteError

SLOT = 1
SECONDS = 120
PAGE = 0x1000
SLOWLY = 4096                   # bytes/s: a migration that does not end
DOMAINS = ('-object', 'nyx-domain,id=d', '-object', 'nyx-domain,id=other',
           '-object', 'nyx-domain,id=team,isolation=shared',
           '-object', 'nyx-domain,id=free,isolation=unmanaged',
           '-object', 'nyx-domain,id=closed,default-map=none')
VTD = 'nyx-pc,stage1=intel'
VTD_BASE = 0xfed90000           # registers: VT-d specification, chapter 11
GLOBAL_COMMAND, ROOT_TABLE = 0x18, 0x20
TRANSLATE, SET_ROOT_TABLE = 1 << 31, 1 << 30
EMPTY_PAGE = 0x200000
ACPI_HOTPLUG = 0xcc0            # ports: docs/specs/acpi_pci_hotplug


def translate(inner, enable):
    """What a guest does that has its IOMMU translate, here: to nothing."""
    inner.qtest.writeq(VTD_BASE + ROOT_TABLE, EMPTY_PAGE)
    inner.qtest.writel(VTD_BASE + GLOBAL_COMMAND, SET_ROOT_TABLE)
    inner.qtest.writel(VTD_BASE + GLOBAL_COMMAND, TRANSLATE if enable else 0)


def eject(inner, port):
    """The guest's part of device_del below a port."""
    bus = inner.monitor.command('qom-get', property='acpi-pcihp-bsel',
                                path=f'/machine/peripheral/{port}/{port}')
    inner.qtest.outl(ACPI_HOTPLUG + 0x10, bus)
    inner.qtest.outl(ACPI_HOTPLUG + 0x08, 1)


class _MttyTest(NestedTest):
    """No guest runs: qtest moves the registers of the serial port."""

    iommufd = None          # id of an object, for iommufd in place of type1

    @classmethod
    def _image(cls):
        return iommufd_image()

    @classmethod
    def prepare(cls, host):
        needs_mtty(host)

    def words(self, domain):
        """Properties of a new serial port"""
        path = create_mtty(self.host)
        self.addCleanup(remove_mtty, self.host, path)
        words = {'driver': 'vfio-pci', 'id': 'tty', 'sysfsdev': path,
                 'nyx-domain': domain}
        if self.iommufd:
            words['iommufd'] = self.iommufd
        return words

    def run_qemu(self, side, *arguments, **options):
        if self.iommufd:
            arguments += '-object', f'iommufd,id={self.iommufd}'
        return self.inner(*DOMAINS, *arguments, slot=side, **options)

    def start(self, side, *arguments, domain='d', **options):
        """QEMU 0 or 1, each with a serial port of its own."""
        words = {**self.words(domain), 'addr': SLOT}
        return self.run_qemu(side, *arguments, '-device', ','.join(
            f'{name}={value}' for name, value in words.items()), **options)

    def pair(self, **options):
        source = self.start(0, **options)
        tty = Mtty(source, SLOT)
        tty.place()
        tty.write(SCRATCH, 0xa5)
        tty.send(b'on its way')
        return source, tty

    def destination(self, **options):
        there = self.start(1, '-incoming', 'defer', **options)
        self.uri = f'unix:/run/inner/{self.id().rsplit(".", 1)[-1]}'
        there.monitor.command('migrate-incoming', uri=self.uri)
        return there

    def migrate(self, source, there):
        """All is as it was; the port with its bytes, too."""
        since = there.monitor.position()
        source.monitor.command('migrate', uri=self.uri)
        await_migration(source, 'completed', seconds=SECONDS)
        there.monitor.wait_event('RESUME', since, seconds=SECONDS)
        self.assertEqual(state_of(there.monitor), state_of(source.monitor))
        return Mtty(there, SLOT)

    def obstacles(self, inner):
        told = inner.monitor.command('query-nyx-migration')
        blocked = inner.monitor.command('query-migrate')
        self.assertEqual([o['reason'] for o in told['obstacles']],
                         blocked.get('blocked-reasons', []))
        self.assertEqual(told['ready'], not told['obstacles'])
        return [o['reason'] for o in told['obstacles']]

    def assert_arrived(self, tty):
        self.assertEqual(tty.read(SCRATCH), 0xa5)
        self.assertEqual(tty.receive(), b'on its way')

    def check_moves(self, dma='pass-through', **options):
        source, _ = self.pair(**options)
        self.assertEqual(self.device(source, 'tty')['dma'], dma)
        self.assertEqual(self.obstacles(source), [])
        there = self.destination(**options)
        self.assert_arrived(self.migrate(source, there))
        return there

    def test_all_ram(self):
        self.check_moves()

    def test_shared(self):
        self.check_moves(domain='team')

    def test_unmanaged(self):
        self.check_moves(dma='unmanaged', domain='free')

    def test_table(self):
        """What its domain has of its own keeps it here, until it leaves."""
        source, _ = self.pair()
        command = source.monitor.command
        command('nyx-unmap', domain='d', iova=0x100000, size=PAGE)
        self.assertEqual(self.device(source, 'tty')['dma'], 'translating')
        reason, = self.obstacles(source)
        self.assertIn("VFIO device 'tty' cannot migrate from domain 'd', "
                      'which does not have all RAM', reason)
        with self.assertRaisesRegex(ExecuteError, "'tty' cannot migrate"):
            command('migrate', uri='unix:/run/inner/nowhere')
        command('nyx-assign-device', device='tty', domain='other')
        self.assertEqual(self.obstacles(source), [])
        self.assert_arrived(self.migrate(source, self.destination()))

    def test_table_from_the_start(self):
        source, _ = self.pair(domain='closed')
        self.assertEqual(len(self.obstacles(source)), 1)
        source.monitor.command('nyx-assign-device', device='tty', domain='d')
        self.assertEqual(self.obstacles(source), [])

    def test_hotplug(self):
        """What is not there any more is in nobody's way."""
        source = self.run_qemu(0, '-device',
                               f'pcie-root-port,id=rp,slot=1,addr={SLOT}')
        command = source.monitor.command
        for domain, reasons in (('closed', 1), ('d', 0), ('closed', 1)):
            command('device_add', bus='rp', **self.words(domain))
            self.assertEqual(len(self.obstacles(source)), reasons)
            since = source.monitor.position()
            command('device_del', id='tty')
            eject(source, 'rp')
            source.monitor.wait_event('DEVICE_DELETED', since, device='tty')
            self.assertEqual(self.obstacles(source), [])

    def test_only_migratable(self):
        with self.assertRaisesRegex(GuestDied, 'only-migratable'):
            self.start(0, '-only-migratable', domain='closed')
        self.start(0, '-only-migratable')

    def test_quarantined(self):
        """It arrives cut off."""
        source, _ = self.pair()
        source.monitor.command('nyx-quarantine-device', device='tty')
        self.assertEqual(self.obstacles(source), [])
        there = self.destination()
        tty = self.migrate(source, there)
        self.assertEqual(self.device(there, 'tty')['state'], 'quarantined')
        self.assertEqual(tty.read(SCRATCH), 0xff)
        self.assertEqual(self.obstacles(there), [])

    def test_stage1(self):
        """The guest decides, and may decide otherwise at any time."""
        source, _ = self.pair(machine=VTD)
        self.assertEqual(self.obstacles(source), [])
        for _ in range(2):
            translate(source, True)
            self.assertEqual(self.device(source, 'tty')['dma'], 'translating')
            reason, = self.obstacles(source)
            self.assertIn("'tty' cannot migrate while the guest's IOMMU "
                          'translates for it', reason)
            translate(source, False)
            self.assertEqual(self.obstacles(source), [])
        there = self.destination(machine=VTD)
        self.assert_arrived(self.migrate(source, there))

    def under_way(self, **options):
        """A migration that copies memory for as long as the test wants."""
        source, _ = self.pair(**options)
        source.qtest.write(0x1000000, bytes(range(256)) * 1024)
        source.monitor.command('migrate-set-parameters', max_bandwidth=SLOWLY)
        there = self.destination(**options)
        source.monitor.command('migrate', uri=self.uri)
        await_migration(source, 'active', seconds=SECONDS)
        return source, there

    def go_on(self, source, there):
        source.monitor.command('migrate-set-parameters', max_bandwidth=0)
        await_migration(source, 'completed', seconds=SECONDS)
        self.assertEqual(state_of(there.monitor), state_of(source.monitor))

    def test_table_meanwhile(self):
        """Nothing that would end the migration is let in."""
        source, there = self.under_way()
        command = source.monitor.command
        for name, more in (('nyx-unmap', {}), ('nyx-map', {
                'gpa': 0x100000, 'access': 'r'})):
            with self.assertRaisesRegex(ExecuteError, "'d' must keep allowing "
                                        "all RAM while VFIO device 'tty' is "
                                        'migrating'):
                command(name, domain='d', iova=0x100000, size=PAGE, **more)
        self.go_on(source, there)
        self.assert_arrived(Mtty(there, SLOT))

    def test_quarantine_meanwhile(self):
        """All RAM goes once more: nobody knows what it wrote last."""
        source, there = self.under_way()
        before = source.monitor.command('query-migrate')['ram']
        source.monitor.command('nyx-quarantine-device', device='tty')
        self.go_on(source, there)
        after = source.monitor.command('query-migrate')['ram']
        self.assertGreaterEqual(
            after['duplicate'] + after['normal'],
            before['total'] // PAGE + before['duplicate'] + before['normal'])
        self.assertEqual(self.device(there, 'tty')['state'], 'quarantined')

    def test_stage1_meanwhile(self):
        """The guest is not asked; the migration fails, and says why."""
        source, there = self.under_way(machine=VTD)
        translate(source, True)
        source.monitor.command('migrate-set-parameters', max_bandwidth=0)
        info = await_migration(source, 'failed', seconds=SECONDS)
        self.assertIn("what VFIO device 'tty' may access has changed",
                      info['error-desc'])
        self.assertEqual(source.monitor.command('query-status')['status'],
                         'running')
        there.status = 1
        self.assertEqual(there.wait_end(SECONDS), there.status)
        source.monitor.command('migrate', uri='file:/run/inner/refused')
        info = await_migration(source, 'failed', seconds=SECONDS)
        self.assertIn("'tty' cannot migrate while", info['error-desc'])
        self.assertEqual(len(self.obstacles(source)), 1)
        translate(source, False)
        self.assertEqual(self.obstacles(source), [])


class Type1Test(_MttyTest):
    """VFIO's first interface"""


class IommufdTest(_MttyTest):
    """The newer one"""

    iommufd = 'iommufd0'
