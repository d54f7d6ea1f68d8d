# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""nyx metrics: Prometheus takes the figures, rules and dashboard fit."""

import json
import re
import shutil
import subprocess

from nyxtest.exporter import CALM, OUTSIDE, ROGUE, MetricsCase, needs_client
from nyxtest.paths import ROOT
from nyxtest.prometheus import Prometheus, program, promtool

MONITORING = ROOT / 'docs' / 'nyx' / 'monitoring'
ALERTS = MONITORING / 'alerts.yml'
DASHBOARD = MONITORING / 'grafana-dashboard.json'


@needs_client()
class PrometheusTest(MetricsCase):
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
