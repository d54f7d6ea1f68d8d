# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""UEFI boots Debian's signed shim, GRUB and kernel; by Secure Boot no others.

Each class boots once, past a stage 1. The firmware refuses what is on the
first disk, what is on the second one is refused by shim, and on the last one
there is also a kernel that GRUB refuses. Which disk is the last differs from
class to class; NYX_FIRMWARE_LAST=nvme0, vblk0 or ahci0 makes it that one in
all of them.
"""

import hashlib
import os
import unittest

from nyxtest import bootdisk, eventlog
from nyxtest.case import GuestTest, needs_nyx
from nyxtest.errors import NyxTestError
from nyxtest.firmwarevm import REFUSED, FirmwareVM, find_ovmf
from nyxtest.guest import block_device, disk_sum
from nyxtest.stage1 import ANY_FAULT, MODELS, add_stage1
from nyxtest.tpm import BANKS, needs_swtpm
from nyxtest.tpmtools import event_log, pcr

SECONDS = 500
SUM_MIB = 4
DRIVERS = {'nvme0': 'nvme', 'vblk0': 'virtio-blk-pci', 'ahci0': 'ahci'}
# Of what a firmware and what it starts measure; Linux's own begin at 10.
FIRMWARE_PCRS = {*range(10), 14}

VERIFIED = '''echo "nyx: GRUB of {name}"
if linux /tampered {append}; then boot; fi
echo "nyx: tampered refused"
linux /vmlinuz {append}
initrd /initrd
boot
'''
# Without Secure Boot GRUB 2.06 starts a kernel as a BIOS would, and then the
# kernel does not learn of the event log.
UNVERIFIED = '''if linuxefi /tampered {append}; then initrdefi /initrd
else linux /tampered {append}; initrd /initrd; fi
boot
'''


@needs_nyx
@needs_swtpm
class _UefiTest(GuestTest):
    """A guest that OVMF has booted from the last of its disks."""

    vm_class = FirmwareVM
    cpus = 1                    # of which each has to come for each SMI
    boot_limit = SECONDS
    secure = True
    stage1 = None
    disks = tuple(DRIVERS)      # in the order in which the firmware tries them
    tpm_model = 'crb'

    @classmethod
    def setUpClass(cls):
        cls.ovmf = find_ovmf(cls.secure)
        if cls.ovmf is None:
            raise unittest.SkipTest('no UEFI firmware is installed; install '
                                    'the package ovmf')
        cls.rare_module = cls.stage1 and MODELS[cls.stage1].rare_module
        super().setUpClass()

    @classmethod
    def describe(cls, vm):
        vm.use_ovmf(cls.ovmf)
        vm.tpm_model = cls.tpm_model
        if cls.stage1:
            add_stage1(vm, cls.stage1)
        for name in cls.disks:
            vm.boot_disk(DRIVERS[name], name)
        cls.files = bootdisk.boot_files(vm.image)
        for name in cls.disks:
            cls.write_disk(vm, name)

    @classmethod
    def write_disk(cls, vm, name):
        """Put on the disk what it boots."""
        raise NotImplementedError

    def check_measured(self, *parts):
        """The TPM holds what the event log says, and GRUB measured these
        files as they are on the disk.
        """
        log = event_log(self.vm)
        for bank in BANKS:
            expected = eventlog.replay(log, bank)
            self.assertGreaterEqual(set(expected), FIRMWARE_PCRS)
            for number in FIRMWARE_PCRS:
                self.assertEqual(pcr(self.vm, bank, number), expected[number],
                                 (bank, number))
            seen = {event.digests[bank] for event in log if event.pcr == 9}
            for data in parts:
                self.assertIn(hashlib.new(bank, data).digest(), seen, bank)
        words = ' '.join(self.vm.append.split()).encode()
        self.assertTrue(any(words in event.data for event in log
                            if event.pcr == 8), 'the command line')


class _SecureBootTest(_UefiTest):
    # What has a bit changed on the first disks
    tampered = 'shim', 'grub'

    @classmethod
    def describe(cls, vm):
        last = os.environ.get('NYX_FIRMWARE_LAST', cls.disks[-1])
        if last not in DRIVERS:
            raise NyxTestError(f'NYX_FIRMWARE_LAST={last} is unknown; say '
                               f'{", ".join(DRIVERS)}.')
        cls.disks = (*(name for name in cls.disks if name != last), last)
        super().describe(vm)

    @classmethod
    def write_disk(cls, vm, name):
        files = cls.files
        broken = dict(zip(cls.disks, cls.tampered)).get(name)
        shim, grub = (files.tampered(part) if part == broken
                      else files.data(part) for part in ('shim', 'grub'))
        vm.write_boot_disk(
            name, shim, grub, VERIFIED.format(name=name, append=vm.append), {
                'vmlinuz': files.data('kernel'),
                'initrd': files.data('initrd'),
                'tampered': files.tampered('kernel')})

    def test_1_boots(self):
        """The kernel knows how it was started."""
        self.assertIn(f'nyx: GRUB of {self.disks[-1]}', self.vm.console())
        self.assertIn('BOOT_IMAGE=/vmlinuz ', self.vm.console())
        self.assertIn('Secure boot enabled', self.vm.console())
        self.assertIn('locked down from EFI Secure Boot', self.vm.console())

    def test_1_flash(self):
        """Only SMM may write what the keys are in."""
        for number in 0, 1:
            self.assertTrue(self.vm.monitor.command(
                'qom-get', path=f'/machine/system.flash{number}',
                property='secure'))

    def test_2_refused(self):
        """What has one bit changed, by each that would start it"""
        console = self.vm.console()
        self.assertRegex(console, 'failed to load Boot.*: Access Denied')
        self.assertIn(f'{REFUSED}(0x1A) Security Violation', console)
        # Newer GRUBs have other words.
        self.assertRegex(console, r'error: .*\s+nyx: tampered refused')
        for name in self.disks[:-1]:
            self.assertNotIn(f'nyx: GRUB of {name}', console)

    def test_3_disks(self):
        """The disks work on in Linux, past its IOMMU."""
        for name in self.disks:
            device = block_device(self.vm, name)
            with (self.vm.folder / f'{name}.raw').open('rb') as file:
                data = file.read(SUM_MIB << 20)
            self.assertEqual(disk_sum(self.vm, device, 0, SUM_MIB),
                             hashlib.sha256(data).hexdigest(), name)
        self.assert_no_faults()
        self.assertIsNone(ANY_FAULT.search(self.vm.console()))

    def test_3_module(self):
        """The kernel verifies its modules, too."""
        name = 'sr_mod.ko'
        data = (self.vm.image.kernel.parent / name).read_bytes()
        at = data.index(b'sr_init_command')
        self.vm.agent.check(
            f'rmmod sr_mod; cp /lib/modules/{name} /run && printf S | '
            f'dd of=/run/{name} bs=1 seek={at} conv=notrunc 2>/dev/null')
        done = self.vm.agent.run(f'insmod /run/{name}')
        self.assertNotEqual(done.status, 0)
        self.assertIn('Key was rejected by service', done.output)
        self.vm.agent.check(f'insmod /lib/modules/{name}')

    def test_4_measured(self):
        self.check_measured(self.files.data('kernel'),
                            self.files.data('initrd'))


class IntelTest(_SecureBootTest):
    stage1 = 'intel'
    disks = 'nvme0', 'ahci0', 'vblk0'


class AmdTest(_SecureBootTest):
    stage1 = 'amd'
    disks = 'vblk0', 'ahci0', 'nvme0'
    tpm_model = 'tis'


class VirtioTest(_SecureBootTest):
    stage1 = 'virtio'
    disks = 'nvme0', 'vblk0', 'ahci0'


class NoSecureBootTest(_UefiTest):
    """Without Secure Boot all of that starts, and the TPM tells it."""

    secure = False
    disks = ('vblk0',)

    @classmethod
    def write_disk(cls, vm, name):
        files = cls.files
        vm.write_boot_disk(
            name, files.tampered('shim'), files.tampered('grub'),
            UNVERIFIED.format(append=vm.append),
            {'tampered': files.tampered('kernel'),
             'initrd': files.data('initrd')})

    def test_1_boots(self):
        self.assertIn('BOOT_IMAGE=/tampered ', self.vm.console())
        self.assertIn('Secure boot disabled', self.vm.console())
        greeting = bootdisk.TEXTS['grub'].decode()
        self.assertNotIn(greeting, self.vm.console())
        self.assertIn(greeting[1:], self.vm.console())

    def test_2_measured(self):
        self.check_measured(self.files.tampered('kernel'),
                            self.files.data('initrd'))
