# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""Spans of devices that come and go while the VM runs."""

from .moment import Span

STEPS = {
    'let-go': 'until the guest lets go of it',
    'forced': 'until it is taken out by force',
    'waiting': 'until the time for the guest is over',
}


def ended(watcher, settle):
    """A device has come to work or gone, and nothing more happens."""
    added = {moment.subject for moment in watcher.moments
             if moment.kind == 'added'}
    done = any(moment.is_event('DEVICE_DELETED') or
               moment.kind == 'interrupt' and moment.subject in added
               for moment in watcher.moments)
    return done and watcher.idle() > settle


def _plugged(moments, begin, name):
    rest = [moment for moment in moments if moment.time >= begin
            and moment.subject == name]
    found, last = [], begin
    for kind, text in (('placed', 'until the guest has placed it'),
                       ('interrupt', 'until its first interrupt')):
        at = next((moment.time for moment in rest if moment.kind == kind),
                  None)
        if at is not None:
            found.append(Span(text, last, at, name))
            last = at
    return [Span('plug' if found else 'plug, unused by the guest', begin,
                 last, name), *found]


def _unplugged(moments, begin, name):
    found, last = [], begin
    for moment in moments:
        if moment.time < begin or moment.data.get('device') != name:
            continue
        step = moment.data.get('step')
        if moment.is_event('NYX_DEVICE_UNPLUG') and step in STEPS:
            found.append(Span(STEPS[step], last, moment.time, name))
            last = moment.time
        elif moment.is_event('DEVICE_DELETED'):
            found.append(Span('until nothing uses it any more', last,
                              moment.time, name))
            return [Span('unplug', begin, moment.time, name), *found]
    return [Span('unplug, not done yet', begin, last, name), *found]


def spans(moments):
    """For each device that came or went."""
    found = []
    for moment in moments:
        if moment.kind == 'added':
            found += _plugged(moments, moment.time, moment.subject)
        elif moment.is_event('NYX_DEVICE_UNPLUG') and \
                moment.data['step'] == 'requested':
            found += _unplugged(moments, moment.time, moment.data['device'])
    return found
