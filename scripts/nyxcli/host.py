# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""nyx host: make PCI functions of the host ready to be passed to a VM."""

import argparse

from . import pci
from .binding import bind, unbind
from .inuse import InUse
from .output import print_json, table
from .sriov import set_vfs
from .sysfs import Kernel


def _sriov_text(device):
    if device.parent:
        return f'VF of {device.parent}'
    return f'{device.vfs} of {device.total_vfs} VFs' if device.total_vfs \
        else '-'


def _group_text(device):
    if device.group is None:
        return '-'
    return f'{device.group} (no IOMMU)' if device.noiommu else device.group


def _show(kernel, devices, as_json):
    in_use = InUse(kernel)
    if as_json:
        print_json([{**device.about(),
                     'in-use': in_use.reason(device.address)}
                    for device in devices])
        return
    print(table(('DEVICE', 'ID', 'CLASS', 'GROUP', 'DRIVER', 'SR-IOV',
                 'IN USE'),
                [(device.address, device.ids, device.kind,
                  _group_text(device), device.driver or '-',
                  _sriov_text(device), in_use.reason(device.address) or '-')
                 for device in devices]))


def _kernel(options):
    return Kernel(options.root, getattr(options, 'dry_run', False))


def _list(options):
    kernel = _kernel(options)
    _show(kernel, pci.all_devices(kernel), options.json)


def _show_after(kernel, addresses, options):
    """How the devices are now, unless nothing was done."""
    if not kernel.dry_run:
        _show(kernel, [pci.look(kernel, address) for address in addresses],
              options.json)


def _vfs(options):
    kernel = _kernel(options)
    device = pci.find(kernel, options.device)
    set_vfs(kernel, device, options.number)
    vfs = pci.virtual_functions(kernel, device)
    _show_after(kernel, [device.address, *(vf.address for vf in vfs)], options)


def _bind(options):
    kernel = _kernel(options)
    devices = [pci.find(kernel, text) for text in options.devices]
    bind(kernel, devices)
    _show_after(kernel, [device.address for device in devices], options)


def _unbind(options):
    kernel = _kernel(options)
    devices = [pci.find(kernel, text) for text in options.devices]
    unbind(kernel, devices)
    _show_after(kernel, [device.address for device in devices], options)


def _count(text):
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError('a number of VFs is 0 or more')
    return number


def _command(commands, name, run, text, changes=True):
    parser = commands.add_parser(name, help=text, description=text)
    parser.add_argument('--json', action='store_true',
                        help='print JSON instead of a table')
    # For tests: a directory that stands for /.
    parser.add_argument('--root', default='/', help=argparse.SUPPRESS)
    if changes:
        parser.add_argument('--dry-run', action='store_true',
                            help='check, and print what would be written, as '
                            'shell commands; change nothing')
    parser.set_defaults(run=run)
    return parser


def add(commands):
    """Add the subcommand and its own subcommands."""
    parser = commands.add_parser(
        'host', help='prepare PCI devices of the host for VMs',
        description='Prepare PCI devices of the host for VMs: SR-IOV and '
        'vfio-pci.')
    actions = parser.add_subparsers(required=True, metavar='ACTION')
    _command(actions, 'list', _list, 'show PCI devices with IOMMU group, '
             'driver and SR-IOV state', changes=False)
    vfs = _command(actions, 'vfs', _vfs, 'create virtual functions, without a '
                   'driver of the host; 0 removes them')
    vfs.add_argument('device', metavar='DEVICE')
    vfs.add_argument('number', metavar='N', type=_count)
    for name, run, text in (
            ('bind', _bind, 'give devices to vfio-pci, after checks'),
            ('unbind', _unbind, 'give devices back to the drivers that they '
             'had')):
        action = _command(actions, name, run, text)
        action.add_argument('devices', metavar='DEVICE', nargs='+')
