# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""nyx assign: move a device to another domain."""

from .devices import show_one
from .options import device_command
from .vm import connect


def _run(options):
    with connect(options.vm) as vm:
        vm.execute('nyx-assign-device', device=options.device,
                   domain=options.domain)
        show_one(vm, options.device, options.json)


def add(commands):
    """Add the subcommand."""
    parser = device_command(
        commands, 'assign', _run,
        'move a device to another domain, while the VM runs')
    parser.add_argument('domain', metavar='DOMAIN')
