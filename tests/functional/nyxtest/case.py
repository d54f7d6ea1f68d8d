# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""Test cases that share a running guest, and what they ask of nyx-iommu."""

import shutil
import time
import unittest

from .accel import choose_accel
from .errors import NyxTestError
from .httpserver import FileServer
from .image import guest_image
from .paths import LOGS
from .vm import BOOT_SECONDS, VM, machine_name

MIB = 1 << 20
FETCH_BYTES = 2 * MIB


def has_nyx():
    return machine_name().startswith(('nyx-pc', 'pc-q35-nyx'))


needs_nyx = unittest.skipUnless(
    has_nyx(), f'the machine {machine_name()} has no nyx-iommu')


def image_or_skip(make, rare_module):
    """The image that make() has; without a kernel for a rare module, skip."""
    try:
        return make(rare_module)
    except NyxTestError as err:
        if rare_module:
            raise unittest.SkipTest(str(err)) from err
        raise


class GuestTest(unittest.TestCase):
    """The tests of a class run in one guest, in the order of their names.

    A class says in describe() which devices its guest has. The last test of
    each class is that the guest's kernel got through it all unharmed.
    """

    vm_class = VM
    make_image = staticmethod(guest_image)
    cpus = 2
    memory = '512M'
    boot_limit = BOOT_SECONDS
    allowed_trouble = ()        # texts of the kernel that are to be expected
    rare_module = None          # needed, and not in every kernel of Debian
    fetch_bytes = FETCH_BYTES   # size of the file on the server

    @classmethod
    def describe(cls, vm):
        """Add devices to the VM before it starts."""

    @classmethod
    def prepare(cls, vm):
        """Bring devices up in the guest after it has started."""

    @classmethod
    def setUpClass(cls):
        image = image_or_skip(cls.make_image, cls.rare_module)
        folder = LOGS / f'{cls.__module__}.{cls.__name__}'
        shutil.rmtree(folder, ignore_errors=True)
        cls.vm = cls.vm_class(image, folder, choose_accel(image)[0], cls.cpus,
                              cls.memory)
        cls.server = FileServer(cls.fetch_bytes)
        cls.addClassCleanup(cls.server.close)
        cls.addClassCleanup(cls._clean_up)
        cls.describe(cls.vm)
        began = time.monotonic()
        cls.vm.start(cls.boot_limit)
        cls.boot_seconds = time.monotonic() - began
        cls.prepare(cls.vm)

    @classmethod
    def _clean_up(cls):
        cls.vm.stop()
        for path in cls.vm.folder.glob('*.raw'):
            path.unlink()

    def nyx_device(self, name):
        return self.vm.monitor.command('query-nyx-devices', device=name)[0]

    def faults(self):
        """All faults since the start: device -> count, those with any."""
        return {dev['device']: dev['total-faults'] for dev in
                self.vm.monitor.command('query-nyx-devices')
                if dev['total-faults']}

    def assert_in_domain(self, name, domain):
        self.assertEqual(self.nyx_device(name)['domain'], domain,
                         f'{name} is not in the domain asked for')

    def assert_no_faults(self):
        if has_nyx():
            self.assertEqual(self.faults(), {}, 'faults during normal I/O')
            self.assertEqual(
                self.vm.monitor.command('query-nyx-faults'), [])

    def assert_state(self, name, state):
        self.assertEqual(self.nyx_device(name)['state'], state, name)

    def test_zz_kernel_unharmed(self):
        """The guest answers, and its kernel reported no trouble."""
        self.assertEqual(self.vm.agent.check('echo alive'), 'alive')
        self.assertEqual(self.vm.trouble(self.allowed_trouble), [])
