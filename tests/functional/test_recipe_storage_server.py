# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""The recipe of a storage server, as the manual prints it."""

from nyxtest.recipe import RecipeCase


class StorageServerTest(RecipeCase):
    recipe = 'storage-server'
    modules = 'virtio_blk', 'nvme', 'virtio_net', 'e1000e', 'bonding', \
        'ext4', 'crc32c_generic'

    def test_page(self):
        self.follow('Start both servers', 'Join the replication cards',
                    'Replicate', 'A replication card is cut off')
        self.follow('A disk of the pool misbehaves')
        for name in 'pool0', 'pool1':
            self.assertEqual(self.device(name)['recoveries'], 1, name)
        self.assert_followed()
        self.assert_no_trouble()
