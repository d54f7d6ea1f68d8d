# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""nyx check, report and top: what they say of VMs in good and bad health."""

import json
import os
import pty
import re
import select
import signal
import subprocess
import threading
import time

from nyxtest.cli import SECONDS, CliCase
from nyxtest.migration import WRITE, Testdev

MIB = 1 << 20
SLOT = 5
CAGE = '-object', 'nyx-domain,id=cage,default-map=none,max-faults=3'
ROGUE = '-device', f'nyx-testdev,id=rogue,nyx-domain=cage,addr={SLOT}'


class CheckTest(CliCase):
    """Each finding comes when it should, and goes when it is mended."""

    def findings(self, *words):
        """(severity, area) by subject, and the exit status."""
        done = self.nyx('check', *words, '--json')
        answer = json.loads(done.stdout)
        return {(each['severity'], each['area'], each['subject'])
                for each in answer['findings']}, done.returncode

    def test_well(self):
        self.start('web', *CAGE, *ROGUE)
        found, status = self.findings()
        self.assertEqual(status, 0)
        self.assertLessEqual(
            {('ok', 'isolation', 'rogue'), ('ok', 'devices', 'web'),
             ('ok', 'limits', 'web'), ('ok', 'metrics', 'socket'),
             ('ok', 'migration', 'web')}, found)
        self.assertFalse([each for each in found
                          if each[0] in ('warning', 'error')])
        self.assertNotIn('confined in cage', self.says('check'))
        self.assertIn('confined in cage', self.says('check', '--all'))

    def test_escapes(self):
        self.start('web', '-object', 'nyx-domain,id=open,isolation=unmanaged',
                   '-device', 'nyx-testdev,id=free,nyx-domain=open',
                   '-device', 'isa-fdc')
        found, status = self.findings()
        self.assertEqual(status, 0)
        self.assertLessEqual({('warning', 'isolation', 'free'),
                              ('warning', 'isolation', 'isa-fdc')}, found)
        self.assertEqual(self.findings('--fail-on', 'warning')[1], 1)

    def test_no_iommu(self):
        self.start('plain', '-M', 'q35')
        found, status = self.findings()
        self.assertEqual(status, 1)
        self.assertIn(('error', 'isolation', 'plain'), found)

    def test_devices_and_limits(self):
        vm = self.start('web', *CAGE, *ROGUE)
        self.says('quarantine', 'rogue')
        self.says('policy', '--domain', 'cage', '--on-fault-limit', 'report')
        found, status = self.findings()
        self.assertEqual(status, 0)
        self.assertLessEqual({('warning', 'devices', 'rogue'),
                              ('warning', 'limits', 'cage')}, found)
        self.says('policy', '--domain', 'cage', '--max-recoveries', 0)
        self.assertEqual(self.nyx('recover', 'rogue').returncode, 1)
        self.assertEqual(vm.monitor.command(
            'query-nyx-devices', device='rogue')[0]['state'], 'failed')
        found, status = self.findings()
        self.assertEqual(status, 1)
        self.assertIn(('error', 'devices', 'rogue'), found)
        self.says('recover', 'rogue', '--force')
        self.assertEqual(self.findings()[1], 0)

    def test_ports(self):
        vm = self.start(
            'web', '-device', 'nyx-root-port,id=new,slot=1,addr=7',
            '-device', 'pcie-root-port,id=old,slot=2,addr=8',
            '-device', 'nyx-testdev,id=below,bus=old')
        text = [each['reason'] for each in
                self.json('check')['findings'] if each['area'] == 'hotplug']
        self.assertTrue(any('without containment' in each for each in text),
                        text)
        self.assertTrue(any(re.match(r'\d+ of \d+ are free', each)
                            for each in text), text)
        self.assertTrue(vm.running())


class ReportTest(CliCase):
    """Figures with what is new since the last report."""

    def setUp(self):
        super().setUp()
        self.kept = self.run_dir / 'state'

    @property
    def environment(self):
        return {**super().environment, 'NYX_STATE_DIR': str(self.kept),
                'PATH': f'{self.run_dir}/bin:{os.environ["PATH"]}'}

    def rogue_faults(self, vm, times):
        device = Testdev(vm, SLOT)
        device.set_up()
        for _ in range(times):
            device.dma(WRITE, MIB)

    def test_new_figures(self):
        vm = self.start('web', *CAGE, *ROGUE)
        self.rogue_faults(vm, 2)
        first = self.json('report')[0]
        self.assertEqual((first['totals']['faults'], first['new']['faults']),
                         (2, 2))
        self.rogue_faults(vm, 2)
        self.assertEqual(self.json('report', '--peek')[0]['new']['faults'], 2)
        second = self.json('report', 'web')[0]
        self.assertEqual((second['totals']['faults'],
                          second['new']['faults']), (4, 2))
        self.assertEqual(second['last-time'], first['time'])
        self.assertEqual(second['verdict'], 'warning')
        self.assertEqual(second['devices'], [
            {'device': 'rogue', 'domain': 'cage', 'state': 'quarantined',
             'total-faults': 4, 'new-faults': 2, 'recoveries': 0}])
        self.assertEqual(second['latest-faults'], vm.monitor.command(
            'query-nyx-faults', limit=5))
        text = self.says('report')
        self.assertRegex(text, r'\nfaults +0 +4\n')
        self.assertIn('rogue', text)

    def test_started_anew(self):
        vm = self.start('web', *CAGE, *ROGUE)
        self.rogue_faults(vm, 2)
        self.says('report')
        vm.stop()
        for path in (self.run_dir / 'web').iterdir():
            path.unlink()
        (self.run_dir / 'web').rmdir()
        vm = self.start('web', *CAGE, *ROGUE)
        self.rogue_faults(vm, 2)
        report = self.json('report')[0]
        self.assertTrue(report['restarted'])
        self.assertEqual(report['new']['faults'], 2)

    def test_directory(self):
        self.start('web')
        self.says('report', '--directory', self.run_dir / 'daily')
        kinds = {path.suffix: path.read_text()
                 for path in (self.run_dir / 'daily').iterdir()}
        self.assertEqual(set(kinds), {'.json', '.txt'})
        self.assertEqual(json.loads(kinds['.json'])[0]['vm'], 'web')
        self.assertIn('web: ', kinds['.txt'])
        done = self.nyx('report', '--directory', '/dev/null/x')
        self.assertEqual(done.returncode, 1)
        self.assertIn('/dev/null/x cannot be written', done.stderr)

    def test_mail(self):
        """The program that takes mail is handed a message."""
        vm = self.start('web', *CAGE, *ROGUE)
        vm.monitor.command('nyx-quarantine-device', device='rogue')
        (self.run_dir / 'bin').mkdir()
        program = self.run_dir / 'bin' / 'sendmail'
        program.write_text(f'#!/bin/sh\ncat >{self.run_dir}/mail\n')
        program.chmod(0o755)
        self.says('report', '--mail', 'root@localhost')
        mail = (self.run_dir / 'mail').read_text()
        self.assertRegex(mail, r'(?m)^To: root@localhost$')
        self.assertRegex(mail, r'(?m)^Subject: Nyx on .*: web 1 warning')
        self.assertIn('quarantined', mail)
        program.write_text('#!/bin/sh\necho no such user >&2\nexit 67\n')
        done = self.nyx('report', '--mail', 'nobody@localhost')
        self.assertEqual(done.returncode, 1)
        self.assertIn('no such user', done.stderr)

    def test_one_does_not_answer(self):
        self.start('web')
        done = self.nyx('report', 'web', 'gone', '--json')
        self.assertEqual(done.returncode, 1)
        self.assertEqual([each['status'] for each in json.loads(done.stdout)],
                         ['running', 'not answering'])
        self.assertEqual([path.name for path in
                          (self.kept / 'reports').iterdir()], ['web.json'])

    def test_none(self):
        self.assertIn('No VM is running.', self.says('report'))


class TopTest(CliCase):
    """Rates between two looks."""

    def test_once(self):
        vm = self.start('web', *CAGE, *ROGUE)
        vm.monitor.command('nyx-set-policy', device='rogue',
                           max_faults=65535)
        watching = self.popen('top', 'web', '--json', '--interval', '2')
        began = time.monotonic()
        while watching.poll() is None and time.monotonic() < began + 60:
            vm.monitor.command('nyx-inject-fault', device='rogue',
                               address=4096, access='w', count=50)
            time.sleep(0.05)        # a rate, not a wait
        shown = json.loads(watching.communicate(timeout=60)[0])
        rogue = [device for device in shown['devices']
                 if device['device'] == 'rogue'][0]
        self.assertGreater(rogue['per-second']['faults'], 1)
        # The device and the whole are asked one after the other.
        self.assertAlmostEqual(rogue['per-second']['faults'] /
                               shown['per-second']['faults'], 1, delta=0.5)
        self.assertEqual(shown['bottlenecks'][0]['kind'], 'faults')
        self.assertIn('rogue', shown['bottlenecks'][0]['text'])
        text = self.says('top', '--once', '--interval', '100ms')
        self.assertIn('bottleneck: none seen', text)
        self.assertRegex(text, r'\ncage +strict +1 +0 ')

    def test_terminal(self):
        """The live view draws, ends with q, and leaves the terminal."""
        vm = self.start('web', *CAGE, *ROGUE)
        vm.monitor.command('nyx-quarantine-device', device='rogue')
        ours, its = pty.openpty()
        process = subprocess.Popen(
            self.command('top', '--interval', '500ms'), stdin=its, stdout=its,
            stderr=subprocess.PIPE, env={**self.environment, 'TERM': 'xterm',
                                         'LINES': '50'})
        os.close(its)
        self.addCleanup(process.communicate)
        self.addCleanup(process.kill)
        seen = b''
        while b'quarantined' not in seen:
            self.assertTrue(select.select([ours], [], [], 60)[0], seen)
            seen += os.read(ours, 65536)
        os.write(ours, b'q')
        try:
            while select.select([ours], [], [], 60)[0]:
                data = os.read(ours, 65536)
                if not data:
                    break
                seen += data
        except OSError:
            pass                    # EIO: the other end is closed
        os.close(ours)
        self.assertEqual(process.wait(60), 0)
        self.assertIn(b'\x1b[?1049h', seen)     # the other screen
        for back in b'\x1b[?25h', b'\x1b[?1049l':     # cursor, and screen
            self.assertIn(back, seen[-100:])

    def test_several(self):
        """A line for each, also for one that hangs or comes meanwhile."""
        web = self.start('web', *CAGE, *ROGUE)
        mail = self.start('mail', *CAGE, *ROGUE)
        web.monitor.command('nyx-set-policy', device='rogue',
                            max_faults=65535)
        mail.monitor.command('nyx-quarantine-device', device='rogue')
        watching = self.popen('top', '--json', '--interval', '2')
        began = time.monotonic()
        while watching.poll() is None and time.monotonic() < began + 60:
            web.monitor.command('nyx-inject-fault', device='rogue',
                                address=4096, access='w', count=50)
            time.sleep(0.05)        # a rate, not a wait
        out, error = watching.communicate(timeout=60)
        self.assertEqual(error, '')
        quiet, busy = json.loads(out)
        self.assertEqual((quiet['vm'], busy['vm']), ('mail', 'web'))
        self.assertGreater(busy['per-second']['faults'], 1)
        self.assertEqual(quiet['per-second']['faults'], 0)
        self.assertEqual(quiet['devices'],
                         [{**device, 'per-second': {'faults': 0, 'irqs': 0}}
                          for device in mail.monitor.command(
                              'query-nyx-devices')])

        watching = self.popen('top', '--interval', '100ms')
        self.await_line(watching, r'2 VMs, \d running')
        self.await_line(watching, r'mail +\w+ +\d+ +1 +0 +0 ')
        self.await_line(watching, r'mail +rogue +cage +quarantined +blocked')
        # One that comes is there, with what is known of it.
        self.start('new')
        self.await_line(watching, r'new +\w+ +\d')
        mail.stop()
        self.await_line(watching, '2 VMs,')
        watching.kill()

        # Named ones stay in the table.
        watching = self.popen('top', 'web', 'new', '--interval', '100ms')
        self.await_line(watching, '2 VMs,')
        web.process.send_signal(signal.SIGSTOP)
        self.await_line(watching, 'web +not answering +- ')
        web.process.send_signal(signal.SIGCONT)
        self.await_line(watching, r'web +\w+ +\d')
        watching.kill()

    def await_line(self, process, pattern):
        """Until a command says a line like that."""
        late = threading.Timer(SECONDS, process.kill)
        late.start()
        self.addCleanup(late.cancel)
        for line in process.stdout:
            if re.match(pattern, line):
                late.cancel()
                return
        self.fail(f'no line like {pattern!r}: {process.stderr.read()}')

    def test_vm_ends(self):
        vm = self.start('web')
        watching = self.popen('top', '--interval', '100ms')
        watching.stdout.readline()
        vm.stop()
        _, error = watching.communicate(timeout=60)
        self.assertEqual(watching.returncode, 1)
        self.assertRegex(error, r'^nyx: web .*\n$')
