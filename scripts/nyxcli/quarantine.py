# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""nyx quarantine and nyx recover: cut a device off, and let it in again."""

from .devices import show_one
from .errors import NyxError, Refused
from .options import device_command
from .vm import connect


def _quarantine(options):
    with connect(options.vm) as vm:
        vm.execute('nyx-quarantine-device', device=options.device,
                   reason=options.reason)
        show_one(vm, options.device, options.json)


def _recover(options):
    with connect(options.vm) as vm:
        try:
            vm.execute('nyx-recover-device', device=options.device,
                       force=options.force or None)
        except Refused as err:
            # QEMU speaks of QMP's arguments.
            raise NyxError(str(err).replace('force=true', '--force')) from err
        show_one(vm, options.device, options.json)


def add(commands):
    """Add the subcommands."""
    parser = device_command(
        commands, 'quarantine', _quarantine, 'cut a device off',
        'When the command ends, its DMA, interrupts and registers are '
        'blocked.')
    parser.add_argument('--reason', metavar='TEXT',
                        help='for the event and the log')
    parser = device_command(
        commands, 'recover', _recover,
        'reset a device that is cut off, and let it work again')
    parser.add_argument('--force', action='store_true',
                        help='also if it has failed or has no recoveries left')
