# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""nyx metrics: disks, cards, servers and KVM, against what they count."""

import shutil
import subprocess
import time
import unittest
from pathlib import Path

from nyxtest.case import GuestTest
from nyxtest.cli import NYX, PYTHON
from nyxtest.devices import add_nic
from nyxtest.exporter import Exporter, needs_client, scrape
from nyxtest.guest import bring_up, fetch_sum
from nyxtest.payload import PayloadVM
from nyxtest.prometheus import pick
from nyxtest.vfiouser import LibDevice
from nyxtest.vfiousercase import VfioUserCase

MIB = 1 << 20


@needs_client()
class GuestFiguresTest(GuestTest):
    """Disk and network figures, against what the guest counts itself."""

    slow_iops = 50

    @classmethod
    def describe(cls, vm):
        cls.folder = Path(f'/tmp/nyx-metrics-{time.time_ns()}')
        cls.folder.mkdir()
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        cls.socket = cls.folder / 'qmp.sock'
        vm.add('-qmp', f'unix:{cls.socket},server=on,wait=off')
        cls.nic = add_nic(vm, 'e1000e', 'nic0', None)
        vm.add('-object', 'filter-nyx-count,id=count,netdev=nic0-net')
        disk = vm.folder / 'disk.raw'
        vm.folder.mkdir(parents=True, exist_ok=True)
        with disk.open('wb') as file:
            file.truncate(16 * MIB)
        vm.add('-blockdev', f'driver=file,node-name=disk,filename={disk}',
               '-device', 'nvme,id=nvme0,drive=disk,serial=1',
               modules=['nvme'])
        vm.add('-object', 'throttle-group,id=slow,x-iops-total='
               f'{cls.slow_iops}',
               '-blockdev', 'driver=throttle,node-name=throttled,'
               'throttle-group=slow,file.driver=null-co,'
               'file.size=16777216,file.read-zeroes=on',
               '-device', 'virtio-blk-pci,id=slow0,drive=throttled',
               modules=['virtio_pci', 'virtio_blk'])

    @classmethod
    def prepare(cls, vm):
        bring_up(vm, cls.nic)

    def scrape(self):
        return scrape(self.socket)

    def test_disk(self):
        self.vm.agent.wait('[ -b /dev/nvme0n1 ]')
        before = self.scrape()
        self.vm.agent.check('dd if=/dev/nvme0n1 of=/dev/null bs=1M count=8 '
                            'iflag=direct')
        after = self.scrape()

        def grown(name, operation):
            return pick(after, f'nyx_disk_{name}_total', disk='nvme0',
                        operation=operation)[0] - \
                pick(before, f'nyx_disk_{name}_total', disk='nvme0',
                     operation=operation)[0]

        self.assertEqual(grown('bytes', 'read'), 8 * MIB)
        self.assertGreater(grown('operations', 'read'), 0)
        self.assertGreater(grown('seconds', 'read'), 0)
        self.assertEqual(grown('bytes', 'write'), 0)

    def test_slow_disk(self):
        """It is named as the bottleneck, with the time that it takes."""
        process = subprocess.Popen(
            [PYTHON, str(NYX), 'metrics', '--listen', '127.0.0.1:0',
             str(self.socket)], text=True, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        self.addCleanup(process.communicate)
        self.addCleanup(process.kill)
        exporter = Exporter(process)
        self.vm.agent.wait('[ -b /dev/vda ]')
        exporter.scrape()
        self.vm.agent.check('dd if=/dev/vda of=/dev/null bs=4k count=40 '
                            'iflag=direct')
        found = exporter.scrape()
        ratio, = pick(found, 'nyx_bottleneck_ratio', kind='disk',
                      subject='slow0')
        # One request after the other, each in its turn: 20 ms
        self.assertGreater(ratio, 5)
        self.assertLess(ratio, 100)

    def guest_counts(self):
        card = self.vm.agent.check('ls -d /sys/class/net/eth*').split()[0]
        return {name: int(self.vm.agent.check(
            f'cat {card}/statistics/{name}'))
            for name in ('rx_packets', 'rx_bytes', 'tx_packets')}

    def test_net(self):
        before, guest_before = self.scrape(), self.guest_counts()
        self.assertEqual(fetch_sum(self.vm, self.server.url(self.nic)),
                         self.server.sha256)
        # The card's registers, of which the guest tells, are read each 2 s.
        limit = time.monotonic() + 60
        while True:
            guest, after = self.guest_counts(), self.scrape()
            counts = {name: guest[name] - guest_before[name]
                      for name in guest}

            def grown(name, direction):
                labels = {'nic': 'nic0', 'direction': direction}
                return pick(after, f'nyx_net_{name}_total', **labels)[0] - \
                    pick(before, f'nyx_net_{name}_total', **labels)[0]

            if counts['rx_bytes'] >= self.fetch_bytes and \
                    counts['rx_packets'] == grown('packets', 'received'):
                break
            self.assertLess(time.monotonic(), limit, (
                counts, grown('packets', 'received')))
            time.sleep(0.2)
        self.assertGreaterEqual(grown('bytes', 'received'), self.fetch_bytes)
        self.assertLess(grown('bytes', 'received'), 1.2 * self.fetch_bytes)
        self.assertGreater(grown('packets', 'sent'), 0)
        self.assertEqual(grown('drops', 'received'), 0)
        self.assertEqual(grown('drops', 'sent'), 0)


@needs_client()
class ServerTest(VfioUserCase):
    """DMA that comes as messages is accounted, operations and bytes."""

    def test_messages(self):
        path = self.sockets / 'qmp.sock'
        self.start(',contained=on', more=(
            '-qmp', f'unix:{path},server=on,wait=off'))
        for _ in range(3):
            self.device.command(LibDevice.READ, MIB)

        server = self.info()['server']
        self.assertGreaterEqual(server['dma-messages'], 3)
        found = scrape(path)
        self.assertEqual(pick(found, 'nyx_server_connected', device='vu0'),
                         [1])
        self.assertEqual(pick(found, 'nyx_dma_messages_total', device='vu0'),
                         [server['dma-messages']])
        self.assertEqual(pick(found, 'nyx_dma_message_bytes_total',
                              device='vu0'), [server['dma-message-bytes']])
        self.server.stop()
        self.wait_for(lambda: not self.info()['server']['connected'],
                      'the server is gone')
        self.assertEqual(pick(scrape(path), 'nyx_server_connected',
                              device='vu0'), [0])


@needs_client()
class KvmExitsTest(unittest.TestCase):
    """KVM counts exits and their reasons."""

    def test_exits(self):
        try:
            with open('/dev/kvm', 'rb'):
                pass
        except OSError as err:
            self.skipTest(f'/dev/kvm: {err.strerror}')
        folder = Path(f'/tmp/nyx-metrics-{time.time_ns()}')
        self.addCleanup(shutil.rmtree, folder, ignore_errors=True)
        path = folder / 'qmp.sock'
        vm = PayloadVM(folder, '-M', 'nyx-pc', '-accel', 'kvm', '-m', '64M',
                       '-qmp', f'unix:{path},server=on,wait=off')
        self.addCleanup(vm.stop)
        vm.line()               # it runs

        def exits():
            vcpu, = vm.monitor.command('query-stats', target='vcpu',
                                       providers=[{'provider': 'kvm'}])
            return {stat['name']: stat['value'] for stat in vcpu['stats']
                    if stat['name'].endswith('exits')}

        before = exits()
        found = scrape(path)
        after = exits()
        self.assertEqual(pick(found, 'nyx_vm_info', accelerator='kvm'), [1])
        self.assertEqual(pick(found, 'nyx_vm_exits_available'), [1])
        self.assertGreater(before['exits'], 0)
        for name in before:
            value, = pick(found, 'nyx_vcpu_exits_total', vcpu='0') \
                if name == 'exits' else \
                pick(found, 'nyx_vcpu_exits_by_reason_total', vcpu='0',
                     reason=name.removesuffix('_exits'))
            self.assertLessEqual(before[name], value, name)
            self.assertLessEqual(value, after[name], name)
