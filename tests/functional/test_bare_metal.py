# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""SeaBIOS loads a boot sector by DMA from a disk in a domain, with KVM and TCG.

A payload without an operating system runs also where the KVM of this machine is
too slow or too limited for Linux.
"""

import os
import shutil
import socket
import subprocess
import time
import unittest

from nyxtest.case import needs_nyx
from nyxtest.monitor import Monitor
from nyxtest.paths import LOGS, QEMU

DEBUG_PORT = 0x402
MESSAGE = b'the boot sector runs\n'
SECONDS = 120

# 16-bit code: write MESSAGE to the debug port, then halt.
CODE = bytes.fromhex('31c0 8ed8'            # xor ax,ax; mov ds,ax
                     'be157c ba0204'        # mov si,message; mov dx,0x402
                     'ac 84c0 7403'         # next: lodsb; test al,al; jz end
                     'ee ebf8'              # out dx,al; jmp next
                     'f4 ebfd')             # end: hlt; jmp end


def boot_sector():
    sector = CODE + MESSAGE + b'\0'
    return sector.ljust(510, b'\0') + b'\x55\xaa'


@needs_nyx
class TcgTest(unittest.TestCase):
    """Each boots from one disk model; the others are not there."""

    accel = 'tcg'

    def boot(self, *device):
        folder = LOGS / f'{type(self).__module__}.{type(self).__name__}'
        folder = folder / self._testMethodName
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        disk = folder / 'disk.raw'
        disk.write_bytes(boot_sector().ljust(1 << 20, b'\0'))
        qmp, qmp_there = socket.socketpair()
        port, port_there = socket.socketpair()
        with qmp_there, port_there, (folder / 'qemu.log').open('w') as log:
            process = subprocess.Popen(
                [str(QEMU), '-M', 'nyx-pc', '-accel', self.accel, '-m', '256M',
                 '-nodefaults', '-display', 'none',
                 '-run-with', 'exit-with-parent=on',
                 '-chardev', f'socket,id=qmp-socket,fd={qmp_there.fileno()}',
                 '-object', 'monitor-qmp,id=qmp,chardev=qmp-socket',
                 '-chardev', f'socket,id=port,fd={port_there.fileno()}',
                 '-device', f'isa-debugcon,iobase={DEBUG_PORT},chardev=port',
                 '-object', 'nyx-domain,id=storage',
                 '-drive', f'if=none,id=disk,format=raw,file={disk}', *device],
                pass_fds=(qmp_there.fileno(), port_there.fileno()),
                stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        self.addCleanup(port.close)
        self.await_message(port)
        return Monitor(qmp)

    def await_message(self, port):
        """SeaBIOS writes its log to the same port."""
        said = b''
        end = time.monotonic() + SECONDS
        while MESSAGE not in said:
            port.settimeout(max(end - time.monotonic(), 0.001))
            try:
                some = port.recv(4096)
            except TimeoutError:
                some = b''
            self.assertTrue(some, f'no boot; SeaBIOS said last: {said[-300:]}')
            said += some

    def check(self, *device):
        monitor = self.boot(*device)
        info = monitor.command('query-nyx-devices', device='disk0')[0]
        self.assertEqual((info['domain'], info['state'], info['total-faults']),
                         ('storage', 'operational', 0))
        monitor.command('nyx-quarantine-device', device='disk0')
        info = monitor.command('query-nyx-devices', device='disk0')[0]
        self.assertEqual((info['state'], info['dma']),
                         ('quarantined', 'blocked'))
        monitor.command('nyx-recover-device', device='disk0')
        info = monitor.command('query-nyx-devices', device='disk0')[0]
        self.assertEqual(info['state'], 'operational')

    def test_virtio_blk(self):
        self.check('-device', 'virtio-blk-pci,id=disk0,drive=disk,'
                   'nyx-domain=storage')

    def test_nvme(self):
        self.check('-device', 'nvme,id=disk0,drive=disk,serial=1,'
                   'nyx-domain=storage')

    def test_ahci(self):
        self.check('-device', 'ich9-ahci,id=disk0,nyx-domain=storage',
                   '-device', 'ide-hd,bus=disk0.0,drive=disk')


@needs_nyx
@unittest.skipUnless(os.access('/dev/kvm', os.R_OK | os.W_OK),
                     '/dev/kvm cannot be opened')
class KvmTest(TcgTest):
    accel = 'kvm'
