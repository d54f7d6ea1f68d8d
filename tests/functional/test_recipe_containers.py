# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""The recipe of a container host, as the manual prints it."""

import base64

from nyxtest.recipe import RECIPES, RecipeCase


class ContainersTest(RecipeCase):
    recipe = 'containers'
    modules = 'virtio_blk', 'virtio_net'
    append = 'memmap=16M$0x10000000'

    def test_page(self):
        self.follow('Start it')
        job = (RECIPES / 'containers.job.sh').read_bytes()
        self.guest().agent.check(
            f'echo {base64.b64encode(job).decode()} | base64 -d >/run/job')
        self.follow('Run containers', 'A job goes wrong')
        # Nothing of accel0's is left in the memory that it was to harm.
        self.assertEqual(self.device('accel0')['state'], 'quarantined')
        self.assertEqual(self.device('accel1')['state'], 'operational')
        self.assertEqual(self.device('accel1')['total-faults'], 0)
        self.follow('Back into service', 'What goes wrong')
        self.assert_followed()
        self.assert_no_trouble()
