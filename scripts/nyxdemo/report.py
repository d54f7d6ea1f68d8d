# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""What the demo prints: a timeline, checks, tables, a verdict."""

import sys
import threading
import time

COLOURS = {'operator': 36, 'rogue': 33, 'QMP': 35, 'ok': 32, 'FAILED': 31}


class Report:
    """Lines with the time since the start; every check has a name."""

    def __init__(self):
        self._began = time.monotonic()
        self._lock = threading.Lock()
        self._colours = sys.stdout.isatty()
        self._passed = []
        self._failed = []

    def _paint(self, word, text):
        if self._colours and word in COLOURS:
            return f'\033[{COLOURS[word]}m{text}\033[0m'
        return text

    def line(self, who, text, at=None):
        seconds = (at or time.monotonic()) - self._began
        with self._lock:
            print(f'{seconds:6.1f} s  {self._paint(who, f"{who:8}")}  {text}',
                  flush=True)

    def act(self, title):
        with self._lock:
            print(f'\n{title}', flush=True)

    def check(self, name, holds, detail=''):
        """An expectation; the verdict is that all of them held."""
        (self._passed if holds else self._failed).append(name)
        self.line('ok' if holds else 'FAILED',
                  name + (f' ({detail})' if detail else ''))
        return holds

    def begun(self):
        """Whether anything was checked yet."""
        return bool(self._passed or self._failed)

    def event(self, event):
        """One QMP event of nyx-iommu, as a line for people."""
        data = event.get('data', {})
        texts = {
            'NYX_DMA_FAULT': '{device} in domain {domain}: {type}, {access} '
                             'at {address:#x}, fault number {count}',
            'NYX_FAULT_LIMIT': '{device} in domain {domain}: {faults} faults, '
                               'past its limit: {action}',
            'NYX_DEVICE_STATE': '{device} in domain {domain}: {old} -> {new} '
                                '({reason})',
        }
        if event['event'] in texts:
            text = texts[event['event']].format(**data)
            self.line('QMP', f"{event['event']}  {text}", event['received'])

    def table(self, title, heads, rows):
        rows = [heads, *([str(cell) for cell in row] for row in rows)]
        widths = [max(map(len, column)) for column in zip(*rows)]
        with self._lock:
            print(f'\n{title}')
            for row in rows:
                print('  ' + '  '.join(
                    cell.ljust(width) for cell, width in zip(row, widths)
                ).rstrip())
            sys.stdout.flush()

    def verdict(self):
        """Print it; True if every expectation held, and there were some."""
        total = len(self._passed) + len(self._failed)
        seconds = time.monotonic() - self._began
        with self._lock:
            print()
            for name in self._failed:
                print(f"{self._paint('FAILED', 'FAILED')}: {name}")
            good = bool(self._passed) and not self._failed
            text = f'{len(self._passed)} of {total} expectations held, ' \
                   f'in {seconds:.0f} s.'
            print(f"Verdict: {self._paint('ok', 'confined.') if good else ''}"
                  f"{'' if good else self._paint('FAILED', 'NOT confined.')} "
                  f'{text}', flush=True)
        return good
