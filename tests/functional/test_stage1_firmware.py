# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""SeaBIOS knows no IOMMU: it boots from disks past the one of its machine."""

import shutil
import struct
import unittest

from nyxtest.case import needs_nyx
from nyxtest.devices import CONTROLLERS
from nyxtest.errors import GuestTimeout
from nyxtest.image import GuestImage
from nyxtest.paths import LOGS
from nyxtest.vm import VM

BOOT_SECONDS = 60
SECTOR = 512
SECTORS = 64                    # that the boot sector reads
ORIGIN, BUFFER = 0x7c00, 0x8000
PACKET = 0x40                   # where in the boot sector
LAST = BUFFER + (SECTORS - 1) * SECTOR
COM2 = 0x2f8
# What VM.start() waits for on the second serial port.
READY = b'agent ready\n\0'

# Reads sectors 1 to 64 by the BIOS, and sends the text in the last of them to
# COM2; stops at once if that fails.
CODE = b''.join((
    b'\x31\xc0',                                    # xor ax, ax
    b'\x8e\xd8',                                    # mov ds, ax
    b'\x8e\xd0',                                    # mov ss, ax
    b'\xbc' + struct.pack('<H', ORIGIN),            # mov sp, ORIGIN
    b'\xbe' + struct.pack('<H', ORIGIN + PACKET),   # mov si, packet
    b'\xb4\x42',                                    # mov ah, 0x42
    b'\xcd\x13',                                    # int 0x13
    b'\x72\xfe',                                    # jc $
    b'\xbe' + struct.pack('<H', LAST),              # mov si, LAST
    b'\xac',                                        # next: lodsb
    b'\x84\xc0',                                    # test al, al
    b'\x74\x06',                                    # jz done
    b'\xba' + struct.pack('<H', COM2),              # mov dx, COM2
    b'\xee',                                        # out dx, al
    b'\xeb\xf5',                                    # jmp next
    b'\xf4',                                        # done: hlt
    b'\xeb\xfd'))                                   # jmp done


def bootable_disk():
    first = CODE.ljust(PACKET, b'\0') + \
        struct.pack('<BBHHHQ', 16, 0, SECTORS, BUFFER, 0, 1)
    first = first.ljust(SECTOR - 2, b'\0') + b'\x55\xaa'
    return (first + bytes((SECTORS - 1) * SECTOR) +
            READY.ljust(SECTOR, b'\0')).ljust(1 << 20, b'\0')


class _DiskVM(VM):
    """A VM without kernel, which boots from its only disk."""

    def __init__(self, folder, driver, *options):
        super().__init__(GuestImage(None, None, None), folder, 'tcg', 1,
                         '64M')
        self.machine_options += options
        folder.mkdir(parents=True)
        disk = folder / 'disk.raw'
        disk.write_bytes(bootable_disk())
        self.add('-blockdev', f'driver=file,node-name=disk,filename={disk}')
        inner = CONTROLLERS[driver][1]
        if inner:
            self.device(driver, id='boot0')
            self.device(inner, bus='boot0.0', drive='disk')
        else:
            self.device(driver, id='boot0', drive='disk',
                        serial='x' if driver == 'nvme' else None)

    def _boot_arguments(self):
        return []


@needs_nyx
class _FirmwareTest(unittest.TestCase):
    kind = None

    def vm(self, driver, *options):
        folder = LOGS / f'{self.id().split(".", 1)[0]}.' \
            f'{type(self).__name__}' / self._testMethodName
        shutil.rmtree(folder, ignore_errors=True)
        vm = _DiskVM(folder, driver, f'stage1={self.kind}', *options)
        self.addCleanup(vm.stop)
        return vm

    def check_boots(self, driver):
        vm = self.vm(driver)
        vm.start(BOOT_SECONDS)
        device = vm.monitor.command('query-nyx-devices', device='boot0')[0]
        self.assertEqual((device['dma'], device['total-faults']),
                         ('pass-through', 0))
        self.assertEqual(vm.monitor.command('query-nyx-faults'), [])

    def test_virtio_blk(self):
        self.check_boots('virtio-blk-pci')

    def test_nvme(self):
        self.check_boots('nvme')

    def test_ahci(self):
        self.check_boots('ahci')


class NoStage1FirmwareTest(_FirmwareTest):
    kind = 'none'


class IntelFirmwareTest(_FirmwareTest):
    kind = 'intel'


class AmdFirmwareTest(_FirmwareTest):
    kind = 'amd'


class VirtioFirmwareTest(_FirmwareTest):
    kind = 'virtio'

    def test_no_bypass(self):
        """Told not to let pass what it was told nothing of, it does not."""
        vm = self.vm('ahci', 'stage1.boot-bypass=off')
        with self.assertRaises(GuestTimeout):      # the disk is not read
            vm.start(1)
        event = vm.monitor.wait_event('NYX_DMA_FAULT', 0, BOOT_SECONDS,
                                      device='boot0')
        self.assertEqual(event['data']['type'], 'stage1')
