# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""gdb on a VM, as a person types commands and reads what it says."""

import os
import selectors
import shutil
import subprocess
import time
import unittest

from .errors import GuestTimeout, NyxTestError

SECONDS = 150
PROMPT = '(gdb) '
SETTINGS = ('set pagination off', 'set confirm off', 'set width 0')

needs_gdb = unittest.skipUnless(shutil.which('gdb'),
                                'gdb is not installed (package gdb)')


class Gdb:
    """Attached to QEMU's gdbstub at a Unix socket that is there already.

    QEMU stops the VM when gdb comes.
    """

    def __init__(self, address, *arguments):
        self._said = ''
        self._process = subprocess.Popen(
            ['gdb', '-q', '-nx', *map(str, arguments)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, env={**os.environ, 'LC_ALL': 'C',
                                           'DEBUGINFOD_URLS': ''})
        self._until(PROMPT, 'start')
        for line in (*SETTINGS, f'target remote {address}'):
            said = self.command(line)
        if 'Remote debugging' not in said:
            raise NyxTestError(f'gdb cannot reach the VM: {said}')

    def _until(self, text, what):
        """All that gdb says up to text, which is left out."""
        limit = time.monotonic() + SECONDS
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            while text not in self._said:
                if not selector.select(max(limit - time.monotonic(), 0)):
                    raise GuestTimeout(f'gdb did not {what} within {SECONDS} '
                                       f's; it said last: {self._said[-300:]}')
                some = os.read(self._process.stdout.fileno(), 65536)
                if not some:
                    raise NyxTestError(f'gdb ended: {self._said[-300:]}')
                self._said += some.decode(errors='replace')
        said, self._said = self._said.split(text, 1)
        return said

    def _send(self, line):
        self._process.stdin.write(f'{line}\n'.encode())
        self._process.stdin.flush()

    def command(self, line):
        """What gdb says to a command, once the VM stands still (again)."""
        self._send(line)
        return self._until(PROMPT, f'answer to "{line}"')

    def go_on(self):
        """Let the VM run; returns when it does. Then await_stop()."""
        self._send('continue')
        self._until('Continuing.', 'continue')

    def await_stop(self):
        """Why the VM has stopped, in gdb's words."""
        return self._until(PROMPT, 'see the VM stop')

    def close(self):
        self._process.kill()
        self._process.communicate()
