# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""VFIO devices in domains: what the host's own IOMMU then lets them do.

The VFs of an NVMe controller are told by hand what to write where, so that each
test sees real DMA arrive or be refused by the IOMMU of the host.
"""

from nested.case import NestedTest
from nested.kernel import iommufd_image
from nested.nvme import COMMAND, MEMORY_AND_MASTER, Nvme
from nyxtest.errors import GuestDied
from nyxtest.guest import pci_address
from qemu.qmp.qmp_client import ExecuteError

MIB = 1 << 20
BARS = (0xc0000000, 0xc0100000)
QUEUES, DATA, OTHER = 16 * MIB, 32 * MIB, 48 * MIB     # in the guest's memory
SYSFS = '/sys/bus/pci/devices'
ACPI_HOTPLUG = 0xcc0            # ports: docs/specs/acpi_pci_hotplug
FAR = 1 << 32                   # IOVA where no RAM of the guest is


def domain(name, **properties):
    words = [f'{key.replace("_", "-")}={value}'
             for key, value in properties.items()]
    return '-object', ','.join([f'nyx-domain,id={name}', *words])


class _DmaTest(NestedTest):
    """No guest runs: qtest moves the registers of two NVMe VFs."""

    kernel_arguments = ('iomem=relaxed',)   # see poke()
    iommufd = None              # id of an object, for iommufd in place of type1

    @classmethod
    def describe(cls, host):
        host.nvme('nvme0', 2)
        # Two functions without ACS: the host's IOMMU has one group for them.
        for function, extra in ((0, ',multifunction=on'), (1, '')):
            host.add('-device', f'e1000,id=pair{function},romfile=,'
                     f'addr=8.{function}{extra}')

    @classmethod
    def prepare(cls, host):
        cls.vfs = host.create_nvme_vfs('nvme0', 2)
        cls.pair = [pci_address(host, f'pair{n}') for n in (0, 1)]
        for address in cls.pair:
            host.bind_vfio(address)

    def vfio(self, address, name, domain=None, **properties):
        words = [f'vfio-pci,host={address},id={name}']
        if domain:
            words.append(f'nyx-domain={domain}')
        # A function of the root bus, and not below one of the machine's ports
        properties.setdefault('bus', 'pcie.0')
        if self.iommufd:
            words.append(f'iommufd={self.iommufd}')
        words += [f'{key.replace("_", "-")}={value}'
                  for key, value in properties.items()]
        return '-device', ','.join(words)

    def inner(self, *arguments, **options):
        if self.iommufd:
            arguments = ('-object', f'iommufd,id={self.iommufd}', *arguments)
        return super().inner(*arguments, **options)

    def nvme(self, inner, number=0, iova=QUEUES, slot=1):
        """The VF as PCI function of this slot, its queues set up."""
        memory = QUEUES + number * MIB
        nvme = Nvme(inner.qtest, slot << 3, BARS[number],
                    iova + number * MIB, memory)
        nvme.place()
        nvme.enable()
        return nvme

    def test_strict_with_ram(self):
        """All RAM, and nothing but RAM."""
        inner = self.inner(*domain('d'), *self.vfio(self.vfs[0], 'v0', 'd'))
        nvme = self.nvme(inner)
        info = self.device(inner, 'v0')
        self.assertEqual((info['domain'], info['backend'], info['dma'],
                          info['faults-observable']),
                         ('d', 'vfio', 'pass-through', False))
        self.assertTrue(nvme.delivers(DATA, DATA))
        self.assertTrue(nvme.delivers(255 * MIB, 255 * MIB))
        self.assertFalse(nvme.delivers(FAR, DATA))
        self.host.wait_iommu_fault(self.vfs[0], FAR)

    def test_windows(self):
        """default-map=none: what nyx-map says, as it changes."""
        inner = self.inner(*domain('d', default_map='none'),
                           *self.vfio(self.vfs[0], 'v0', 'd'))
        command = inner.monitor.command
        command('nyx-map', domain='d', iova=FAR, gpa=QUEUES, size=2 * MIB,
                access='rw')
        nvme = self.nvme(inner, iova=FAR)
        self.assertEqual(self.device(inner, 'v0')['dma'], 'translating')
        self.assertFalse(nvme.delivers(DATA, DATA))
        self.host.wait_iommu_fault(self.vfs[0], DATA)
        command('nyx-map', domain='d', iova=DATA, gpa=DATA, size=MIB,
                access='rw')
        self.assertTrue(nvme.delivers(DATA, DATA))
        self.assertTrue(nvme.delivers(DATA + MIB - 0x1000,
                                      DATA + MIB - 0x1000))
        self.assertFalse(nvme.delivers(DATA + MIB, DATA + MIB))
        command('nyx-unmap', domain='d', iova=DATA, size=MIB)
        self.assertFalse(nvme.delivers(DATA, DATA))
        command('nyx-map', domain='d', iova=DATA, gpa=OTHER, size=MIB,
                access='rw')
        self.assertTrue(nvme.delivers(DATA, OTHER))
        self.assertFalse(nvme.delivers(DATA, DATA))

    def test_read_only_window(self):
        inner = self.inner(*domain('d'), *self.vfio(self.vfs[0], 'v0', 'd'))
        command = inner.monitor.command
        nvme = self.nvme(inner)
        command('nyx-unmap', domain='d', iova=DATA, size=2 * MIB)
        command('nyx-map', domain='d', iova=DATA, gpa=DATA, size=MIB,
                access='r')
        self.assertFalse(nvme.delivers(DATA, DATA))
        self.assertFalse(nvme.delivers(DATA + MIB, DATA + MIB))
        self.assertTrue(nvme.delivers(OTHER, OTHER))

    def test_hole_in_large_mapping(self):
        """A page taken out of a large mapping, and put back."""
        inner = self.inner(*domain('d'), *self.vfio(self.vfs[0], 'v0', 'd'))
        command = inner.monitor.command
        nvme = self.nvme(inner)
        hole = DATA + 0x5000
        command('nyx-unmap', domain='d', iova=hole, size=0x1000)
        self.assertFalse(nvme.delivers(hole, hole))
        self.assertTrue(nvme.delivers(hole - 0x1000, hole - 0x1000))
        self.assertTrue(nvme.delivers(hole + 0x1000, hole + 0x1000))
        command('nyx-map', domain='d', iova=hole, gpa=hole, size=0x1000,
                access='rw')
        self.assertTrue(nvme.delivers(hole, hole))

    def poke(self, address, tail):
        """Ring the doorbell of a VF past all of QEMU."""
        self.host.agent.check(f'read start rest <{SYSFS}/{address}/resource && '
                              f'devmem $((start + 0x1000)) 32 {tail}')

    def bus_master(self, address):
        """Bit 2 of the real command register."""
        text = self.host.agent.check(f'dd if={SYSFS}/{address}/config bs=1 '
                                     'skip=4 count=1 2>/dev/null | od -An -tu1')
        return bool(int(text) & 4)

    def force_bus_master(self, address):
        self.host.agent.check("printf '\\006' | dd bs=1 seek=4 conv=notrunc "
                              f'of={SYSFS}/{address}/config 2>/dev/null')

    def test_quarantine(self):
        """Cut off by the host's IOMMU; works again after a VFIO reset."""
        inner = self.inner(*domain('d'), *self.vfio(self.vfs[0], 'v0', 'd'))
        command = inner.monitor.command
        nvme = self.nvme(inner)
        self.assertTrue(nvme.delivers(DATA, DATA))
        tail = nvme.queue_identify(DATA)
        inner.qtest.write(DATA, bytes(4096))
        command('nyx-quarantine-device', device='v0')
        info = self.device(inner, 'v0')
        self.assertEqual((info['state'], info['dma']),
                         ('quarantined', 'blocked'))
        self.assertEqual(nvme.status(), 0xffffffff)
        self.assertFalse(self.bus_master(self.vfs[0]))
        # The real device is made to go on, as broken hardware would.
        self.force_bus_master(self.vfs[0])
        self.poke(self.vfs[0], tail)
        self.host.wait_iommu_fault(self.vfs[0], QUEUES)
        self.assertEqual(inner.qtest.read(DATA, 4096), bytes(4096))
        command('nyx-recover-device', device='v0')
        self.assertEqual(self.device(inner, 'v0')['state'], 'operational')
        nvme.enable()
        self.assertTrue(nvme.delivers(DATA, DATA))

    def check_one_container(self):
        """All that QEMU has open is in one container of the host."""
        self.assertEqual(self.host.agent.check(
            'ls -l /proc/$(pidof qemu)/fd | grep -c /dev/vfio/vfio$'), '1')

    def test_shared_domain(self):
        """Two VFs, one set of mappings; quarantine of one spares the other."""
        inner = self.inner(*domain('d', isolation='shared'),
                           *self.vfio(self.vfs[0], 'v0', 'd', addr='1'),
                           *self.vfio(self.vfs[1], 'v1', 'd', addr='2'))
        command = inner.monitor.command
        nvmes = [self.nvme(inner, number, slot=number + 1)
                 for number in (0, 1)]
        command('nyx-unmap', domain='d', iova=DATA, size=MIB)
        for nvme in nvmes:
            self.assertFalse(nvme.delivers(DATA, DATA))
            self.assertTrue(nvme.delivers(OTHER, OTHER))
        self.check_one_container()
        tail = nvmes[0].queue_identify(OTHER)
        inner.qtest.write(OTHER, bytes(4096))
        command('nyx-quarantine-device', device='v0')
        self.assertEqual(nvmes[0].status(), 0xffffffff)
        # The mappings are the other's, too: the device itself must be still.
        inner.qtest.config_write(1 << 3, COMMAND, MEMORY_AND_MASTER, 2)
        self.assertFalse(self.bus_master(self.vfs[0]))
        self.poke(self.vfs[0], tail)
        self.assertEqual(inner.qtest.read(OTHER, 4096), bytes(4096))
        self.assertTrue(nvmes[1].delivers(OTHER, OTHER))
        command('nyx-recover-device', device='v0')
        nvmes[0].enable()
        self.assertTrue(nvmes[0].delivers(OTHER, OTHER))
        self.assertFalse(nvmes[0].delivers(DATA, DATA))

    def test_move_between_domains(self):
        """nyx-assign-device changes what the host's IOMMU allows."""
        inner = self.inner(*domain('all'), *domain('some', default_map='none'),
                           *self.vfio(self.vfs[0], 'v0', 'all'))
        command = inner.monitor.command
        nvme = self.nvme(inner)
        command('nyx-map', domain='some', iova=QUEUES, gpa=QUEUES, size=MIB,
                access='rw')
        command('nyx-assign-device', device='v0', domain='some')
        self.assertFalse(nvme.delivers(DATA, DATA))
        command('nyx-assign-device', device='v0', domain='all')
        self.assertTrue(nvme.delivers(DATA, DATA))

    def test_reset_of_vm(self):
        """A reset of the VM resets the VF, and leaves the windows."""
        inner = self.inner(*domain('d'), *self.vfio(self.vfs[0], 'v0', 'd'))
        nvme = self.nvme(inner)
        inner.monitor.command('nyx-unmap', domain='d', iova=DATA, size=MIB)
        since = inner.monitor.position()
        inner.monitor.command('system_reset')
        inner.monitor.wait_event('RESET', since)
        nvme.place()
        self.assertEqual(nvme.status(), 0)
        nvme.enable()
        self.assertTrue(nvme.delivers(OTHER, OTHER))
        self.assertFalse(nvme.delivers(DATA, DATA))

    def eject(self, inner, port):
        """What a guest's ACPI does when it is asked to let go of a device."""
        bus = inner.monitor.command(
            'qom-get', path=f'/machine/peripheral/{port}/{port}',
            property='acpi-pcihp-bsel')
        inner.qtest.outl(ACPI_HOTPLUG + 0x10, bus)
        inner.qtest.outl(ACPI_HOTPLUG + 0x08, 1)

    def test_hotplug(self):
        """A VF comes and goes while the VM runs."""
        inner = self.inner(*domain('d'), '-device',
                           'pcie-root-port,id=rp,slot=1,addr=1')
        command = inner.monitor.command
        for _ in range(2):
            command('device_add', driver='vfio-pci', id='v0', bus='rp',
                    host=self.vfs[0], nyx_domain='d', iommufd=self.iommufd)
            self.assertEqual(self.device(inner, 'v0')['domain'], 'd')
            since = inner.monitor.position()
            command('device_del', id='v0')
            self.eject(inner, 'rp')
            inner.monitor.wait_event('DEVICE_DELETED', since, device='v0')

    def plug_memory(self, inner, number):
        """Another 128 MiB; returns where they are."""
        command = inner.monitor.command
        command('object-add', qom_type='memory-backend-ram', id=f'm{number}',
                size=128 * MIB)
        command('device_add', driver='pc-dimm', id=f'dimm{number}',
                memdev=f'm{number}')
        return [dimm['data']['addr'] for dimm in
                command('query-memory-devices')
                if dimm['data']['id'] == f'dimm{number}'][0]

    def test_memory_hotplug(self):
        """New RAM is the device's, too: as is, and by a table."""
        inner = self.inner(*domain('d'), *self.vfio(self.vfs[0], 'v0', 'd'),
                           memory='256M,slots=2,maxmem=1G')
        nvme = self.nvme(inner)
        where = self.plug_memory(inner, 0)
        self.assertTrue(nvme.delivers(where, where))
        inner.monitor.command('nyx-unmap', domain='d', iova=DATA, size=MIB)
        self.assertTrue(nvme.delivers(where, where))
        where = self.plug_memory(inner, 1)
        self.assertTrue(nvme.delivers(where, where))
        self.assertFalse(nvme.delivers(DATA, DATA))

    def test_many_mappings(self):
        """More pages than type1 has room for, of which two are cut out."""
        inner = self.inner(*domain('d', large_pages='off'),
                           *self.vfio(self.vfs[0], 'v0', 'd'), memory='512M')
        nvme = self.nvme(inner)
        for hole in (DATA, DATA + 2 * MIB):
            inner.monitor.command('nyx-unmap', domain='d', iova=hole,
                                  size=0x1000)
            self.assertFalse(nvme.delivers(hole, hole))
        for good in (DATA + 0x1000, OTHER, 511 * MIB):
            self.assertTrue(nvme.delivers(good, good))

    def test_strict_domain_holds_one(self):
        with self.assertRaisesRegex(GuestDied, "'d' is strict"):
            self.inner(*domain('d'), *self.vfio(self.vfs[0], 'v0', 'd'),
                       *self.vfio(self.vfs[1], 'v1', 'd'))

    def test_group_of_the_host(self):
        """What the host cannot tell apart is in one domain."""
        group = self.host.group(self.pair[0])
        self.assertEqual(self.host.group(self.pair[1]), group)
        first = [self.vfio(self.pair[0], 'p0'),
                 self.vfio(self.pair[0], 'p0', 'd')]
        said = f"device 'p1': it is in IOMMU group {group} of the host like " \
            "device 'p0'"
        with self.assertRaisesRegex(GuestDied, f"{said}.*isolation=shared"):
            self.inner(*first[0], *self.vfio(self.pair[1], 'p1'))
        with self.assertRaisesRegex(GuestDied, f"{said}.*domain 'd'"):
            self.inner(*domain('d', isolation='shared'), *first[1],
                       *self.vfio(self.pair[1], 'p1'))
        with self.assertRaisesRegex(GuestDied, f'{said}.*stage1=intel'):
            self.inner(*domain('d', isolation='shared'), *first[1],
                       *self.vfio(self.pair[1], 'p1', 'd'),
                       machine='nyx-pc,stage1=intel')
        inner = self.inner(*domain('d', isolation='shared'), *first[1],
                           *self.vfio(self.pair[1], 'p1', 'd'))
        self.check_one_container()
        for name in ('p0', 'p1'):
            self.assertEqual(self.device(inner, name)['domain'], 'd')
        # These cards on the root bus have no kind of reset.
        inner.monitor.command('nyx-quarantine-device', device='p0')
        with self.assertRaisesRegex(ExecuteError, 'cannot reset the device'):
            inner.monitor.command('nyx-recover-device', device='p0')
        self.assertEqual(self.device(inner, 'p0')['state'], 'failed')
        self.assertEqual(self.device(inner, 'p1')['state'], 'operational')

    def test_unmanaged_group_of_the_host(self):
        self.inner(*self.vfio(self.pair[0], 'p0'),
                   *self.vfio(self.pair[1], 'p1'),
                   machine='nyx-pc,default-isolation=unmanaged')
        self.check_one_container()


class Type1Test(_DmaTest):
    """VFIO's first interface, which every host has."""


class IommufdTest(_DmaTest):
    """The newer one, for which Debian's kernels are not configured."""

    iommufd = 'iommufd0'

    @classmethod
    def _image(cls):
        return iommufd_image()

    def check_one_container(self):
        """The kernel does not show the I/O address spaces of an iommufd."""
