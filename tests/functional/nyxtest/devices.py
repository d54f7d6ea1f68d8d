# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""Disks and network cards for a VM, each with something to check at its end.

Every disk is a file of random bytes in the VM's folder. Every network card has
a network of its own in which the host's loopback is reachable.
"""

import os
from dataclasses import dataclass
from pathlib import Path

MIB = 1 << 20
DISK_MIB = 64

# Driver of the PCI function -> guest modules, driver of the disk behind it.
CONTROLLERS = {
    'nvme': (['nvme'], None),
    'virtio-blk-pci': (['virtio_pci', 'virtio_blk'], None),
    'virtio-scsi-pci': (['virtio_pci', 'virtio_scsi', 'sd_mod'], 'scsi-hd'),
    'ahci': (['ahci', 'sd_mod', 'sr_mod'], 'ide-hd'),
    'qemu-xhci': (['xhci_pci', 'usb_storage', 'sd_mod'], 'usb-storage'),
}
NICS = {
    'e1000': ['e1000'],
    'e1000e': ['e1000e'],
    'igb': ['igb'],
    'virtio-net-pci': ['virtio_pci', 'virtio_net'],
}


# qdev id and driver of each model, for tests that have one of every kind
DISK_MODELS = {'nvme0': 'nvme', 'vblk0': 'virtio-blk-pci',
               'vscsi0': 'virtio-scsi-pci', 'ahci0': 'ahci',
               'xhci0': 'qemu-xhci'}
NIC_MODELS = {'e1000': 'e1000', 'e1000e': 'e1000e', 'igb': 'igb',
              'vnet': 'virtio-net-pci'}


@dataclass(frozen=True)
class Disk:
    name: str       # qdev id of the PCI function
    path: Path      # the file on the host

    def read(self, first_mib, size_mib):
        """What the host finds on the disk."""
        with self.path.open('rb') as file:
            file.seek(first_mib * MIB)
            return file.read(size_mib * MIB)


@dataclass(frozen=True)
class Nic:
    name: str       # qdev id of the PCI function
    address: str    # the guest's
    host: str       # the host's loopback, as the guest sees it


def medium(vm, name, size_mib=DISK_MIB):
    """A file of random bytes, as the block node of this name."""
    vm.folder.mkdir(parents=True, exist_ok=True)
    path = vm.folder / f'{name}.raw'
    with path.open('wb') as file:
        for _ in range(size_mib):
            file.write(os.urandom(MIB))
    vm.add('-blockdev', f'driver=file,node-name={name},filename={path}')
    return path


def add_disk(vm, driver, name, domain=None, **properties):
    """A PCI function of this driver with a disk behind it."""
    modules, inner = CONTROLLERS[driver]
    path = medium(vm, name)
    if inner is None:
        vm.device(driver, modules, domain, id=name, drive=name,
                  serial=name, **properties)
    else:
        vm.device(driver, modules, domain, id=name, **properties)
        vm.device(inner, id=f'{name}-disk', bus=f'{name}.0', drive=name)
    return Disk(name, path)


def add_nic(vm, driver, name, domain=None, **properties):
    """A network card of this driver on a user-mode network of its own."""
    number = sum(word.startswith('user,') for word in vm.arguments) + 2
    net = f'10.0.{number}'
    vm.add('-netdev', f'user,id={name}-net,net={net}.0/24,host={net}.2,'
           f'dhcpstart={net}.15,dns={net}.3')
    vm.device(driver, NICS[driver], domain, id=name, netdev=f'{name}-net',
              romfile='', **properties)
    return Nic(name, f'{net}.15', f'{net}.2')
