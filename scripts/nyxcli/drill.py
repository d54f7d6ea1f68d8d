# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""nyx drill: see what the policy does about faults, before one comes."""

from .devices import show_one
from .options import device_command
from .units import count, number
from .vm import connect


def _run(options):
    with connect(options.vm) as vm:
        vm.execute('nyx-inject-fault', device=options.device,
                   address=options.address, access=options.access,
                   count=options.count)
        show_one(vm, options.device, options.json)


def add(commands):
    """Add the subcommand."""
    parser = device_command(
        commands, 'drill', _run, 'count faults as if a device had caused them',
        'All that the policy of the device knows for its limit follows; the '
        'records are marked as a drill.')
    parser.add_argument('--count', metavar='N', type=count,
                        help='so many (default: 1)')
    parser.add_argument('--address', metavar='ADDRESS', type=number,
                        default=0x1000, help='for the record (default: '
                        '0x1000)')
    parser.add_argument('--access', choices=('r', 'w', 'rw'), default='w',
                        help='for the record (default: w)')
