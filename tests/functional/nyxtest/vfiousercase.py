# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""Test cases on a machine with vfio-user devices and no guest."""

import json
import shutil
import tempfile
import time
import unittest
from pathlib import Path

from qemu.qmp.qmp_client import ExecuteError

from .paths import LOGS
from .qtest import QtestVM
from .vfiouser import LibDevice, LibServer

MIB = 1 << 20
RAM = 64 * MIB
SECONDS = 30
DEVFN = 0x10 << 3
BAR = 0xe0000000
SHARED_RAM = ('-object', f'memory-backend-memfd,id=ram,size={RAM},share=on',
              '-machine', 'memory-backend=ram')


def vfio_user(name, path, **properties):
    return json.dumps({'driver': 'vfio-user-pci', 'id': name,
                       'socket': {'type': 'unix', 'path': str(path)},
                       **properties})


class VfioUserCase(unittest.TestCase):
    """A machine with one such device, vu0, in the domain "d"."""

    def setUp(self):
        self.folder = LOGS / f'{type(self).__module__}.{type(self).__name__}' \
            / self._testMethodName
        # The path of a socket must be short.
        self.sockets = Path(tempfile.mkdtemp(prefix='nyx-vfio-user-'))
        self.addCleanup(shutil.rmtree, self.sockets)

    def serve(self, name='vu0'):
        server = LibServer(self.sockets / name)
        self.addCleanup(server.stop)
        return server

    def run_vm(self, *arguments, ram=SHARED_RAM, **options):
        options.setdefault('memory', '64M')
        vm = QtestVM(self.folder, *ram, *arguments, **options)
        self.addCleanup(vm.stop)
        return vm

    def start(self, domain='', ram=SHARED_RAM, more=(), **options):
        self.server = self.serve()
        self.vm = self.run_vm(
            '-object', f'nyx-domain,id=d{domain}', *more, '-device',
            vfio_user('vu0', self.server.path, addr='10.0',
                      **{'nyx-domain': 'd'}), ram=ram, **options)
        self.command = self.vm.monitor.command
        self.device = LibDevice(self.vm, DEVFN, BAR)
        self.assertEqual(self.device.get(0), LibDevice.IDENTIFICATION)

    def info(self, name='vu0'):
        return self.command('query-nyx-devices', device=name)[0]

    def mappings(self, domain='d'):
        """What the domain allows: [(first, size, access)]"""
        path = self.folder / 'dump.json'
        self.command('nyx-dump', filename=str(path))
        tables = {table['domain']: table['mappings'] for table in
                  json.loads(path.read_text())['tables']}
        return [(m['iova'], m['size'], m['access']) for m in tables[domain]]

    def assert_windows_match(self, domain='d', above=0):
        """The server has what the domain allows, no more and no less."""
        joined = []
        for first, size, _ in sorted(self.mappings(domain)):
            if joined and joined[-1][1] == first:
                joined[-1] = (joined[-1][0], first + size)
            else:
                joined.append((first, first + size))

        def cut(ranges):
            return [(max(first, above), end) for first, end in ranges
                    if end > above]
        self.assertEqual(cut(self.server.ranges()), cut(joined))
        self.assertEqual(self.server.errors, [])

    def assert_refused(self, words, name, **arguments):
        with self.assertRaises(ExecuteError) as caught:
            self.command(name, **arguments)
        self.assertIn(words, str(caught.exception))

    def wait_for(self, condition, what):
        end = time.monotonic() + SECONDS
        while not condition():
            self.assertLess(time.monotonic(), end, f'{what}: not in time')
