# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""QEMU's qtest protocol: memory, ports and PCI configuration without a CPU."""

from nyxtest.errors import GuestDied, GuestTimeout, NyxTestError

ANSWER_SECONDS = 60
CONFIG_ADDRESS = 0xcf8
CONFIG_DATA = 0xcfc


class QTest:
    """One request at a time over a connected socket."""

    def __init__(self, sock):
        self._sock = sock
        self._sock.settimeout(ANSWER_SECONDS)
        self._pending = b''

    def _line(self):
        while b'\n' not in self._pending:
            try:
                data = self._sock.recv(65536)
            except TimeoutError:
                raise GuestTimeout('the qtest server does not answer.') \
                    from None
            if not data:
                raise GuestDied('the qtest server is gone.')
            self._pending += data
        line, _, self._pending = self._pending.partition(b'\n')
        return line.decode()

    def _ask(self, text):
        self._sock.sendall(text.encode() + b'\n')
        line = self._line()
        while line.startswith('IRQ '):
            line = self._line()
        words = line.split()
        if words[0] == 'exited':
            raise GuestDied(f'the inner QEMU ended, status {words[1]}.')
        if words[0] != 'OK':
            raise NyxTestError(f'qtest: "{text}" gave "{line}".')
        return words[1] if len(words) > 1 else ''

    def read(self, address, size):
        return bytes.fromhex(self._ask(f'read {address:#x} {size:#x}')[2:])

    def write(self, address, data):
        self._ask(f'write {address:#x} {len(data):#x} 0x{data.hex()}')

    def readl(self, address):
        return int(self._ask(f'readl {address:#x}'), 16)

    def writel(self, address, value):
        self._ask(f'writel {address:#x} {value:#x}')

    def readq(self, address):
        return int(self._ask(f'readq {address:#x}'), 16)

    def writeq(self, address, value):
        self._ask(f'writeq {address:#x} {value:#x}')

    def outl(self, port, value):
        self._ask(f'outl {port:#x} {value:#x}')

    def outb(self, port, value):
        self._ask(f'outb {port:#x} {value:#x}')

    def inb(self, port):
        return int(self._ask(f'inb {port:#x}'), 16)

    def config_read(self, devfn, offset, bus=0):
        self.outl(CONFIG_ADDRESS,
                  1 << 31 | bus << 16 | devfn << 8 | offset & ~3)
        value = int(self._ask(f'inl {CONFIG_DATA:#x}'), 16)
        return value >> 8 * (offset & 3)

    def config_write(self, devfn, offset, value, size=4, bus=0):
        self.outl(CONFIG_ADDRESS,
                  1 << 31 | bus << 16 | devfn << 8 | offset & ~3)
        letter = {1: 'b', 2: 'w', 4: 'l'}[size]
        self._ask(f'out{letter} {CONFIG_DATA + (offset & 3):#x} {value:#x}')

    def close(self):
        self._sock.close()
