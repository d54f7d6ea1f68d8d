# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""The recipe of live migration, as the manual prints it."""

from nyxtest.recipe import RecipeCase


class MigrationTest(RecipeCase):
    recipe = 'migration'
    modules = 'nvme', 'e1000e', 'ext4', 'crc32c_generic'
    append = 'memmap=4M$0x1c000000 intel_iommu=on'

    def test_page(self):
        self.follow()
        self.assert_followed()
        self.assertEqual(self.device('data', 'there')['total-faults'], 0)
        self.assertEqual(self.device('suspect', 'there')['recoveries'], 1)
        self.assertEqual(
            self.guest('there').agent.check('dmesg | grep -c "I/O error"; '
                                            'true'), '0')
        self.assert_no_trouble()
