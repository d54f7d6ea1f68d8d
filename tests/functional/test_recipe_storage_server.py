# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""The recipe of a storage server, as the manual prints it."""

from nyxtest.recipe import RecipeCase

DISK_BYTES = 16 << 20           # in a second, so that requests wait


class StorageServerTest(RecipeCase):
    recipe = 'storage-server'
    modules = 'virtio_blk', 'nvme', 'virtio_net', 'e1000e', 'bonding', \
        'ext4', 'crc32c_generic'

    def slow_down(self, disk):
        """Have requests under way whenever it is cut off."""
        said = self.guest().qmp('human-monitor-command', command_line=(
            f'block_set_io_throttle {disk} {DISK_BYTES} 0 0 0 0 0'))
        self.assertEqual(said, '')

    def test_page(self):
        self.follow('Start both servers', 'Join the replication cards',
                    'Replicate', 'A replication card is cut off')
        for name in 'pool0', 'pool1':
            self.slow_down(name)
        self.follow('A disk of the pool misbehaves')
        for name in 'pool0', 'pool1':
            self.assertEqual(self.device(name)['recoveries'], 1, name)
        self.assert_followed()
        self.assert_no_trouble()
