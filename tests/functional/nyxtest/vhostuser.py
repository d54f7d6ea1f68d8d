# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""Disks by vhost-user: the processes that serve them, and the VM's side."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

from .devices import CONTROLLERS, DISK_MIB, MIB, Disk
from .errors import NyxTestError
from .paths import BUILD, ROOT

OUR_SERVER = ROOT / 'tests' / 'vhost-user' / 'nyx-vhost-blk'
STORAGE_DAEMON = BUILD / 'storage-daemon' / 'qemu-storage-daemon'
START_SECONDS = 20
ORDER_SECONDS = 30


def share_memory(vm):
    """Guest RAM that other processes can map."""
    vm.add('-object', f'memory-backend-memfd,id=ram,size={vm.memory},share=on')
    vm.machine_options.append('memory-backend=ram')


def _random_file(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open('wb') as file:
        for _ in range(DISK_MIB):
            file.write(os.urandom(MIB))
    return path


class Server:
    """A process that serves one disk on a socket; it can be stopped."""

    def __init__(self, vm, name):
        self.name = name
        self.socket = vm.folder / f'{name}.sock'
        self.disk = Disk(name, _random_file(vm.folder / f'{name}.raw'))
        self._log = vm.folder / f'{name}.log'
        self._process = None

    def command(self):
        raise NotImplementedError

    def start(self):
        self.socket.unlink(missing_ok=True)
        with self._log.open('a') as log:
            self._process = subprocess.Popen(
                self.command(), stdout=log, stderr=log,
                stdin=subprocess.DEVNULL)
        limit = time.monotonic() + START_SECONDS
        while not self.socket.exists():
            if self._process.poll() is not None or time.monotonic() > limit:
                raise NyxTestError(f'the vhost-user server did not start; see '
                                   f'{self._log}.')
            time.sleep(0.02)

    def freeze(self):
        """The process hangs from now on."""
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self):
        self._process.send_signal(signal.SIGCONT)

    def kill(self):
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process = None


class StorageDaemon(Server):
    """qemu-storage-daemon: a backend that cannot translate."""

    def command(self):
        return [str(STORAGE_DAEMON), '--blockdev',
                f'driver=file,node-name=d,filename={self.disk.path}',
                '--export', 'type=vhost-user-blk,id=e,addr.type=unix,'
                f'addr.path={self.socket},node-name=d,writable=on']


class OurServer(Server):
    """Our own, which translates, and tells what it holds."""

    def __init__(self, vm, name, *options):
        super().__init__(vm, name)
        self._orders = vm.folder / f'{name}.orders'
        self._options = options

    def command(self):
        return [sys.executable, str(OUR_SERVER), '--socket', str(self.socket),
                '--orders', str(self._orders), '--file', str(self.disk.path),
                *self._options]

    def _order(self, **order):
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(ORDER_SECONDS)
            sock.connect(str(self._orders))
            with sock.makefile('rw') as lines:
                lines.write(json.dumps(order) + '\n')
                lines.flush()
                return json.loads(lines.readline())

    def state(self):
        return self._order(op='state')

    def wait_state(self, condition, what, seconds=30):
        limit = time.monotonic() + seconds
        while not condition(self.state()):
            if time.monotonic() > limit:
                raise NyxTestError(f'the server of {self.name} did not {what} '
                                   f'in time: {self.state()}')
            time.sleep(0.05)

    def read(self, iova, size):
        """What the device finds there; None if it is refused."""
        data = self._order(op='read', iova=iova, size=size).get('data')
        return data if data is None else bytes.fromhex(data)

    def write(self, iova, data):
        """True if the device could write."""
        return 'data' in self._order(op='write', iova=iova, data=data.hex())


def add_vhost_disk(vm, server, domain=None, translates=False,
                   reconnect_ms=None, **properties):
    """A vhost-user-blk-pci, by the server's name; the server runs."""
    chardev = f'socket,id={server.name}-socket,path={server.socket}'
    if reconnect_ms:
        chardev += f',reconnect-ms={reconnect_ms}'
    vm.add('-chardev', chardev)
    driver = 'vhost-user-blk-pci,num-queues=1'
    if translates:
        driver += ',iommu_platform=on'
    vm.device(driver, CONTROLLERS['virtio-blk-pci'][0], domain,
              id=server.name, chardev=f'{server.name}-socket', **properties)
