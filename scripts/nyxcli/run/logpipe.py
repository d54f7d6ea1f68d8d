# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""Carries what QEMU says into the log, and to a terminal.

QEMU waits while nobody reads, so the reader waits for nothing but the disk: a
terminal that stands still loses lines, and a flood of one kind is cut short.
"""

import collections
import queue
import sys
import threading
from datetime import datetime

from .logline import Line, parse

LAST = 20
LAST_SECONDS = 5                # for what a pipe still holds
A_SECOND = 200                  # lines of one kind; the rest is counted
TERMINAL_LINES = 1000


class Flood:
    """Lets so many lines of a kind through in a second."""

    def __init__(self):
        self._second = None
        self._counts = collections.Counter()

    def admit(self, line):
        """Lines to write: this one or none, after what was left out."""
        second = line.when.replace(microsecond=0)
        lines = []
        if second != self._second:
            for (event, level, component), count in self._counts.items():
                if count > A_SECOND:
                    lines.append(Line(line.when, level, component,
                                      f'{event or "messages"}: '
                                      f'{count - A_SECOND} more left out'))
            self._second = second
            self._counts.clear()
        kind = line.event, line.level, line.component
        self._counts[kind] += 1
        if line.level == 'trace' or self._counts[kind] <= A_SECOND:
            lines.append(line)
        return lines


class Terminal(threading.Thread):
    """Prints lines; those that come while it is too slow are lost."""

    def __init__(self, levels, colour):
        super().__init__(daemon=True)
        self._lines = queue.Queue(TERMINAL_LINES)
        self._levels = levels
        self._colour = colour
        self._lost = 0
        self.start()

    def put(self, line):
        if line.level not in self._levels:
            return
        try:
            self._lines.put_nowait(line)
        except queue.Full:
            self._lost += 1

    def run(self):
        while True:
            line = self._lines.get()
            if line is None:
                return
            lost, self._lost = self._lost, 0
            text = line.coloured() if self._colour else line.plain()
            if lost:
                text += f'\n({lost} lines were lost; the log has them)'
            try:
                print(text, file=sys.stderr, flush=True)
            except OSError:
                return          # nobody looks any more

    def finish(self):
        self.put_end()
        self.join(2)

    def put_end(self):
        try:
            self._lines.put_nowait(None)
        except queue.Full:
            pass                # it stands still, and dies with us


class LogPipe(threading.Thread):
    """Reads until QEMU, which calls itself program, closes the pipe."""

    def __init__(self, pipe, program, path, terminal=None):
        super().__init__(daemon=True)
        self.last = collections.deque(maxlen=LAST)
        self._pipe = pipe
        self._program = program
        self._file = path.open('a', encoding='utf-8')
        self._lock = threading.Lock()
        self._terminal = terminal
        self._flood = Flood()
        self.start()

    def run(self):
        for raw in self._pipe:
            line = parse(raw.decode(errors='replace').rstrip(),
                         datetime.now().astimezone(), self._program)
            if line.text:
                self.last.append(line)
                self.write(line)
        self._pipe.close()

    def write(self, line):
        """Append a line, of QEMU or our own."""
        with self._lock:
            for each in self._flood.admit(line):
                print(each.plain(), file=self._file, flush=True)
                if self._terminal:
                    self._terminal.put(each)

    def say(self, level, text):
        """A line of nyx itself."""
        self.write(Line(datetime.now().astimezone(), level, 'nyx', text))

    def last_words(self):
        """Why QEMU has ended, as far as it has said; else None."""
        self.join(LAST_SECONDS)
        errors = [line for line in self.last if line.level == 'error'] or \
            [line for line in self.last if not line.event]
        return errors[-1].text.rstrip('.') if errors else None

    def finish(self):
        """Wait for the last lines."""
        self.join(LAST_SECONDS)
        if self._terminal:
            self._terminal.finish()
        with self._lock:
            self._file.close()
