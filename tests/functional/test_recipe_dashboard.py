# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""The recipe of the dashboard, as printed but for the ports."""

import shutil
import socket
import subprocess
import unittest

from nyxtest.cli import PYTHON
from nyxtest.paths import ROOT
from nyxtest.prometheus import program
from nyxtest.recipe import RecipeCase

MONITORING = ROOT / 'docs' / 'nyx' / 'monitoring'
PORTS = '127.0.0.1:9955', '127.0.0.1:9090'      # of the page


def has_client():
    return not subprocess.run([PYTHON, '-c', 'import prometheus_client'],
                              capture_output=True, check=False).returncode


def free_ports(count):
    """Addresses that nobody listens at."""
    sockets = [socket.create_server(('127.0.0.1', 0)) for _ in range(count)]
    found = ['{}:{}'.format(*sock.getsockname()) for sock in sockets]
    for sock in sockets:
        sock.close()
    return found


@unittest.skipUnless(has_client(), 'python3-prometheus-client is missing')
class DashboardTest(RecipeCase):
    recipe = 'dashboard'
    modules = 'virtio_blk', 'virtio_net'
    append = 'memmap=4M$0x1c000000'

    def setUp(self):
        super().setUp()
        for name in ('alerts.yml', 'grafana-dashboard.json'):
            shutil.copy(MONITORING / name, self.folder)
        for name in ('prometheus', 'promtool'):
            (self._bin / name).symlink_to(program(name))
        self._ports = dict(zip(PORTS, free_ports(len(PORTS))))
        for path in self.folder.glob('dashboard.*'):
            if path.suffix in ('.toml', '.yml'):
                path.write_text(self._real(path.read_text()))

    def _real(self, text):
        for printed, port in self._ports.items():
            text = text.replace(printed, port)
        return super()._real(text)

    def _printed(self, text):
        for printed, port in self._ports.items():
            text = text.replace(port, printed)
        return super()._printed(text)

    def test_page(self):
        self.follow()
        self.assert_followed()
        self.assert_no_trouble()
