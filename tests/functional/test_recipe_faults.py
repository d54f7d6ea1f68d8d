# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""The recipe of debugging a high fault rate, as the manual prints it."""

import json

from nyxtest.recipe import RecipeCase

WINDOW_END = 0x1c100000
BUFFERS_END = 0x1c0f0000 + 48 * 4096


class FaultsTest(RecipeCase):
    recipe = 'faults'
    modules = ('nvme',)
    append = 'memmap=4M$0x1c000000'

    def test_page(self):
        self.follow()
        self.assert_followed()
        self.assertEqual(self.device('system')['total-faults'], 0)
        self.assertGreater(self.device('capture')['total-faults'], 32)
        dump = json.loads((self.folder / 'faults.json').read_text())
        # A DMA that is held up halfway may count twice, at its rest.
        pages = {fault['address'] & ~4095 for fault in dump['faults']}
        self.assertEqual(pages, set(range(WINDOW_END, BUFFERS_END, 4096)))
        self.assert_no_trouble()
