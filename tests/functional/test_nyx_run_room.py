# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""nyx run: room.toml, as Linux sees it, and grown while it runs."""

from nyxtest.guest import REFUSED_CPU
from nyxtest.nyxrun import RunCase
from nyxtest.paths import QEMU

# pylint: disable=wrong-import-order,import-error
from nyxcli.errors import NyxError
from nyxcli.run.host import Host
from nyxcli.run.qemu import command
from nyxcli.run.schema.other import WINDOWS
from nyxcli.run.spec import load

SECONDS = 240
KIB = 1024
MODULE = 128 << 20
NODE = '/sys/devices/system/node'


class RoomTest(RunCase):
    """Nodes, processors and memory that are plugged in, a USB disk."""

    def setUp(self):
        super().setUp()
        self.guest = self.boot(self.example('room'), 'room',
                               modules=['xhci_pci', 'usb_storage', 'sd_mod'])
        self.check = self.guest.agent.check

    def total(self, node):
        """Memory of a node in KiB, less what the kernel keeps to itself."""
        return int(self.check(f"awk '/MemTotal/ {{print $4}}' "
                              f'{NODE}/node{node}/meminfo'))

    def test_room(self):
        with self.subTest('nodes'):
            self.check_nodes()
        with self.subTest('disk'):
            self.check_disk()
        with self.subTest('processor'):
            self.grow_processors()
        with self.subTest('memory'):
            self.grow_memory()
        with self.subTest('after all'):
            self.check_disk()
            self.assert_unharmed(self.guest)

    def check_nodes(self):
        self.assertEqual(self.check(f'cat {NODE}/node?/distance').split('\n'),
                         ['10 30', '30 10'])
        self.assertEqual(self.check(f'cat {NODE}/node?/cpulist'), '0-1')
        near, far = self.total(0), self.total(1)
        self.assertGreater(near, far)
        self.assertLessEqual(far, 128 * KIB)

    def check_disk(self):
        """Data of the guest's is what is in the image."""
        self.guest.agent.wait('[ -b /dev/sda ]', SECONDS)
        wanted = self.check('dd if=/dev/urandom of=/run/data bs=64k count=32 '
                            '2>/dev/null; dd if=/run/data of=/dev/sda bs=64k '
                            'oflag=direct 2>/dev/null; sha256sum </run/data')
        self.assertEqual(self.check('dd if=/dev/sda bs=64k count=32 '
                                    'iflag=direct 2>/dev/null | sha256sum'),
                         wanted)
        self.assertEqual(self.guest.domain_of('usb'), 'auto:usb')

    def grow_processors(self):
        """One of the node that is far."""
        free = [slot for slot in self.guest.qmp('query-hotpluggable-cpus')
                if 'qom-path' not in slot]
        self.assertEqual([slot['props']['node-id'] for slot in free], [1, 1])
        place = min((slot['props'] for slot in free),
                    key=lambda props: props['core-id'])
        self.guest.qmp('device_add', driver=free[0]['type'], id='more',
                       **place)
        cpu = '/sys/devices/system/cpu/cpu2'
        self.guest.agent.wait(f'[ -e {cpu}/online ] || {REFUSED_CPU}', SECONDS)
        if self.guest.agent.run(REFUSED_CPU).status == 0:
            self.skipTest('this kernel refuses CPUs that are added')
        self.check(f'[ $(cat {cpu}/online) = 1 ] || echo 1 >{cpu}/online')
        self.assertEqual(self.check(f'cat {NODE}/node1/cpulist'), '2')
        self.assertEqual(self.check('grep -c ^processor /proc/cpuinfo'), '3')

    def grow_memory(self):
        """A module in the node that is far; devices may use it, too."""
        before = self.total(1)
        mapped = self.mapped()
        self.guest.qmp('object-add', **{'qom-type': 'memory-backend-ram',
                                        'id': 'more-ram', 'size': MODULE})
        self.guest.qmp('device_add', driver='pc-dimm', id='module',
                       memdev='more-ram', node=1)
        self.guest.agent.wait(
            'for block in /sys/devices/system/memory/memory*; do '
            'grep -q online $block/state || echo online >$block/state; done; '
            f"[ $(awk '/MemTotal/ {{print $4}}' {NODE}/node1/meminfo) -ge "
            f'{before + MODULE // KIB * 9 // 10} ]', SECONDS)
        self.assertEqual(self.mapped(), mapped + MODULE)

    def mapped(self):
        """What the controller of the USB disk may touch."""
        return [domain['mapped-bytes'] for domain in
                self.guest.qmp('query-nyx-domains')
                if domain['id'] == 'auto:usb'][0]


class DisplayTest(RunCase):
    """Windows: what QEMU was built with is used, and nothing else."""

    def test_windows(self):
        for kind in WINDOWS:
            with self.subTest(kind):
                spec = load(self.spec('[qemu]\nsandbox = false\n'
                                      f'[display]\ntype = "{kind}"\n'),
                            [f'qemu.program={QEMU}'])
                try:
                    words = command(spec, Host(spec))
                except NyxError as err:
                    self.assertRegex(str(err), f'^the display "{kind}" is not '
                                     f'built into {QEMU}; choose "vnc", ')
                    continue
                self.assertEqual(words[words.index('-display') + 1], kind)
                self.assertIn('usb-kbd,id=keyboard,bus=usb.0', words)
