# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""nyx trace: spans of a boot and a hotplug of Linux, and of a migration."""

import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from nyxtest.case import GuestTest, needs_nyx
from nyxtest.cli import NYX, PYTHON, CliCase
from nyxtest.devices import add_disk, medium
from nyxtest.migration import await_migration

MIB = 1 << 20
SECONDS = 300


def start_trace(environment, *words):
    return subprocess.Popen(
        [PYTHON, str(NYX), 'trace', *words, '--json'], env=environment,
        text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE)


def await_watching(process):
    """Until it has had its first look."""
    line = process.stderr.readline()
    if not line.startswith('Watching '):
        raise AssertionError(line + process.stderr.read())


@needs_nyx
class LinuxTest(GuestTest):
    """A guest with an NVMe disk, and a port for another one."""

    @classmethod
    def describe(cls, vm):
        cls.run_dir = Path(tempfile.mkdtemp(prefix='nyx-'))
        cls.addClassCleanup(shutil.rmtree, cls.run_dir)
        (cls.run_dir / 'web').mkdir()
        for kind in 'qmp', 'events':
            vm.add('-qmp', f'unix:{cls.run_dir}/web/{kind}.sock,server=on,'
                   'wait=off')
        add_disk(vm, 'nvme', 'nvme0')
        vm.device('nyx-root-port', id='plug', chassis=9, slot=9)
        medium(vm, 'second')

    def trace(self, *words):
        process = start_trace({**os.environ, 'NYX_RUN_DIR':
                               str(self.run_dir)}, *words)
        self.addCleanup(process.communicate)
        self.addCleanup(process.kill)
        await_watching(process)
        return process

    def spans(self, process):
        out, error = process.communicate(timeout=SECONDS)
        self.assertEqual((process.returncode, error), (0, ''))
        return json.loads(out)['spans']

    def test_boot(self):
        tracing = self.trace('boot', '--settle', '10', '--seconds', '240')
        self.vm.reset()
        spans = self.spans(tracing)
        self.assertEqual(spans[0]['name'], 'boot')
        self.assertEqual(spans[0]['start'], 0)
        names = [span['name'] for span in spans]
        self.assertIn('until the firmware has placed all devices', names)
        nvme = [span for span in spans if span.get('device') == 'nvme0']
        self.assertEqual(len(nvme), 1, spans)
        for span in spans:
            self.assertGreater(span['seconds'], 0, span)
            self.assertLessEqual(span['start'] + span['seconds'],
                                 spans[0]['seconds'] + 1e-5, span)
        # A driver cannot work before the firmware is done.
        self.assertGreater(nvme[0]['seconds'], spans[1]['seconds'])

    def test_hotplug(self):
        tracing = self.trace('hotplug', '--settle', '5')
        self.vm.monitor.command('device_add', driver='nvme', id='nvme1',
                                bus='plug', drive='second', serial='second')
        self.vm.agent.wait('[ -e /dev/nvme1n1 ]', 60)
        spans = self.spans(tracing)
        self.assertEqual([span['name'] for span in spans],
                         ['plug', 'until the guest has placed it',
                          'until its first interrupt'])
        self.assertEqual({span['device'] for span in spans}, {'nvme1'})
        self.assertAlmostEqual(
            spans[0]['seconds'], spans[1]['seconds'] + spans[2]['seconds'], 4)
        tracing = self.trace('hotplug', '--settle', '1')
        since = self.vm.monitor.position()
        self.vm.monitor.command('device_del', id='nvme1')
        self.vm.monitor.wait_event('DEVICE_DELETED', since, device='nvme1',
                                   seconds=60)
        spans = self.spans(tracing)
        self.assertEqual(spans[0]['name'], 'unplug')
        self.assertEqual([span['name'] for span in spans[1:]],
                         ['until the guest lets go of it',
                          'until nothing uses it any more'])


class MigrationTest(CliCase):
    """The spans agree with what QEMU says of the migration."""

    def test_migration(self):
        here = self.start('here')
        self.start('there', '-incoming', 'defer')
        for at in range(MIB, 9 * MIB, 1 << 16):
            here.write(at, os.urandom(1 << 16))
        tracing = start_trace(self.environment, 'migration', '--vm', 'here')
        self.addCleanup(tracing.communicate)
        self.addCleanup(tracing.kill)
        await_watching(tracing)
        self.says('migrate', 'start', '--vm', 'here', '--into', 'there')
        info = await_migration(here, 'completed')
        out, error = tracing.communicate(timeout=60)
        self.assertEqual(error, '')
        spans = {span['name']: span for span in json.loads(out)['spans']}
        self.assertAlmostEqual(
            spans['migration, completed']['seconds'],
            info['total-time'] / 1000, delta=0.3)
        self.assertAlmostEqual(spans['standstill']['seconds'],
                               info['downtime'] / 1000, delta=0.3)
        self.assertIn('active', spans)
        self.assertIn('pass 1', spans)

    def test_nothing_happens(self):
        self.start('web')
        done = self.nyx('trace', 'boot', '--seconds', '500ms')
        self.assertEqual((done.returncode, done.stdout), (1, ''))
        self.assertRegex(done.stderr, r'^Watching web; .*\n'
                         r'nyx: no boot of web was seen within 0.5 s; .*\n$')
        self.assert_fails('--reset begins a boot', 'trace', 'hotplug',
                          '--reset')
        self.assert_fails('did you mean "boot"', 'trace', 'boott', status=2)
