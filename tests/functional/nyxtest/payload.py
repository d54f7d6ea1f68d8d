# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""A VM that runs tests/bare-metal instead of an operating system.

Such a payload runs also where the KVM of this machine is too slow or too
limited for Linux.
"""

import shutil
import socket
import subprocess
import time

from .errors import GuestDied, GuestTimeout, NyxTestError
from .monitor import Monitor
from .paths import BUILD, QEMU, ROOT

SOURCES = ROOT / 'tests' / 'bare-metal'
LINE_SECONDS = 150


def build_payload():
    """The payload's ELF file; made if it is not up to date."""
    folder = BUILD / 'bare-metal'
    made = subprocess.run(['make', '-s', '-C', SOURCES, f'BUILD={folder}'],
                          capture_output=True, text=True, check=False)
    if made.returncode:
        raise NyxTestError(f'tests/bare-metal cannot be built: {made.stderr}')
    return folder / 'payload.elf'


class PayloadVM:
    """QEMU with the payload; what it says comes line by line."""

    def __init__(self, folder, *arguments):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        self._log = folder / 'qemu.log'
        self._said = b''
        payload = build_payload()
        qmp, qmp_there = socket.socketpair()
        self._port, port_there = socket.socketpair()
        command = [str(QEMU), *arguments, '-nodefaults', '-display', 'none',
                   '-run-with', 'exit-with-parent=on',
                   '-chardev', f'socket,id=qmp-socket,fd={qmp_there.fileno()}',
                   '-object', 'monitor-qmp,id=qmp,chardev=qmp-socket',
                   '-chardev', f'socket,id=port,fd={port_there.fileno()}',
                   '-serial', 'chardev:port',
                   '-kernel', str(payload)]
        (folder / 'command').write_text(' '.join(command) + '\n')
        with qmp_there, port_there, self._log.open('w') as log:
            self._process = subprocess.Popen(
                command, pass_fds=(qmp_there.fileno(), port_there.fileno()),
                stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.monitor = Monitor(qmp)

    def line(self):
        """The next line that the payload says."""
        end = time.monotonic() + LINE_SECONDS
        while b'\n' not in self._said:
            self._port.settimeout(max(end - time.monotonic(), 0.001))
            try:
                some = self._port.recv(4096)
            except TimeoutError:
                raise GuestTimeout('the payload is silent; it said last: '
                                   f'{self._said!r}') from None
            if not some:
                raise GuestDied(f'QEMU ended: {self._log.read_text()}')
            self._said += some
        line, self._said = self._said.split(b'\n', 1)
        return line.decode()

    def go_on(self):
        """Tell the payload that what it waits for is done."""
        self._port.sendall(b'.')

    def stop(self):
        self.monitor.close()
        self._process.kill()
        self._process.wait()
        self._port.close()
