# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""Linux's sample of a mediated device: a serial port that can migrate.

What is sent comes back, 16 bytes at most, so a port that holds some has state.
"""

import unittest
import uuid

TYPE = '/sys/class/mtty/mtty/mdev_supported_types/mtty-1'
DEVICES = '/sys/bus/mdev/devices'
BAR0, COMMAND, IO = 0x10, 0x04, 1
DATA, LINE_STATUS, SCRATCH = 0, 5, 7
DATA_READY = 1
PORT = 0xc100


def needs_mtty(host):
    """unittest.SkipTest where the host's kernel has none."""
    if host.agent.run(f'[ -e {TYPE}/create ]').status:
        raise unittest.SkipTest(
            "the host's kernel lacks the sample mtty; build it anew with "
            'tests/functional/nested/build-kernel')


def create_mtty(host):
    """A new one, as it keeps its state from one QEMU to the next: its path."""
    name = uuid.uuid4()
    host.agent.check(f'echo {name} >{TYPE}/create')
    return f'{DEVICES}/{name}'


def remove_mtty(host, path):
    host.agent.check(f'echo 1 >{path}/remove')


class Mtty:
    """The serial port as PCI function of a slot, moved by qtest."""

    def __init__(self, inner, slot):
        self.qtest = inner.qtest
        self.devfn = slot << 3

    def place(self):
        """Give it I/O ports, as a guest does once."""
        self.qtest.config_write(self.devfn, BAR0, PORT)
        self.qtest.config_write(self.devfn, COMMAND, IO, 2)

    def write(self, register, value):
        self.qtest.outb(PORT + register, value)

    def read(self, register):
        return self.qtest.inb(PORT + register)

    def send(self, data):
        for byte in data:
            self.write(DATA, byte)

    def receive(self):
        """What has been sent and not yet received"""
        data = b''
        while self.read(LINE_STATUS) & DATA_READY:
            data += bytes([self.read(DATA)])
        return data
