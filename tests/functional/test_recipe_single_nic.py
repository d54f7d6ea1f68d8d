# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""The recipe of one card in a domain of its own, as the manual prints it.

test_vfio_guest.py does the same with a card of a host, which is a VM.
"""

from nyxtest.recipe import RecipeCase


class SingleNicTest(RecipeCase):
    recipe = 'single-nic'
    modules = 'nvme', 'virtio_blk', 'e1000e'

    def test_page(self):
        self.follow('Run the VM', 'Cut it off, and let it in again')
        self.assertEqual(self.device('nic0')['recoveries'], 1)
        self.follow('What goes wrong')
        self.assert_followed()
        self.assert_no_trouble()
