# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""vfio-user devices in isolation domains, against a libvfio-user server.

No guest: the test drives the device, and compares the windows that its server
was given with what the domain allows.
"""

import errno
import random
import socket
from pathlib import Path

from qemu.qmp.qmp_client import ExecuteError

from nyxtest.case import needs_nyx
from nyxtest.errors import GuestDied
from nyxtest.qtest import NATIVE_HOTPLUG
from nyxtest.vfiouser import LibDevice
from nyxtest.vfiousercase import (
    BAR, DEVFN, MIB, RAM, VfioUserCase, vfio_user)

KIB = 1 << 10
MSI_ADDRESS = 0xfee00000


@needs_nyx
class WindowsTest(VfioUserCase):
    """The server's windows are the domain's mappings, also as they change."""

    def test_all_ram(self):
        self.start()
        self.assertEqual(self.info()['dma'], 'pass-through')
        self.vm.write64(0x100000, 0x1122334455667788)
        self.assertEqual(self.device.read_now(0x100000), 0x1122334455667788)
        self.assertEqual(self.device.get(LibDevice.WAY), LibDevice.MAPPING)
        self.assertTrue(all(fd for _, _, fd in
                            self.server.hear().windows.values()))
        self.assertEqual(self.server.ranges()[-1], (0x100000, RAM))
        self.assertEqual(self.server.errors, [])

    def test_a_hole_in_ram(self):
        self.start()
        self.command('nyx-unmap', domain='d', iova=2 * MIB, size=4 * KIB)
        # Below, the domain allows what is ROM as long as no firmware runs.
        self.assert_windows_match(above=MIB)
        self.assertNotIn(True, [first <= 2 * MIB < end for first, end in
                                self.server.ranges()])
        self.assertNotEqual(self.device.command(
            LibDevice.READ, 2 * MIB), 0)
        self.assertEqual(self.device.command(
            LibDevice.READ, 2 * MIB + 4 * KIB), 0)

    def test_map_and_unmap(self):
        self.start(',default-map=none')
        self.assertEqual(self.server.ranges(), [])
        self.assertEqual(self.device.read_now(0x100000), LibDevice.ALL_ONES)
        self.command('nyx-map', domain='d', iova=0x40000000, gpa=0x200000,
                     size=8 * KIB, access='rw')
        self.assert_windows_match()
        self.vm.write64(0x201000, 0xfeed)
        self.assertEqual(self.device.read_now(0x40001000), 0xfeed)
        self.command('nyx-unmap', domain='d', iova=0x40001000, size=4 * KIB)
        self.assert_windows_match()
        self.assertEqual(self.device.read_now(0x40001000), LibDevice.ALL_ONES)

    def test_read_only(self):
        self.start(',default-map=none')
        self.command('nyx-map', domain='d', iova=0x1000, gpa=0x300000,
                     size=4 * KIB, access='r')
        self.assertEqual(self.server.hear().windows,
                         {0x1000: (4 * KIB, 'r', True)})
        self.assertEqual(self.device.command(LibDevice.WRITE, 0x1000),
                         errno.EACCES)

    def test_random_changes(self):
        """Whatever is mapped and unmapped, in whatever order."""
        self.start(',default-map=none')
        rng = random.Random(1)
        for _ in range(120):
            iova = rng.choice((0, 0x40000000, 1 << 39)) + \
                rng.randrange(1024) * 4 * KIB
            size = rng.choice((1, 2, 7, 512, 600)) * 4 * KIB
            gpa = MIB + rng.randrange(32 * MIB // (4 * KIB)) * 4 * KIB
            try:
                if rng.random() < 0.6:
                    self.command('nyx-map', domain='d', iova=iova, gpa=gpa,
                                 size=size, access='rw')
                    self.vm.write64(gpa, iova ^ gpa)
                    self.assertEqual(self.device.read_now(iova), iova ^ gpa)
                else:
                    self.command('nyx-unmap', domain='d', iova=iova,
                                 size=size)
                    self.assertEqual(self.device.read_now(iova),
                                     LibDevice.ALL_ONES)
            except ExecuteError:
                pass                # overlaps, or is not all mapped
            self.assert_windows_match()
        self.assertTrue(self.server.ranges())
        self.assertEqual(self.info()['state'], 'operational')

    def test_assign(self):
        """Into a domain with other windows, and back."""
        self.start(more=('-object', 'nyx-domain,id=other,default-map=none'))
        before = self.server.ranges()
        self.command('nyx-map', domain='other', iova=0x1000, gpa=0x400000,
                     size=64 * KIB, access='rw')
        self.assertEqual(self.server.ranges(), before)
        self.command('nyx-assign-device', device='vu0', domain='other')
        self.assert_windows_match('other')
        self.vm.write64(0x400000, 7)
        self.assertEqual(self.device.read_now(0x1000), 7)
        self.assertEqual(self.device.read_now(0x400000), LibDevice.ALL_ONES)
        self.command('nyx-assign-device', device='vu0', domain='d')
        self.assertEqual(self.server.ranges(), before)

    def check_quarantine(self):
        before = self.server.ranges()
        self.assertTrue(before)
        resets = self.server.resets
        self.command('nyx-quarantine-device', device='vu0')
        self.assertEqual(self.server.ranges(), [])
        self.assertEqual(self.server.errors, [])
        self.assertEqual(self.device.get(0), LibDevice.ALL_ONES)
        self.command('nyx-recover-device', device='vu0')
        self.assertEqual(self.server.ranges(), before)
        self.assertEqual(self.server.errors, [])
        self.assertGreater(self.server.resets, resets)
        self.assertEqual(self.info()['state'], 'operational')
        self.assertEqual(self.device.get(0), LibDevice.IDENTIFICATION)

    def test_quarantine_of_all_ram(self):
        self.start()
        self.check_quarantine()

    def test_quarantine_of_a_table(self):
        self.start(',default-map=none')
        self.command('nyx-map', domain='d', iova=0, gpa=0x100000,
                     size=12 * KIB, access='rw')
        self.check_quarantine()
        self.assertEqual(self.device.command(LibDevice.READ, 0x1000), 0)

    def test_mapping_in_quarantine(self):
        """What is mapped meanwhile is there after recovery, not before."""
        self.start(',default-map=none')
        self.command('nyx-quarantine-device', device='vu0')
        self.command('nyx-map', domain='d', iova=0, gpa=0x100000,
                     size=4 * KIB, access='rw')
        self.assertEqual(self.server.ranges(), [])
        self.command('nyx-recover-device', device='vu0')
        self.assert_windows_match()

    def plug_memory(self, name, share):
        self.command('object-add', **{
            'qom-type': 'memory-backend-memfd', 'id': f'{name}-file',
            'size': RAM, 'share': share})
        self.command('device_add', driver='pc-dimm', id=name,
                     memdev=f'{name}-file')

    def test_plugged_memory(self):
        """It is a window, too, unless the server would see other data."""
        self.start(memory='64M,slots=2,maxmem=1G')
        before = self.server.ranges()
        self.plug_memory('more', True)
        self.assertEqual(len(self.server.ranges()), len(before) + 1)
        first, end = self.server.ranges()[-1]
        self.assertEqual(end - first, RAM)
        self.vm.write64(first, 0xd1a)
        self.assertEqual(self.device.read_now(first), 0xd1a)
        with self.assertRaises(ExecuteError) as caught:
            self.plug_memory('private', False)
        self.assertIn("there is device 'vu0': guest RAM 'private-file'",
                      str(caught.exception))
        self.assertEqual(len(self.server.ranges()), len(before) + 1)

    def test_unplug_and_plug(self):
        """It gives all up, and the next one starts anew."""
        self.start(more=(*NATIVE_HOTPLUG, '-device',
                         'pcie-root-port,id=port0,chassis=1,addr=4.0',
                         '-object', 'nyx-domain,id=plugged'))
        process = Path(f'/proc/{self.vm.process.pid}')

        def held():
            """Descriptors and threads of QEMU's"""
            return [len(list((process / what).iterdir()))
                    for what in ('fd', 'task')]
        before = held()
        for round_number in range(5):
            server = self.serve(f'plug{round_number}')
            self.command('device_add', driver='vfio-user-pci', id='vu1',
                         bus='port0', **{'nyx-domain': 'plugged'},
                         socket={'type': 'unix', 'path': str(server.path)})
            self.assertEqual(server.ranges(), self.server.ranges())
            self.vm.unplug(4 << 3, 'vu1')
            self.wait_for(lambda s=server: s.process.poll() is not None,
                          'the end of the server')
            self.assertEqual(server.ranges(), [])
            self.assertEqual(server.errors, [])
            self.wait_for(
                lambda: all(now <= then for now, then in zip(held(), before)),
                f'descriptors and threads, at first {before}')
        self.assertEqual(self.device.get(0), LibDevice.IDENTIFICATION)

    def test_shared_domain(self):
        """One set of mappings, which each server has; one is cut off."""
        other = self.serve('vu1')
        self.start(',isolation=shared,default-map=none', more=(
            '-device', vfio_user('vu1', other.path, addr='11.0',
                                 **{'nyx-domain': 'd'})))
        self.command('nyx-map', domain='d', iova=0, gpa=0x100000,
                     size=64 * KIB, access='rw')
        self.command('nyx-unmap', domain='d', iova=8 * KIB, size=4 * KIB)
        self.assert_windows_match()
        self.assertEqual(other.ranges(), self.server.ranges())
        before = other.ranges()
        self.command('nyx-quarantine-device', device='vu1')
        self.assertEqual(other.ranges(), [])
        self.assert_windows_match()
        self.assertEqual(self.device.command(LibDevice.READ, 0x1000), 0)
        self.command('nyx-unmap', domain='d', iova=0, size=4 * KIB)
        self.command('nyx-map', domain='d', iova=0, gpa=0x200000,
                     size=4 * KIB, access='rw')
        self.assertEqual(other.ranges(), [])
        self.command('nyx-recover-device', device='vu1')
        self.assertEqual(other.ranges(), before)
        self.assertEqual(other.errors, [])

    def test_migration_is_blocked(self):
        """What its server knows of the device would be left behind."""
        words = "the state of device 'vu1' is in its vfio-user server"

        def blocked():
            return [reason for reason in self.command('query-migrate').get(
                'blocked-reasons', []) if words in reason]
        server = self.serve('vu1')
        self.start(more=(*NATIVE_HOTPLUG, '-device',
                         'pcie-root-port,id=port0,chassis=1,addr=4.0'))
        self.assertEqual(blocked(), [])
        self.command('device_add', driver='vfio-user-pci', id='vu1',
                     bus='port0',
                     socket={'type': 'unix', 'path': str(server.path)})
        self.assertEqual(len(blocked()), 1)
        self.vm.unplug(4 << 3, 'vu1')
        self.assertEqual(blocked(), [])

    def test_port_of_its_own(self):
        """Without bus or address: behind a port that contains errors."""
        servers = [self.serve(f'own{i}') for i in range(2)]
        self.start(more=('-M', 'hotplug-ports=1', *(
            item for server in servers for item in
            ('-device', vfio_user(server.path.name, server.path)))))

        def bus(name):
            return self.command('qom-get', property='parent_bus',
                                path=f'/machine/peripheral/{name}')
        # The first port waits for what is plugged in.
        for i, server in enumerate(servers):
            self.assertEqual(bus(server.path.name),
                             f'/machine/peripheral/nyx-port{i + 1}/'
                             f'nyx-port{i + 1}')
        self.assertEqual(bus('vu0'), '/machine/q35/pcie.0')
        self.command('device_add', driver='nyx-testdev', id='late')
        self.assertEqual(bus('late'),
                         '/machine/peripheral/nyx-port0/nyx-port0')

    def test_unmanaged(self):
        self.start(',isolation=unmanaged')
        self.assertEqual(self.info()['dma'], 'unmanaged')
        self.vm.write64(0x100000, 5)
        self.assertEqual(self.device.read_now(0x100000), 5)

    def test_interrupts(self):
        """MSI-X passes the interrupt filter, and none does in quarantine."""
        self.start()
        self.vm.enable_msix(DEVFN, BAR + 0x1000, 2, MSI_ADDRESS, 0x41)

        def delivered():
            return self.info()['interrupts']['delivered']
        self.assertEqual(self.device.command(LibDevice.IRQ, 0, data=2), 0)
        self.wait_for(lambda: delivered() == 1, 'the interrupt')


@needs_nyx
class ContainedTest(VfioUserCase):
    """contained=on: no descriptor of guest RAM, DMA by message."""

    def test_messages(self):
        self.start(',contained=on')
        self.assertTrue(self.server.ranges())
        self.assertEqual([fd for _, _, fd in
                          self.server.windows.values() if fd], [])
        before = self.info()['server']
        self.assertEqual((before['connected'], before['shares-ram'],
                          before['dma-messages']), (True, False, 0))
        self.assertTrue(self.info()['faults-observable'])
        self.vm.write64(0x100008, 0xabcd)
        # While the VM waits for the register, and while it does not
        self.assertEqual(self.device.read_now(0x100008), 0xabcd)
        self.assertEqual(self.device.get(LibDevice.WAY), LibDevice.MESSAGE)
        self.assertEqual(self.device.command(
            LibDevice.WRITE, 0x200000, MIB, data=0x5555), 0)
        self.assertEqual(self.vm.read(0x200000, MIB),
                         (0x5555).to_bytes(8, 'little') * (MIB // 8))
        after = self.info()['server']
        self.assertEqual(after['dma-messages'], 2)
        self.assertEqual(after['dma-message-bytes'], MIB + 8)
        self.assertEqual(self.info()['total-faults'], 0)

    def test_windows(self):
        self.start(',contained=on,default-map=none')
        self.command('nyx-map', domain='d', iova=0x7000, gpa=0x200000,
                     size=8 * KIB, access='rw')
        self.vm.write64(0x200000, 99)
        # Nobody waits for the server, but it hears of it before of that.
        self.assertEqual(self.device.read_now(0x7000), 99)
        self.assert_windows_match()
        self.command('nyx-quarantine-device', device='vu0')
        self.command('nyx-recover-device', device='vu0')
        self.assertEqual(self.device.read_now(0x7000), 99)
        self.assert_windows_match()
        self.command('nyx-unmap', domain='d', iova=0x7000, size=8 * KIB)
        self.assertEqual(self.device.read_now(0x7000), LibDevice.ALL_ONES)
        self.assertEqual(self.server.ranges(), [])
        self.assertEqual(self.server.errors, [])

    def test_ram_without_descriptor(self):
        """RAM that is no file has none to send: messages, contained or not."""
        self.start(ram=())
        self.vm.write64(0x100000, 77)
        self.assertEqual(self.device.read_now(0x100000), 77)
        self.assertEqual(self.device.get(LibDevice.WAY), LibDevice.MESSAGE)

    private = ('-object', f'memory-backend-memfd,id=ram,size={RAM},share=off',
               '-machine', 'memory-backend=ram')

    def test_private_ram_is_refused(self):
        with self.assertRaises(GuestDied) as caught:
            self.start(ram=self.private)
        self.assertIn('use share=on, or a domain with contained=on',
                      str(caught.exception))

    def test_private_ram_contained(self):
        self.start(',contained=on', ram=self.private)
        self.vm.write64(0x100000, 78)
        self.assertEqual(self.device.read_now(0x100000), 78)

    def test_moving(self):
        """What has left cannot be taken back; what has not may stay so."""
        self.start(more=('-object', 'nyx-domain,id=tight,contained=on'))
        self.assert_refused('has got descriptors of guest RAM already',
                            'nyx-assign-device', device='vu0', domain='tight')
        self.assertEqual(self.info()['domain'], 'd')
        self.assertEqual(self.device.get(0), LibDevice.IDENTIFICATION)

    def test_moving_out(self):
        self.start(',contained=on', more=('-object', 'nyx-domain,id=open'))
        self.command('nyx-assign-device', device='vu0', domain='open')
        self.assertEqual([fd for _, _, fd in
                          self.server.hear().windows.values() if fd], [])
        self.command('nyx-assign-device', device='vu0', domain='d')
        self.assertFalse(self.info()['server']['shares-ram'])

    def test_other_backends_are_refused(self):
        path = self.sockets / 'vhost'
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
            listener.listen()
            with self.assertRaises(GuestDied) as caught:
                self.run_vm('-object', 'nyx-domain,id=d,contained=on',
                            '-chardev', f'socket,id=c,path={path}',
                            '-device', 'vhost-user-blk-pci,id=b,chardev=c,'
                            'nyx-domain=d')
        self.assertIn("domain 'd' is contained, and its vhost-user backend",
                      str(caught.exception))
