# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""docs/nyx/examples/ported.py: a program that starts, hears and ends a VM."""

import os
import re
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

from nyxtest.case import needs_nyx
from nyxtest.cli import NYX, PYTHON
from nyxtest.paths import QEMU, ROOT

EXAMPLES = ROOT / 'docs' / 'nyx' / 'examples'
SECONDS = 300
PRINTED = (
    r"ported runs; its log is .*",
    r"NYX_DMA_FAULT {'device': 'front', .*'count': 4, 'injected': True, .*}",
    r"NYX_FAULT_LIMIT {'device': 'front', 'faults': 4, .*}",
    r"NYX_DEVICE_STATE {'device': 'front', .*'new': 'quarantined', .*}",
    r"NYX_LIMIT_ACTION {'device': 'front', .*'success': True, .*}",
    r'front is operational',
    r'ported has ended\.',
)


@needs_nyx
class PortedTest(unittest.TestCase):
    """In a folder and a run directory of its own."""

    def setUp(self):
        self.folder = Path(tempfile.mkdtemp(prefix='nyx-'))
        self.addCleanup(shutil.rmtree, self.folder)
        shutil.copy(EXAMPLES / 'ported.toml', self.folder)
        self.environment = {
            **os.environ, 'NYX': str(NYX), 'NYX_QEMU': str(QEMU),
            'NYX_RUN_DIR': str(self.folder / 'run'),
            'NYX_STATE_DIR': str(self.folder / 'state')}

    def run_program(self, *words):
        return subprocess.run(
            [PYTHON, EXAMPLES / 'ported.py', 'ported.toml', *words],
            cwd=self.folder, env=self.environment, text=True,
            stdin=subprocess.DEVNULL, capture_output=True, timeout=SECONDS,
            check=False)

    def test_as_printed(self):
        self.addCleanup(subprocess.run, [PYTHON, NYX, 'stop', 'ported',
                                         '--now'], env=self.environment,
                        capture_output=True, check=False)
        done = self.run_program('--set', 'machine.accel=tcg',
                                '--set', 'firmware.type=bios',
                                '--set', 'nic.0.forward=[]',
                                '--set', 'memory=512M')
        self.assertEqual((done.stderr, done.returncode), ('', 0))
        lines = done.stdout.splitlines()
        self.assertEqual(len(lines), len(PRINTED), done.stdout)
        for line, pattern in zip(lines, PRINTED):
            self.assertIsNotNone(re.fullmatch(pattern, line), line)

    def test_mistake(self):
        """The tool has said what is wrong; the program passes it on."""
        done = self.run_program('--set', 'machine.accel=turbo')
        self.assertNotEqual(done.returncode, 0)
        self.assertIn('turbo', done.stderr)
        self.assertNotIn('Traceback', done.stderr)
