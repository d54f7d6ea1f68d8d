# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""nyx faults: refused accesses, those of the past or as they come."""

import json
import time

from .options import command, vm_argument
from .output import print_json, show
from .units import clock_text, count
from .vm import connect

TITLES = ('CLOCK', 'DEVICE', 'DOMAIN', 'TYPE', 'ADDRESS', 'ACCESS', 'COUNT',
          'DRILL')
EVENTS = {
    'NYX_DMA_FAULT': '{device} in {domain}: {type}, {access} at {address:#x}, '
                     'fault number {count}',
    'NYX_FAULT_LIMIT': '{device} in {domain}: {faults} faults, past its '
                       'limit: {action}',
    'NYX_LIMIT_ACTION': '{device} in {domain}: {action} for too many '
                        '{limit}: {outcome}',
    'NYX_DEVICE_STATE': '{device} in {domain}: {old} -> {new} ({reason})',
}


def row(fault):
    """Cells for TITLES."""
    return (clock_text(fault['time-ns']), fault['device'], fault['domain'],
            fault['type'], f'{fault["address"]:#x}', fault['access'],
            fault['count'], 'yes' if fault['injected'] else '-')


def event_text(event):
    """An event of the Nyx IOMMU in a sentence; None for other events."""
    text = EVENTS.get(event['event'])
    if text is None:
        return None
    data = dict(event['data'])
    data['outcome'] = 'done' if data.get('success') else \
        data.get('error', 'failed')
    return text.format(**data)


def time_text(event):
    """When QEMU sent an event, in local time."""
    stamp = event['timestamp']
    return time.strftime('%H:%M:%S', time.localtime(stamp['seconds'])) + \
        f'.{stamp["microseconds"] // 1000:03}'


def _follow(options):
    with connect(options.vm, 'events') as vm:
        for event in vm.events(options.seconds):
            text = event_text(event)
            if text is None or options.device not in (
                    None, event['data']['device']):
                continue
            print(json.dumps(event) if options.json else
                  f'{time_text(event)}  {text}', flush=True)


def _run(options):
    if options.follow:
        _follow(options)
        return
    with connect(options.vm) as vm:
        faults = vm.execute('query-nyx-faults', device=options.device,
                            limit=options.limit)
    if options.json:
        print_json(faults)
    elif not faults:
        print('No access was refused.')
    else:
        show(TITLES, [row(fault) for fault in faults])


def add(commands):
    """Add the subcommand."""
    parser = command(
        commands, 'faults', _run, 'show the accesses that were refused',
        'Newest first; CLOCK is the clock of the VM, which stands still while '
        'the VM does, DRILL marks faults that an operator injected.')
    vm_argument(parser)
    parser.add_argument('--device', metavar='DEVICE', help='only of this one')
    parser.add_argument('--limit', metavar='N', type=count,
                        help='at most so many records')
    parser.add_argument('--follow', action='store_true', help='instead, print '
                        'faults and changes of state as they come')
    parser.add_argument('--seconds', metavar='N', type=float,
                        help='with --follow: end after so long')
