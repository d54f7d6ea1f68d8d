# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""Arguments for disks."""

import stat
from pathlib import Path

from ..key import properties
from ..schema import BY_NAME
from .option import option

DRIVERS = {'virtio': 'virtio-blk-pci', 'nvme': 'nvme', 'ahci': 'ide-hd',
           'scsi': 'scsi-hd', 'usb': 'usb-storage'}
CD_DRIVERS = {'ahci': 'ide-cd', 'scsi': 'scsi-cd'}


def _is_device(name):
    """Whether a block device is meant; /dev has nothing else of use."""
    try:
        return stat.S_ISBLK(Path(name).stat().st_mode)
    except OSError:
        return name.startswith('/dev/')


def node(disk):
    """The properties of -blockdev for what a disk holds."""
    section = BY_NAME['disk']
    cache = disk['cache']
    words = {'driver': disk['format'], 'node-name': f'{disk["id"]}-image',
             'read-only': disk['read-only'] or None,
             'discard': 'unmap' if disk['discard'] else None,
             'cache.direct': cache == 'none' or None,
             'cache.no-flush': cache == 'unsafe' or None,
             'file.driver': 'host_device' if _is_device(disk['file'])
             else 'file',
             'file.filename': disk['file']}
    for name, value in properties(section, disk, 'file').items():
        words[f'file.{name}'] = value
    return words


class Disks:
    """-blockdev and -device of all disks; place: place.Place."""

    def __init__(self, place):
        self._place = place
        self._controllers = {}
        self._sata = 0
        self.arguments = []

    def add(self, disk):
        """Append the arguments of one disk."""
        if disk['file']:
            self.arguments += ['-blockdev', option(None, node(disk))]
        names = CD_DRIVERS if disk['cdrom'] else DRIVERS
        words = {'id': disk['id'],
                 'drive': f'{disk["id"]}-image' if disk['file'] else None,
                 **properties(BY_NAME['disk'], disk, 'disk')}
        if disk['bus'] == 'nvme':
            # On in QEMU: said in any case, as drivers of guests fail with it.
            words['dbcs'] = disk['shadow-doorbells']
        words.update(self._home(disk))
        words['bootindex'] = self._place.boot_index(disk)
        self.arguments += ['-device', option(names[disk['bus']], words)]

    def _home(self, disk):
        """Bus, thread and domain of a disk."""
        if disk['bus'] == 'ahci':
            self._sata += 1
            return {'bus': f'ide.{self._sata - 1}'}
        if disk['bus'] == 'scsi':
            return {'bus': f'{self._controller(disk)}.0'}
        if disk['bus'] == 'usb':
            return {'bus': 'usb.0'}
        return {**self._place.pci(disk), 'iothread': disk['iothread']}

    def _controller(self, disk):
        """The SCSI controller for a domain and thread; made when needed."""
        key = disk['domain'], disk['iothread']
        if key not in self._controllers:
            name = f'scsi-ctl{len(self._controllers)}'
            self._controllers[key] = name
            words = {'id': name, **self._place.pci({**disk, 'id': name}),
                     'iothread': disk['iothread']}
            self.arguments += ['-device', option('virtio-scsi-pci', words)]
        return self._controllers[key]
