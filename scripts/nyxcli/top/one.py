# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""What nyx top shows of one VM: its domains and devices, with rates."""

from .. import bottleneck
from ..background import domains_to_show, split
from ..faults import TITLES as FAULT_TITLES
from ..faults import row as fault_row
from ..figures import grown, hit_rate, totals
from ..metrics_read import read
from ..units import bytes_text, rate_text
from ..vm import connect

LATEST = 5                      # fault records below the tables
DEVICES = ('DEVICE', 'DOMAIN', 'STATE', 'DMA', 'FAULTS', 'FAULTS/S', 'IRQS/S')
DOMAINS = ('DOMAIN', 'ISOLATION', 'DEVICES', 'CUT OFF', 'MAPPED', 'FAULTS/S',
           'IRQS/S')


def _device_rates(before, after, elapsed):
    """Faults and interrupts per second, by device."""
    old = {device['device']: device for device in
           before['query-nyx-devices'] or []}
    rates = {}
    for device in after['query-nyx-devices'] or []:
        first = old.get(device['device'], device)
        counts = grown(
            {'faults': first['total-faults'],
             'irqs': first['interrupts']['delivered']},
            {'faults': device['total-faults'],
             'irqs': device['interrupts']['delivered']})
        rates[device['device']] = {name: round(count / elapsed, 3)
                                   for name, count in counts.items()}
    return rates


def view(name, before, after):
    """What is shown, for JSON: rates between two samples."""
    elapsed = after['time'] - before['time']
    counters = grown(totals(before), totals(after))
    rates = _device_rates(before, after, elapsed)
    return {
        'vm': name, 'status': after['query-status']['status'],
        'seconds': round(elapsed, 3),
        'per-second': {key: round(value / elapsed, 3)
                       for key, value in counters.items()},
        'iotlb-hit-percent': hit_rate(counters),
        'devices': [{**device, 'per-second': rates[device['device']]}
                    for device in after['query-nyx-devices'] or []],
        'domains': after['query-nyx-domains'] or [],
        'faults': after.get('query-nyx-faults', []),
        'bottlenecks': [each.as_dict()
                        for each in bottleneck.find(before, after)]}


def _head(shown):
    """Lines with the rates of the VM as a whole."""
    rate = {name: rate_text(value)
            for name, value in shown['per-second'].items()}
    hits = shown['iotlb-hit-percent']
    lines = [f'{shown["vm"]}: {shown["status"]}, over '
             f'{shown["seconds"]:.1f} s',
             f'faults {rate.get("faults", 0)}/s   '
             f'interrupts {rate.get("interrupts", 0)}/s   '
             f'IOTLB hits {"-" if hits is None else f"{hits:.1f} %"}   '
             f'invalidations {rate.get("iotlb-invalidations", 0)}/s   '
             f'VM exits {rate.get("vm-exits", "-")}/s']
    per = shown['per-second']
    text = f'disks: {rate["disk-reads"]} reads/s, ' \
        f'{rate["disk-writes"]} writes/s, ' \
        f'{bytes_text(round(per["disk-read-bytes"]))}/s in, ' \
        f'{bytes_text(round(per["disk-written-bytes"]))}/s out'
    if 'packets-received' in rate:
        text += f'   network: {rate["packets-received"]} packets/s in, ' \
            f'{rate["packets-sent"]}/s out, {rate["packets-dropped"]}/s lost'
    return [*lines, text, _bottleneck(shown)]


def _bottleneck(shown):
    found = shown['bottlenecks']
    return f'bottleneck: {found[0]["text"]}' if found else \
        'bottleneck: none seen'


def _device_rows(shown, everything):
    busy = sorted(split(shown['devices'], everything)[0], key=lambda device: (
        device['state'] == 'operational', -device['per-second']['faults'],
        -device['per-second']['irqs']))
    return [(device['device'], device['domain'], device['state'],
             device['dma'], device['total-faults']
             if device['faults-observable'] else 'not seen',
             rate_text(device['per-second']['faults']),
             rate_text(device['per-second']['irqs'])) for device in busy]


def _domain_rows(shown, everything):
    devices = {device['device']: device for device in shown['devices']}
    rows = []
    for domain in domains_to_show(shown['domains'], shown['devices'],
                                  everything):
        members = [devices[name] for name in domain['devices']
                   if name in devices]
        rows.append((
            domain['id'], domain['isolation'], len(members),
            sum(device['state'] != 'operational' for device in members),
            bytes_text(domain['mapped-bytes']),
            *(rate_text(sum(device['per-second'][kind]
                            for device in members))
              for kind in ('faults', 'irqs'))))
    return rows


def _tables(shown, everything):
    yield DOMAINS, _domain_rows(shown, everything)
    yield DEVICES, _device_rows(shown, everything)
    if shown['faults']:
        yield FAULT_TITLES, [fault_row(fault) for fault in shown['faults']]


class One:
    """look() again and again; an error when the VM is gone."""

    def __init__(self, name):
        self._name = name
        self._before = self._sample()

    def _sample(self):
        # Short connections, so that other commands come in between.
        with connect(self._name) as vm:
            figures = read(vm)
            figures['query-nyx-faults'] = vm.execute('query-nyx-faults',
                                                     limit=LATEST)
        return figures

    def look(self):
        """What there is to show() since the last time, also for JSON."""
        before, self._before = self._before, self._sample()
        return view(self._name, before, self._before)

    @staticmethod
    def show(shown, everything):
        """Lines, and (titles, rows) of the tables below them."""
        return _head(shown), _tables(shown, everything)
