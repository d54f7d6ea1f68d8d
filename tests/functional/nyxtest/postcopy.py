# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""Between two QEMUs: what the state of devices is when postcopy begins."""

import socket
import struct
import threading

from .stream import Stream

# A command of the stream, number 7, whose argument are the 4 bytes of a length
PACKAGED = b'\x08\x00\x07\x00\x04'
CHUNK = 1 << 16


class PackageFilter:
    """Listens in the place of a destination, and passes on what comes.

    Sections of the package of devices can be left out.
    """

    def __init__(self, listen, destination, leave_out=()):
        self._leave_out = leave_out
        self._destination = destination
        self.cut = threading.Event()
        listen.unlink(missing_ok=True)
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(str(listen))
        self._server.listen(1)
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self):
        source, _ = self._server.accept()
        there = socket.socket(socket.AF_UNIX)
        there.connect(str(self._destination))
        threading.Thread(target=self._copy, args=(there, source),
                         daemon=True).start()
        data = b''
        while not self.cut.is_set():
            data += source.recv(CHUNK)
            data = self._pass_on(data, there)
        there.sendall(data)
        self._copy(source, there)

    def _pass_on(self, data, there):
        """All that cannot be part of the package's head; what is left."""
        at = data.find(PACKAGED)
        if at < 0:
            keep = len(PACKAGED) - 1
            there.sendall(data[:-keep])
            return data[-keep:]
        first = at + len(PACKAGED) + 4
        if len(data) < first:
            return data
        size, = struct.unpack('>I', data[first - 4:first])
        if len(data) < first + size:
            return data
        package = Stream(data[first:first + size])
        for name in self._leave_out:
            package = package.without(name)
        there.sendall(data[:first - 4] + struct.pack('>I', len(package.data)) +
                      package.data)
        self.cut.set()
        return data[first + size:]

    @staticmethod
    def _copy(source, there):
        try:
            while chunk := source.recv(CHUNK):
                there.sendall(chunk)
            there.shutdown(socket.SHUT_WR)
        except OSError:             # one side has ended
            pass
