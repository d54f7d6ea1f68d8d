# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""Spans of a migration, on the side that is left."""

from .moment import Span

ENDS = 'completed', 'failed', 'cancelled'


def _states(moments):
    """(time, status) of each change."""
    return [(moment.time, moment.data['status']) for moment in moments
            if moment.is_event('MIGRATION')]


def ended(watcher, _):
    return any(status in ENDS for _, status in _states(watcher.moments))


def spans(moments):
    """All of it, its states, its passes over memory, and the standstill."""
    states = _states(moments)
    if not states:
        return []
    begin, end = states[0][0], states[-1][0]
    found = [Span(f'migration, {states[-1][1]}', begin, end)]
    found += [Span(status, at, until) for (at, status), (until, _)
              in zip(states, states[1:])]
    passes = [(moment.time, moment.data['pass']) for moment in moments
              if moment.is_event('MIGRATION_PASS')]
    # QEMU tells of the second and later ones.
    active = [at for at, status in states if status == 'active']
    if active and not (passes and passes[0][1] == 1):
        passes = [(active[0], 1), *passes]
    found += [Span(f'pass {number}', at, until) for (at, number), (until, _)
              in zip(passes, [*passes[1:], (end, 0)])]
    stops = [moment.time for moment in moments if moment.is_event('STOP')
             and begin <= moment.time <= end]
    if stops:
        found.append(Span('standstill', stops[-1], end))
    return found
