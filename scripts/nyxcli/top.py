# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""nyx top: a VM's domains and devices with their rates, live."""

import contextlib
import select
import sys
import time

from . import bottleneck
from .background import add_all, domains_to_show, split
from .errors import NyxError
from .faults import TITLES as FAULT_TITLES
from .faults import row as fault_row
from .figures import grown, hit_rate, totals
from .metrics_read import read
from .options import command, vm_argument
from .output import print_json, rich_table, table
from .units import bytes_text, rate_text, seconds
from .vm import connect

LATEST = 5                      # fault records below the tables
DEVICES = ('DEVICE', 'DOMAIN', 'STATE', 'DMA', 'FAULTS', 'FAULTS/S', 'IRQS/S')
DOMAINS = ('DOMAIN', 'ISOLATION', 'DEVICES', 'CUT OFF', 'MAPPED', 'FAULTS/S',
           'IRQS/S')


def _sample(name):
    # Short connections, so that other commands come in between.
    with connect(name) as vm:
        figures = read(vm)
        figures['query-nyx-faults'] = vm.execute('query-nyx-faults',
                                                 limit=LATEST)
    return figures


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
        'faults': after['query-nyx-faults'],
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


def _text(shown, everything):
    return '\n\n'.join(['\n'.join(_head(shown)),
                        *(table(*each)
                          for each in _tables(shown, everything))])


def _screen(shown, everything):
    # pylint: disable=import-outside-toplevel
    from rich.console import Group
    from rich.text import Text
    head = Text('\n'.join(_head(shown)))
    head.highlight_regex(r'^.*:', 'bold')
    if shown['bottlenecks']:
        head.highlight_regex(r'bottleneck: .*', 'bold red')
    return Group(head, *(part for each in _tables(shown, everything)
                         for part in (Text(), rich_table(*each))), Text(),
                 Text('q or Ctrl-C ends.', 'dim'))


@contextlib.contextmanager
def _keys():
    """Keys come as they are pressed, without being shown."""
    # pylint: disable=import-outside-toplevel
    import termios
    import tty
    if not sys.stdin.isatty():
        yield False
        return
    before = termios.tcgetattr(sys.stdin)
    try:
        tty.setcbreak(sys.stdin)
        yield True
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


def _pause(interval, keys):
    """True if q was pressed meanwhile."""
    if not keys:
        time.sleep(interval)
        return False
    ready = select.select([sys.stdin], [], [], interval)[0]
    return bool(ready) and sys.stdin.read(1) in 'qQ'


def _live(name, interval, everything):
    try:
        # pylint: disable=import-outside-toplevel
        from rich.console import Console
        from rich.live import Live
    except ImportError:
        raise NyxError('the live view needs the Debian package python3-rich; '
                       'install it, or use --once.') from None
    before = _sample(name)
    with _keys() as keys, Live(console=Console(), screen=True,
                               auto_refresh=False) as live:
        # A short first interval, so that there is something to see.
        if _pause(min(1, interval), keys):
            return
        while True:
            after = _sample(name)
            live.update(_screen(view(name, before, after), everything),
                        refresh=True)
            before = after
            if _pause(interval, keys):
                return


def _run(options):
    with connect(options.vm) as vm:
        name = vm.name
    once = options.once or options.json
    if not once and sys.stdout.isatty():
        _live(name, options.interval, options.all)
        return
    before = _sample(name)
    while True:
        time.sleep(options.interval)
        after = _sample(name)
        shown = view(name, before, after)
        if options.json:
            print_json(shown)
        else:
            print(_text(shown, options.all), flush=True)
        if once:
            return
        print()
        before = after


def add(commands):
    """Add the subcommand."""
    parser = command(
        commands, 'top', _run, 'watch the domains and devices of a VM',
        'Rates of faults and interrupts, IOTLB hit rate, disks, network, '
        'states, the latest faults, and the most likely bottleneck. '
        'Without a terminal, one text after the other.')
    vm_argument(parser)
    add_all(parser)
    parser.add_argument('--interval', metavar='TIME', type=seconds, default=2,
                        help='between two looks (default: 2)')
    parser.add_argument('--once', action='store_true', help='print the rates '
                        'of one interval, and end; so does --json')
