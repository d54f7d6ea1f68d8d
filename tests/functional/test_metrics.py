# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""nyx metrics: figures are those of QMP, and Prometheus takes them."""

import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import unittest
from pathlib import Path

from nyxtest.case import GuestTest
from nyxtest.cli import NYX, PYTHON, CliCase
from nyxtest.devices import add_nic
from nyxtest.guest import bring_up, fetch_sum
from nyxtest.migration import (DONE, REFUSED, WRITE, Testdev,
                               await_migration)
from nyxtest.paths import QEMU, ROOT
from nyxtest.payload import PayloadVM
from nyxtest.prometheus import (Prometheus, fetch, pick, program, promtool,
                                samples)
from nyxtest.vfiouser import LibDevice
from nyxtest.vfiousercase import VfioUserCase

sys.path.insert(0, str(ROOT / 'scripts'))
from nyxcli.bottleneck import find  # noqa: E402

MONITORING = ROOT / 'docs' / 'nyx' / 'monitoring'
ALERTS = MONITORING / 'alerts.yml'
DASHBOARD = MONITORING / 'grafana-dashboard.json'
MIB = 1 << 20
OUTSIDE = 1 << 40               # where no RAM is
ROGUE = '-device', 'nyx-testdev,id=rogue,addr=5'
CALM = '-device', 'nyx-testdev,id=calm,addr=6'
# nyx-testdev: a bulk run
START, STOP = 3, 4
FLAGS, COUNT, SLOTS, STRIDE, COMMAND = 0x30, 0x34, 0x38, 0x40, 0x08
ADDRESS, LENGTH = 0x20, 0x28
FLAG_WRITE, FLAG_THREAD = 1, 4


def needs_client():
    """Skip where the exporter cannot run."""
    found = subprocess.run([PYTHON, '-c', 'import prometheus_client'],
                           capture_output=True, check=False)
    return unittest.skipIf(found.returncode, 'the package '
                           'python3-prometheus-client is not installed')


class Exporter:
    """"nyx metrics" as a process."""

    def __init__(self, process):
        self.process = process
        line = process.stderr.readline()
        match = re.fullmatch(r'nyx: metrics at (http://(\S+)/metrics)\n', line)
        if not match:
            raise AssertionError(line)
        self.url, self.target = match.groups()

    def scrape(self, **headers):
        return samples(fetch(self.url, **headers))


class _MetricsCase(CliCase):
    """Machines, and an exporter that watches them."""

    def exporter(self, *words):
        return Exporter(self.popen('metrics', '--listen', '127.0.0.1:0',
                                   *words))

    def once(self, *words):
        return samples(self.says('metrics', '--once', *words))


@needs_client()
class ValuesTest(_MetricsCase):
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

    def test_domain_and_iotlb_figures(self):
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
        for domain in vm.monitor.command('query-nyx-domains'):
            labels = {'vm': 'web', 'domain': domain['id']}
            for name in 'mapped-bytes', 'mappings', 'table-bytes':
                self.assertEqual(
                    pick(found, f'nyx_domain_{name.replace("-", "_")}',
                         **labels), [domain[name]])
            self.assertEqual(pick(found, 'nyx_domain_devices', **labels),
                             [len(domain['devices'])])
        self.assertEqual(pick(found, 'nyx_domain_mapped_bytes',
                              domain='cage'), [MIB])
        iotlb = vm.monitor.command('query-nyx-iommu')['iotlb']
        for name, count in iotlb.items():
            self.assertEqual(pick(found, f'nyx_iotlb_{name}_total'), [count])
        self.assertGreater(iotlb['hits'], 0)

    def test_latency_figures(self):
        vm = self.start('web', '-object',
                        'nyx-domain,id=cage,default-map=none', '-device',
                        'nyx-testdev,id=rogue,addr=5,nyx-domain=cage')
        vm.monitor.command('nyx-map', domain='cage', iova=MIB, gpa=MIB,
                           size=MIB, access='rw')
        rogue = Testdev(vm, 5)
        rogue.set_up()
        rogue.dma(WRITE, MIB)
        name = 'nyx_dma_translation_seconds'
        self.assertEqual(pick(self.once(), f'{name}_count'), [])
        vm.monitor.command('qom-set', path='/machine',
                           property='latency-sampling', value=1)
        for _ in range(10):
            rogue.dma(WRITE, MIB)
        found = self.once()
        latency, = (one['dma'] for one in
                    vm.monitor.command('query-nyx-latency')['devices']
                    if one['device'] == 'rogue')
        self.assertGreaterEqual(sum(latency['bins']), 10)
        self.assertEqual(pick(found, f'{name}_count', device='rogue'),
                         [sum(latency['bins'])])
        self.assertAlmostEqual(
            pick(found, f'{name}_sum', device='rogue')[0],
            latency['sum-ns'] * 1e-9)
        for number, bound in enumerate(latency['boundaries-ns']):
            self.assertEqual(
                pick(found, f'{name}_bucket', device='rogue',
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


def figures(seconds, exits=None, disk=None, drops=None, faults=None):
    """What metrics_read.read() gives, as far as find() looks at it."""
    done, busy_ns = disk or (0, 0)
    return {
        'time': seconds,
        'vcpu-exits': exits,
        'query-blockstats': [
            {'qdev': '/machine/peripheral/disk0/virtio-backend', 'stats': {
                'rd_operations': done, 'rd_total_time_ns': busy_ns,
                'wr_operations': 0, 'wr_total_time_ns': 0}}] if disk else [],
        'query-nyx-net': [
            {'id': 'c', 'netdev': 'net0', 'device': 'nic0', 'queue': number,
             'received': {'drops': count}, 'sent': {'drops': 0}}
            for number, count in enumerate(drops or ())],
        'query-nyx-devices': [
            {'device': name, 'total-faults': count}
            for name, count in (faults or {}).items()]}


class BottleneckTest(unittest.TestCase):
    """Which figures are beyond their limits, and by how much."""

    def found(self, before, after):
        return [(each.kind, each.subject, each.figure)
                for each in find(before, after)]

    def test_exits(self):
        before = figures(10, exits=[
            {'exits': 1000, 'io_exits': 500, 'halt_exits': 100}] * 2)
        after = figures(20, exits=[
            {'exits': 1001000, 'io_exits': 900500, 'halt_exits': 200}] * 2)
        worst, = find(before, after)
        self.assertEqual((worst.kind, worst.figure, worst.ratio),
                         ('exits', 200000, 2))
        self.assertEqual(worst.text, '200000 VM exits per second, most of '
                         'them io')
        # Half of that is at the limit, not beyond it.
        self.assertEqual(find(before, figures(30, exits=[
            {'exits': 1001000, 'io_exits': 0, 'halt_exits': 0}] * 2)), [])

    def test_disk(self):
        before = figures(0, disk=(100, 10 ** 9))
        self.assertEqual(find(before, figures(
            1, disk=(200, 10 ** 9 + 99 * 10 ** 6))), [])
        self.assertEqual(find(before, before | {'time': 1}), [])
        worst, = find(before, figures(1, disk=(200, 3 * 10 ** 9)))
        self.assertEqual((worst.kind, worst.subject), ('disk', 'disk0'))
        self.assertAlmostEqual(worst.figure, 0.02)
        self.assertEqual(worst.text, 'disk disk0 takes 20.00 ms for a '
                         'request (100 requests)')

    def test_worst_first(self):
        before = figures(0, drops=(0, 5), faults={'a': 0, 'b': 7})
        after = figures(2, drops=(10, 15), faults={'a': 100, 'b': 7})
        self.assertEqual(self.found(before, after),
                         [('faults', 'a', 50), ('drops', 'nic0', 10)])

    def test_what_came_or_began_anew(self):
        self.assertEqual(find(figures(0, faults={'a': 100}),
                              figures(1, faults={'a': 50, 'new': 1000})), [])
        self.assertEqual(find(figures(0), figures(1, disk=(9, 10 ** 9))), [])
        self.assertEqual(find(figures(1, drops=(0,)),
                              figures(1, drops=(9,))), [])


@needs_client()
class ExporterTest(_MetricsCase):
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


@needs_client()
class PrometheusTest(_MetricsCase):
    """A real server scrapes the exporter and evaluates the rules."""

    def prometheus(self, target):
        server = Prometheus(self.folder / 'prometheus', target, ALERTS)
        self.addCleanup(server.stop)
        return server

    def setUp(self):
        super().setUp()
        shutil.rmtree(self.folder, ignore_errors=True)

    def test_promtool(self):
        for words in (('check', 'config', MONITORING / 'prometheus.yml'),
                      ('check', 'rules', ALERTS),
                      ('test', 'rules', MONITORING / 'alerts-test.yml')):
            status, said = promtool(*words)
            self.assertEqual(status, 0, said)
            self.assertIn('SUCCESS', said)

    def test_exposition(self):
        """promtool finds nothing to complain about."""
        self.start('web', *ROGUE, machine_options=('latency-sampling=1',))
        done = subprocess.run(
            [program('promtool'), 'check', 'metrics'], text=True,
            input=self.says('metrics', '--once'), capture_output=True,
            check=False)
        self.assertEqual((done.returncode, done.stdout + done.stderr),
                         (0, ''))

    def test_server(self):
        vm = self.start('web', *ROGUE, *CALM)
        exporter = self.exporter()
        server = self.prometheus(exporter.target)
        target = server.await_true(
            'the target is up', lambda: [
                each for each in server.ask('targets')['activeTargets']
                if each['health'] == 'up'])
        self.assertEqual(target[0]['labels']['job'], 'nyx')
        rules = [rule for group in server.ask('rules')['groups']
                 for rule in group['rules']]
        self.assertGreater(len(rules), 15)
        server.await_true('the VM is seen', lambda: server.number(
            'nyx_up{vm="web"}') == 1)
        self.assertNotIn('NyxDeviceCutOff', server.firing())

        vm.monitor.command('nyx-inject-fault', device='rogue',
                           address=OUTSIDE, access='w', count=11)
        server.await_true('the faults are counted', lambda: server.number(
            'sum(nyx_faults_total{device="rogue"})') == 11)
        self.assertEqual(server.number('sum(nyx_faults_total)'), 11)
        fired = server.await_true(
            'the alert fires', lambda: server.firing().get('NyxDeviceCutOff'))
        self.assertEqual((fired['vm'], fired['device']), ('web', 'rogue'))
        server.await_true('faults are an alert, too', lambda:
                          'NyxDeviceFaults' in server.firing())
        vm.monitor.command('nyx-recover-device', device='rogue')
        server.await_true('the alert ends', lambda: 'NyxDeviceCutOff'
                          not in server.firing())
        self.assertEqual([rule['lastError'] for rule in
                          (each for group in server.ask('rules')['groups']
                           for each in group['rules'])
                          if rule.get('lastError')], [])
        self.check_dashboard(server)

    def check_dashboard(self, server):
        """Each query is understood; those of what this VM has, give data."""
        panels = json.loads(DASHBOARD.read_text())['panels']
        queries = [target['expr'] for panel in panels
                   for target in panel.get('targets', [])]
        self.assertGreater(len(queries), 30)
        empty = []
        for query in queries:
            query = query.replace('$vm', '.*').replace(
                '$__rate_interval', '1m')
            if not server.query(query):
                empty.append(query)
        for name in ('nyx_device_state', 'nyx_device_info', 'nyx_vm_info',
                     'nyx_domain_mappings', 'nyx_up', 'nyx_faults_total'):
            self.assertEqual([query for query in empty if name in query], [])

    def test_names_are_exported(self):
        """Rules and dashboard ask for no metric that there is not."""
        source = (ROOT / 'scripts' / 'nyxcli' / 'metrics_export.py'
                  ).read_text()
        wanted = set(re.findall(r'\bnyx_\w+', ALERTS.read_text()
                                + DASHBOARD.read_text()))
        for name in wanted - {'nyx_up'}:
            base = re.sub(r'_(total|bucket|sum|count)$', '', name)
            base = base.removeprefix('nyx_')
            words = base.split('_')
            # Some are put together of a part and what QMP calls it.
            self.assertTrue(
                f"'{base}'" in source or any(
                    f"'{'_'.join(words[i:])}'" in source
                    or f"'{'-'.join(words[i:])}'" in source
                    or f"'{'-'.join(words[i:-1])}'" in source
                    for i in range(1, len(words))), name)


    def test_names_are_in_the_manual(self):
        self.start('web', *ROGUE, '-netdev', 'user,id=net0', '-object',
                   'filter-nyx-count,id=c,netdev=net0',
                   machine_options=('latency-sampling=1',))
        manual = (ROOT / 'docs' / 'nyx' / 'metrics.rst').read_text()
        known = set(re.findall(r'``(nyx_\w+)``', manual))
        said = self.says('metrics', '--once')
        families = re.findall(r'^# TYPE (\w+) ', said, re.M)
        self.assertGreater(len(families), 30)
        self.assertLessEqual(set(families), known)


@needs_client()
class GuestFiguresTest(GuestTest):
    """Disk and network figures, against what the guest counts itself."""

    slow_iops = 50

    @classmethod
    def describe(cls, vm):
        cls.folder = Path(f'/tmp/nyx-metrics-{time.time_ns()}')
        cls.folder.mkdir()
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        cls.socket = cls.folder / 'qmp.sock'
        vm.add('-qmp', f'unix:{cls.socket},server=on,wait=off')
        cls.nic = add_nic(vm, 'e1000e', 'nic0', None)
        vm.add('-object', 'filter-nyx-count,id=count,netdev=nic0-net')
        disk = vm.folder / 'disk.raw'
        vm.folder.mkdir(parents=True, exist_ok=True)
        with disk.open('wb') as file:
            file.truncate(16 * MIB)
        vm.add('-blockdev', f'driver=file,node-name=disk,filename={disk}',
               '-device', 'nvme,id=nvme0,drive=disk,serial=1',
               modules=['nvme'])
        vm.add('-object', 'throttle-group,id=slow,x-iops-total='
               f'{cls.slow_iops}',
               '-blockdev', 'driver=throttle,node-name=throttled,'
               'throttle-group=slow,file.driver=null-co,'
               'file.size=16777216,file.read-zeroes=on',
               '-device', 'virtio-blk-pci,id=slow0,drive=throttled',
               modules=['virtio_pci', 'virtio_blk'])

    @classmethod
    def prepare(cls, vm):
        bring_up(vm, cls.nic)

    def scrape(self):
        done = subprocess.run(
            [PYTHON, str(NYX), 'metrics', '--once', str(self.socket)],
            text=True, capture_output=True, check=True, timeout=120)
        self.assertEqual(done.stderr, '')
        return samples(done.stdout)

    def test_disk(self):
        self.vm.agent.wait('[ -b /dev/nvme0n1 ]')
        before = self.scrape()
        self.vm.agent.check('dd if=/dev/nvme0n1 of=/dev/null bs=1M count=8 '
                            'iflag=direct')
        after = self.scrape()

        def grown(name, operation):
            return pick(after, f'nyx_disk_{name}_total', disk='nvme0',
                        operation=operation)[0] - \
                pick(before, f'nyx_disk_{name}_total', disk='nvme0',
                     operation=operation)[0]

        self.assertEqual(grown('bytes', 'read'), 8 * MIB)
        self.assertGreater(grown('operations', 'read'), 0)
        self.assertGreater(grown('seconds', 'read'), 0)
        self.assertEqual(grown('bytes', 'write'), 0)

    def test_slow_disk(self):
        """It is named as the bottleneck, with the time that it takes."""
        process = subprocess.Popen(
            [PYTHON, str(NYX), 'metrics', '--listen', '127.0.0.1:0',
             str(self.socket)], text=True, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        self.addCleanup(process.communicate)
        self.addCleanup(process.kill)
        exporter = Exporter(process)
        self.vm.agent.wait('[ -b /dev/vda ]')
        exporter.scrape()
        self.vm.agent.check('dd if=/dev/vda of=/dev/null bs=4k count=40 '
                            'iflag=direct')
        found = exporter.scrape()
        ratio, = pick(found, 'nyx_bottleneck_ratio', kind='disk',
                      subject='slow0')
        # One request after the other, each in its turn: 20 ms
        self.assertGreater(ratio, 5)
        self.assertLess(ratio, 100)

    def guest_counts(self):
        card = self.vm.agent.check('ls -d /sys/class/net/eth*').split()[0]
        return {name: int(self.vm.agent.check(
            f'cat {card}/statistics/{name}'))
            for name in ('rx_packets', 'rx_bytes', 'tx_packets')}

    def test_net(self):
        before, guest_before = self.scrape(), self.guest_counts()
        self.assertEqual(fetch_sum(self.vm, self.server.url(self.nic)),
                         self.server.sha256)
        # The card's registers, of which the guest tells, are read each 2 s.
        limit = time.monotonic() + 60
        while True:
            guest, after = self.guest_counts(), self.scrape()
            counts = {name: guest[name] - guest_before[name]
                      for name in guest}

            def grown(name, direction):
                labels = {'nic': 'nic0', 'direction': direction}
                return pick(after, f'nyx_net_{name}_total', **labels)[0] - \
                    pick(before, f'nyx_net_{name}_total', **labels)[0]

            if counts['rx_bytes'] >= self.fetch_bytes and \
                    counts['rx_packets'] == grown('packets', 'received'):
                break
            self.assertLess(time.monotonic(), limit, (
                counts, grown('packets', 'received')))
            time.sleep(0.2)
        self.assertGreaterEqual(grown('bytes', 'received'), self.fetch_bytes)
        self.assertLess(grown('bytes', 'received'), 1.2 * self.fetch_bytes)
        self.assertGreater(grown('packets', 'sent'), 0)
        self.assertEqual(grown('drops', 'received'), 0)
        self.assertEqual(grown('drops', 'sent'), 0)


@needs_client()
class ServerTest(VfioUserCase):
    """DMA that comes as messages is accounted, operations and bytes."""

    def test_messages(self):
        path = self.sockets / 'qmp.sock'
        self.start(',contained=on', more=(
            '-qmp', f'unix:{path},server=on,wait=off'))
        for _ in range(3):
            self.device.command(LibDevice.READ, MIB)

        def scrape():
            done = subprocess.run(
                [PYTHON, str(NYX), 'metrics', '--once', str(path)],
                text=True, capture_output=True, check=True, timeout=120)
            return samples(done.stdout)

        server = self.info()['server']
        self.assertGreaterEqual(server['dma-messages'], 3)
        found = scrape()
        self.assertEqual(pick(found, 'nyx_server_connected', device='vu0'),
                         [1])
        self.assertEqual(pick(found, 'nyx_dma_messages_total', device='vu0'),
                         [server['dma-messages']])
        self.assertEqual(pick(found, 'nyx_dma_message_bytes_total',
                              device='vu0'), [server['dma-message-bytes']])
        self.server.stop()
        self.wait_for(lambda: not self.info()['server']['connected'],
                      'the server is gone')
        self.assertEqual(pick(scrape(), 'nyx_server_connected',
                              device='vu0'), [0])


@needs_client()
class KvmExitsTest(unittest.TestCase):
    """KVM counts exits and their reasons."""

    def test_exits(self):
        try:
            with open('/dev/kvm', 'rb'):
                pass
        except OSError as err:
            self.skipTest(f'/dev/kvm: {err.strerror}')
        folder = Path(f'/tmp/nyx-metrics-{time.time_ns()}')
        self.addCleanup(shutil.rmtree, folder, ignore_errors=True)
        path = folder / 'qmp.sock'
        vm = PayloadVM(folder, '-M', 'nyx-pc', '-accel', 'kvm', '-m', '64M',
                       '-qmp', f'unix:{path},server=on,wait=off')
        self.addCleanup(vm.stop)
        vm.line()               # it runs

        def exits():
            vcpu, = vm.monitor.command('query-stats', target='vcpu',
                                       providers=[{'provider': 'kvm'}])
            return {stat['name']: stat['value'] for stat in vcpu['stats']
                    if stat['name'].endswith('exits')}

        before = exits()
        done = subprocess.run(
            [PYTHON, str(NYX), 'metrics', '--once', str(path)], text=True,
            capture_output=True, check=True, timeout=120)
        after = exits()
        found = samples(done.stdout)
        self.assertEqual(pick(found, 'nyx_vm_info', accelerator='kvm'), [1])
        self.assertEqual(pick(found, 'nyx_vm_exits_available'), [1])
        self.assertGreater(before['exits'], 0)
        for name in before:
            value, = pick(found, 'nyx_vcpu_exits_total', vcpu='0') \
                if name == 'exits' else \
                pick(found, 'nyx_vcpu_exits_by_reason_total', vcpu='0',
                     reason=name.removesuffix('_exits'))
            self.assertLessEqual(before[name], value, name)
            self.assertLessEqual(value, after[name], name)
