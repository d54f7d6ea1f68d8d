# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""nyx metrics, and machines that it watches."""

import re
import subprocess
import unittest

from .cli import NYX, PYTHON, SECONDS, CliCase
from .prometheus import fetch, samples

OUTSIDE = 1 << 40               # where no RAM is
ROGUE = '-device', 'nyx-testdev,id=rogue,addr=5'
CALM = '-device', 'nyx-testdev,id=calm,addr=6'


def needs_client():
    """Skip where the exporter cannot run."""
    found = subprocess.run([PYTHON, '-c', 'import prometheus_client'],
                           capture_output=True, check=False)
    return unittest.skipIf(found.returncode, 'the package '
                           'python3-prometheus-client is not installed')


class Exporter:
    """"nyx metrics" as a process."""

    def __init__(self, process):
        self.process = process
        line = process.stderr.readline()
        match = re.fullmatch(r'nyx: metrics at (http://(\S+)/metrics)\n', line)
        if not match:
            raise AssertionError(line)
        self.url, self.target = match.groups()

    def scrape(self, **headers):
        return samples(fetch(self.url, **headers))


def scrape(path):
    """What "nyx metrics" says of a VM, once; path: of its QMP socket."""
    done = subprocess.run([PYTHON, str(NYX), 'metrics', '--once', str(path)],
                          text=True, capture_output=True, check=True,
                          timeout=SECONDS)
    return samples(done.stdout)


class MetricsCase(CliCase):
    """Machines, and an exporter that watches them."""

    def exporter(self, *words):
        return Exporter(self.popen('metrics', '--listen', '127.0.0.1:0',
                                   *words))

    def once(self, *words):
        return samples(self.says('metrics', '--once', *words))
