# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""The recipe of failover, as the manual prints it."""

from nyxtest.recipe import RecipeCase

SECONDS = 240


class FailoverTest(RecipeCase):
    recipe = 'failover'
    modules = 'nvme', 'e1000e'

    def counts(self):
        """In memory, and on the disk."""
        text = self.guest().agent.check(
            'cat /run/count; dd if=/dev/nvme0n1 bs=512 count=1 iflag=direct '
            '2>/dev/null')
        return [int(word) for word in text.split()]

    def test_page(self):
        self.follow('Start it')
        self.guest().agent.wait('[ $(cat /run/count) -gt 5 ]', SECONDS)
        self.follow('Take checkpoints')
        before = self.counts()[0]
        self.follow('The host dies', 'Go on')
        memory, disk = self.counts()
        # Memory and disk are of one moment, and the guest works on.
        self.assertLess(memory, before + SECONDS * 100)
        self.assertIn(disk - memory, (-1, 0, 1))
        self.guest().agent.wait(f'[ $(cat /run/count) -gt {memory + 3} ]',
                                SECONDS)
        policies = {d['id']: d['policy']['max-faults']
                    for d in self.guest().qmp('query-nyx-domains')}
        self.assertEqual(policies['storage'], 5)
        self.assertEqual(self.device('nic0')['total-faults'], 1)
        self.follow('What goes wrong')
        self.assert_followed()
        self.assert_no_trouble()
