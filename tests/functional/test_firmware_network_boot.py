# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""Firmware boots by iPXE from the network: a program of its own, and Linux."""

import shutil
import struct
import unittest

from nyxtest.case import GuestTest, has_nyx, needs_nyx
from nyxtest.devices import NICS, Nic
from nyxtest.firmwarevm import FirmwareVM, find_ovmf
from nyxtest.guest import bring_up, fetch_sum
from nyxtest.image import GuestImage
from nyxtest.paths import LOGS
from nyxtest.stage1 import ANY_FAULT, add_stage1

SECONDS = 400
ORIGIN, COM2 = 0x7c00, 0x2f8
CODE_SIZE = 0x20
# What VM.start() waits for on the second serial port.
READY = b'agent ready\n\0'

# A program as PXE starts it, which sends READY to COM2.
PROGRAM = b''.join((
    b'\x31\xc0',                                        # xor ax, ax
    b'\x8e\xd8',                                        # mov ds, ax
    b'\xbe' + struct.pack('<H', ORIGIN + CODE_SIZE),    # mov si, READY
    b'\xac',                                            # next: lodsb
    b'\x84\xc0',                                        # test al, al
    b'\x74\x06',                                        # jz done
    b'\xba' + struct.pack('<H', COM2),                  # mov dx, COM2
    b'\xee',                                            # out dx, al
    b'\xeb\xf5',                                        # jmp next
    b'\xf4',                                            # done: hlt
    b'\xeb\xfd')).ljust(CODE_SIZE, b'\0') + READY       # jmp done

SCRIPT = '''#!ipxe
kernel vmlinuz {append} initrd=initrd
initrd initrd
boot
'''


def boot_nic(vm, driver, files, bootfile):
    """A card whose network offers these files, name -> path or bytes."""
    folder = vm.folder / 'tftp'
    folder.mkdir(parents=True)
    for name, content in files.items():
        if isinstance(content, bytes):
            (folder / name).write_bytes(content)
        else:
            (folder / name).symlink_to(content)
    vm.add('-netdev', f'user,id=net0,tftp={folder},bootfile={bootfile}')
    vm.device(driver, NICS[driver], id='nic0', netdev='net0', bootindex=0)
    return Nic('nic0', '10.0.2.15', '10.0.2.2')


@needs_nyx
class _ProgramTest(unittest.TestCase):
    stage1 = 'none'

    def check_boots(self, driver):
        folder = LOGS / f'{type(self).__module__}.{type(self).__name__}' / \
            self._testMethodName
        shutil.rmtree(folder, ignore_errors=True)
        vm = FirmwareVM(GuestImage(None, None, None), folder, 'tcg', 1, '64M')
        vm.machine_options.append(f'stage1={self.stage1}')
        boot_nic(vm, driver, {'program': PROGRAM}, 'program')
        self.addCleanup(vm.stop)
        vm.start(SECONDS)
        device = vm.monitor.command('query-nyx-devices', device='nic0')[0]
        self.assertEqual((device['dma'], device['total-faults']),
                         ('pass-through', 0))

    def test_e1000(self):
        self.check_boots('e1000')

    def test_virtio(self):
        self.check_boots('virtio-net-pci')


class NoStage1Test(_ProgramTest):
    pass


class IntelTest(_ProgramTest):
    stage1 = 'intel'


class AmdTest(_ProgramTest):
    stage1 = 'amd'


class VirtioTest(_ProgramTest):
    stage1 = 'virtio'


class _LinuxTest(GuestTest):
    """The card that Linux came from works on in it."""

    vm_class = FirmwareVM
    boot_limit = SECONDS
    stage1 = None
    driver = None

    @classmethod
    def describe(cls, vm):
        if has_nyx():
            add_stage1(vm, cls.stage1)
        cls.choose_firmware(vm)
        image = vm.image
        vm.add(modules=NICS[cls.driver])    # as they are in the script
        cls.nic = boot_nic(vm, cls.driver, {
            'boot.ipxe': SCRIPT.format(append=vm.append).encode(),
            'vmlinuz': image.kernel, 'initrd': image.initrd}, 'boot.ipxe')

    @classmethod
    def choose_firmware(cls, vm):
        """It is SeaBIOS unless this says otherwise."""

    def test_works_on(self):
        bring_up(self.vm, self.nic)
        self.assertEqual(fetch_sum(self.vm, self.server.url(self.nic)),
                         self.server.sha256)
        self.assert_no_faults()
        self.assertIsNone(ANY_FAULT.search(self.vm.console()))


class E1000LinuxTest(_LinuxTest):
    driver = 'e1000'
    stage1 = 'intel'


class VirtioLinuxTest(_LinuxTest):
    driver = 'virtio-net-pci'
    stage1 = 'amd'


class UefiLinuxTest(_LinuxTest):
    """OVMF starts what is in the card's ROM for UEFI."""

    driver = 'virtio-net-pci'
    stage1 = 'intel'

    @classmethod
    def choose_firmware(cls, vm):
        ovmf = find_ovmf(secure=False)
        if ovmf is None:
            raise unittest.SkipTest('no UEFI firmware is installed; install '
                                    'the package ovmf')
        vm.use_ovmf(ovmf)

    def test_firmware(self):
        self.assertIn('efi: EFI v2', self.vm.console())
        self.assertIn('boot.ipxe... ok', self.vm.console())
