# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""A virtual machine without a guest: the test itself reads and writes memory,
ports and devices, by QEMU's qtest protocol.
"""

import shutil
import socket
import struct
import subprocess

from .errors import GuestDied, GuestTimeout, NyxTestError
from .monitor import Monitor
from .paths import QEMU
from .vm import machine_name

SECONDS = 60
CONFIG_ADDRESS, CONFIG_DATA = 0xcf8, 0xcfc
COMMAND = 0x04
COMMAND_MEMORY, COMMAND_MASTER, COMMAND_INTX_OFF = 0x2, 0x4, 0x400
BAR0 = 0x10
CAPABILITIES, CAP_EXPRESS, CAP_MSIX = 0x34, 0x10, 0x11
NATIVE_HOTPLUG = ('-global',
                  'ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off')
SLOT_OFF = 0x700                # power control and both indicators: off


class Qtest:
    """The qtest protocol over a connected socket."""

    def __init__(self, sock):
        sock.settimeout(SECONDS)
        self._file = sock.makefile('rw', encoding='ascii', newline='\n')
        self._sock = sock

    def __call__(self, *words):
        line = ' '.join(hex(w) if isinstance(w, int) else w for w in words)
        try:
            self._file.write(line + '\n')
            self._file.flush()
            answer = self._file.readline().split()
        except TimeoutError:
            raise GuestTimeout(f'QEMU did not answer "{line[:80]}" within '
                               f'{SECONDS} s.') from None
        except OSError:
            answer = []
        if not answer:
            raise GuestDied(f'QEMU ended during "{line[:80]}".')
        if answer[0] != 'OK':
            raise NyxTestError(f'qtest: {line[:80]}: {answer}')
        return answer[1] if len(answer) > 1 else None

    def close(self):
        self._file.close()
        self._sock.close()


class QtestVM:
    """A machine whose only program is the test.

    Files are in folder; arguments are those of QEMU's command line.
    """

    def __init__(self, folder, *arguments, machine_options=(), memory='64M',
                 pass_fds=()):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        self._log = folder / 'qemu.log'
        machine = ','.join([machine_name(), *machine_options])
        qmp, qmp_there = socket.socketpair()
        qtest, qtest_there = socket.socketpair()
        with qmp_there, qtest_there, self._log.open('w') as log:
            fds = qmp_there.fileno(), qtest_there.fileno()
            command = [
                str(QEMU), '-M', machine, '-accel', 'qtest', '-m', memory,
                '-nodefaults', '-no-user-config', '-display', 'none',
                '-run-with', 'exit-with-parent=on',
                '-chardev', f'socket,id=qmp-socket,fd={fds[0]}',
                '-object', 'monitor-qmp,id=qmp,chardev=qmp-socket',
                '-chardev', f'socket,id=qtest-socket,fd={fds[1]}',
                '-qtest', 'chardev:qtest-socket', '-qtest-log', '/dev/null',
                *arguments]
            self.process = subprocess.Popen(
                command, pass_fds=(*fds, *pass_fds), stdin=subprocess.DEVNULL,
                stdout=log, stderr=log)
        self.qtest = Qtest(qtest)
        self.monitor = None
        try:
            self.monitor = Monitor(qmp)
        except (EOFError, OSError, NyxTestError):
            self.qtest.close()
            self.process.wait(SECONDS)
            raise GuestDied(self.said().strip()) from None

    def said(self):
        """What QEMU wrote to its standard output and error."""
        return self._log.read_text()

    def running(self):
        return self.process.poll() is None

    def stop(self):
        self.process.kill()
        self.process.wait()
        if self.monitor:
            self.monitor.close()
            self.qtest.close()
            self.monitor = None

    # Memory

    def write(self, address, data):
        self.qtest('write', address, len(data), '0x' + data.hex())

    def read(self, address, size):
        return bytes.fromhex(self.qtest('read', address, size)[2:])

    def write64(self, address, value):
        self.qtest('writeq', address, value)

    def read64(self, address):
        return int(self.qtest('readq', address), 16)

    def write32(self, address, value):
        self.qtest('writel', address, value)

    def read32(self, address):
        return int(self.qtest('readl', address), 16)

    # PCI configuration space, bus 0

    def config_write(self, devfn, offset, value, size=4):
        self.qtest('outl', CONFIG_ADDRESS,
                   0x80000000 | devfn << 8 | offset & 0xfc)
        self.qtest('out' + {1: 'b', 2: 'w', 4: 'l'}[size],
                   CONFIG_DATA + (offset & 3), value)

    def config_read(self, devfn, offset, size=4):
        self.qtest('outl', CONFIG_ADDRESS,
                   0x80000000 | devfn << 8 | offset & 0xfc)
        return int(self.qtest('in' + {1: 'b', 2: 'w', 4: 'l'}[size],
                              CONFIG_DATA + (offset & 3)), 16)

    def set_bar(self, devfn, number, address):
        self.config_write(devfn, BAR0 + 4 * number, address)

    def enable(self, devfn):
        """Let the device answer, and do DMA."""
        self.config_write(devfn, COMMAND, COMMAND_MEMORY | COMMAND_MASTER |
                          COMMAND_INTX_OFF, 2)

    def find_capability(self, devfn, wanted):
        at = self.config_read(devfn, CAPABILITIES, 1)
        while at:
            if self.config_read(devfn, at, 1) == wanted:
                return at
            at = self.config_read(devfn, at + 1, 1)
        raise NyxTestError(f'device {devfn:#x} has no capability {wanted:#x}')

    def unplug(self, devfn, name):
        """device_del, and the guest's part of it: power off the slot.

        That needs hotplug as PCIe has it: see NATIVE_HOTPLUG.
        """
        since = self.monitor.position()
        self.monitor.command('device_del', id=name)
        slot_control = self.find_capability(devfn, CAP_EXPRESS) + 0x18
        self.config_write(devfn, slot_control, SLOT_OFF, 2)
        self.monitor.wait_event('DEVICE_DELETED', since, device=name)

    def enable_msix(self, devfn, table, vector, address, data):
        """One vector, unmasked; table: the address where it is mapped."""
        at = self.find_capability(devfn, CAP_MSIX)
        self.config_write(devfn, at + 2, 0x8000, 2)
        entry = struct.pack('<QII', address, data, 0)
        for word in range(4):
            self.write32(table + 16 * vector + 4 * word,
                         struct.unpack_from('<I', entry, 4 * word)[0])
