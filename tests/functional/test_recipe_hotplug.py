# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""The recipe of hotplug, as the manual prints it."""

from nyxtest.recipe import RecipeCase


class HotplugTest(RecipeCase):
    recipe = 'hotplug'
    modules = 'nvme', 'e1000e', 'ext4', 'crc32c_generic'

    def test_page(self):
        self.follow()
        self.assert_followed()
        self.assert_no_trouble()
