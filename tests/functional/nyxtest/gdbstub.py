# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""What gdb says to QEMU's gdbstub: the little that the tests need."""

import socket

from .errors import GuestDied, GuestTimeout

SECONDS = 120
RIP, EFLAGS = 16, 17            # numbers of x86-64's registers


class GdbStub:
    """A debugger over a connected socket; the VM is stopped while it is
    attached, but for what it is told to do. Threads are vCPUs, from 1 on.
    """

    def __init__(self, path):
        self._sock = socket.socket(socket.AF_UNIX)
        self._sock.settimeout(SECONDS)
        self._sock.connect(str(path))
        self._pending = b''
        self.ask('qSupported:multiprocess-')

    def _byte(self):
        if not self._pending:
            try:
                self._pending = self._sock.recv(4096)
            except TimeoutError:
                raise GuestTimeout('the gdbstub did not answer within '
                                   f'{SECONDS} s.') from None
            if not self._pending:
                raise GuestDied('QEMU closed the connection of its gdbstub.')
        byte, self._pending = self._pending[:1], self._pending[1:]
        return byte

    def _packet(self):
        while self._byte() != b'$':
            pass
        text = b''
        while (byte := self._byte()) != b'#':
            text += byte
        self._byte(), self._byte()
        self._sock.sendall(b'+')
        return text.decode('ascii')

    def ask(self, text):
        """Send a packet; the one that answers it."""
        data = text.encode('ascii')
        self._sock.sendall(b'$%s#%02x' % (data, sum(data) % 256))
        return self._packet()

    def choose(self, vcpu):
        """What follows is about this vCPU, from 0 on."""
        assert self.ask(f'Hg{vcpu + 1:x}') == 'OK'

    def register(self, number):
        return int.from_bytes(bytes.fromhex(self.ask(f'p{number:x}')),
                              'little')

    def set_register(self, number, value, size=8):
        text = value.to_bytes(size, 'little').hex()
        assert self.ask(f'P{number:x}={text}') == 'OK'

    def step(self, vcpu):
        """One instruction of this vCPU, while the others are stopped."""
        return self.ask(f'vCont;s:{vcpu + 1:x}')

    def detach(self):
        """The VM goes on."""
        self.ask('D')
        self._sock.close()
