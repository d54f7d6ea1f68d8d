# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""scripts/nyx as a person runs it, on machines without a guest."""

import json
import os
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

from .case import needs_nyx
from .paths import LOGS, ROOT
from .qtest import QtestVM

NYX = ROOT / 'scripts' / 'nyx'
PYTHON = '/usr/bin/python3'         # the one that has qemu.qmp
SECONDS = 120
SOCKETS = 'qmp', 'metrics', 'events'


@needs_nyx
class CliCase(unittest.TestCase):
    """Machines that nyx finds in a run directory of the test."""

    def setUp(self):
        # The path of a socket must be short.
        self.run_dir = Path(tempfile.mkdtemp(prefix='nyx-'))
        self.addCleanup(shutil.rmtree, self.run_dir)
        self.folder = LOGS / f'{type(self).__module__}.{type(self).__name__}'
        self.folder /= self._testMethodName

    def start(self, name, *arguments, **more):
        folder = self.run_dir / name
        folder.mkdir()
        for kind in SOCKETS:
            arguments += '-qmp', \
                f'unix:{folder / kind}.sock,server=on,wait=off'
        vm = QtestVM(self.folder / name, '-name', name, *arguments, **more)
        self.addCleanup(vm.stop)
        return vm

    def command(self, *words):
        return [PYTHON, str(NYX), *(str(word) for word in words)]

    @property
    def environment(self):
        # A terminal of a known width, and the time of UTC
        return {**os.environ, 'NYX_RUN_DIR': str(self.run_dir),
                'COLUMNS': '200', 'TZ': 'UTC'}

    def nyx(self, *words, **more):
        """Status, standard output and error of a command."""
        return subprocess.run(
            self.command(*words), env=self.environment, text=True,
            capture_output=True, timeout=SECONDS, check=False,
            cwd=self.run_dir, **more)

    def popen(self, *words):
        """A command that goes on while the test does."""
        process = subprocess.Popen(
            self.command(*words), env=self.environment, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, cwd=self.run_dir)
        self.addCleanup(process.communicate)
        self.addCleanup(process.kill)
        return process

    def says(self, *words):
        """The output of a command that goes well."""
        done = self.nyx(*words)
        self.assertEqual((done.returncode, done.stderr), (0, ''), words)
        return done.stdout

    def json(self, *words):
        return json.loads(self.says(*words, '--json'))

    def assert_fails(self, text, *words, status=1):
        """One sentence on standard error, with this text; no more."""
        done = self.nyx(*words)
        self.assertEqual(done.returncode, status, done.stdout + done.stderr)
        self.assertIn(text, done.stderr)
        self.assertRegex(done.stderr, r'^nyx: .*[.?]\n$')
        self.assertEqual(done.stderr.count('\n'), 1, done.stderr)
        self.assertEqual(done.stdout, '')
