# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""The demo succeeds, and would not without isolation."""

import os
import subprocess
import unittest

from nyxtest.case import needs_nyx
from nyxtest.paths import ROOT

DEMO_SECONDS = 300


@needs_nyx
class DemoTest(unittest.TestCase):
    def demo(self, *options):
        done = subprocess.run(
            [str(ROOT / 'scripts' / 'demo'), *options], env=os.environ,
            stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=DEMO_SECONDS, check=False)
        print(done.stdout, done.stderr)         # into the log of this test
        return done

    def test_confined(self):
        done = self.demo()
        self.assertEqual(done.returncode, 0, _failures(done.stdout))
        self.assertIn('Verdict: confined.', done.stdout)

    def test_unprotected(self):
        """The same with the rogue in an unmanaged domain: the checks bite."""
        done = self.demo('--unprotected')
        self.assertEqual(done.returncode, 1)
        self.assertIn('FAILED: the read is refused', done.stdout)
        self.assertIn('Verdict: NOT confined.', done.stdout)


def _failures(output):
    return [line for line in output.splitlines() if line.startswith('FAILED')]
