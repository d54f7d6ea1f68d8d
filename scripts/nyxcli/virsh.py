# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""The monitor of a libvirt domain, through virsh.

virsh finds libvirt as it always does: LIBVIRT_DEFAULT_URI, or else the
system's for root and the session's for others.
"""

import json
import os
import re
import select
import shutil
import subprocess
import time

from .errors import Gone, NyxError, Refused

SECONDS = 120
EVENT = re.compile(r"event (\S+) at (\d+)\.(\d+) for domain '.*?': (.*)")


def _virsh(*arguments, seconds=SECONDS):
    try:
        return subprocess.run(['virsh', '-q', *arguments], text=True,
                              capture_output=True, timeout=seconds,
                              check=False, stdin=subprocess.DEVNULL)
    except subprocess.TimeoutExpired:
        raise NyxError(f'libvirt did not answer "virsh {arguments[0]}" within '
                       f'{seconds} s; see "systemctl status libvirtd".') \
            from None


def domains():
    """Names of libvirt's running domains; none where there is no libvirt."""
    if not shutil.which('virsh'):
        return []
    done = _virsh('list', '--name')
    return [] if done.returncode else done.stdout.split()


class LibvirtMonitor:
    """What vm.Vm asks of a monitor."""

    def __init__(self, name):
        self.name = name
        self._events = None
        self._pending = b''

    def execute(self, command, arguments, seconds):
        words = {'execute': command}
        if arguments:
            words['arguments'] = arguments
        done = _virsh('qemu-monitor-command', self.name, json.dumps(words),
                      seconds=seconds or SECONDS)
        if done.returncode:
            why = done.stderr.strip().removeprefix('error: ')
            raise Gone(f'libvirt did not pass {command} on to {self.name}: '
                       f'{why}')
        answer = json.loads(done.stdout)
        if 'error' in answer:
            raise Refused(self.name, command, answer['error']['class'],
                          answer['error']['desc'])
        return answer['return']

    def _listen(self):
        # Lines as they come: virsh would keep them in a pipe's buffer.
        self._events = subprocess.Popen(
            ['stdbuf', '-oL', 'virsh', '-q', 'qemu-monitor-event', self.name,
             '--loop'], stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)

    def _line(self, limit):
        """The next line, or None at the limit; not from a buffer of Python's,
        of which select() knows nothing."""
        file = self._events.stdout.fileno()
        while b'\n' not in self._pending:
            left = None if limit is None else max(0, limit - time.monotonic())
            if not select.select([file], [], [], left)[0]:
                return None
            data = os.read(file, 65536)
            if not data:
                raise Gone(f'the libvirt domain {self.name} has ended.')
            self._pending += data
        line, _, self._pending = self._pending.partition(b'\n')
        return line.decode(errors='replace')

    def event(self, seconds):
        """The next event, or None; the first call begins to listen."""
        if self._events is None:
            self._listen()
        limit = None if seconds is None else time.monotonic() + seconds
        while True:
            line = self._line(limit)
            if line is None:
                return None
            match = EVENT.match(line)
            if match:
                name, whole, micro, data = match.groups()
                return {'event': name, 'data': {} if data == '<null>'
                        else json.loads(data),
                        'timestamp': {'seconds': int(whole),
                                      'microseconds': int(micro)}}

    def close(self):
        if self._events:
            self._events.terminate()
            self._events.wait()
            self._events.stdout.close()
            self._events = None
