# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""The guest's firmware tables tell of stage 1 just what is there."""

import base64
import re
import shutil
import subprocess

from nyxtest.case import GuestTest, needs_nyx
from nyxtest.devices import add_disk, add_nic
from nyxtest.guest import pci_address
from nyxtest.iommutables import (SCOPE_BRIDGE, SCOPE_ENDPOINT, SCOPE_IOAPIC,
                                 parse_address, parse_dmar, parse_ivrs,
                                 parse_viot, requester)

BRIDGE_CLASS = '0x0604'
STAGE1_FUNCTION = requester(0, 0x17, 0)
IOAPIC = 0
# Neither of these is a device that the guest sees.
INTEL_IOAPIC_REQUESTER = requester(0xff, 0, 0)
AMD_IOAPIC_REQUESTER = requester(0, 0x14, 0)
# Header fields that iasl fills in by itself: checksum, and who made the table.
IASL_FIELDS = (slice(9, 10), slice(28, 36))
CLEAN = re.compile(r'\b0 Errors\b')


class _TablesTest(GuestTest):
    """Endpoints and ports on the root bus, and conventional PCI behind it."""

    stage1 = None
    table = None

    @classmethod
    def describe(cls, vm):
        vm.machine_options.append(f'stage1={cls.stage1}')
        vm.device('pcie-root-port', id='port0', chassis=1, slot=1)
        vm.device('pcie-root-port', id='empty', chassis=2, slot=2)
        vm.device('pcie-pci-bridge', id='bridge')
        add_disk(vm, 'virtio-blk-pci', 'on-port', bus='port0')
        add_disk(vm, 'nvme', 'on-root')
        add_nic(vm, 'e1000', 'on-bridge', bus='bridge', addr=1)

    def read(self, name):
        text = self.vm.agent.check(
            f'base64 -w0 /sys/firmware/acpi/tables/{name}')
        return base64.b64decode(text)

    def functions(self):
        """Requester ID -> class and subclass of all that the guest sees."""
        lines = self.vm.agent.check(
            'cd /sys/bus/pci/devices; '
            'for d in *; do echo $d $(cat $d/class); done').splitlines()
        return {parse_address(address): kind[:6]
                for address, kind in map(str.split, lines)}

    def on_root(self, bridges):
        return {where for where, kind in self.functions().items()
                if where < 0x100 and (kind == BRIDGE_CLASS) == bridges}

    def bus_behind(self, name):
        return int(self.vm.agent.check(
            f'ls /sys/bus/pci/devices/{pci_address(self.vm, name)}/pci_bus'
            ).split(':')[1], 16)

    def test_iasl(self):
        """iasl takes it apart and makes the same of it again."""
        if not shutil.which('iasl'):
            self.skipTest('iasl is missing; install acpica-tools')
        binary = self.read(self.table)
        path = self.vm.folder / f'{self.table}.dat'
        path.write_bytes(binary)
        apart = self.iasl('-d', path.name)
        if 'Unknown ACPI table signature' in apart:
            self.skipTest(f'this iasl does not know {self.table}')
        self.assertNotRegex(apart, r'(?i)error|invalid|unknown|warning')
        self.assertRegex(self.iasl(f'{self.table}.dsl'), CLEAN)
        again = (self.vm.folder / f'{self.table}.aml').read_bytes()
        self.assertEqual(_without_iasl_fields(again),
                         _without_iasl_fields(binary))

    def iasl(self, *arguments):
        done = subprocess.run(['iasl', *arguments], cwd=self.vm.folder,
                              stdout=subprocess.PIPE, text=True,
                              stderr=subprocess.STDOUT, check=False)
        self.assertEqual(done.returncode, 0, done.stdout)
        return done.stdout

    def test_no_other_table(self):
        names = self.vm.agent.check('ls /sys/firmware/acpi/tables').split()
        self.assertEqual({'DMAR', 'IVRS', 'VIOT'}.intersection(names),
                         {self.table})

    def test_kernel_content(self):
        """The guest's kernel finds nothing wrong with the tables."""
        self.assertNotRegex(self.vm.console(),
                            r'ACPI (BIOS )?(Error|Warning)|Firmware Bug')


def _without_iasl_fields(table):
    data = bytearray(table)
    for part in IASL_FIELDS:
        data[part] = bytes(part.stop - part.start)
    return bytes(data)


@needs_nyx
class IntelTablesTest(_TablesTest):
    stage1 = 'intel'
    table = 'DMAR'

    def test_unit(self):
        dmar = parse_dmar(self.read('DMAR'))
        self.assertEqual(dmar.address_bits, 48)
        self.assertTrue(dmar.interrupt_remapping)
        self.assertFalse(dmar.x2apic_opt_out)
        self.assertEqual(dmar.base, 0xfed90000)
        self.assertTrue(dmar.ats_all_ports, 'device-iotlb=on wants ATS')

    def test_scopes(self):
        dmar = parse_dmar(self.read('DMAR'))
        self.assertFalse(dmar.include_all)
        self.assertEqual(dmar.scopes, {
            SCOPE_ENDPOINT: self.on_root(bridges=False),
            SCOPE_BRIDGE: self.on_root(bridges=True),
            SCOPE_IOAPIC: {(IOAPIC, INTEL_IOAPIC_REQUESTER)}})
        self.assertEqual(len(dmar.scopes[SCOPE_BRIDGE]), 3)


@needs_nyx
class AmdTablesTest(_TablesTest):
    stage1 = 'amd'
    table = 'IVRS'

    def test_unit(self):
        for kind, ivhd in parse_ivrs(self.read('IVRS')).items():
            self.assertEqual(ivhd.requester, STAGE1_FUNCTION, hex(kind))
            self.assertEqual(ivhd.base, 0xfed80000, hex(kind))
            # AMD's secure device capability
            self.assertEqual(self.vm.agent.check(
                'od -An -tx1 -N1 -j'
                f'{ivhd.capability} /sys/bus/pci/devices/0000:00:17.0/config'),
                '0f')

    def test_entries(self):
        ports = [self.bus_behind(name) for name in ('port0', 'empty')]
        behind = self.bus_behind('bridge')
        blocks = parse_ivrs(self.read('IVRS'))
        self.assertEqual(set(blocks), {0x10, 0x11})
        for kind, ivhd in blocks.items():
            self.assertEqual(ivhd.selected,
                             self.on_root(True) | self.on_root(False),
                             hex(kind))
            self.assertEqual(ivhd.ranges,
                             {(bus << 8, bus << 8 | 0xff) for bus in ports})
            # What is behind a PCIe-to-PCI bridge bears the bridge's name.
            self.assertEqual(ivhd.aliases, {(behind << 8, behind << 8 | 0xff,
                                             behind << 8)})
            self.assertEqual(ivhd.ioapics, {(IOAPIC, AMD_IOAPIC_REQUESTER)})


@needs_nyx
class VirtioTablesTest(_TablesTest):
    stage1 = 'virtio'
    table = 'VIOT'

    def test_unit(self):
        self.assertEqual(parse_viot(self.read('VIOT')).requester,
                         STAGE1_FUNCTION)
        self.assertEqual(self.vm.agent.check(
            'cat /sys/bus/pci/devices/0000:00:17.0/device'), '0x1057')

    def test_ranges(self):
        last_bus = max(self.functions()) >> 8
        self.assertGreaterEqual(last_bus, self.bus_behind('empty'))
        self.assertEqual(parse_viot(self.read('VIOT')).ranges,
                         {(0, 0, 0, 0, last_bus << 8 | 0xff)})
