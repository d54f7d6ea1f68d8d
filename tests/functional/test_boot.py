# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""SeaBIOS and the Debian kernel come up with all vCPUs and all memory."""

from nyxtest.case import GuestTest
from nyxtest.devices import add_disk
from nyxtest.guest import (block_device, disk_load, disk_sum, sha256,
                           write_random)

GIB = 1 << 30


class _BootTest(GuestTest):
    """A disk is there to show DMA to whatever memory the guest gives it."""

    kib_at_least = 400 << 10

    @classmethod
    def describe(cls, vm):
        cls.disk = add_disk(vm, 'virtio-blk-pci', 'disk0')

    def test_vcpus(self):
        self.assertEqual(self.vm.agent.check('nproc'), str(self.cpus))
        self.assertEqual(len(self.vm.monitor.command('query-cpus-fast')),
                         self.cpus)

    def test_memory(self):
        words = self.vm.agent.check('grep MemTotal /proc/meminfo').split()
        self.assertGreaterEqual(int(words[1]), self.kib_at_least)

    def test_firmware(self):
        vendor = self.vm.agent.check('cat /sys/class/dmi/id/bios_vendor')
        self.assertEqual(vendor, 'SeaBIOS')

    def test_disk(self):
        device = block_device(self.vm, 'disk0')
        self.assertEqual(disk_sum(self.vm, device, 0, 8),
                         sha256(self.disk.read(0, 8)))
        self.assertEqual(write_random(self.vm, device, 16, 8),
                         sha256(self.disk.read(16, 8)))
        self.assert_no_faults()


class OneCpuTest(_BootTest):
    cpus = 1


class TwoCpusTest(_BootTest):
    cpus = 2


class FourCpusTest(_BootTest):
    cpus = 4


class EightCpusTest(_BootTest):
    cpus = 8


class MemoryAbove4GTest(_BootTest):
    """Part of the memory lies above 4 GiB, and DMA reaches it."""

    memory = '6G'
    kib_at_least = 5 * GIB >> 10

    def test_dma_above_4g(self):
        device = block_device(self.vm, 'disk0')
        load = disk_load(self.vm, 'disk0', device, 32, 8)
        load.wait_bytes(4 << 20)
        where = self.vm.agent.check('cat /run/load/disk0.log').split()[1]
        self.assertGreaterEqual(int(where, 16), 4 * GIB,
                                'the buffer lies below 4 GiB')
        self.assertEqual(load.progress().mismatches, 0)
        self.assert_no_faults()
