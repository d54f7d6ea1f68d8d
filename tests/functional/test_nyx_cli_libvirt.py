# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""scripts/nyx with a domain of libvirt instead of sockets of its own.

A libvirt of the user nobody is started for it; the system's is left alone.
"""

import json
import os
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

from nyxtest.case import needs_nyx
from nyxtest.cli import NYX, PYTHON
from nyxtest.paths import QEMU
from nyxtest.vm import machine_name

SECONDS = 120
USER = 'setpriv', '--reuid=nobody', '--regid=nogroup', '--clear-groups'
# With the alias nyx-pc libvirt 9.0 would not know which PCI topology it has.
DOMAIN = '''
<domain type='qemu' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
  <name>lvweb</name><memory unit='MiB'>128</memory><vcpu>1</vcpu>
  <os><type arch='x86_64' machine='{machine}'>hvm</type></os>
  <features><acpi/></features>
  <devices>
    <emulator>{qemu}</emulator>
    <controller type='pci' index='0' model='pcie-root'/>
    <controller type='usb' model='none'/>
    <memballoon model='none'/>
  </devices>
  <qemu:commandline>
    <qemu:arg value='-device'/>
    <qemu:arg value='nyx-testdev,id=rogue,addr=0x1d'/>
  </qemu:commandline>
</domain>
'''


def _missing():
    """Why this cannot be tested here, or None."""
    for program in 'virsh', 'libvirtd', 'setpriv', 'stdbuf':
        if not shutil.which(program, path=f'{os.environ["PATH"]}:/usr/sbin'):
            return f'{program} is not installed'
    if os.geteuid() != 0:
        return 'only root can start a libvirt of another user'
    if subprocess.run([*USER, str(QEMU), '--version'], check=False,
                      stdout=subprocess.DEVNULL,
                      stderr=subprocess.DEVNULL).returncode:
        return f'the user nobody cannot run {QEMU}'
    return None


@needs_nyx
class LibvirtTest(unittest.TestCase):
    """One domain, seen and changed through virsh."""

    @classmethod
    def setUpClass(cls):
        why = _missing()
        if why:
            raise unittest.SkipTest(why)
        cls.folder = Path(tempfile.mkdtemp(prefix='nyx-libvirt-'))
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        for name in 'home', 'run':
            (cls.folder / name).mkdir()
            shutil.chown(cls.folder / name, 'nobody')
        cls.folder.chmod(0o755)
        (cls.folder / 'run').chmod(0o700)
        name = 'pc-q35-nyx-11.1' if machine_name() == 'nyx-pc' else \
            machine_name()
        xml = cls.folder / 'domain.xml'
        xml.write_text(DOMAIN.format(machine=name, qemu=QEMU))
        cls.addClassCleanup(cls.end_libvirt)
        cls.run_as_user('virsh', '-q', 'create', str(xml), check=True)
        cls.addClassCleanup(cls.run_as_user, 'virsh', '-q', 'destroy',
                            'lvweb')

    @classmethod
    def end_libvirt(cls):
        for path in (cls.folder / 'run' / 'libvirt').glob('*.pid'):
            os.kill(int(path.read_text()), 15)

    @classmethod
    def environment(cls):
        return {'HOME': str(cls.folder / 'home'), 'PATH': os.environ['PATH'],
                'XDG_RUNTIME_DIR': str(cls.folder / 'run'),
                'LIBVIRT_DEFAULT_URI': 'qemu:///session',
                'PYTHONDONTWRITEBYTECODE': '1'}

    @classmethod
    def run_as_user(cls, *words, check=False):
        return subprocess.run([*USER, *words], env=cls.environment(),
                              cwd=cls.folder, text=True, capture_output=True,
                              timeout=SECONDS, check=check)

    def nyx(self, *words):
        return self.run_as_user(PYTHON, str(NYX), *words)

    def json(self, *words):
        done = self.nyx(*words, '--json')
        self.assertEqual((done.returncode, done.stderr), (0, ''))
        return json.loads(done.stdout)

    def qmp(self, command, **arguments):
        done = self.run_as_user(
            'virsh', '-q', 'qemu-monitor-command', 'lvweb',
            json.dumps({'execute': command, 'arguments': arguments}),
            check=True)
        return json.loads(done.stdout)['return']

    def test_shows_and_changes(self):
        self.assertEqual(self.json('devices', 'lvweb'),
                         self.qmp('query-nyx-devices'))
        self.assertEqual(self.json('quarantine', 'rogue', '--vm', 'lvweb')
                         ['state'], 'quarantined')
        self.assertEqual(self.json('recover', 'rogue', '--vm', 'lvweb',
                                   '--force')['state'], 'operational')
        done = self.nyx('quarantine', 'nic', '--vm', 'lvweb')
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stderr, r"^nyx: lvweb refused .*'nic'.*\n$")
        for words in (('migrate', 'start', '--vm', 'lvweb', 'tcp:x:1'),
                      ('checkpoint', 'lvweb')):
            done = self.nyx(*words)
            self.assertEqual(done.returncode, 1)
            self.assertIn('use "virsh ', done.stderr)
        done = self.nyx('status', 'lvwep')
        self.assertIn('did you mean "lvweb"?', done.stderr)

    def test_metrics(self):
        """By its name, and as one of libvirt's running domains."""
        try:
            import prometheus_client  # noqa: F401
        except ImportError:
            self.skipTest('python3-prometheus-client is not installed')
        for words in ('lvweb',), ('--libvirt',):
            found = {(each['name'], each['labels'].get('device'),
                      each['labels'].get('type')): each['value']
                     for each in self.json('metrics', '--once', *words)
                     if each['labels']['vm'] == 'lvweb'}
            self.assertEqual(found['nyx_up', None, None], 1)
            faults = self.qmp('query-nyx-devices', device='rogue')[0][
                'faults-by-type']
            for kind, count in faults.items():
                self.assertEqual(found['nyx_faults_total', 'rogue', kind],
                                 count)

    def test_events(self):
        """Those that come together are told of together."""
        path = self.folder / 'events'
        with path.open('w') as out:
            following = subprocess.Popen(
                [*USER, PYTHON, str(NYX), 'faults', 'lvweb', '--follow',
                 '--json', '--seconds', '15'], env=self.environment(),
                cwd=self.folder, stdout=out)
        self.addCleanup(following.wait)
        self.addCleanup(following.kill)
        # When virsh has begun to listen cannot be seen: repeat the drill.
        while following.poll() is None:
            self.qmp('nyx-quarantine-device', device='rogue')
            self.qmp('nyx-recover-device', device='rogue', force=True)
        self.assertEqual(following.returncode, 0)
        states = [json.loads(line)['data']['new']
                  for line in path.read_text().splitlines()]
        self.assertGreater(len(states), 3)
        for state, then in zip(states, states[1:]):
            self.assertEqual(then, {
                'operational': 'quarantined', 'quarantined': 'recovering',
                'recovering': 'operational'}[state])
