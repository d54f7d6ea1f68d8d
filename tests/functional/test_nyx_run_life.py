# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""nyx run: how VMs begin and end, and what is left of them."""

import fcntl
import json
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import threading
import time
import unittest
from pathlib import Path

from nyxtest.cli import SECONDS
from nyxtest.nyxrun import RunCase
from nyxtest.paths import QEMU

SMALL = 'memory = "64M"\nmachine = { accel = "tcg" }\nrng = false\n'
LEFT = {'lock', 'log', 'tpm.log', 'metrics.log'}


class LifeTest(RunCase):
    """Machines without a guest: what matters here is around them."""

    def start(self, text='', name='vm'):
        self.addCleanup(self.nyx, 'stop', name, '--now')
        spec = self.spec(SMALL + text, name)
        self.assertEqual(self.says('run', '--detach', spec),
                         f'{name} runs; its log is '
                         f'{self.run_dir}/{name}/log\n')
        return spec

    def about(self, name='vm'):
        return json.loads((self.run_dir / name / 'spec.json').read_text())

    def assert_cleared(self, name='vm'):
        files = {path.name for path in (self.run_dir / name).iterdir()}
        self.assertLessEqual(files, LEFT)

    def wait_line(self, process, text):
        """A line of the terminal with a text; fails if nyx ends before."""
        for line in process.stderr:
            if text in line:
                return line
        self.fail(f'nyx ended without "{text}"')

    def test_found_by_other_commands(self):
        self.start()
        self.start(name='other')
        rows = self.says('status').splitlines()
        self.assertEqual([row.split()[0] for row in rows],
                         ['VM', 'other', 'vm'])
        self.assertEqual(self.says('stop', 'vm', '--now'), 'vm has ended.\n')
        self.assert_cleared()
        self.assertEqual(len(self.says('status').splitlines()), 2)

    def test_twice(self):
        spec = self.start()
        said = self.fails('run', '--detach', spec)
        self.assertIn('runs already; stop it with "nyx stop vm"', said[0])
        # The one that runs has lost nothing.
        self.assertIn('running', self.says('status', 'vm'))
        said = self.fails('run', spec)
        self.assertIn('runs already', said[0])

    def test_json(self):
        """What status and stop find is what run has told."""
        self.addCleanup(self.nyx, 'stop', 'vm', '--now')
        spec = self.spec(SMALL)
        said = json.loads(self.says('run', '--detach', '--json', spec))
        self.assertEqual(said, self.about())
        self.assertEqual(int((self.run_dir / 'vm' / 'qemu.pid').read_text()),
                         said['pid'])
        plan = json.loads(self.says('run', '--print', '--json', spec))
        self.assertEqual(said['command'], plan['command'])
        self.assertIn('--print', self.fails('run', '--json', spec)[0])
        self.assertTrue(json.loads(self.says('stop', 'vm', '--now',
                                             '--json'))['ended'])

    def test_guest_that_does_not_heed(self):
        self.start()
        said = self.fails('stop', 'vm', '--seconds', '1')
        self.assertIn('nyx stop --now vm', said[0])
        self.assertIn('running', self.says('status', 'vm'))

    def test_qemu_refuses(self):
        spec = self.spec(SMALL + '[[device]]\ndriver = "nonesuch"\n')
        self.assertIn('nonesuch', self.fails('run', '--detach', spec)[0])
        done = self.nyx('run', spec)
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stderr, 'nyx: QEMU did not start .*nonesuch')
        self.assert_cleared()

    def test_lacks(self):
        for change, text in (('disk=[{file = "no.raw"}]', 'no.raw'),
                             ('qemu.program=/none', 'there is no program'),
                             ('boot.kernel=.', 'could not load kernel'),
                             ('logging.file=/none/log', '/none/log'),
                             ('cpus.pin=["4000"]', 'host CPUs 4000')):
            said = self.fails('run', '--detach', self.spec(SMALL), '--set',
                              change)
            self.assertIn(text, said[-1])
            self.assert_cleared()

    def test_foreground(self):
        process = self.popen('run', self.spec(SMALL), start_new_session=True)
        line = self.wait_line(process, 'runs, by TCG')
        self.assertRegex(line, r'^\d{4}-\d\d-\d\dT[\d:.]+[+-][\d:]+ info  nyx')
        process.send_signal(signal.SIGINT)
        self.wait_line(process, 'asking the guest')
        self.wait_line(process, 'qemu_system_powerdown_request')
        self.assertIsNone(process.poll())
        process.send_signal(signal.SIGINT)
        self.assertEqual(process.wait(SECONDS), 0)
        self.assert_cleared()

    def test_qemu_dies(self):
        process = self.popen('run', self.spec(SMALL), start_new_session=True)
        self.wait_line(process, 'runs, by TCG')
        os.kill(self.about()['pid'], signal.SIGKILL)
        self.assertEqual(process.wait(SECONDS), 1)
        self.assertIn('ended with signal SIGKILL', process.stderr.read())
        self.assert_cleared()

    def test_qemu_dies_in_the_background(self):
        """Nobody is there to be told, but the log."""
        self.start()
        about = self.about()
        lock = open(self.run_dir / 'vm' / 'lock', 'rb')
        self.addCleanup(lock.close)
        os.kill(about['pid'], signal.SIGKILL)
        fcntl.flock(lock, fcntl.LOCK_SH)        # nyx has it until it ends
        self.assert_cleared()
        self.assertIn('ended with signal SIGKILL',
                      (self.run_dir / 'vm' / 'log').read_text())

    def test_nyx_dies(self):
        """The VM lives on, is found, and can be stopped and started anew."""
        process = self.popen('run', self.spec(SMALL), start_new_session=True)
        self.wait_line(process, 'runs, by TCG')
        process.kill()
        process.wait()
        self.assertIn('running', self.says('status', 'vm'))
        spec = self.spec(SMALL)
        self.assertIn('runs already', self.fails('run', spec)[0])
        self.says('stop', 'vm', '--now')
        self.start()

    def test_log(self):
        """Levels decide; a terminal has colours; the guest's text does not."""
        self.start('[logging]\nlevel = "error"\n'
                   'components = { vm = "info", iommu = "debug" }\n')
        self.says('stop', 'vm', '--now')
        log = (self.run_dir / 'vm' / 'log').read_text()
        self.assertRegex(log, r'(?m)^\S+ debug iommu +nyx_attach ')
        self.assertRegex(log, r'(?m)^\S+ info  vm +qemu_system_shutdown_req')
        self.assertNotIn('hotplug', log)

    def test_flood_of_faults(self):
        """A device cannot fill the log: lines of one kind are counted."""
        self.start('[logging]\ncomponents = { iommu = "warn" }\n'
                   '[[domain]]\nid = "d"\non-fault-limit = "report"\n'
                   '[[device]]\nid = "rogue"\ndriver = "nyx-testdev"\n'
                   'domain = "d"\n')
        # pylint: disable=import-error,import-outside-toplevel
        from nyxcli.vm import connect
        with connect(str(self.run_dir / 'vm' / 'qmp.sock')) as vm:
            for _ in range(3000):
                vm.execute('nyx-inject-fault', device='rogue', address=4096,
                           access='w')
        self.says('stop', 'vm', '--now')
        lines = (self.run_dir / 'vm' / 'log').read_text().splitlines()
        faults = [line for line in lines if ' nyx_fault ' in line]
        left_out = [int(number) for line in lines for number in
                    re.findall(r'nyx_fault: (\d+) more left out', line)]
        self.assertTrue(left_out)
        self.assertLessEqual(len(faults) + sum(left_out), 3000)
        self.assertLess(len(faults), 3000)

    @unittest.skipUnless(os.geteuid() == 0 and shutil.which('setpriv'),
                         'another user needs root and setpriv')
    def test_without_privilege(self):
        """A user's VMs are in directories of the user's."""
        nobody = 65534
        home = self.run_dir / 'home'
        home.mkdir()
        self.run_dir.chmod(0o755)
        spec = home / 'vm.toml'
        spec.write_text(f'name = "vm"\n{SMALL}[[disk]]\nfile = "d.raw"\n'
                        'create = "1M"\n')
        for path in (home, spec):
            os.chown(path, nobody, nobody)
        before = ['setpriv', f'--reuid={nobody}', f'--regid={nobody}',
                  '--clear-groups', 'env', '-u', 'NYX_RUN_DIR', '-u',
                  'NYX_STATE_DIR', f'HOME={home}', f'XDG_RUNTIME_DIR={home}']

        def nyx(*words):
            return subprocess.run([*before, *self.words(*words)], text=True,
                                  env=self._environment, capture_output=True,
                                  timeout=SECONDS, check=False, cwd=home)
        if nyx('--help').returncode:
            self.skipTest('another user may not read the sources')
        self.addCleanup(nyx, 'stop', 'vm', '--now')
        done = nyx('run', '--detach', spec)
        self.assertEqual((done.returncode, done.stderr), (0, ''))
        self.assertTrue((home / 'nyx' / 'vm' / 'qmp.sock').is_socket())
        self.assertEqual((home / 'nyx' / 'vm').stat().st_mode & 0o777, 0o700)
        self.assertIn('running', nyx('status', 'vm').stdout)
        done = nyx('run', spec, '--set', 'name=other', '--set',
                   'nic=[{type="bridge", bridge="nyxnone0"}]')
        self.assertIn('run as root', done.stderr)

    def test_console(self):
        self.start('console = "socket"\n')
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(str(self.run_dir / 'vm' / 'console.sock'))

    def test_metrics(self):
        with socket.socket() as free:
            free.bind(('127.0.0.1', 0))
            port = free.getsockname()[1]
        self.start(f'metrics = "127.0.0.1:{port}"\n')
        import urllib.request  # pylint: disable=import-outside-toplevel
        limit = time.monotonic() + SECONDS
        text = ''
        while 'vm="vm"' not in text and time.monotonic() < limit:
            try:
                with urllib.request.urlopen(
                        f'http://127.0.0.1:{port}/metrics', timeout=30) as got:
                    text = got.read().decode()
            except OSError:
                continue            # it starts
        self.assertIn('vm="vm"', text)
        self.says('stop', 'vm', '--now')
        with self.assertRaises(OSError), socket.socket() as sock:
            sock.connect(('127.0.0.1', port))

    def test_stdio(self):
        """The terminal is the guest's; Ctrl-A C leads to the monitor."""
        script = (f'{" ".join(self.words("run", self.spec(SMALL)))} '
                  '--set console=stdio')
        process = subprocess.Popen(
            ['script', '-qec', script, '/dev/null'], env=self._environment,
            cwd=self.folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            text=True)
        self.addCleanup(process.communicate)
        self.addCleanup(process.kill)
        while not (self.run_dir / 'vm' / 'qmp.sock').exists():
            self.assertIsNone(process.poll())
        out, _ = process.communicate('\x01cinfo name\nquit\n', SECONDS)
        self.assertIn('monitor', out)
        self.assertEqual(process.returncode, 0, out)

    def test_example(self):
        """operated.toml, on ports that are free."""
        with socket.socket() as free:
            free.bind(('127.0.0.1', 0))
            port = free.getsockname()[1]
        self.addCleanup(self.nyx, 'stop', 'operated', '--now')
        self.says('run', '--detach', self.example('operated'), '--set',
                  f'metrics=127.0.0.1:{port}', '--set',
                  f'display.listen=unix:{self.run_dir}/vnc', '--set',
                  'machine.accel=tcg')
        self.assertIn('operated', self.says('devices', 'operated')
                      + self.says('status'))
        with socket.socket(socket.AF_UNIX) as vnc:
            vnc.connect(f'{self.run_dir}/vnc')
            self.assertEqual(vnc.recv(3), b'RFB')
        self.assertTrue(QEMU.exists())


class SignalsTest(unittest.TestCase):
    """What asks nyx run to end is never overlooked."""

    def await_sleep(self, thread):
        """Until a thread is in a system call that waits."""
        syscall = Path(f'/proc/self/task/{thread.native_id}/syscall')
        limit = time.monotonic() + SECONDS
        while syscall.read_text().split()[0] in ('running', '-1'):
            self.assertLess(time.monotonic(), limit)

    def test_comes_when_python_cannot_run_its_handler(self):
        # pylint: disable=import-error,import-outside-toplevel
        from nyxcli.run.signals import Signals
        ended = threading.Event()
        other = threading.Thread(target=ended.wait)
        main = threading.current_thread()

        def send():
            self.await_sleep(main)
            # A thread that is not the main one takes it, so the main one is
            # not woken up, as if it had come just before it fell asleep.
            signal.pthread_kill(other.ident, signal.SIGINT)
        sender = threading.Thread(target=send)
        other.start()
        self.addCleanup(other.join)
        self.addCleanup(ended.set)
        with Signals() as signals:
            signals.only_note()
            sender.start()
            readable, _, _ = select.select([signals], [], [], 20)
            sender.join()
            self.assertEqual(readable, [signals])
            signals.clear()
            self.assertEqual(select.select([signals], [], [], 0)[0], [])
