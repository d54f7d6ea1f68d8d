# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""The recipe of recovery from quarantine, as the manual prints it."""

from nyxtest.recipe import RecipeCase


class RecoveryTest(RecipeCase):
    recipe = 'recovery'
    modules = 'nvme', 'ext4', 'crc32c_generic'

    def test_page(self):
        self.follow()
        self.assert_followed()
        for name, recoveries in (('data', 1), ('scratch', 3)):
            device = self.device(name)
            self.assertEqual(device['state'], 'operational')
            self.assertEqual(device['recoveries'], recoveries)
        self.assert_no_trouble()
