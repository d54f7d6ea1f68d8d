# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""One line that QEMU says: level, component, and how it is shown."""

import re
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache

from .loglevels import classify

EVENT = re.compile(r'([a-z][a-z0-9_]*)(?: |$)')
SEVERITY = re.compile(r'(?:^|: )(warning|info): ')
COLOURS = {'error': '1;31', 'warn': '33', 'info': '32', 'debug': '36',
           'trace': '2'}

_classify = lru_cache(4096)(classify)


@dataclass(frozen=True)
class Line:
    when: datetime
    level: str
    component: str
    text: str
    event: str = None           # name of the trace event, if it is one

    def plain(self):
        """As in the file: time with its zone, and milliseconds."""
        return f'{self.when.isoformat(timespec="milliseconds")} ' \
            f'{self.level:5} {self.component:10} {self.text}'

    def coloured(self):
        """As on a terminal: time of the day, level in colour."""
        return f'\x1b[2m{self.when:%H:%M:%S}.' \
            f'{self.when.microsecond // 1000:03}\x1b[0m ' \
            f'\x1b[{COLOURS[self.level]}m{self.level:5}\x1b[0m ' \
            f'{self.component:10} {self.text}'


def parse(raw, when, program):
    """A Line of what stood in the standard error of QEMU.

    program: how it calls itself, without folders.
    """
    # A guest may have put anything into its own texts.
    text = ''.join(char if char.isprintable() else '?' for char in raw)
    # Its oldest parts call it qemu, whatever its name is.
    said = [name for name in (program, 'qemu') if text.startswith(f'{name}: ')]
    if said:
        text = text[len(said[0]) + 2:]
        severity = SEVERITY.search(text)
        level = {'warning': 'warn', 'info': 'info'}[severity.group(1)] \
            if severity else 'error'
        return Line(when, level, 'qemu', text)
    event = EVENT.match(text)
    known = _classify(event.group(1)) if event else None
    if known:
        return Line(when, known[1], known[0], text, event.group(1))
    return Line(when, 'warn', 'guest', text)
