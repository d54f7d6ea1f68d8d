# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""Disks, as far as libvirt has them: NVMe goes through its command line."""

from ..schema import BY_NAME
from .alias import boot_order
from .element import apply_keys, child

BUSES = {'virtio': ('vd', 'virtio'), 'ahci': ('sd', 'sata'),
         'scsi': ('sd', 'scsi'), 'usb': ('sd', 'usb')}


def is_known(disk):
    """Whether libvirt 9.0 can describe it."""
    return disk['bus'] in BUSES


class Disks:
    """<disk> and the SCSI controllers that they need."""

    def __init__(self, devices, spec, overrides):
        self._devices = devices
        self._spec = spec
        self._overrides = overrides
        self._counts = {}
        self._controllers = {}
        self._scsi_units = {}
        self._threads = {thread['id']: number for number, thread
                         in enumerate(spec['iothread'], 1)}

    def target(self, disk):
        """Name and bus: vda, sdb and so on."""
        start, bus = BUSES[disk['bus']]
        number = self._counts.get(start, 0)
        self._counts[start] = number + 1
        letters = ''
        number += 1
        while number:
            number, rest = divmod(number - 1, 26)
            letters = chr(ord('a') + rest) + letters
        return {'dev': start + letters, 'bus': bus}

    def add(self, disk):
        """One disk."""
        path = disk['file']
        block = bool(path) and path.startswith('/dev/')
        element = child(self._devices, 'disk',
                        type_='block' if block else 'file',
                        device='cdrom' if disk['cdrom'] else 'disk')
        driver = child(element, 'driver', name='qemu',
                       type_=disk['format'] or 'raw',
                       discard='unmap' if disk['discard'] else None)
        if path:
            child(element, 'source', **{'dev' if block else 'file': path})
        child(element, 'target', **self.target(disk))
        if disk['read-only']:
            child(element, 'readonly')
        apply_keys(element, BY_NAME['disk'], disk)
        boot_order(element, self._spec, disk)
        if disk['bus'] == 'scsi':
            self._scsi_address(element, disk)
            disk = {**disk, 'domain': None}     # its controller joins it
        elif disk['iothread']:
            driver.set('iothread', str(self._threads[disk['iothread']]))
        self._overrides.name(element, disk)

    def _scsi_address(self, element, disk):
        key = disk['domain'], disk['iothread']
        if key not in self._controllers:
            number = len(self._controllers)
            self._controllers[key] = number
            self._scsi_units[number] = 0
            controller = child(self._devices, 'controller', type_='scsi',
                               index=number, model='virtio-scsi')
            if disk['iothread']:
                child(controller, 'driver',
                      iothread=self._threads[disk['iothread']])
            self._overrides.name(controller, {'id': f'scsi-ctl{number}',
                                              'domain': disk['domain']})
        number = self._controllers[key]
        child(element, 'address', type_='drive', controller=number, bus=0,
              target=0, unit=self._scsi_units[number])
        self._scsi_units[number] += 1
