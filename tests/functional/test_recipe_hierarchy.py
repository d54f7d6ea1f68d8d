# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""The recipe of levels of trust and a TPM, as the manual prints it."""

import os
import shutil
import unittest

from nyxtest.recipe import RecipeCase

# pylint: disable=wrong-import-order,import-error
from nyxcli.run.firmware import FOLDERS

PCRS = '/sys/class/tpm/tpm0/pcr-sha256'


def have(program):
    return shutil.which(program, path=f'{os.environ["PATH"]}:/usr/sbin')


@unittest.skipUnless(os.path.isdir(FOLDERS[0]), 'the package ovmf is missing')
@unittest.skipUnless(have('swtpm'), 'the package swtpm is missing')
class HierarchyTest(RecipeCase):
    recipe = 'hierarchy'
    modules = 'nvme', 'e1000e'
    append = 'memmap=4M$0x08000000'

    def pcrs(self):
        values = self.guest().agent.check(
            f'cd {PCRS}; cat 0 4 7').split()
        self.assertEqual(len(values), 3)
        self.assertNotIn('0' * 64, values)
        return values

    def test_page(self):
        self.follow('Start it', 'What was measured')
        before = self.pcrs()
        self.follow('The lowest level')
        states = {dev['device']: dev['state'] for dev in
                  self.guest().qmp('query-nyx-devices')}
        self.assertEqual([name for name, state in states.items()
                          if state != 'operational'], ['offload'])
        self.follow('The services', 'The system')
        self.assertEqual(self.pcrs(), before)
        self.follow('What goes wrong')
        self.assert_followed()
        self.assert_no_trouble()
