# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""Every kind of disk does real I/O from its own domain, without a fault."""

from nyxtest.case import GuestTest, has_nyx
from nyxtest.devices import DISK_MODELS, add_disk, medium
from nyxtest.guest import (block_device, disk_sum, sha256,
                           write_random)


class DiskTest(GuestTest):
    """One guest with a disk of every model, each in a domain of its own."""

    models = DISK_MODELS

    @classmethod
    def describe(cls, vm):
        cls.disks = {}
        for name, driver in cls.models.items():
            vm.domain(f'dom-{name}', isolation='strict')
            cls.disks[name] = add_disk(vm, driver, name, f'dom-{name}')

    def check_disk(self, name):
        disk = self.disks[name]
        device = block_device(self.vm, name)
        self.assertEqual(disk_sum(self.vm, device, 0, 8),
                         sha256(disk.read(0, 8)), 'what was read')
        self.assertEqual(write_random(self.vm, device, 16, 8),
                         sha256(disk.read(16, 8)), 'what was written')
        self.assertEqual(disk_sum(self.vm, device, 16, 8),
                         sha256(disk.read(16, 8)), 'what was read back')
        if has_nyx():
            self.assert_in_domain(name, f'dom-{name}')
            self.assertGreater(
                self.nyx_device(name)['interrupts']['delivered'], 0)
        self.assert_no_faults()

    def test_nvme(self):
        self.check_disk('nvme0')

    def test_virtio_blk(self):
        self.check_disk('vblk0')

    def test_virtio_scsi(self):
        self.check_disk('vscsi0')

    def test_ahci(self):
        self.check_disk('ahci0')

    def test_xhci_usb_storage(self):
        self.check_disk('xhci0')

    def test_file_system(self):
        """A file system on NVMe keeps what is put into it."""
        device = block_device(self.vm, 'nvme0')
        out = self.vm.agent.check(
            f'load-modules crc32c_generic ext4; mke2fs {device} >/dev/null '
            f'&& mount -t ext4 {device} /mnt && '
            'for i in 1 2 3 4 5 6; do dd if=/dev/urandom of=/mnt/$i bs=64k '
            'count=$((i * 8)) 2>/dev/null; done && '
            'cd /mnt && sha256sum 1 2 3 4 5 6 >/run/sums && cd / && '
            f'umount /mnt && mount -t ext4 {device} /mnt && cd /mnt && '
            'sha256sum -c /run/sums && cd / && umount /mnt')
        self.assertEqual(out.count(': OK'), 6)
        self.assert_no_faults()


class CdTest(GuestTest):
    """A CD in the machine's own SATA controller, in an automatic domain."""

    @classmethod
    def describe(cls, vm):
        cls.medium = medium(vm, 'cd', 16)
        vm.add(modules=['ahci', 'sr_mod'])
        vm.device('ide-cd', id='cd0', bus='ide.1', drive='cd')

    def test_read(self):
        vm = self.vm
        vm.agent.wait('[ -b /dev/sr0 ]')
        device = '/dev/sr0'
        data = self.medium.read_bytes()
        self.assertEqual(disk_sum(vm, device, 0, 16), sha256(data))
        self.assert_no_faults()

    def test_domain(self):
        if not has_nyx():
            self.skipTest('this machine has no nyx-iommu')
        found = [dev for dev in
                 self.vm.monitor.command('query-nyx-devices')
                 if dev['driver'] == 'ich9-ahci']
        self.assertEqual(len(found), 1)
        domain = found[0]['domain']
        self.assertTrue([d for d in
                         self.vm.monitor.command('query-nyx-domains')
                         if d['id'] == domain and d['automatic']])
