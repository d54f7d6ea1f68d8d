# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""The recipe of a card with two functions, as the manual prints it."""

from nyxtest.recipe import RecipeCase


class WorkstationTest(RecipeCase):
    recipe = 'workstation'
    modules = 'virtio_blk', 'bochs', 'snd_hda_codec_generic', \
        'snd_hda_intel', 'snd_pcm_oss'

    def test_page(self):
        self.follow()
        self.assert_followed()
        self.assert_no_trouble()
