# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""Emulated devices of QEMU's in processes of their own, served by vfio-user."""

import json
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from .devices import CONTROLLERS, DISK_MIB, MIB, NICS, Disk, Nic
from .errors import NyxTestError
from .paths import QEMU

SECONDS = 30


class Processes:
    """The processes behind a VM's devices; end() ends all of them.

    The VM's memory is made a file that they can share.
    """

    def __init__(self, vm):
        self._vm = vm
        self._running = {}
        # The path of a socket must be short.
        vm.folder.mkdir(parents=True, exist_ok=True)
        self._folder = Path(tempfile.mkdtemp(prefix='nyx-process-'))
        vm.add('-object', 'memory-backend-memfd,id=shared,share=on,'
               f'size={vm.memory}', '-machine', 'memory-backend=shared')

    def _start(self, name, *device):
        path = self._folder / name
        log = (self._vm.folder / f'{name}.log').open('w')
        with log:
            process = subprocess.Popen(
                [str(QEMU), '-M', 'x-remote,vfio-user=on,auto-shutdown=on',
                 '-nodefaults', '-no-user-config', '-display', 'none', *device,
                 '-object', f'x-vfio-user-server,id=server,type=unix,'
                 f'path={path},device={name}'],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self._running[name] = process
        end = time.monotonic() + SECONDS
        while not path.exists():
            if process.poll() is not None or time.monotonic() > end:
                raise NyxTestError(f'the process of {name} does not start; '
                                   f'see {log.name}.')
            time.sleep(0.01)
        return path

    def _connect(self, path, name, modules, domain):
        # Linux's e1000 does not restore what a port's reset took from it.
        properties = {'driver': 'vfio-user-pci', 'id': name, 'bus': 'pcie.0',
                      'socket': {'type': 'unix', 'path': str(path)}}
        if domain and self._vm.has_nyx:
            properties['nyx-domain'] = domain
        self._vm.add('-device', json.dumps(properties), modules=modules)

    def nic(self, driver, name, domain=None):
        number = len(self._running) + 32
        net = f'10.0.{number}'
        path = self._start(
            name, '-netdev', f'user,id=net,net={net}.0/24,host={net}.2,'
            f'dhcpstart={net}.15,dns={net}.3',
            '-device', f'{driver},id={name},netdev=net,romfile=')
        self._connect(path, name, NICS[driver], domain)
        return Nic(name, f'{net}.15', f'{net}.2')

    def disk(self, name, domain=None):
        """An NVMe controller."""
        image = self._vm.folder / f'{name}.raw'
        with image.open('wb') as file, open('/dev/urandom', 'rb') as noise:
            shutil.copyfileobj(_Limited(noise, DISK_MIB * MIB), file)
        path = self._start(
            name, '-blockdev', f'driver=file,node-name=disk,filename={image}',
            '-device', f'nvme,id={name},drive=disk,serial={name}')
        self._connect(path, name, CONTROLLERS['nvme'][0], domain)
        return Disk(name, image)

    def kill(self, name):
        self._running[name].kill()
        self._running[name].wait()

    def end(self):
        for process in self._running.values():
            process.kill()
            process.wait()
        shutil.rmtree(self._folder)


class _Limited:
    """So many bytes of a file."""

    def __init__(self, file, size):
        self._file, self._left = file, size

    def read(self, size):
        data = self._file.read(min(size, self._left))
        self._left -= len(data)
        return data
