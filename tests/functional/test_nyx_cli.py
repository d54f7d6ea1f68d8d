# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""scripts/nyx: what it shows and changes is what QMP says."""

import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import unittest

from nyxtest.cli import CliCase
from nyxtest.migration import IDENTITY, REFUSED, WRITE, Testdev
from nyxtest.paths import ROOT

MIB = 1 << 20
DOMAINS = ('-object', 'nyx-domain,id=cage,default-map=none,max-faults=3',
           '-object', 'nyx-domain,id=store,isolation=shared')
ROGUE = '-device', 'nyx-testdev,id=rogue,nyx-domain=cage,addr=5'
SLOT = 5


class CommandTest(CliCase):
    """One VM, as its subcommands show and change it."""

    def setUp(self):
        super().setUp()
        self.vm = self.start('web', *DOMAINS, *ROGUE)
        self.qmp = self.vm.monitor.command

    def device(self):
        return self.qmp('query-nyx-devices', device='rogue')[0]

    def rogue_writes(self, times):
        """DMA to where the domain allows none."""
        device = Testdev(self.vm, SLOT)
        device.set_up()
        for number in range(times):
            self.assertEqual(device.dma(WRITE, MIB + number * 4096), REFUSED)

    def test_status(self):
        about = self.json('status', 'web')
        self.assertEqual(about['iommu'], self.qmp('query-nyx-iommu'))
        self.assertEqual(about['memory-bytes'], 64 * MIB)
        self.assertEqual(about['status'],
                         self.qmp('query-status')['status'])
        self.assertIn('web', self.says('status').splitlines()[1])
        self.qmp('stop')
        self.assertEqual(self.json('status')[0]['status'], 'paused')

    def test_lists_are_those_of_qmp(self):
        self.rogue_writes(2)
        for words, command in (
                (('devices', 'web'), 'query-nyx-devices'),
                (('devices', '--vm', 'web'), 'query-nyx-devices'),
                (('domains',), 'query-nyx-domains'),
                (('faults',), 'query-nyx-faults')):
            self.assertEqual(self.json(*words), self.qmp(command), words)
        faults = self.json('faults', '--device', 'rogue', '--limit', 1)
        self.assertEqual(faults, self.qmp('query-nyx-faults', limit=1))
        self.assertEqual(faults[0]['address'], MIB + 4096)

    def test_tables(self):
        self.rogue_writes(2)
        rogue = [line for line in self.says('devices').splitlines()
                 if line.startswith('rogue ')]
        self.assertEqual(rogue[0].split(),
                         ['rogue', 'nyx-testdev', '0000:00:05.0', 'cage',
                          'operational', '2/3', '(2)', '0/5', 'translating',
                          'emulated', '0'])
        self.assertRegex(self.says('domains'), r'\ncage +strict +user +0 B')
        self.assertRegex(self.says('faults'),
                         r'\n.* s +rogue +cage +unmapped +0x101000 +w ')

    def test_assign(self):
        self.assertEqual(self.json('assign', 'rogue', 'store'), self.device())
        self.assertEqual(self.device()['domain'], 'store')
        self.assert_fails("no domain 'stor'", 'assign', 'rogue', 'stor')

    def test_map_and_unmap(self):
        cage = self.json('map', 'cage', '1M', '64K', '--access', 'r')
        self.assertEqual(cage['mapped-bytes'], 65536)
        self.assertIn(cage, self.qmp('query-nyx-domains'))
        device = Testdev(self.vm, SLOT)
        device.set_up()
        self.assertEqual(device.identity(), IDENTITY)
        self.assertEqual(device.dma(1, MIB), 0)
        self.assertEqual(device.dma(WRITE, MIB), REFUSED)
        self.assertEqual(self.json('unmap', 'cage', '0x100000', 65536)
                         ['mapped-bytes'], 0)
        self.assertEqual(device.dma(1, MIB), REFUSED)
        path = self.run_dir / 'dump'
        self.says('map', 'cage', 0, '4K', '--gpa', '2M')
        self.says('dump', '-o', path)
        table = [table for table in json.loads(path.read_text())['tables']
                 if table['domain'] == 'cage'][0]
        self.assertEqual(table['mappings'], [
            {'iova': 0, 'gpa': 2 * MIB, 'size': 4096, 'access': 'rw'}])
        self.assert_fails('overlaps', 'map', 'cage', 0, '4K')
        self.assert_fails('no address or size', 'map', 'cage', '1Q', '4K',
                          status=2)

    def test_quarantine_and_recover(self):
        since = self.vm.monitor.position()
        self.assertEqual(self.json('quarantine', 'rogue', '--reason', 'rent')
                         ['state'], 'quarantined')
        event = self.vm.monitor.wait_event('NYX_DEVICE_STATE', since)
        self.assertIn('rent', event['data']['reason'])
        recovered = self.json('recover', 'rogue')
        self.assertEqual(recovered['state'], 'operational')
        self.assertEqual(recovered, self.device())
        self.assert_fails('nothing to recover', 'recover', 'rogue')
        self.says('policy', '--device', 'rogue', '--max-recoveries', '1')
        self.says('quarantine', 'rogue')
        self.assert_fails('recover it with --force', 'recover', 'rogue')
        self.assertEqual(self.json('recover', 'rogue', '--force')['state'],
                         'operational')

    def test_policy(self):
        before = self.json('policy')
        self.assertLess(len(self.says('policy').splitlines()), len(before))
        self.assertEqual(before[0]['policy'],
                         self.qmp('query-nyx-domains')[0]['policy'])
        self.assertNotIn({'device': 'rogue', 'policy':
                          self.device()['policy']}, before)
        changed = self.json(
            'policy', '--device', 'rogue', '--max-faults', 7,
            '--fault-window-ms', 500, '--on-fault-limit', 'report',
            '--scope', 'domain', '--count-stage1', 'off', '--recovery',
            'auto')
        policy = self.device()['policy']
        self.assertEqual(changed, [{'device': 'rogue', 'policy': policy}])
        self.assertEqual(
            (policy['max-faults'], policy['fault-window-ms'],
             policy['on-fault-limit'], policy['scope'],
             policy['count-stage1'], policy['recovery']),
            (7, 500, 'report', 'domain', False, 'auto'))
        self.assertIn(changed[0], self.json('policy'))
        self.says('policy', '--domain', 'store', '--max-faults', 1)
        self.assertEqual(self.json('policy', '--domain', 'store')[0]
                         ['policy']['max-faults'], 1)
        self.assert_fails('--device', 'policy', '--max-faults', 1)
        self.assert_fails('did you mean "device"', 'policy', '--scope', 'dev',
                          status=2)

    def test_drill(self):
        drilled = self.json('drill', 'rogue', '--count', 4, '--address', '2M',
                            '--access', 'r')
        self.assertEqual(drilled, self.device())
        self.assertEqual(drilled['state'], 'quarantined')
        record = self.qmp('query-nyx-faults')[0]
        self.assertEqual(
            (record['address'], record['access'], record['count'],
             record['injected']), (2 * MIB, 'r', 4, True))

    def test_follow(self):
        following = self.popen('faults', '--follow', '--json')
        # The socket is taken as soon as it listens.
        self.wait_connected('events')
        self.qmp('nyx-inject-fault', device='rogue', address=4096,
                 access='w', count=4)
        seen = [json.loads(following.stdout.readline()) for _ in range(3)]
        self.assertEqual([event['event'] for event in seen],
                         ['NYX_DMA_FAULT', 'NYX_FAULT_LIMIT',
                          'NYX_DEVICE_STATE'])
        self.vm.stop()
        self.assertEqual(following.wait(60), 1)
        self.assertEqual(following.stderr.read(), 'nyx: web has ended.\n')

    def wait_connected(self, kind):
        """Until somebody has a QMP socket of the VM open."""
        for _ in range(600):
            if any(f'/{kind}.sock' in chardev['filename'] and
                   not chardev['filename'].startswith('disconnected')
                   for chardev in self.qmp('query-chardev')):
                return
            threading.Event().wait(0.1)
        self.fail(f'{kind}.sock is not taken')

    def test_dump(self):
        path = self.run_dir / 'case.json'
        self.assertEqual(self.json('dump', 'web', '-o', path),
                         {'file': str(path)})
        dump = json.loads(path.read_text())
        self.assertEqual(dump['devices'], self.qmp('query-nyx-devices'))
        self.assert_fails('nowhere', 'dump', '-o', '/nowhere/x')


class FindTest(CliCase):
    """Which VM is meant, and what is said if there is none."""

    def test_none(self):
        self.assertEqual(self.says('status'), 'No VM is running.\n')
        self.assertEqual(self.json('status'), [])
        self.assert_fails('no VM is running', 'devices')
        self.assert_fails('no VM "web"', 'devices', 'web')
        self.assert_fails('is not a socket', 'devices', '/dev/null')

    def test_two(self):
        self.start('web', *ROGUE[:1], 'nyx-testdev,id=one')
        two = self.start('mail', '-device', 'nyx-testdev,id=two')
        self.assert_fails('2 VMs are running; name one of mail, web',
                          'devices')
        self.assert_fails('did you mean "web"', 'devices', 'wev')
        self.assertEqual([about['vm'] for about in self.json('status')],
                         ['mail', 'web'])
        socket_path = self.run_dir / 'mail' / 'metrics.sock'
        self.assertEqual(self.json('devices', socket_path)[-1]['device'],
                         'two')
        two.stop()
        self.assertEqual(self.json('devices')[-1]['device'], 'one')
        self.assert_fails('mail', 'devices', 'mail')

    def test_busy_socket(self):
        """Two at once: the second waits for its turn."""
        self.start('web')
        path = self.run_dir / 'web' / 'qmp.sock'
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(str(path))
            sock.recv(1)
            second = self.popen('status', 'web', '--json')
            self.assertIsNone(second.poll())
        self.assertEqual(json.loads(second.communicate(timeout=60)[0])['vm'],
                         'web')

    def test_hangs(self):
        """A QEMU that does not run is told from one that is gone."""
        vm = self.start('web')
        vm.process.send_signal(signal.SIGSTOP)
        self.assert_fails('has not answered', 'devices', 'web')
        self.assertEqual(self.json('status')[0]['status'], 'not answering')
        vm.process.send_signal(signal.SIGCONT)
        self.assertEqual(self.json('status')[0]['status'], 'running')

    def test_other_machine(self):
        """A VM without the Nyx IOMMU is said to have none."""
        self.start('plain', '-M', 'q35')
        self.assertIn('none; the machine is not nyx-pc',
                      self.says('status', 'plain'))
        self.assertEqual(self.says('devices'),
                         'No device is behind the Nyx IOMMU.\n')

    def wait_for_sockets(self, process):
        """Until a process has connected to something, or ended."""
        folder = f'/proc/{process.pid}/fd'
        while process.poll() is None:
            try:
                if any(os.readlink(f'{folder}/{name}').startswith('socket:')
                       for name in os.listdir(folder)):
                    return
            except OSError:
                pass                # a file was closed meanwhile
            threading.Event().wait(0.01)

    def test_goes_away(self):
        """The VM ends while a command waits for its answer."""
        vm = self.start('web', '-S')
        path = self.run_dir / 'web' / 'qmp.sock'
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(str(path))
            sock.recv(1)            # the command waits for its turn
            waiting = self.popen('devices', 'web')
            self.wait_for_sockets(waiting)
            vm.process.kill()
            vm.process.wait()
        _, error = waiting.communicate(timeout=60)
        self.assertEqual(waiting.returncode, 1)
        self.assertRegex(error, r'^nyx: .*\n$')
        self.assertIn('web', error)

    def test_goes_away_when_found(self):
        """The VM ends when it has just let nyx in."""
        path = self.run_dir / 'web' / 'qmp.sock'
        path.parent.mkdir()
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind(str(path))
            sock.listen()
            sock.settimeout(0.1)
            waiting = self.popen('devices', 'web')
            while waiting.poll() is None:
                try:
                    client, _ = sock.accept()
                except TimeoutError:
                    continue        # it may have ended
                client.sendall(b'{"QMP": {"version": {}, "capabilities": []}}'
                               b'\n{"return": {}, "id": "__qmp#00001"}\n')
                client.shutdown(socket.SHUT_WR)
                while client.recv(4096):
                    pass
                client.close()
        _, error = waiting.communicate(timeout=60)
        self.assertEqual(waiting.returncode, 1)
        self.assertRegex(error, r'^nyx: web .*\n$')


class WordsTest(CliCase):
    """Help and errors of the command line."""

    def test_help(self):
        for command in self.says('--help').split('COMMAND\n')[1].split('\n'):
            if command.startswith('    ') and command[4] != ' ':
                text = self.says(command.split()[0], '--help')
                self.assertIn('usage: nyx', text)

    def test_wrong_words(self):
        self.assert_fails('did you mean "status"', 'statsu', status=2)
        self.assert_fails('nyx --help', status=2)
        self.assert_fails('nyx quarantine --help', 'quarantine', status=2)

    def test_manual_page(self):
        """man finds nothing to warn of; each command is in it."""
        if not shutil.which('man') or not shutil.which('groff'):
            raise unittest.SkipTest('man and groff are not installed '
                                    '(packages man-db, groff)')
        page = self.run_dir / 'nyx.1'
        page.write_text(self.python('manpage.page(main.parser())'))
        done = subprocess.run(['man', '--warnings', '-l', str(page)],
                              env={**self.environment, 'MANWIDTH': '80'},
                              text=True, capture_output=True, check=True)
        self.assertEqual(done.stderr, '')
        for words in ('nyx migrate start', '--on-fault-limit', 'NYX_RUN_DIR',
                      'nyx report'):
            self.assertIn(words, done.stdout)

    def python(self, expression):
        return subprocess.run(
            ['/usr/bin/python3', '-c', 'from nyxcli import main, manpage\n'
             f'print({expression}, end="")'], cwd=ROOT / 'scripts', text=True,
            stdout=subprocess.PIPE, check=True).stdout

    def propose(self, *words):
        """What bash proposes for the last of these words."""
        script = self.run_dir / 'nyx.bash'
        if not script.exists():
            script.write_text(self.says('completion'))
        done = subprocess.run(
            ['bash', '-c', f'. {script}; COMP_WORDS=("$@"); '
             'COMP_CWORD=$(($# - 1)); _nyx; printf "%s\\n" '
             '"${COMPREPLY[@]}"', 'bash', *words], env=self.environment,
            text=True, capture_output=True, check=True)
        return done.stdout.split()

    def test_completion(self):
        self.start('web')
        self.assertEqual(self.propose('nyx', 'qu'), ['quarantine'])
        self.assertEqual(self.propose('nyx', 'migrate', 'c'), ['cancel'])
        self.assertEqual(self.propose('nyx', 'devices', 'w'), ['web'])
        self.assertEqual(self.propose('nyx', 'assign', '--vm', ''), ['web'])
        self.assertEqual(self.propose('nyx', 'policy', '--scope', ''),
                         ['device', 'domain'])
        self.assertIn('--postcopy',
                      self.propose('nyx', 'migrate', 'start', '--p'))

    def test_units(self):
        """systemd accepts the units."""
        if not shutil.which('systemd-analyze'):
            raise unittest.SkipTest('systemd-analyze is not installed')
        for unit in (ROOT / 'scripts' / 'systemd').iterdir():
            text = unit.read_text().replace('@BINDIR@/nyx',
                                            str(ROOT / 'scripts' / 'nyx'))
            (self.run_dir / unit.name).write_text(text)
        units = sorted(str(path) for path in self.run_dir.glob('nyx-*.*'))
        done = subprocess.run(
            ['systemd-analyze', '--man=no', 'verify', *units], text=True,
            capture_output=True, check=False)
        complaints = [line for line in done.stderr.splitlines()
                      if 'nyx-' in line]
        self.assertEqual(complaints, [])
        self.assertEqual(done.returncode, 0, done.stderr)
