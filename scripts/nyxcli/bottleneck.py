# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""What most likely holds a VM back, by the figures of two moments."""

from dataclasses import dataclass

from .metrics_read import disks, nic_name

# Beyond these, something is worth a look.
EXITS_PER_SECOND = 100_000
DISK_SECONDS = 0.001
DROPS_PER_SECOND = 1
FAULTS_PER_SECOND = 1

NS = 1e-9


@dataclass(frozen=True)
class Bottleneck:
    """figure and limit have the unit; ratio (of both) is above 1."""
    kind: str                   # exits, disk, drops, faults
    subject: str                # a disk, NIC or device; '' for the whole VM
    figure: float
    limit: float
    unit: str
    text: str

    @property
    def ratio(self):
        return self.figure / self.limit

    def as_dict(self):
        return {'kind': self.kind, 'subject': self.subject,
                'figure': self.figure, 'limit': self.limit,
                'unit': self.unit, 'text': self.text}


def _by(pairs):
    """Numbers added up by key."""
    sums = {}
    for key, number in pairs:
        sums[key] = sums.get(key, 0) + number
    return sums


def _grown(before, after):
    """By how much numbers have grown, of keys that both have.

    A number that went back was reset in between: nothing is known of it.
    """
    return {key: after[key] - before[key] for key in after
            if key in before and after[key] >= before[key]}


def _exits(before, after, seconds):
    if not before['vcpu-exits'] or not after['vcpu-exits']:
        return
    count = [sum(vcpu.get('exits', 0) for vcpu in figures['vcpu-exits'])
             for figures in (before, after)]
    rate = (count[1] - count[0]) / seconds
    reasons = _grown(*(_by((name.removesuffix('_exits'), value)
                           for vcpu in figures['vcpu-exits']
                           for name, value in vcpu.items()
                           if name != 'exits')
                       for figures in (before, after)))
    most = max(reasons, key=reasons.get, default=None)
    why = f', most of them {most}' if most and reasons[most] else ''
    yield Bottleneck('exits', '', rate, EXITS_PER_SECOND, '1/s',
                     f'{rate:.0f} VM exits per second{why}')


def _disk_work(figures):
    """(operations, seconds) by disk."""
    return {name: (sum(stats[f'{op}_operations'] for op in ('rd', 'wr')),
                   sum(stats[f'{op}_total_time_ns'] for op in ('rd', 'wr'))
                   * NS)
            for name, stats in disks(figures)}


def _disks(before, after, _):
    old, new = _disk_work(before), _disk_work(after)
    for name, (operations, busy) in new.items():
        done = operations - old.get(name, (operations, 0))[0]
        if done > 0:
            latency = (busy - old[name][1]) / done
            yield Bottleneck('disk', name, latency, DISK_SECONDS, 's',
                             f'disk {name} takes {latency * 1000:.2f} ms for '
                             f'a request ({done} requests)')


def _drops(before, after, seconds):
    def drops(figures):
        return _by((nic_name(counter), counter['received']['drops']
                    + counter['sent']['drops'])
                   for counter in figures['query-nyx-net'] or [])

    for name, count in _grown(drops(before), drops(after)).items():
        rate = count / seconds
        yield Bottleneck('drops', name, rate, DROPS_PER_SECOND, '1/s',
                         f'NIC {name} loses {rate:.0f} packets per second')


def _faults(before, after, seconds):
    def faults(figures):
        return {device['device']: device['total-faults']
                for device in figures['query-nyx-devices'] or []}

    for name, count in _grown(faults(before), faults(after)).items():
        rate = count / seconds
        yield Bottleneck('faults', name, rate, FAULTS_PER_SECOND, '1/s',
                         f'device {name} causes {rate:.0f} faults per second')


def find(before, after):
    """Bottlenecks between two results of metrics_read.read(), worst first."""
    seconds = after['time'] - before['time']
    if seconds <= 0:
        return []
    found = [candidate for look in (_exits, _disks, _drops, _faults)
             for candidate in look(before, after, seconds)
             if candidate.ratio > 1]
    return sorted(found, key=lambda each: -each.ratio)
