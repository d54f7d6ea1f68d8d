# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""Which PCI functions the host cannot do without: disks and networks in use."""

import os
import re

from .pci import ADDRESS

UP = 0x1                        # RTF_UP of the routing tables


class InUse:
    """What the host uses now: reason(address) says for what."""

    def __init__(self, kernel):
        self._kernel = kernel
        self._reasons = {}
        self._find_mounts()
        self._find_swap()
        self._find_default_routes()

    def reason(self, address):
        """What the host uses a function for, or None."""
        return self._reasons.get(address)

    def _note(self, path, reason):
        """All functions that the path of a device leads through."""
        for part in self._kernel.resolve(path).split('/'):
            if ADDRESS.fullmatch(part):
                self._reasons.setdefault(part, reason)

    def _note_block(self, path, reason, seen=()):
        """A block device and what it is made of (LVM, RAID, encryption)."""
        real = self._kernel.resolve(path)
        if real in seen:
            return
        # A partition is below its disk, which is what has slaves.
        for folder in (real, os.path.dirname(real)):
            for name in self._kernel.entries(f'{folder}/slaves'):
                self._note_block(f'{folder}/slaves/{name}', reason,
                                 (*seen, real))
        self._note(path, reason)
        # NVMe multipath: the disk belongs to no controller; its paths do.
        name = os.path.basename(real)
        if re.match(r'nvme\d+n\d+', name):
            self._note_nvme_paths(name, reason)

    def _note_nvme_paths(self, name, reason):
        """All controllers of the subsystem that has this disk or partition."""
        disk = re.match(r'nvme\d+n\d+', name).group()
        for subsystem in self._kernel.entries('/sys/class/nvme-subsystem'):
            folder = f'/sys/class/nvme-subsystem/{subsystem}'
            if not self._kernel.exists(f'{folder}/{disk}'):
                continue
            for entry in self._kernel.entries(folder):
                if re.fullmatch(r'nvme\d+', entry):
                    self._note(f'{folder}/{entry}', reason)

    def _note_number(self, number, reason):
        path = f'/sys/dev/block/{number}'
        if self._kernel.exists(path):
            self._note_block(path, reason)

    def _find_mounts(self):
        """See proc(5): mount ID, parent ID, major:minor, root, mount point."""
        for line in self._kernel.lines('/proc/self/mountinfo'):
            fields = line.split()
            if len(fields) < 5:
                continue
            reason = f'its disk is mounted on {fields[4]}'
            self._note_number(fields[2], reason)
            # btrfs and others have numbers of their own, but name the disk.
            source = fields[fields.index('-') + 2] if '-' in fields else ''
            self._note_file(source, reason)

    def _note_file(self, name, reason):
        if name.startswith('/dev/'):
            real = os.path.realpath(self._kernel.path(name))
            path = f'/sys/class/block/{os.path.basename(real)}'
            if self._kernel.exists(path):
                self._note_block(path, reason)

    def _find_swap(self):
        for line in self._kernel.lines('/proc/swaps')[1:]:
            if line.split():
                self._note_file(line.split()[0], 'its disk has swap in use')

    def _find_default_routes(self):
        for line in self._kernel.lines('/proc/net/route')[1:]:
            fields = line.split()
            if len(fields) > 7 and int(fields[3], 16) & UP and \
                    fields[1] == '00000000' and fields[7] == '00000000':
                self._note_interface(fields[0])
        for line in self._kernel.lines('/proc/net/ipv6_route'):
            fields = line.split()
            if len(fields) == 10 and fields[1] == '00' and \
                    int(fields[0], 16) == 0 and fields[9] != 'lo':
                self._note_interface(fields[9])

    def _note_interface(self, name, seen=()):
        """An interface, and those below it (bridge, bond, VLAN)."""
        folder = f'/sys/class/net/{name}'
        if name in seen or not self._kernel.exists(folder):
            return
        if self._kernel.exists(f'{folder}/device'):
            self._note(f'{folder}/device',
                       f'the default route goes through {name}')
        below = [entry[6:] for entry in self._kernel.entries(folder)
                 if entry.startswith('lower_')]
        for other in [*below, *self._kernel.entries(f'{folder}/brif')]:
            self._note_interface(other, (*seen, name))


def vfio_user(kernel, device):
    """(process ID, name) of who has a function open by VFIO, or None."""
    files = {f'/dev/vfio/{device.group}'}
    files.update(f'/dev/vfio/devices/{name}' for name in
                 kernel.entries(f'{device.path}/vfio-dev'))
    for process in kernel.entries('/proc'):
        if not process.isdigit():
            continue
        folder = f'/proc/{process}'
        for number in kernel.entries(f'{folder}/fd'):
            try:
                target = os.readlink(kernel.path(f'{folder}/fd/{number}'))
            except OSError:
                continue            # closed meanwhile
            if target in files:
                return int(process), kernel.read(f'{folder}/comm') or '?'
    return None
