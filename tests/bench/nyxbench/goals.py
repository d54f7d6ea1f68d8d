# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""What was to be reached, and whether it was."""

NONE = 'q35'
SMALL, LARGE = 4096, 2 << 20


def _worst(ratios):
    """The largest of those that were measured, and where."""
    known = [(ratio, where) for ratio, where in ratios if ratio is not None]
    return max(known) if known else (None, '')


def _least(ratios):
    known = [(ratio, where) for ratio, where in ratios if ratio is not None]
    return min(known) if known else (None, '')


def _sets(points, leaf, first=0, last=float('inf')):
    return [pages for pages in
            points.values('pages', suite='working-set', leaf=leaf)
            if first <= pages <= last]


def _cost(points, contender, leaf, pages):
    return points.ratio(contender, NONE, suite='working-set', leaf=leaf,
                        pages=pages)


def _pass_through(points):
    return _worst(
        (points.ratio('nyx pass-through', NONE, suite='sizes', op=op,
                      length=length), f'{op} of {length} bytes')
        for op in points.values('op', suite='sizes')
        for length in points.values('length', suite='sizes', op=op))


TRANSLATING = ('nyx window', 'nyx intel', 'nyx amd', 'nyx virtio')


def _translating(points, leaf, first, last):
    return _worst((_cost(points, contender, leaf, pages),
                   f'{contender}, {pages} pages')
                  for contender in TRANSLATING
                  for pages in _sets(points, leaf, first, last))


def _faster(points, ours, theirs, first=0, last=float('inf')):
    def ratio(pages):
        return points.ratio(theirs, ours, suite='working-set', leaf=SMALL,
                            pages=pages)
    return _least((ratio(pages), f'{pages} pages')
                  for pages in _sets(points, SMALL, first, last))


def _threads(points):
    def gain(contender):
        one = points.median(suite='threads', contender=contender, op='one')
        two = points.median(suite='threads', contender=contender, op='two')
        return one / two if one and two else None
    return _least((gain(contender), contender) for contender in
                  points.values('contender', suite='threads')
                  if contender.startswith('nyx'))


def _beside(points, suite, disturbed, contender):
    alone = points.median(suite=suite, contender=contender, op='alone')
    beside = points.median(suite=suite, contender=contender, op=disturbed)
    return (beside / alone if alone and beside else None), contender


def _per_second(points, contender):
    ns = points.median(suite='page-table', contender=contender, op='map',
                       pages=262144)
    return (1000 / ns if ns else None), 'map'


def _bytes_per_page(points):
    return points.median(suite='page-table', contender='nyx, all at once',
                         op='bytes per page'), ''


def _tree(points):
    return _least(
        (points.ratio("virtio-iommu's tree", 'nyx, one by one',
                      suite='page-table', op=op, pages=pages),
         f'{op} of {pages} pages')
        for op in ('map', 'unmap')
        for pages in points.values('pages', suite='page-table',
                                   contender="virtio-iommu's tree"))


def _unmap_ms(points):
    ns = points.median(suite='page-table', contender='nyx, all at once',
                       op='unmap')
    return (ns * 262144 / 1e6 if ns else None), ''


def _invalidate_all(points):
    ns = points.median(suite='page-table', op='invalidate all',
                       contender='nyx, both stages', pages=262144)
    return (ns / 1000 if ns else None), '262144 pages'


def _sampling(points):
    ns = [points.median(suite='sampling', op=f'latency-sampling={interval}')
          for interval in (0, 1000)]
    return (ns[1] / ns[0] if all(ns) else None), 'one in 1000'


def _fault_ns(points):
    return points.median(suite='fault'), ''


def _guest(points, ours, theirs):
    suite = {'suite': 'guest', 'pair': ours}
    return _worst((points.paired_ratio(ours, theirs, op=op, **suite), op)
                  for op in points.values('op', **suite))


def _boot(points):
    return points.paired_ratio('nyx pass-through', NONE, suite='boot'), ''


def _scale(points, op):
    return points.median(suite='scale', contender='nyx', op=op), ''


def _creation(points):
    ratios = [(points.ratio('nyx', NONE, suite='scale', op=op), op)
              for op in points.values('op', suite='scale')]
    return _worst(ratios)


def _milliseconds(points, op):
    ns, where = _scale(points, op)
    return (ns / 1e6 if ns else None), where


# What is measured, the goal, and how: (worst value, where that is)
GOALS = [
    ('pass-through beside no IOMMU', 'at most', 1.02, _pass_through),
    ('translating, to 512 pages of 4 KiB', 'at most', 1.2,
     lambda points: _translating(points, SMALL, 0, 512)),
    ('translating, 262144 pages of 4 KiB', 'at most', 1.6,
     lambda points: _translating(points, SMALL, 262144, 262144)),
    ('translating, pages of 2 MiB', 'at most', 1.2,
     lambda points: _translating(points, LARGE, 0, float('inf'))),
    ('intel as fast as intel-iommu, to 512 pages, times', 'at least', 2,
     lambda points: _faster(points, 'nyx intel', 'q35 intel-iommu', 0, 512)),
    ('intel, from 4096 pages, times', 'at least', 8,
     lambda points: _faster(points, 'nyx intel', 'q35 intel-iommu', 4096)),
    ('amd as fast as amd-iommu, times', 'at least', 2,
     lambda points: _faster(points, 'nyx amd', 'q35 amd-iommu')),
    ('virtio as fast as virtio-iommu, times', 'at least', 2,
     lambda points: _faster(points, 'nyx virtio', 'q35 virtio-iommu')),
    ('two threads as fast as one, times', 'at least', 1.9, _threads),
    ('reads beside a writer', 'at most', 1.1,
     lambda points: _beside(points, 'writer', 'beside a writer',
                            'nyx window')),
    ('pages mapped in bulk, millions a second', 'at least', 20,
     lambda points: _per_second(points, 'nyx, all at once')),
    ('pages mapped one by one, millions a second', 'at least', 2,
     lambda points: _per_second(points, 'nyx, one by one')),
    ('bytes of tables per page', 'at most', 8.4, _bytes_per_page),
    ("as fast as virtio-iommu's tree, times", 'at least', 5, _tree),
    ('unmapping 1 GiB of 4 KiB pages, ms', 'at most', 1, _unmap_ms),
    ('invalidating all that stage 1 knows, us', 'at most', 10,
     _invalidate_all),
    ('reads with latency sampled beside without', 'at most', 1.05, _sampling),
    ('a fault, ns', 'at most', 500, _fault_ns),
    ('reads beside a flood of faults', 'at most', 1.05,
     lambda points: _beside(points, 'flood', 'beside a flood', 'nyx window')),
    ('from a fault past the limit to the event, ms', 'at most', 1,
     lambda points: _milliseconds(points, 'fault past the limit to event')),
    ('start with 64 devices in 64 domains beside q35', 'at most', 1.1,
     _creation),
    ('bytes of a domain without mappings', 'at most', 16384,
     lambda points: _scale(points, 'bytes of a domain')),
    ('Linux guest: pass-through beside q35', 'at most', 1.02,
     lambda points: _guest(points, 'nyx pass-through', 'q35')),
    ('Linux guest: intel, lazy, beside intel-iommu', 'at most', 1,
     lambda points: _guest(points, 'nyx intel, lazy',
                           'q35 intel-iommu, lazy')),
    ('Linux guest: intel, strict, beside intel-iommu', 'at most', 1,
     lambda points: _guest(points, 'nyx intel, strict',
                           'q35 intel-iommu, strict')),
    ('Linux guest: boot to userland beside q35', 'at most', 1.02, _boot),
]


def judge(points):
    """A list of dictionaries; value is None where nothing was measured."""
    results = []
    for what, sense, limit, measure in GOALS:
        value, where = measure(points)
        reached = None
        if value is not None:
            reached = value <= limit if sense == 'at most' else value >= limit
        results.append({'goal': what, 'sense': sense, 'limit': limit,
                        'value': value, 'where': where, 'reached': reached})
    return results
