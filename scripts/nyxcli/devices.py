# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""nyx devices: the PCI functions of a VM."""

from .background import add_all, split
from .options import command, vm_argument
from .output import print_json, show
from .vm import connect

TITLES = ('DEVICE', 'DRIVER', 'ADDRESS', 'DOMAIN', 'STATE', 'FAULTS',
          'RECOVERIES', 'DMA', 'BACKEND', 'INTERRUPTS')


def faults_text(device):
    """Within the window / of its limit, and all."""
    if not device['faults-observable']:
        return 'not seen'
    text = f'{device["fault-count"]}/{device["policy"]["max-faults"]}'
    return f'{text} ({device["total-faults"]})' if device['total-faults'] \
        else text


def interrupts_text(device):
    counts = device['interrupts']
    text = str(counts['delivered'])
    return f'{text} ({counts["refused"]} refused)' if counts['refused'] \
        else text


def row(device):
    """Cells for TITLES."""
    return (device['device'], device['driver'], device['bdf'],
            device['domain'], device['state'], faults_text(device),
            f'{device["recoveries"]}/{device["policy"]["max-recoveries"]}',
            device['dma'], device['backend'], interrupts_text(device))


def show_one(vm, name, as_json):
    """How a device is after a command."""
    device = vm.execute('query-nyx-devices', device=name)[0]
    if as_json:
        print_json(device)
    else:
        show(TITLES, [row(device)])


def _run(options):
    with connect(options.vm) as vm:
        devices = vm.execute('query-nyx-devices', device=options.device)
    if options.json:
        print_json(devices)
    elif not devices:
        print('No device is behind the Nyx IOMMU.')
    else:
        shown, left_out = split(devices, options.all or options.device)
        if shown:
            show(TITLES, [row(device) for device in shown])
        if left_out:
            print(left_out)


def add(commands):
    """Add the subcommand."""
    parser = command(
        commands, 'devices', _run, 'show the PCI functions of a VM',
        'FAULTS are those within the window, the limit and, in parentheses, '
        'all; "not seen" where the IOMMU of the host refuses. RECOVERIES are '
        'those of the last hour and the limit.')
    vm_argument(parser)
    parser.add_argument('--device', metavar='DEVICE', help='only this one')
    add_all(parser)
