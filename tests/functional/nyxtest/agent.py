# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""Commands in the guest, through the agent on its second serial port."""

import base64
import time
from dataclasses import dataclass

from .errors import GuestDied, GuestTimeout, NyxTestError


@dataclass(frozen=True)
class Result:
    status: int
    output: str


class CommandFailed(NyxTestError):
    """A command in the guest ended with another status than 0."""


class Agent:
    """One command at a time; the status and output of each come back."""

    def __init__(self, sock):
        self._sock = sock
        self._pending = b''
        self._number = 0

    def _line(self, limit, what):
        while b'\n' not in self._pending:
            left = limit - time.monotonic()
            if left <= 0:
                raise GuestTimeout(f'the guest did not {what} in time.')
            self._sock.settimeout(left)
            try:
                data = self._sock.recv(65536)
            except TimeoutError:
                continue
            except OSError as err:
                raise GuestDied(f'QEMU ended before the guest did {what}: '
                                f'{err}.') from err
            if not data:
                raise GuestDied(f'QEMU ended before the guest did {what}.')
            self._pending += data
        line, _, self._pending = self._pending.partition(b'\n')
        return line.decode('ascii', 'replace').strip()

    def wait_ready(self, seconds):
        limit = time.monotonic() + seconds
        # A firmware may have written before it to the same line.
        while not self._line(limit, 'boot').endswith('agent ready'):
            pass

    def begin(self, text, seconds=60):
        """Run shell text in the guest, and wait for nothing of it.

        For what the guest does not live to answer, as it is reset or goes
        back to a snapshot. The number of the command is returned.
        """
        self._number += 1
        job = base64.b64encode(text.encode()).decode()
        self._sock.settimeout(seconds)
        try:
            self._sock.sendall(f'{self._number} {job}\n'.encode())
        except OSError as err:
            raise GuestDied(f'QEMU ended before "{text}".') from err
        return str(self._number)

    def run(self, text, seconds=60):
        """Run shell text in the guest and return its Result."""
        return self.finish(self.begin(text, seconds), text, seconds)

    def finish(self, number, text, seconds=60):
        """The Result of what begin() began."""
        limit = time.monotonic() + seconds
        while True:
            words = self._line(limit, f'finish "{text}"').split(' ')
            if words[0] == number and len(words) >= 2:
                output = base64.b64decode(words[2]) if len(words) > 2 else b''
                return Result(int(words[1]), output.decode(errors='replace'))

    def check(self, text, seconds=60):
        """Run shell text that must succeed; returns its output, stripped."""
        result = self.run(text, seconds)
        if result.status:
            raise CommandFailed(f'status {result.status} in the guest, '
                                f'{result.output.strip()!r}, after "{text}"')
        return result.output.strip()

    def wait(self, condition, seconds=30):
        """Wait in the guest until a shell condition holds."""
        text = ('read -r up _ </proc/uptime\n'
                f'limit=$((${{up%.*}} + {int(seconds)}))\n'
                f'until {condition}; do\n'
                '  read -r up _ </proc/uptime\n'
                '  [ ${up%.*} -lt $limit ] || exit 124\n'
                '  usleep 50000\n'
                'done')
        result = self.run(text, seconds + 60)
        if result.status:
            raise GuestTimeout(f'"{condition}" did not come true in the guest '
                               f'within {seconds} s.')

    def close(self):
        self._sock.close()
