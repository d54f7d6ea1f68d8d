# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""A hostile vfio-user server costs its own device and nothing else.

A healthy device with a server of its own, good0, is in the same machine: in
each test, it must go on, and QEMU must answer in time.
"""

import time

from .qtest import NATIVE_HOTPLUG
from .vfiouser import LibDevice, RawServer
from .vfiousercase import BAR, DEVFN, VfioUserCase, vfio_user

GOOD_DEVFN, GOOD_BAR = 0x11 << 3, 0xe0010000
PORT_DEVFN = 4 << 3
ALL_ONES = (1 << 64) - 1
# On a machine that has other things to do
SOON = 4


class HostileCase(VfioUserCase):
    """bad0 has a server that the test leads astray."""

    twin = True
    patience_ms = 5000          # QEMU's default

    def start_both(self, domain='', msix=False, machine=(), **properties):
        self.bad = RawServer(self.sockets / 'bad0', twin=self.twin)
        self.addCleanup(self.bad.stop)
        if msix:
            self.bad.have_msix()
        self.server = self.serve('good0')
        self.vm = self.run_vm(
            '-object', f'nyx-domain,id=d{domain}',
            '-object', 'nyx-domain,id=good', *NATIVE_HOTPLUG,
            '-device', 'pcie-root-port,id=port0,chassis=1,addr=4.0',
            '-device', vfio_user('bad0', self.bad.path, addr='10.0',
                                 **{'nyx-domain': 'd',
                                    'x-msg-timeout': self.patience_ms,
                                    **properties}),
            '-device', vfio_user('good0', self.server.path, addr='11.0',
                                 **{'nyx-domain': 'good'}),
            machine_options=machine)
        self.command = self.vm.monitor.command
        self.good = LibDevice(self.vm, GOOD_DEVFN, GOOD_BAR)
        self.vm.set_bar(DEVFN, 0, BAR)
        self.vm.enable(DEVFN)

    def assert_others_unharmed(self):
        """The VM runs, answers soon, and the other device does its work."""
        began = time.monotonic()
        self.assertTrue(self.command('query-status')['running'])
        self.vm.write64(0x123000, 0x600d)
        self.assertEqual(self.good.read_now(0x123000), 0x600d)
        self.assertEqual(self.good.get(0), LibDevice.IDENTIFICATION)
        info = self.info('good0')
        self.assertEqual((info['state'], info['total-faults']),
                         ('operational', 0))
        self.assertEqual(self.server.hear().errors, [])
        self.assertLess(time.monotonic() - began, SOON)

    def assert_broken(self, why):
        """bad0 is cut off, for a reason that QEMU says, and cannot recover."""
        self.vm.monitor.wait_event('NYX_DEVICE_STATE', device='bad0',
                                   new='quarantined')
        self.assertIn(f"device 'bad0': its vfio-user server {why}; it is cut "
                      'off', self.vm.said())
        info = self.info('bad0')
        self.assertEqual((info['state'], info['dma'],
                          info['server']['connected']),
                         ('quarantined', 'blocked', False))
        began = time.monotonic()
        self.assertEqual(self.vm.read64(BAR), ALL_ONES)
        self.vm.write64(BAR, 1)
        self.assertEqual(self.vm.config_read(DEVFN, 0x40), 0xffffffff)
        self.assertLess(time.monotonic() - began, SOON)
        self.assert_refused(f'its vfio-user server {why}: ',
                            'nyx-recover-device', device='bad0')
        self.assertEqual(self.info('bad0')['state'], 'failed')
        self.assert_others_unharmed()
