# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""nyx metrics: figures are those of QMP."""

import subprocess
import time

from nyxtest.exporter import CALM, OUTSIDE, ROGUE, MetricsCase, needs_client
from nyxtest.migration import (DONE, REFUSED, WRITE, Testdev,
                               await_migration)
from nyxtest.paths import QEMU
from nyxtest.prometheus import pick

MIB = 1 << 20
LATENCY = 'nyx_dma_translation_seconds'


@needs_client()
class ValuesTest(MetricsCase):
    """What is exported is what QMP says."""

    def test_device_figures(self):
        vm = self.start('web', *ROGUE, *CALM)
        rogue = Testdev(vm, 5)
        rogue.set_up()
        for number in range(3):
            self.assertEqual(rogue.dma(WRITE, OUTSIDE + 8192 * number),
                             REFUSED)
        vm.monitor.command('nyx-quarantine-device', device='rogue')
        vm.monitor.command('nyx-set-policy', device='calm', max_faults=3)
        found = self.once('web')
        for device in vm.monitor.command('query-nyx-devices'):
            labels = {'vm': 'web', 'device': device['device']}
            for kind, count in device['faults-by-type'].items():
                self.assertEqual(pick(found, 'nyx_faults_total', type=kind,
                                      **labels), [count])
            for state in ('operational', 'quarantined', 'recovering',
                          'failed'):
                self.assertEqual(pick(found, 'nyx_device_state', state=state,
                                      **labels), [device['state'] == state])
            self.assertEqual(
                pick(found, 'nyx_device_info', driver=device['driver'],
                     domain=device['domain'], dma=device['dma'],
                     backend=device['backend'], bdf=device['bdf'], **labels),
                [1])
            for name, value in (
                    ('nyx_device_max_faults',
                     device['policy']['max-faults']),
                    ('nyx_device_window_faults', device['fault-count']),
                    ('nyx_device_recoveries', device['recoveries'])):
                self.assertEqual(pick(found, name, **labels), [value], name)
        self.assertEqual(pick(found, 'nyx_faults_total', device='rogue',
                              type='unmapped'), [3])
        self.assertEqual(pick(found, 'nyx_quarantines_total'), [1])
        self.assertEqual(pick(found, 'nyx_restores'), [0])
        self.assertEqual(pick(found, 'nyx_device_max_faults', device='calm'),
                         [3])

    def test_caged_device_figures(self):
        """Domain, IOTLB, and latency once it is sampled."""
        vm = self.start('web', '-object',
                        'nyx-domain,id=cage,default-map=none', '-device',
                        'nyx-testdev,id=rogue,addr=5,nyx-domain=cage')
        vm.monitor.command('nyx-map', domain='cage', iova=MIB, gpa=MIB,
                           size=MIB, access='rw')
        rogue = Testdev(vm, 5)
        rogue.set_up()
        for _ in range(10):
            self.assertEqual(rogue.dma(WRITE, MIB), DONE)
        found = self.once('web')
        self.check_domains(vm, found)
        self.assertEqual(pick(found, 'nyx_domain_mapped_bytes',
                              domain='cage'), [MIB])
        iotlb = vm.monitor.command('query-nyx-iommu')['iotlb']
        for name, count in iotlb.items():
            self.assertEqual(pick(found, f'nyx_iotlb_{name}_total'), [count])
        self.assertGreater(iotlb['hits'], 0)
        self.assertEqual(pick(found, f'{LATENCY}_count'), [])

        vm.monitor.command('qom-set', path='/machine',
                           property='latency-sampling', value=1)
        for _ in range(10):
            rogue.dma(WRITE, MIB)
        self.check_latency(vm, self.once())

    def check_domains(self, vm, found):
        for domain in vm.monitor.command('query-nyx-domains'):
            labels = {'vm': 'web', 'domain': domain['id']}
            for name in 'mapped-bytes', 'mappings', 'table-bytes':
                self.assertEqual(
                    pick(found, f'nyx_domain_{name.replace("-", "_")}',
                         **labels), [domain[name]])
            self.assertEqual(pick(found, 'nyx_domain_devices', **labels),
                             [len(domain['devices'])])

    def check_latency(self, vm, found):
        latency, = (one['dma'] for one in
                    vm.monitor.command('query-nyx-latency')['devices']
                    if one['device'] == 'rogue')
        self.assertGreaterEqual(sum(latency['bins']), 10)
        self.assertEqual(pick(found, f'{LATENCY}_count', device='rogue'),
                         [sum(latency['bins'])])
        self.assertAlmostEqual(
            pick(found, f'{LATENCY}_sum', device='rogue')[0],
            latency['sum-ns'] * 1e-9)
        for number, bound in enumerate(latency['boundaries-ns']):
            self.assertEqual(
                pick(found, f'{LATENCY}_bucket', device='rogue',
                     le=f'{bound * 1e-9:g}'),
                [sum(latency['bins'][:number + 1])])

    def test_not_observable_is_left_out(self):
        self.start('web', '-object',
                   'nyx-domain,id=free,isolation=unmanaged', '-device',
                   'nyx-testdev,id=rogue,addr=5,nyx-domain=free')
        found = self.once()
        self.assertEqual(pick(found, 'nyx_device_faults_observable',
                              device='rogue'), [0])
        self.assertEqual(pick(found, 'nyx_faults_total', device='rogue'), [])
        self.assertEqual(pick(found, 'nyx_vm_exits_available'), [0])
        self.assertEqual(pick(found, 'nyx_vcpu_exits_total'), [])

    def test_migration_figures(self):
        vm = self.start('web', *ROGUE)
        found = self.once()
        self.assertEqual(pick(found, 'nyx_migration_state', state='none'),
                         [1])
        self.assertEqual(pick(found, 'nyx_migration_ready'), [1])
        self.assertEqual(pick(found, 'nyx_migration_transferred_bytes'), [])
        vm.monitor.command('migrate', uri=f'file:{self.run_dir / "state"}')
        info = await_migration(vm, 'completed')
        found = self.once()
        self.assertEqual(pick(found, 'nyx_migration_state',
                              state='completed'), [1])
        self.assertEqual(pick(found, 'nyx_migration_state', state='none'),
                         [0])
        self.assertEqual(pick(found, 'nyx_vm_state', state='postmigrate'),
                         [1])
        for name, value in (
                ('transferred_bytes', info['ram']['transferred']),
                ('remaining_bytes', 0),
                ('memory_bytes', info['ram']['total']),
                ('downtime_seconds', info['downtime'] / 1000),
                ('total_time_seconds', info['total-time'] / 1000)):
            self.assertEqual(pick(found, f'nyx_migration_{name}'), [value],
                             name)

    def test_json(self):
        """The same figures, as JSON."""
        self.start('web', *ROGUE)
        found = {(each['name'], tuple(sorted(each['labels'].items()))):
                 each['value'] for each in self.json('metrics', '--once')}
        again = self.once()
        self.assertEqual(set(found), set(again))
        for name in 'nyx_up', 'nyx_device_state', 'nyx_faults_total':
            self.assertEqual(pick(found, name), pick(again, name))
        self.assert_fails('--json goes with --once', 'metrics', '--json')

    def test_two_vms(self):
        self.start('left', *ROGUE)
        right = self.start('right', *ROGUE)
        right.monitor.command('nyx-quarantine-device', device='rogue')
        found = self.once()
        self.assertEqual(pick(found, 'nyx_up'), [1, 1])
        for vm, state in (('left', 0), ('right', 1)):
            self.assertEqual(pick(found, 'nyx_device_state', vm=vm,
                                  device='rogue', state='quarantined'),
                             [state])
        self.assertEqual(pick(self.once('left'), 'nyx_up', vm='right'), [])

    def test_without_nyx_iommu(self):
        folder = self.run_dir / 'stock'
        folder.mkdir()
        process = subprocess.Popen(
            [str(QEMU), '-M', 'q35', '-nodefaults', '-display', 'none',
             '-accel', 'qtest', '-run-with', 'exit-with-parent=on',
             '-qmp', f'unix:{folder / "qmp.sock"},server=on,wait=off',
             '-qmp', f'unix:{folder / "metrics.sock"},server=on,wait=off'],
            stdin=subprocess.DEVNULL)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        limit = time.monotonic() + 60
        while not (folder / 'metrics.sock').is_socket():
            self.assertLess(time.monotonic(), limit)
            time.sleep(0.01)
        found = self.once('stock')
        self.assertEqual(pick(found, 'nyx_up'), [1])
        self.assertEqual(pick(found, 'nyx_vm_info', machine='pc-q35-11.1'),
                         [1])
        self.assertEqual(pick(found, 'nyx_devices'), [])
