# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""Signals that ask nyx run to end."""

import os
import signal

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(KeyboardInterrupt):
    """A signal came while the VM was being started."""


class Signals:
    """While it is entered, a signal interrupts, and later is only noted.

    An exception from a handler may get lost in a library, so once there is
    something to wait for, signals are read like a file: see fileno().  It is
    set_wakeup_fd() that writes to it: a handler of Python's that has to run
    before select() does would wait until select() has ended.
    """

    def __init__(self):
        self._read = self._write = None
        self._old = {}
        self._interrupt = True
        self._old_wakeup = -1

    def __enter__(self):
        self._read, self._write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        for number in ENDING:
            self._old[number] = signal.signal(number, self._handle)
        self._old_wakeup = signal.set_wakeup_fd(self._write,
                                                warn_on_full_buffer=False)
        return self

    def __exit__(self, *_):
        signal.set_wakeup_fd(self._old_wakeup)
        for number, handler in self._old.items():
            signal.signal(number, handler)
        os.close(self._read)
        os.close(self._write)

    def _handle(self, _number, _frame):
        if self._interrupt:
            self._interrupt = False     # what clears up is left in peace
            raise Interrupted

    def only_note(self):
        """From now on signals make fileno() readable."""
        self._interrupt = False

    def fileno(self):
        return self._read

    def clear(self):
        """Forget the signals that came up to now."""
        try:
            os.read(self._read, 4096)
        except BlockingIOError:
            pass
