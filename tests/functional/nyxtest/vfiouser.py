# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""The vfio-user servers of the tests: one with libvfio-user, which does what
it should, and one without any library, which does what a test tells it to.
"""

import array
import itertools
import os
import socket
import struct
import subprocess
import threading

from .errors import NyxTestError
from .paths import BUILD

SERVER = BUILD / 'nyx' / 'tests' / 'vfio-user' / 'nyx-vfio-user-server'
SECONDS = 30


class LibServer:
    """nyx-vfio-user-server (tests/vfio-user/server.c).

    windows is what it was given and not told to give up: first address ->
    (size, access, has descriptor). errors: what QEMU must not have asked.
    """

    def __init__(self, path):
        if not SERVER.exists():
            raise NyxTestError(f'{SERVER} is missing; run "make" first.')
        self.path = path
        self.windows = {}
        self.errors = []
        self.resets = 0
        self._lines = b''
        self.process = subprocess.Popen(
            [SERVER, path], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        if self.process.stdout.readline() != b'listening\n':
            raise NyxTestError(f'{SERVER} does not start.')
        os.set_blocking(self.process.stdout.fileno(), False)

    def hear(self):
        """Take in what it has said; it does so before it answers QEMU."""
        while True:
            some = self.process.stdout.read()
            if not some:
                break
            self._lines += some
        *lines, self._lines = self._lines.split(b'\n')
        for line in lines:
            self._take(line.decode().split())
        return self

    def _take(self, words):
        if words[0] == 'dma-map':
            first, size = int(words[1], 16), int(words[2], 16)
            if any(f < first + size and first < f + s
                   for f, (s, *_) in self.windows.items()):
                self.errors.append(f'{words} overlaps another window')
            self.windows[first] = (size, words[3], words[4] == '1')
        elif words[0] == 'dma-unmap':
            first, size = int(words[1], 16), int(words[2], 16)
            if self.windows.pop(first, (None,))[0] != size:
                self.errors.append(f'{words} is no window')
        elif words[0] == 'reset':
            self.resets += 1

    def ranges(self):
        """The windows as (first, end), those side by side joined."""
        joined = []
        for first, (size, *_) in sorted(self.hear().windows.items()):
            if joined and joined[-1][1] == first:
                joined[-1] = (joined[-1][0], first + size)
            else:
                joined.append((first, first + size))
        return joined

    def stop(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


class LibDevice:
    """The registers of that server's device, as a driver in a VM uses them."""

    ADDRESS, SIZE, DATA, COMMAND, RESULT, WAY, READ_NOW = range(8, 64, 8)
    READ, WRITE, IRQ, LEAVE, HANG = range(1, 6)
    IDENTIFICATION = 0x6e79782d76667573
    MAPPING, MESSAGE = 1, 2
    ALL_ONES = (1 << 64) - 1

    def __init__(self, vm, devfn, base):
        self.vm, self.devfn, self.base = vm, devfn, base
        vm.set_bar(devfn, 0, base)
        vm.set_bar(devfn, 1, base + 0x1000)
        vm.enable(devfn)

    def get(self, register):
        return self.vm.read64(self.base + register)

    def set(self, register, value):
        self.vm.write64(self.base + register, value)

    def command(self, command, address, size=8, data=0):
        """The result: 0, or an errno."""
        for register, value in ((self.ADDRESS, address), (self.SIZE, size),
                                (self.DATA, data), (self.COMMAND, command)):
            self.set(register, value)
        return self.get(self.RESULT)

    def read_now(self, address):
        self.set(self.ADDRESS, address)
        return self.get(self.READ_NOW)


class Gone(Exception):
    """QEMU has closed the connection."""


HEADER = struct.Struct('<HHIII')
REPLY, NO_REPLY, ERROR = 1, 0x10, 0x20
(VERSION, DMA_MAP, DMA_UNMAP, GET_INFO, GET_REGION_INFO, _IO_FDS, GET_IRQ_INFO,
 SET_IRQS, REGION_READ, REGION_WRITE, DMA_READ, DMA_WRITE, RESET, _DIRTY,
 WRITE_MULTI, FEATURE) = range(1, 17)
CONFIG_REGION = 7


def header(message_id, command, size, flags=REPLY, error=0):
    return HEADER.pack(message_id, command, HEADER.size + size, flags, error)


class RawServer:
    """A server that speaks the protocol by itself.

    answers: command -> function(body) that returns the body of the answer, or
    None for no answer at all; replies: command -> function(id, body) that
    returns the bytes to send as they are. requests: what QEMU sent, as
    (command, body, number of descriptors).
    """

    def __init__(self, path, twin=True):
        self.config = bytearray(256)
        struct.pack_into('<HHHH', self.config, 0, 0x1b36, 0x7679, 0, 0)
        self.config[0x0b] = 0xff                # class: any
        self.bar = bytearray(4096)
        self.region_sizes = {0: 4096, CONFIG_REGION: 256}
        self.rom_mask = 0
        self.answers = {
            VERSION: self._version, GET_INFO: self._info,
            GET_REGION_INFO: self._region_info, GET_IRQ_INFO: self._irq_info,
            REGION_READ: self._read, REGION_WRITE: self._write,
            DMA_MAP: lambda body: b'', DMA_UNMAP: lambda body: body,
            SET_IRQS: lambda body: b'', RESET: lambda body: b''}
        self.replies = {}
        self.requests = []
        self.on_read = None         # called before BAR 0 is read
        self.interrupts = []        # eventfds
        self._twin = twin
        self._ids = itertools.count(0x4000)
        self._dma_replies = {}
        self._changed = threading.Condition()
        self.socket = self.dma_socket = None
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self.path = path
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def stop(self):
        for sock in (self._listener, self.socket, self.dma_socket):
            if sock:
                try:
                    sock.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
                sock.close()
        self._thread.join(SECONDS)
        for fd in self.interrupts:
            os.close(fd)

    def have_msix(self, vectors=1):
        """An MSI-X capability, with the table in BAR 1."""
        self.region_sizes[1] = 4096
        self.config[0x34], self.config[6] = 0x40, 0x10
        struct.pack_into('<BBHII', self.config, 0x40, 0x11, 0, vectors - 1, 1,
                         0x801)

    # Receive and answer

    def _serve(self):
        try:
            self.socket, _ = self._listener.accept()
            while True:
                self._one()
        except (Gone, OSError):
            pass

    @staticmethod
    def _receive(sock, size):
        data, fds = b'', array.array('i')
        while len(data) < size:
            some, ancillary, _, _ = sock.recvmsg(size - len(data), 1024)
            for _, kind, value in ancillary:
                if kind == socket.SCM_RIGHTS:
                    fds.frombytes(value)
            if not some:
                raise Gone
            data += some
        return data, list(fds)

    def _one(self):
        head, fds = self._receive(self.socket, HEADER.size)
        message_id, command, size, flags, error = HEADER.unpack(head)
        body, more = self._receive(self.socket, size - HEADER.size)
        if command == SET_IRQS and fds:
            self.interrupts += fds
        else:
            for fd in fds:
                os.close(fd)
        if flags & 0xf == REPLY:
            with self._changed:
                self._dma_replies[message_id] = (error, body)
                self._changed.notify_all()
            return
        self.requests.append((command, body, len(fds + more)))
        if command in self.replies:
            self.socket.sendall(self.replies[command](message_id, body))
        elif not flags & NO_REPLY:
            answer = self.answers.get(command, lambda body: None)(body)
            if answer is not None:
                self._answer(message_id, command, answer)
        elif command in self.answers:
            self.answers[command](body)

    def _answer(self, message_id, command, body):
        data = header(message_id, command, len(body)) + body
        if command == VERSION and self._twin:
            self.dma_socket, theirs = socket.socketpair()
            with theirs:
                socket.send_fds(self.socket, [data], [theirs.fileno()])
        else:
            self.socket.sendall(data)

    # What a decent server says

    def _version(self, _body):
        caps = '{"capabilities":{"max_msg_fds":8' + (
            ',"twin_socket":{"supported":true,"fd_index":0}'
            if self._twin else '') + '}}'
        return struct.pack('<HH', 0, 0) + caps.encode() + b'\0'

    @staticmethod
    def _info(_body):
        return struct.pack('<IIII', 16, 3, 9, 5)

    def _region_info(self, body):
        index = struct.unpack_from('<I', body, 8)[0]
        size = self.region_sizes.get(index, 0)
        return struct.pack('<IIIIQQ', 32, 3 if size else 0, index, 0, size, 0)

    @staticmethod
    def _irq_info(body):
        index = struct.unpack_from('<I', body, 8)[0]
        return struct.pack('<IIII', 16, 1, index, 1)

    def _read(self, body):
        offset, region, count = struct.unpack_from('<QII', body)
        if region == 0 and self.on_read:
            self.on_read(offset)
        memory = self.config if region == CONFIG_REGION else self.bar
        data = bytes(memory[offset:offset + count]).ljust(count, b'\0')
        return body[:16] + data

    def _write(self, body):
        offset, region, count = struct.unpack_from('<QII', body)
        if region == 0:
            self.bar[offset:offset + count] = body[16:]
        elif offset == 0x30:
            value = struct.unpack_from('<I', body, 16)[0]
            struct.pack_into('<I', self.config, 0x30, value & self.rom_mask)
        return body[:16]

    # DMA by message

    def dma(self, command, address, data=b'', size=None, wait=True):
        """Ask for memory: (errno, data). Over the twin socket if there is one.

        Without, in a BAR's handler, the answer is read here.
        """
        message_id = next(self._ids) & 0xffff
        size = len(data) if size is None else size
        body = struct.pack('<QQ', address, size) + data
        sock = self.dma_socket or self.socket
        sock.sendall(header(message_id, command, len(body), 0) + body)
        if not wait:
            return None
        if self.dma_socket or threading.current_thread() is self._thread:
            head, _ = self._receive(sock, HEADER.size)
            _, _, size, _, error = HEADER.unpack(head)
            return error, self._receive(sock, size - HEADER.size)[0][16:]
        with self._changed:
            if not self._changed.wait_for(
                    lambda: message_id in self._dma_replies, SECONDS):
                raise NyxTestError('QEMU does not answer a DMA message.')
            error, body = self._dma_replies.pop(message_id)
            return error, body[16:]
