# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""Test cases that share a running host, and start QEMUs in it."""

import shutil
import unittest
from pathlib import Path

from nyxtest.case import image_or_skip, needs_nyx
from nyxtest.paths import LOGS

from .host import Host
from .image import nested_image

NEEDED_MIB = 5 * 1024           # for the outer QEMU; its guest uses 4 GiB


def _available_mib():
    for line in Path('/proc/meminfo').read_text().splitlines():
        if line.startswith('MemAvailable:'):
            return int(line.split()[1]) // 1024
    return 0


@needs_nyx
class NestedTest(unittest.TestCase):
    """The tests of a class use one host, in the order of their names.

    A class describes the hardware, and prepares it once the host runs.
    """

    iommu = 'intel'
    machine = 'q35'             # or nyx-pc, with iommu as its stage 1
    kernel_arguments = ()
    rare_module = None          # the guests' kernel must have it

    @classmethod
    def describe(cls, host):
        """Add devices to the host before it starts."""

    @classmethod
    def prepare(cls, host):
        """Make VFs, load modules."""

    @classmethod
    def _image(cls):
        return image_or_skip(nested_image, cls.rare_module)

    @classmethod
    def setUpClass(cls):
        if _available_mib() < NEEDED_MIB:
            raise unittest.SkipTest(f'less than {NEEDED_MIB} MiB of memory '
                                    'are available, which a host in a VM '
                                    'needs')
        folder = LOGS / f'{cls.__module__}.{cls.__name__}'
        shutil.rmtree(folder, ignore_errors=True)
        cls.host = Host(cls._image(), folder, cls.iommu, cls.machine)
        cls.host.kernel_arguments += cls.kernel_arguments
        cls.addClassCleanup(cls.host.stop)
        cls.describe(cls.host)
        cls.host.start()
        cls.prepare(cls.host)

    def inner(self, *arguments, **options):
        """A QEMU in the host that ends with the test."""
        inner = self.host.inner(*arguments, **options)
        self.addCleanup(self._end, inner)
        return inner

    def _end(self, inner):
        try:
            self.assertEqual(inner.stop(), inner.status,
                             'status of the inner QEMU')
        finally:
            print(f'{self.id()}: {inner.said()}', flush=True)

    def device(self, inner, name):
        return inner.monitor.command('query-nyx-devices', device=name)[0]

    def test_zz_host_unharmed(self):
        """The host answers, and its kernel reported no trouble."""
        self.assertEqual(self.host.agent.check('echo alive'), 'alive')
        self.assertEqual(self.host.trouble(), [])
