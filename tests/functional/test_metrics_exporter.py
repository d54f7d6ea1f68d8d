# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""nyx metrics as a server, while VMs come, hang and end."""

import signal
import socket
import time

from nyxtest.exporter import CALM, OUTSIDE, ROGUE, MetricsCase, needs_client
from nyxtest.migration import Testdev
from nyxtest.prometheus import fetch, pick

# nyx-testdev: a bulk run
START, STOP = 3, 4
FLAGS, COUNT, SLOTS, STRIDE, COMMAND = 0x30, 0x34, 0x38, 0x40, 0x08
ADDRESS, LENGTH = 0x20, 0x28
FLAG_WRITE, FLAG_THREAD = 1, 4


@needs_client()
class ExporterTest(MetricsCase):
    """The exporter while devices fault, and VMs hang, end and come."""

    def start_run(self, vm, slot):
        """Refused DMA without end, in a thread."""
        device = Testdev(vm, slot)
        device.set_up()
        for register, value in (
                (ADDRESS, OUTSIDE & 0xffffffff), (ADDRESS + 4, OUTSIDE >> 32),
                (LENGTH, 64), (FLAGS, FLAG_WRITE | FLAG_THREAD), (COUNT, 0),
                (SLOTS, 1000), (STRIDE, 4096), (STRIDE + 4, 0),
                (COMMAND, START)):
            vm.write32(device.base + register, value)
        return device

    def test_scrapes_while_devices_fault(self):
        vm = self.start('web', *ROGUE, *CALM, machine_options=(
            'on-fault-limit=report',))
        exporter = self.exporter()
        device = self.start_run(vm, 5)
        before = grown = 0
        limit = time.monotonic() + 120
        while grown < 10:       # the thread may not get to run in between
            self.assertLess(time.monotonic(), limit)
            found = exporter.scrape()
            faults, = pick(found, 'nyx_faults_total', device='rogue',
                           type='unmapped')
            self.assertGreaterEqual(faults, before)
            self.assertEqual(sum(pick(found, 'nyx_faults_total',
                                      device='calm')), 0)
            grown += faults > before
            before = faults
        # The second scrape and those after it can say what is wrong.
        self.assertGreater(pick(found, 'nyx_bottleneck_ratio', kind='faults',
                                subject='rogue')[0], 1)
        self.assertEqual(pick(found, 'nyx_bottleneck_rank', kind='faults',
                              subject='rogue'), [1])
        vm.write32(device.base + COMMAND, STOP)

    def test_vm_ends(self):
        left = self.start('left', *ROGUE)
        self.start('right', *ROGUE)
        all_vms, named = self.exporter(), self.exporter('left', 'right')
        self.assertEqual(pick(all_vms.scrape(), 'nyx_up'), [1, 1])
        left.stop()
        found = all_vms.scrape()
        self.assertEqual(pick(found, 'nyx_up', vm='right'), [1])
        self.assertEqual(pick(found, 'nyx_up', vm='left'), [])
        found = named.scrape()
        self.assertEqual(pick(found, 'nyx_up', vm='left'), [0])
        self.assertEqual(pick(found, 'nyx_vm_info', vm='left'), [])
        self.assertEqual(pick(found, 'nyx_vm_info', vm='right'), [1])
        named.scrape()
        # It says so once.
        named.process.terminate()
        self.assertRegex(named.process.stderr.read(),
                         r'\Anyx: left .*\.\n\Z')

    def test_vm_comes(self):
        exporter = self.exporter()
        self.assertEqual(pick(exporter.scrape(), 'nyx_up'), [])
        self.start('late', *ROGUE)
        self.assertEqual(pick(exporter.scrape(), 'nyx_up', vm='late'), [1])

    def test_vm_hangs(self):
        """Its figures are missing in time; those of the other are there."""
        stuck = self.start('stuck', *ROGUE)
        self.start('web', *ROGUE)
        exporter = self.exporter('stuck', 'web')
        self.assertEqual(pick(exporter.scrape(), 'nyx_up'), [1, 1])
        stuck.process.send_signal(signal.SIGSTOP)
        try:
            begin = time.monotonic()
            found = exporter.scrape(
                **{'X-Prometheus-Scrape-Timeout-Seconds': '3'})
            self.assertLess(time.monotonic() - begin, 3)
            self.assertEqual(pick(found, 'nyx_up', vm='stuck'), [0])
            self.assertEqual(pick(found, 'nyx_vm_info', vm='web'), [1])
        finally:
            stuck.process.send_signal(signal.SIGCONT)
        limit = time.monotonic() + 120
        while pick(exporter.scrape(), 'nyx_up', vm='stuck') != [1]:
            self.assertLess(time.monotonic(), limit)

    def test_pages(self):
        exporter = self.exporter()
        base = exporter.url.removesuffix('/metrics')
        self.assertIn('href="/metrics"', fetch(f'{base}/'))
        with self.assertRaisesRegex(OSError, '404'):
            fetch(f'{base}/metric')
        text = fetch(exporter.url, Accept='application/openmetrics-text')
        self.assertTrue(text.endswith('# EOF\n'))

    def test_refusals(self):
        with socket.socket() as sock:
            sock.bind(('127.0.0.1', 0))
            sock.listen()
            where = '{}:{}'.format(*sock.getsockname())
            self.assert_fails(f'cannot listen on {where}: Address already '
                              'in use', 'metrics', '--listen', where)
        self.assert_fails('"here" is no address and port', 'metrics',
                          '--listen', 'here', status=2)
