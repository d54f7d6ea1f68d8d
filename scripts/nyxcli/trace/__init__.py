# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""nyx trace: how long the parts of an operation take."""

import sys
import time

from ..errors import Gone, NyxError, Refused
from ..options import command, vm_option
from ..output import print_json, show
from ..units import seconds
from ..vm import connect
from . import boot, hotplug, moving
from .watch import Watcher

OPERATIONS = {'boot': boot, 'hotplug': hotplug, 'migration': moving}
BAR = 30                        # characters of the longest bar


def _prepare(vm, options):
    if options.operation == 'migration':
        try:
            vm.execute('migrate-set-capabilities', capabilities=[
                {'capability': 'events', 'state': True}])
        except Refused as err:
            raise NyxError(f'{vm.name} migrates already, without events; '
                           'begin to trace before it does.') from err
    elif options.reset:
        vm.execute('system_reset')


def _moments(vm, options):
    """All that happens until the operation is over."""
    watcher = Watcher(vm, options.resolution)
    _prepare(vm, options)
    if not options.reset:
        print(f'Watching {vm.name}; begin the {options.operation} now.',
              file=sys.stderr, flush=True)
    limit = time.monotonic() + options.seconds
    operation = OPERATIONS[options.operation]
    try:
        while time.monotonic() < limit:
            watcher.step()
            if operation.ended(watcher, options.settle):
                break
    except Gone:
        if not watcher.moments:
            raise
    except KeyboardInterrupt:
        pass                        # what was seen so far
    return watcher.moments


def _bar(span, zero, whole):
    scale = BAR / whole if whole else 0
    begin = int((span.start - zero) * scale)
    return ' ' * begin + '=' * max(1, round((span.end - span.start) * scale))


def _show(spans):
    zero = min(span.start for span in spans)
    whole = max(span.end for span in spans) - zero
    show(('START', 'SECONDS', 'DEVICE', 'SPAN', ''),
         [(f'{span.start - zero:8.3f}', f'{span.end - span.start:8.3f}',
           span.device or '-', span.name, _bar(span, zero, whole))
          for span in spans])


def _run(options):
    if options.reset and options.operation != 'boot':
        raise NyxError('--reset begins a boot; leave it out to trace a '
                       f'{options.operation}.')
    with connect(options.vm, 'events') as vm:
        moments, name = _moments(vm, options), vm.name
    spans = OPERATIONS[options.operation].spans(moments)
    if not spans:
        raise NyxError(f'no {options.operation} of {name} was seen within '
                       f'{options.seconds:g} s; begin one while this command '
                       'runs'
                       + (', or use --reset.' if options.operation == 'boot'
                          else '.'))
    if options.json:
        zero = min(span.start for span in spans)
        print_json({'vm': name, 'operation': options.operation,
                    'began': round(zero, 6), 'resolution': options.resolution,
                    'spans': [span.as_dict(zero) for span in spans]})
    else:
        _show(spans)


def add(commands):
    """Add the subcommand."""
    parser = command(
        commands, 'trace', _run, 'time the parts of a boot, hotplug or '
        'migration', 'Begin the operation while this command runs. Events '
        'have the time that QEMU gives them; addresses and interrupts of '
        'devices are looked at from time to time (--resolution). Nothing has '
        'to be set up in the VM or its guest.')
    parser.add_argument('operation', choices=tuple(OPERATIONS),
                        metavar='OPERATION', help=', '.join(OPERATIONS))
    vm_option(parser)
    parser.add_argument('--reset', action='store_true',
                        help='begin a boot: reset the VM')
    parser.add_argument('--seconds', metavar='TIME', type=seconds,
                        default=120, help='watch so long at most '
                        '(default: 120)')
    parser.add_argument('--settle', metavar='TIME', type=seconds, default=5,
                        help='it is over when nothing has happened for so '
                        'long (default: 5)')
    parser.add_argument('--resolution', metavar='TIME', type=seconds,
                        default=0.05, help='between two looks at devices '
                        '(default: 50ms)')
