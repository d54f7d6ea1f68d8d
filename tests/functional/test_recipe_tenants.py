# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""The recipe of tenants in one VM, as the manual prints it."""

from nyxtest.recipe import RecipeCase


class TenantsTest(RecipeCase):
    recipe = 'tenants'
    modules = 'nvme', 'e1000e'
    append = 'memmap=4M$0x1c000000'

    def test_page(self):
        self.follow()
        self.assert_followed()
        faults = {dev['device']: dev['total-faults'] for dev in
                  self.guest().qmp('query-nyx-devices')}
        for name in ('blue-disk', 'blue-nic', 'blue-acc'):
            self.assertEqual(faults[name], 0, name)
            self.assertEqual(self.device(name)['recoveries'], 0)
        self.assertEqual(self.device('blue-nic')['domain'], 'red')
        self.assert_no_trouble()
