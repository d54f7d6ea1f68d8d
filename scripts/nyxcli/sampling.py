# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""Figures of a VM again and again, without waiting for one that hangs."""

import sys
import threading
import time

from .errors import NyxError
from .metrics_read import read
from .vm import connect


class Watch:
    """One VM, from scrape to scrape; it may be slow, hang or be gone."""

    def __init__(self, name, socket='metrics'):
        self.name = name
        self._socket = socket
        self.figures = None         # the latest
        self.before = None          # those before
        self.error = None           # why there are none
        self.took = 0               # seconds
        self._complained = None
        self._thread = None

    def start(self, seconds):
        """Begin to read, unless the last time has not come to its end."""
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(
                target=self._read, args=(seconds,), daemon=True,
                name=f'read {self.name}')
            self._thread.start()

    def wait(self, seconds):
        """Whether figures are there that are new."""
        self._thread.join(max(seconds, 0))
        if self._thread.is_alive():
            self.error = f'{self.name} does not answer in time.'
        return self.error is None

    def complain(self):
        """Tell of an error, but not of the same one again and again."""
        if self.error and self.error != self._complained:
            print(f'nyx: {self.error}', file=sys.stderr, flush=True)
        self._complained = self.error

    def _read(self, seconds):
        begin = time.monotonic()
        try:
            with connect(self.name, self._socket) as vm:
                figures = read(vm, seconds)
        except (NyxError, OSError) as err:
            self.error = str(err)
            self.before = self.figures = None
        else:
            self.before, self.figures = self.figures, figures
            self.error = None
        self.took = time.monotonic() - begin
