# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""The recipe of an appliance with several cards, as the manual prints it."""

from nyxtest.recipe import RecipeCase


class ApplianceTest(RecipeCase):
    recipe = 'appliance'
    modules = 'e1000e', 'virtio_net'
    own_network = True

    def test_page(self):
        self.addCleanup(self.on_host, './appliance.net.sh down')
        self.follow()
        self.assert_followed()
        self.assert_no_trouble()
