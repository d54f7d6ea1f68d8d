# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""The recipe of performance tuning, as the manual prints it."""

import ast
import os
import re
import unittest
from pathlib import Path

from nyxtest.recipe import RecipeCase

HUGEPAGES = Path('/proc/sys/vm/nr_hugepages')
WANTED = 260                    # as on the page
OF_THE_HOST = 'Large pages of the host'
HUGE_LINE = 'hugepages = "2M"'


def reserve():
    """Whether the host can have so many large pages; how many it had."""
    before = HUGEPAGES.read_text()
    try:
        HUGEPAGES.write_text(str(WANTED))
    except OSError:
        return False, before
    return int(HUGEPAGES.read_text()) >= WANTED, before


@unittest.skipUnless({0, 1} <= os.sched_getaffinity(0),
                     'pinning needs the host CPUs 0 and 1')
class PerformanceTest(RecipeCase):
    recipe = 'performance'
    modules = 'virtio_blk', 'nvme'
    append = 'intel_iommu=on iommu.strict=1 memmap=32M$0x1c000000'

    def setUp(self):
        super().setUp()
        self._huge, before = reserve()
        if os.access(HUGEPAGES, os.W_OK):
            self.addCleanup(HUGEPAGES.write_text, before)
            self.addCleanup(self.nyx, 'stop', self.recipe, '--now')
        if not self._huge:
            print('This host has no large pages to spare; without them.')
            spec = self.folder / 'performance.toml'
            lines = spec.read_text().splitlines(keepends=True)
            spec.write_text(''.join(line for line in lines
                                    if not line.startswith(HUGE_LINE)))

    def said(self, text):
        """What the last command of the page with this text said."""
        command = [each for each in self.page.commands
                   if text in each.text][-1]
        return '\n'.join(command.said)

    def test_page(self):
        for title in self.page.sections():
            if title != OF_THE_HOST or self._huge:
                self.follow(title)
        self.check_large_pages()
        self.check_interrupts()
        self.check_invalidations()
        self.assertEqual(self.guest().qmp('query-nyx-faults'), [])
        self.assert_no_trouble()

    def check_large_pages(self):
        """Large leaves spare a table of each 2 MiB."""
        size = {domain['id']: domain['table-bytes'] for domain in
                self.guest().qmp('query-nyx-domains')}
        self.assertGreaterEqual(size['small'] - size['large'], 16 * 4096)
        memory = self.guest().qmp('query-memdev')[0]
        self.assertTrue(memory['prealloc'])

    def check_interrupts(self):
        found = {name: ast.literal_eval(figures) for name, figures in
                 (line.split(' ', 1) for line in
                  self.said('devices --json').splitlines())}
        self.assertGreater(found['bulk']['merged'], 0)
        self.assertNotIn('merged', found['data'])

    def check_invalidations(self):
        """In batches there are far fewer for the same work.

        There is one each 10 ms at most, which on a machine that crawls may
        be one for each request.
        """
        (_, strict), (milliseconds, lazy) = (
            map(int, re.search(r'(\d+) ms, (\d+) requests',
                               '\n'.join(each.said)).groups())
            for each in self.page.commands if 'sh /bin/count' in each.text)
        self.assertGreaterEqual(strict, 4000)
        self.assertLess(lazy, max(strict, milliseconds / 5) / 2)
