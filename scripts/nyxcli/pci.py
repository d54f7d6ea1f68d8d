# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""PCI functions of the host, as sysfs shows them."""

import re
from dataclasses import dataclass

from .errors import NyxError

DEVICES = '/sys/bus/pci/devices'
DRIVERS = '/sys/bus/pci/drivers'
ADDRESS = re.compile(r'(?:([0-9a-f]{4,8}):)?([0-9a-f]{2}):([0-9a-f]{2})\.'
                     r'([0-7])', re.I)

# Base classes of the PCI Code and ID Assignment Specification
CLASSES = {
    0x00: 'unclassified', 0x01: 'storage', 0x02: 'network', 0x03: 'display',
    0x04: 'multimedia', 0x05: 'memory', 0x06: 'bridge', 0x07: 'communication',
    0x08: 'system', 0x09: 'input', 0x0a: 'docking', 0x0b: 'processor',
    0x0c: 'serial bus', 0x0d: 'wireless', 0x0e: 'controller',
    0x0f: 'satellite', 0x10: 'encryption', 0x11: 'signal', 0x12: 'accelerator',
    0x13: 'instrumentation', 0x40: 'co-processor', 0xff: 'unassigned',
}
BRIDGE = 0x06


@dataclass(frozen=True)
class Device:
    """One function at the moment that it was looked at."""
    address: str
    path: str           # its directory
    ids: str            # VENDOR:DEVICE
    base_class: int
    group: int | None   # IOMMU group; None: no IOMMU confines it
    noiommu: bool       # the group is VFIO's invention, without an IOMMU
    driver: str | None
    override: str | None
    vfs: int            # enabled now
    total_vfs: int      # 0: no SR-IOV
    parent: str | None  # address of the physical function of a VF

    @property
    def kind(self):
        return CLASSES.get(self.base_class, f'class {self.base_class:02x}')

    @property
    def is_bridge(self):
        return self.base_class == BRIDGE

    def about(self):
        """For JSON."""
        return {'address': self.address, 'ids': self.ids, 'class': self.kind,
                'iommu-group': self.group, 'driver': self.driver,
                'driver-override': self.override,
                'sriov': {'vfs': self.vfs, 'total-vfs': self.total_vfs}
                if self.total_vfs else None,
                'physical-function': self.parent}


def _number(text, base=10):
    return int(text, base) if text else 0


def _override(kernel, path):
    text = kernel.read(f'{path}/driver_override')
    return None if text in (None, '', '(null)') else text


def look(kernel, address):
    """The function of this address, which exists."""
    path = f'{DEVICES}/{address}'
    group = kernel.link(f'{path}/iommu_group')
    ids = [(kernel.read(f'{path}/{name}') or '0x0000')[2:]
           for name in ('vendor', 'device')]
    return Device(
        address, path, ':'.join(ids),
        _number(kernel.read(f'{path}/class'), 16) >> 16,
        None if group is None else int(group),
        kernel.read(f'{path}/iommu_group/name') == 'vfio-noiommu',
        kernel.link(f'{path}/driver'), _override(kernel, path),
        _number(kernel.read(f'{path}/sriov_numvfs')),
        _number(kernel.read(f'{path}/sriov_totalvfs')),
        kernel.link(f'{path}/physfn'))


def all_devices(kernel):
    return [look(kernel, address) for address in kernel.entries(DEVICES)]


def find(kernel, text):
    """The function that a person named, with or without its domain."""
    match = ADDRESS.fullmatch(text)
    if not match:
        raise NyxError(f'"{text}" is no PCI address; write it like '
                       '0000:01:10.0, as "nyx host list" does.')
    domain, *rest = match.groups()
    address = '{}:{}:{}.{}'.format(domain or '0000', *rest).lower()
    if not kernel.exists(f'{DEVICES}/{address}'):
        raise NyxError(f'the host has no PCI device {address}; "nyx host '
                       'list" shows those that it has.')
    return look(kernel, address)


def virtual_functions(kernel, device):
    """The VFs of a physical function, by their number."""
    names = [name for name in kernel.entries(device.path)
             if re.fullmatch(r'virtfn\d+', name)]
    names.sort(key=lambda name: int(name[6:]))
    return [look(kernel, kernel.link(f'{device.path}/{name}'))
            for name in names]


def group_members(kernel, group):
    return [look(kernel, address) for address in
            kernel.entries(f'/sys/kernel/iommu_groups/{group}/devices')]
