# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""What nyx top shows of several VMs: a line each, and what needs a look."""

import time

from ..errors import NyxError
from ..rundir import running
from ..sampling import Watch
from ..units import bytes_text, rate_text
from .one import view

ANSWER_SECONDS = 5              # then it is shown as not answering
VMS = ('VM', 'STATUS', 'DEVICES', 'CUT OFF', 'FAULTS/S', 'IRQS/S',
       'IOTLB HITS', 'DISKS/S', 'PACKETS/S', 'LOST/S', 'VM EXITS/S')
DEVICES = ('VM', 'DEVICE', 'DOMAIN', 'STATE', 'DMA', 'FAULTS', 'FAULTS/S',
           'IRQS/S')


class Several:
    """look() again and again; VMs may come and go, or hang."""

    def __init__(self, names):
        self._names = names
        self._watches = {}
        self._collect()

    def _collect(self):
        names = self._names or running()
        if not names:
            raise NyxError('no VM is running any more.')
        self._watches = {name: self._watches.get(name) or Watch(name, 'qmp')
                         for name in names}
        for watch in self._watches.values():
            watch.start(ANSWER_SECONDS)
        limit = time.monotonic() + ANSWER_SECONDS
        for watch in self._watches.values():
            watch.wait(limit - time.monotonic())

    def look(self):
        """A list with what there is of each VM, also for JSON."""
        self._collect()
        return [self._of(watch) for watch in self._watches.values()]

    @staticmethod
    def _of(watch):
        if watch.error is not None:
            return {'vm': watch.name, 'status': 'not answering',
                    'error': watch.error}
        if watch.before is None:        # it came since the last time
            return {'vm': watch.name,
                    'status': watch.figures['query-status']['status']}
        return view(watch.name, watch.before, watch.figures)

    @staticmethod
    def show(shown, everything):
        """Lines, and (titles, rows) of the tables below them."""
        return _head(shown), _tables(shown, everything)


def _head(shown):
    """How many there are, and the bottleneck of each that has one."""
    lines = [f'{len(shown)} VMs, '
             f'{sum(each["status"] == "running" for each in shown)} running']
    found = [f'bottleneck of {each["vm"]}: {each["bottlenecks"][0]["text"]}'
             for each in shown if each.get('bottlenecks')]
    return [*lines, *(found or ['bottleneck: none seen'])]


def _row(shown):
    name, status = shown['vm'], shown['status']
    if 'devices' not in shown:
        return (name, status, *['-'] * (len(VMS) - 2))
    per, hits = shown['per-second'], shown['iotlb-hit-percent']

    def rate(*kinds):
        values = [per[kind] for kind in kinds if kind in per]
        return rate_text(sum(values)) if values else '-'
    return (name, status, len(shown['devices']),
            sum(device['state'] != 'operational'
                for device in shown['devices']),
            rate('faults'), rate('interrupts'),
            '-' if hits is None else f'{hits:.1f} %',
            bytes_text(round(per['disk-read-bytes'] +
                             per['disk-written-bytes'])),
            rate('packets-received', 'packets-sent'),
            rate('packets-dropped'), rate('vm-exits'))


def _tables(shown, everything):
    """All VMs, and the devices that are cut off or cause faults."""
    yield VMS, [_row(each) for each in shown]
    rows = [(each['vm'], device['device'], device['domain'], device['state'],
             device['dma'], device['total-faults'],
             rate_text(device['per-second']['faults']),
             rate_text(device['per-second']['irqs']))
            for each in shown for device in each.get('devices', [])
            if everything or device['state'] != 'operational'
            or device['per-second']['faults']]
    if rows:
        yield DEVICES, rows
