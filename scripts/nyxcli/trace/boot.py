# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""Spans of a boot: from the reset to the drivers of the guest."""

from .moment import Span

BEGINS = 'RESET', 'RESUME'


def _begin(moments):
    """The latest reset, or else when a VM began to run."""
    for name in BEGINS:
        for at in range(len(moments) - 1, -1, -1):
            if moments[at].is_event(name):
                return at
    return None


def ended(watcher, settle):
    """A driver works, and nothing has happened for a while."""
    begin = _begin(watcher.moments)
    return begin is not None and watcher.idle() > settle and any(
        moment.kind == 'interrupt' for moment in watcher.moments[begin:])


def spans(moments):
    """In the order of their beginning; the first is all of it."""
    begin = _begin(moments)
    if begin is None:
        return []
    zero, after = moments[begin].time, moments[begin + 1:]
    drivers = [moment for moment in after if moment.kind == 'interrupt']
    limit = drivers[0].time if drivers else float('inf')
    placed = {}
    for moment in after:
        if moment.kind == 'placed' and moment.time <= limit:
            # Only the first time: Linux switches BARs off and on again.
            placed.setdefault(moment.subject, moment.time)
    if not placed and not drivers:
        return []
    found = []
    if placed:
        found.append(Span('until the firmware has placed all devices', zero,
                          max(placed.values())))
    if drivers:
        found.append(Span('until a driver works: the first interrupt',
                          max(placed.values(), default=zero), limit))
    found += [Span('until its first interrupt', zero, moment.time,
                   moment.subject) for moment in drivers]
    return [Span('boot', zero, max(span.end for span in found)), *found]
