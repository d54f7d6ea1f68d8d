# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""Watch a migration to its end."""

import sys
import time

from .errors import Gone, NyxError
from .units import bytes_text, rate_text
from .vm import connect

SECONDS = 0.5                   # between two looks
NEVER_MS = 1 << 31             # QEMU has no estimate yet
ENDED = 'completed', 'failed', 'cancelled'


def percent(info):
    """Of all memory, how much is on the other side; QEMU may go back."""
    ram = info.get('ram')
    if info.get('status') == 'completed':
        return 100.0
    if not ram or not ram['total']:
        return 0.0
    return 100 * (1 - min(1, ram['remaining'] / ram['total']))


def text(info):
    """One line of where a migration is."""
    ram = info.get('ram', {})
    parts = [f'{info["status"]:15} {percent(info):5.1f} %']
    if ram:
        parts += [f'{bytes_text(ram["remaining"])} left',
                  f'{ram["mbps"]:.0f} Mbit/s',
                  f'pass {ram["dirty-sync-count"]}',
                  f'{rate_text(ram["dirty-pages-rate"])} pages/s changed']
    if info.get('expected-downtime', NEVER_MS) < NEVER_MS:
        parts.append(f'expected downtime {info["expected-downtime"]} ms')
    if 'total-time' in info:
        parts.append(f'after {info["total-time"] / 1000:.1f} s')
    return ', '.join(parts)


class _Line:
    """One line that is written over on a terminal, and only when it changes
    elsewhere."""

    def __init__(self, quiet):
        self._quiet = quiet
        self._terminal = sys.stdout.isatty()
        self._last = None

    def show(self, words):
        if self._quiet or words == self._last:
            return
        self._last = words
        print(f'\r\033[K{words}' if self._terminal else words,
              end='' if self._terminal else '\n', flush=True)

    def end(self):
        if self._terminal and self._last and not self._quiet:
            print()


def _look(name):
    # Short connections, so that other commands come in between.
    with connect(name) as vm:
        return vm.execute('query-migrate')


def _begin_postcopy(name, info):
    """When all memory was sent once; True if it was begun now."""
    if info['status'] != 'active' or info['ram']['dirty-sync-count'] < 2:
        return False
    with connect(name) as vm:
        vm.execute('migrate-start-postcopy')
    return True


def _outcome(name, info):
    """NyxError unless the migration has gone well."""
    if info['status'] == 'cancelled':
        raise NyxError(f'the migration of {name} was cancelled; it runs on '
                       'here.')
    if info['status'] == 'failed':
        why = info.get('error-desc', 'QEMU does not say why').rstrip('.')
        with connect(name) as vm:
            status = vm.execute('query-status')['status']
        raise NyxError(f'the migration of {name} failed: {why}; it is '
                       f'{status} here.')


def follow(name, quiet, postcopy=False):
    """Until the migration has ended; what query-migrate says then."""
    line = _Line(quiet)
    try:
        while True:
            info = _look(name)
            if 'status' not in info or info['status'] == 'none':
                raise NyxError(f'{name} is not migrating; begin with "nyx '
                               'migrate start".')
            line.show(text(info))
            if info['status'] in ENDED:
                break
            if info['status'] == 'postcopy-paused':
                raise NyxError(f'the migration of {name} is paused: the '
                               'connection broke; resume it with QMP '
                               'commands migrate-recover and migrate.')
            if postcopy and _begin_postcopy(name, info):
                postcopy = False
            time.sleep(SECONDS)
    except Gone as err:
        raise Gone(f'{name} ended while it migrated; whether the '
                   'destination has taken over, "nyx status" tells '
                   'there.') from err
    finally:
        line.end()
    _outcome(name, info)
    return info


def summary(info):
    """What a completed migration was like, in a sentence."""
    ram = info.get('ram', {})
    words = f'completed in {info["total-time"] / 1000:.1f} s'
    if 'downtime' in info:
        words += f', stood still for {info["downtime"]} ms'
    if ram:
        words += f', {bytes_text(ram["transferred"])} sent in ' \
                 f'{ram["dirty-sync-count"]} passes'
    return words
