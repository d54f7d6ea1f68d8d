# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""Results for people."""


def _print_table(title, header, rows):
    widths = [max(len(str(row[i])) for row in [header, *rows])
              for i in range(len(header))]
    print(title)
    for row in [header, *rows]:
        print('  ' + '  '.join(
            str(cell).ljust(width) if i == 0 else str(cell).rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths))).rstrip())
    print()


def _ns(value):
    return '-' if value is None else f'{value:.1f}'


def _percent(value):
    return '-' if value is None else f'±{value:.0%}'


def _working_set(points):
    suite = {'suite': 'working-set'}
    base = points.values('contender', **suite)[:1]
    for leaf in points.values('leaf', **suite):
        sets = points.values('pages', leaf=leaf, **suite)
        rows = []
        for contender in points.values('contender', **suite):
            row = [contender]
            for pages in sets:
                at = {'leaf': leaf, 'pages': pages, **suite}
                ratio = points.ratio(contender, base[0], **at)
                row += [_ns(points.median(contender=contender, **at)),
                        _percent(points.spread(contender=contender, **at)),
                        '-' if ratio is None else f'x{ratio:.2f}']
            rows.append(row)
        _print_table(f'Random reads of 64 bytes, leaves of {leaf >> 10} KiB: '
                     f'ns, spread, ratio to {base[0]}',
                     ['pages', *(cell for pages in sets
                                 for cell in (pages, '', ''))], rows)


def _sizes(points):
    suite = {'suite': 'sizes'}
    rows = []
    for op in points.values('op', **suite):
        for length in points.values('length', op=op, **suite):
            at = {'op': op, 'length': length, **suite}
            ratio = points.ratio('nyx pass-through', 'q35', **at)
            rows.append([f'{op} {length}',
                         _ns(points.median(contender='q35', **at)),
                         _ns(points.median(contender='nyx pass-through', **at)),
                         '-' if ratio is None else f'x{ratio:.3f}'])
    _print_table('Pass-through: ns', ['operation, bytes', 'q35', 'nyx', ''],
                 rows)


def _plain(points, suite, title):
    rows = [[point['contender'], point['op'], point.get('pages', ''),
             _ns(points.median(**{key: value for key, value in point.items()
                                  if key != 'ns'}))]
            for point in points.find(suite=suite)]
    _print_table(title, ['contender', 'operation', 'pages', 'ns'], rows)


def _guests(points, suite):
    """A line for each operation of a pair, which lived at the same time."""
    rows = []
    for pair in points.values('pair', suite=suite):
        base, other = points.values('contender', suite=suite, pair=pair)
        for op in points.values('op', suite=suite, pair=pair):
            at = {'suite': suite, 'pair': pair, 'op': op}
            row = [op]
            for name in base, other:
                us = points.median(contender=name, **at) / 1e3
                row += [name, f'{us:.1f}',
                        _percent(points.spread(contender=name, **at))]
            row += [f'x{points.paired_ratio(other, base, **at):.3f}',
                    _percent(points.paired_spread(other, base, **at))]
            rows.append(row)
    _print_table('Linux guests: us, spread; ratio within a boot, its spread '
                 'over boots',
                 ['', 'contender', '', '', 'contender', '', '', '', ''], rows)


def _scale(points):
    rows = []
    for point in points.find(suite='scale'):
        value = points.median(suite='scale', op=point['op'],
                              contender=point['contender'])
        rows.append([point['op'], point['contender'],
                     f'{value:.0f}' if 'bytes' in point['op']
                     else f'{value / 1e6:.3f} ms'])
    _print_table('Many devices and domains', ['', 'contender', ''], rows)


PLAIN = {
    'page-table': 'Page table: ns per page or lookup',
    'threads': 'One and two devices in threads: ns per DMA of both',
    'writer': 'Reads while domain or guest maps and unmaps: ns',
    'fault': 'Refused accesses: ns',
    'flood': 'Reads of one device while another causes faults: ns',
    'large-pages': 'Random reads over 8 GiB, large-pages on and off: ns',
    'sampling': 'Reads with and without sampled latency: ns',
    'messages': 'Interrupt messages, no guest: ns on the way to the APIC',
}


def print_all(points):
    """A table for each suite that was measured."""
    suites = points.values('suite')
    for suite in suites:
        if suite == 'working-set':
            _working_set(points)
        elif suite == 'sizes':
            _sizes(points)
        elif suite == 'scale':
            _scale(points)
        elif suite in ('guest', 'boot'):
            _guests(points, suite)
        else:
            _plain(points, suite, PLAIN.get(suite, suite))


def print_goals(goals):
    """What was reached, and where the worst case of it is."""
    rows = [[goal['goal'], f'{goal["sense"]} {goal["limit"]}',
             f'{goal["value"]:.2f}', 'yes' if goal['reached'] else 'no',
             goal['where']]
            for goal in goals if goal['value'] is not None]
    _print_table('Goals', ['', 'goal', 'measured', 'reached', 'worst at'],
                 rows)
