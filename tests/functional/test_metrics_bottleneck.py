# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""nyx metrics and top: what is named as the bottleneck."""

import sys
import unittest

from nyxtest.paths import ROOT

sys.path.insert(0, str(ROOT / 'scripts'))
from nyxcli.bottleneck import find  # noqa: E402


def figures(seconds, exits=None, disk=None, drops=None, faults=None):
    """What metrics_read.read() gives, as far as find() looks at it."""
    done, busy_ns = disk or (0, 0)
    return {
        'time': seconds,
        'vcpu-exits': exits,
        'query-blockstats': [
            {'qdev': '/machine/peripheral/disk0/virtio-backend', 'stats': {
                'rd_operations': done, 'rd_total_time_ns': busy_ns,
                'wr_operations': 0, 'wr_total_time_ns': 0}}] if disk else [],
        'query-nyx-net': [
            {'id': 'c', 'netdev': 'net0', 'device': 'nic0', 'queue': number,
             'received': {'drops': count}, 'sent': {'drops': 0}}
            for number, count in enumerate(drops or ())],
        'query-nyx-devices': [
            {'device': name, 'total-faults': count}
            for name, count in (faults or {}).items()]}


class BottleneckTest(unittest.TestCase):
    """Which figures are beyond their limits, and by how much."""

    def found(self, before, after):
        return [(each.kind, each.subject, each.figure)
                for each in find(before, after)]

    def test_exits(self):
        before = figures(10, exits=[
            {'exits': 1000, 'io_exits': 500, 'halt_exits': 100}] * 2)
        after = figures(20, exits=[
            {'exits': 1001000, 'io_exits': 900500, 'halt_exits': 200}] * 2)
        worst, = find(before, after)
        self.assertEqual((worst.kind, worst.figure, worst.ratio),
                         ('exits', 200000, 2))
        self.assertEqual(worst.text, '200000 VM exits per second, most of '
                         'them io')
        # Half of that is at the limit, not beyond it.
        self.assertEqual(find(before, figures(30, exits=[
            {'exits': 1001000, 'io_exits': 0, 'halt_exits': 0}] * 2)), [])

    def test_disk(self):
        before = figures(0, disk=(100, 10 ** 9))
        self.assertEqual(find(before, figures(
            1, disk=(200, 10 ** 9 + 99 * 10 ** 6))), [])
        self.assertEqual(find(before, before | {'time': 1}), [])
        worst, = find(before, figures(1, disk=(200, 3 * 10 ** 9)))
        self.assertEqual((worst.kind, worst.subject), ('disk', 'disk0'))
        self.assertAlmostEqual(worst.figure, 0.02)
        self.assertEqual(worst.text, 'disk disk0 takes 20.00 ms for a '
                         'request (100 requests)')

    def test_worst_first(self):
        before = figures(0, drops=(0, 5), faults={'a': 0, 'b': 7})
        after = figures(2, drops=(10, 15), faults={'a': 100, 'b': 7})
        self.assertEqual(self.found(before, after),
                         [('faults', 'a', 50), ('drops', 'nic0', 10)])

    def test_what_came_or_began_anew(self):
        self.assertEqual(find(figures(0, faults={'a': 100}),
                              figures(1, faults={'a': 50, 'new': 1000})), [])
        self.assertEqual(find(figures(0), figures(1, disk=(9, 10 ** 9))), [])
        self.assertEqual(find(figures(1, drops=(0,)),
                              figures(1, drops=(9,))), [])
