# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""VMs that scripts/nyx run has started, with the guest of the other tests."""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

from .accel import choose_accel
from .agent import Agent
from .case import needs_nyx
from .cli import NYX, PYTHON, SECONDS
from .image import guest_image
from .paths import LOGS, QEMU, ROOT
from .vm import BOOT_SECONDS, KERNEL_ARGUMENTS, trouble_in

EXAMPLES = ROOT / 'docs' / 'nyx' / 'examples'

sys.path.insert(0, str(ROOT / 'scripts'))


class Guest:
    """A running VM: its agent, its console, what QMP says."""

    def __init__(self, case, name, folder):
        self.name = name
        self.folder = folder                # below the run directory
        self.console_path = case.folder / f'{name}.console'
        self._case = case
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(str(folder / 'agent.sock'))
        self.agent = Agent(sock)
        case.addCleanup(self.agent.close)

    def wait_ready(self):
        self.agent.wait_ready(BOOT_SECONDS)

    def qmp(self, command, **arguments):
        # pylint: disable=import-error,import-outside-toplevel
        from nyxcli.vm import connect
        with connect(str(self.folder / 'qmp.sock')) as vm:
            return vm.execute(command, **arguments)

    @property
    def about(self):
        """What nyx run has noted of the VM."""
        return json.loads((self.folder / 'spec.json').read_text())

    def console(self):
        return self.console_path.read_bytes().decode(errors='replace')

    def trouble(self):
        return trouble_in(self.console())

    def domain_of(self, device):
        return self.qmp('query-nyx-devices', device=device)[0]['domain']


@needs_nyx
class RunCase(unittest.TestCase):
    """Directories of the test's own, and nyx run in them."""

    def setUp(self):
        # The path of a socket must be short.
        self.run_dir = Path(tempfile.mkdtemp(prefix='nyx-'))
        self.addCleanup(shutil.rmtree, self.run_dir)
        self.folder = LOGS / f'{type(self).__module__}.{type(self).__name__}' \
            / self._testMethodName
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        self.addCleanup(self._keep_logs)
        self._environment = {
            **os.environ, 'NYX_RUN_DIR': str(self.run_dir),
            'NYX_STATE_DIR': str(self.folder / 'state'),
            'NYX_QEMU': str(QEMU)}

    def _keep_logs(self):
        for log in self.run_dir.glob('*/*log'):
            shutil.copy(log, self.folder / f'{log.parent.name}.{log.name}')
        for image in (*self.folder.glob('*.raw'),
                      *self.folder.glob('*.qcow2')):
            image.unlink()

    def words(self, *words):
        return [PYTHON, str(NYX), *(str(word) for word in words)]

    def nyx(self, *words, **more):
        return subprocess.run(
            self.words(*words), env=self._environment, text=True,
            capture_output=True, timeout=SECONDS, check=False,
            cwd=self.folder, **more)

    def says(self, *words, **more):
        """The output of a command that goes well."""
        done = self.nyx(*words, **more)
        self.assertEqual((done.returncode, done.stderr), (0, ''), words)
        return done.stdout

    def fails(self, *words):
        """The lines of an error, without what precedes them."""
        done = self.nyx(*words)
        self.assertEqual((done.returncode, done.stdout), (1, ''), done.stderr)
        self.assertTrue(done.stderr.startswith('nyx: '), done.stderr)
        return done.stderr.removeprefix('nyx: ').splitlines()

    def popen(self, *words, **more):
        """A command that goes on while the test does."""
        process = subprocess.Popen(
            self.words(*words), env=self._environment, text=True,
            cwd=self.folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, **more)
        self.addCleanup(process.communicate)
        self.addCleanup(process.kill)
        return process

    def spec(self, text, name='vm'):
        """A spec with this text and the name of the VM."""
        path = self.folder / f'{name}.toml'
        path.write_text(f'name = "{name}"\n{text}')
        return path

    def example(self, name):
        """An example of the manual, where its relative paths are ours."""
        return shutil.copy(EXAMPLES / f'{name}.toml', self.folder)

    def guest_changes(self, name, modules=(), append=''):
        """The guest of the tests, in place of what disks would start."""
        image = guest_image()
        append = f'{KERNEL_ARGUMENTS} {append}'
        if any(name.startswith('virtio') for name in modules):
            modules = ['virtio_pci', *modules]
        if modules:
            append += ' nyx.load=' + ','.join(modules)
        console = self.folder / f'{name}.console'
        changes = {
            'boot.kernel': image.kernel, 'boot.initrd': image.initrd,
            'boot.append': append, 'serial': '[{id = "agent"}]',
            'machine.accel': choose_accel(image)[0],
            'console': f'{{type = "file", path = "{console}"}}'}
        return [word for key, value in changes.items()
                for word in ('--set', f'{key}={value}')]

    def launch(self, spec, name, *words, modules=()):
        """nyx run --detach, with the guest; it may not be up yet."""
        self.addCleanup(self.nyx, 'stop', name, '--now')
        said = self.says('run', '--detach', spec,
                         *self.guest_changes(name, modules), *words)
        self.assertIn(f'{name} runs', said)
        return Guest(self, name, self.run_dir / name)

    def boot(self, spec, name, *words, modules=()):
        """The same, with a guest that takes commands."""
        guest = self.launch(spec, name, *words, modules=modules)
        guest.wait_ready()
        return guest

    def assert_unharmed(self, guest):
        self.assertEqual(guest.trouble(), [])
        self.assertEqual(guest.qmp('query-nyx-faults'), [])
