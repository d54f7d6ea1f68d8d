# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""A hostile vfio-user server costs its own device and nothing else.

A healthy device with a server of its own, good0, is in the same machine: in
each test, it must go on, and QEMU must answer in time.
"""

import errno
import os
import socket
import struct
import threading
import time

from qemu.qmp.qmp_client import ExecuteError

from nyxtest.case import needs_nyx
from nyxtest.errors import GuestDied
from nyxtest.qtest import NATIVE_HOTPLUG
from nyxtest.vfiouser import (
    CONFIG_REGION, DMA_MAP, DMA_READ, DMA_UNMAP, DMA_WRITE, ERROR, GET_INFO,
    GET_IRQ_INFO, GET_REGION_INFO, REGION_READ, REGION_WRITE, REPLY, RESET,
    VERSION, Gone, LibDevice, RawServer, header)
from nyxtest.vfiousercase import (
    BAR, DEVFN, MIB, RAM, VfioUserCase, vfio_user)

PORT_DEVFN = 4 << 3
VTD = 0xfed90000
GOOD_DEVFN, GOOD_BAR = 0x11 << 3, 0xe0010000
PATIENCE_MS = 1000
ALL_ONES = (1 << 64) - 1
# On a machine that has other things to do
SOON = 4


class _HostileCase(VfioUserCase):
    """bad0 has a server that the test leads astray."""

    twin = True
    patience_ms = 5000          # QEMU's default

    def start_both(self, domain='', msix=False, machine=(), **properties):
        self.bad = RawServer(self.sockets / 'bad0', twin=self.twin)
        self.addCleanup(self.bad.stop)
        if msix:
            self.bad.have_msix()
        self.server = self.serve('good0')
        self.vm = self.run_vm(
            '-object', f'nyx-domain,id=d{domain}',
            '-object', 'nyx-domain,id=good', *NATIVE_HOTPLUG,
            '-device', 'pcie-root-port,id=port0,chassis=1,addr=4.0',
            '-device', vfio_user('bad0', self.bad.path, addr='10.0',
                                 **{'nyx-domain': 'd',
                                    'x-msg-timeout': self.patience_ms,
                                    **properties}),
            '-device', vfio_user('good0', self.server.path, addr='11.0',
                                 **{'nyx-domain': 'good'}),
            machine_options=machine)
        self.command = self.vm.monitor.command
        self.good = LibDevice(self.vm, GOOD_DEVFN, GOOD_BAR)
        self.vm.set_bar(DEVFN, 0, BAR)
        self.vm.enable(DEVFN)

    def assert_others_unharmed(self):
        """The VM runs, answers soon, and the other device does its work."""
        began = time.monotonic()
        self.assertTrue(self.command('query-status')['running'])
        self.vm.write64(0x123000, 0x600d)
        self.assertEqual(self.good.read_now(0x123000), 0x600d)
        self.assertEqual(self.good.get(0), LibDevice.IDENTIFICATION)
        info = self.info('good0')
        self.assertEqual((info['state'], info['total-faults']),
                         ('operational', 0))
        self.assertEqual(self.server.hear().errors, [])
        self.assertLess(time.monotonic() - began, SOON)

    def assert_broken(self, why):
        """bad0 is cut off, for a reason that QEMU says, and cannot recover."""
        self.vm.monitor.wait_event('NYX_DEVICE_STATE', device='bad0',
                                   new='quarantined')
        self.assertIn(f"device 'bad0': its vfio-user server {why}; it is cut "
                      'off', self.vm.said())
        info = self.info('bad0')
        self.assertEqual((info['state'], info['dma'],
                          info['server']['connected']),
                         ('quarantined', 'blocked', False))
        began = time.monotonic()
        self.assertEqual(self.vm.read64(BAR), ALL_ONES)
        self.vm.write64(BAR, 1)
        self.assertEqual(self.vm.config_read(DEVFN, 0x40), 0xffffffff)
        self.assertLess(time.monotonic() - began, SOON)
        self.assert_refused(f'its vfio-user server {why}: ',
                            'nyx-recover-device', device='bad0')
        self.assertEqual(self.info('bad0')['state'], 'failed')
        self.assert_others_unharmed()


@needs_nyx
class DmaTest(_HostileCase):
    """Requests for memory outside of its windows, and too many of them."""

    def faults(self):
        return self.command('query-nyx-faults', device='bad0')

    def test_inside(self):
        self.start_both(',default-map=none')
        self.command('nyx-map', domain='d', iova=0x1000, gpa=0x200000,
                     size=4096, access='r')
        self.vm.write(0x200010, b'hello123')
        self.assertEqual(self.bad.dma(DMA_READ, 0x1010, size=5), (0, b'hello'))
        self.assertEqual(self.bad.dma(DMA_WRITE, 0x1010, b'HELLO123')[0],
                         errno.EPERM)
        self.assertEqual(self.vm.read(0x200010, 5), b'hello')
        fault = self.faults()[0]
        self.assertEqual((fault['type'], fault['address'], fault['access']),
                         ('permission', 0x1010, 'w'))
        self.assertEqual(self.info('bad0')['server']['dma-messages'], 2)

    def test_outside(self):
        """Each is refused and counted; past the limit, all of it is."""
        self.start_both(',max-faults=3')
        secret = RAM + 0x1000
        for number, (command, address) in enumerate(
                ((DMA_READ, secret), (DMA_WRITE, 1 << 45),
                 (DMA_READ, 1 << 60)), 1):
            error, _ = self.bad.dma(command, address,
                                    *([b'x' * 8] if command == DMA_WRITE
                                      else []),
                                    **({'size': 8} if command == DMA_READ
                                       else {}))
            self.assertEqual(error, errno.EPERM)
            self.assertEqual(self.info('bad0')['total-faults'], number)
        self.assertEqual(
            [(f['type'], f['address']) for f in reversed(self.faults())],
            [('unmapped', secret), ('unmapped', 1 << 45),
             ('address-width', 1 << 60)])
        self.assertEqual(self.bad.dma(DMA_READ, 0x1000, size=8)[0], 0)
        self.bad.dma(DMA_READ, secret + 0x1000, size=8)
        self.assertEqual(self.bad.dma(DMA_READ, 0x1000, size=8)[0],
                         errno.EPERM)
        self.vm.monitor.wait_event('NYX_DEVICE_STATE', device='bad0',
                                   new='quarantined')
        self.assertTrue(self.info('bad0')['server']['connected'])
        self.assert_others_unharmed()
        self.command('nyx-recover-device', device='bad0')
        self.assertEqual(self.info('bad0')['state'], 'operational')
        self.vm.enable(DEVFN)
        self.assertEqual(self.bad.dma(DMA_READ, 0x1000, size=8)[0], 0)

    def test_interrupt_window(self):
        """It cannot write an interrupt that the filter refuses."""
        self.start_both()
        smi = struct.pack('<I', 0x200)
        self.assertEqual(self.bad.dma(DMA_WRITE, 0xfee00000, smi)[0],
                         errno.EPERM)
        self.assertEqual(self.faults()[0]['type'], 'interrupt')

    def test_refused_by_the_guests_iommu(self):
        """VT-d, whose tables are empty, tells the guest of each by interrupt.

        That is done while QEMU itself waits for a register, too.
        """
        self.start_both(',max-faults=1000', machine=['stage1=intel'])
        self.vm.write(MIB, bytes(4096))
        for register, value in ((0x3c, 0x41), (0x40, 0xfee00000), (0x38, 0)):
            self.vm.write32(VTD + register, value)      # fault interrupt
        self.vm.write64(VTD + 0x20, MIB)                # root table
        self.vm.write32(VTD + 0x18, 1 << 30)
        self.vm.write32(VTD + 0x18, 1 << 31)
        self.assertEqual(self.info('bad0')['dma'], 'translating')
        for number in range(1, 20):
            self.assertNotEqual(
                self.bad.dma(DMA_READ, number << 20, size=8)[0], 0)
        self.bad.on_read = lambda offset: self.bad.dma(DMA_READ, MIB, size=8)
        self.vm.read64(BAR)
        self.assertEqual({f['type'] for f in self.faults()}, {'stage1'})
        self.assertEqual(self.info('bad0')['total-faults'], 20)
        self.assertTrue(self.vm.read32(VTD + 0x34) & 2, 'no fault recorded')
        self.assertTrue(self.command('query-status')['running'])

    def test_without_bus_mastering(self):
        self.start_both()
        self.vm.config_write(DEVFN, 4, 2, 2)
        self.assertNotEqual(self.bad.dma(DMA_READ, 0x1000, size=8)[0], 0)

    def test_inside_a_register_access(self):
        """QEMU waits for the register; the server first wants memory."""
        self.start_both()
        self.vm.write64(0x5000, 0xbeef)
        self.bad.on_read = lambda offset: self.bad.bar.__setitem__(
            slice(0, 8), self.bad.dma(DMA_READ, 0x5000, size=8)[1])
        began = time.monotonic()
        self.assertEqual(self.vm.read64(BAR), 0xbeef)
        self.assertLess(time.monotonic() - began, self.patience_ms / 2000)

    def test_flood(self):
        """Thousands of requests, for its memory and for other's."""
        self.start_both(',max-faults=10')
        stop = threading.Event()

        def flood():
            try:
                while not stop.is_set():
                    self.bad.dma(DMA_READ, MIB, size=MIB)
                    self.bad.dma(DMA_READ, 1 << 45, size=8)
            except (Gone, OSError):
                pass
        thread = threading.Thread(target=flood)
        thread.start()
        try:
            self.vm.monitor.wait_event('NYX_DEVICE_STATE', device='bad0',
                                       new='quarantined')
            for _ in range(20):
                self.assert_others_unharmed()
            self.assertEqual(self.command('query-nyx-devices',
                                          device='bad0')[0]['state'],
                             'quarantined')
        finally:
            stop.set()
            thread.join()
        self.assertGreater(self.info('bad0')['total-faults'], 10)
        self.assertLess(len(self.vm.monitor.seen('NYX_DMA_FAULT')), 60)

    def test_flood_without_listening(self):
        """Requests whose answers it never reads stop being served."""
        self.start_both()
        sock = self.bad.dma_socket or self.bad.socket
        sock.setblocking(False)
        message = header(1, DMA_READ, 16, 0) + struct.pack('<QQ', MIB, MIB)
        sent = 0
        end = time.monotonic() + 1
        while time.monotonic() < end:
            try:
                sent += sock.send(message)
            except BlockingIOError:
                time.sleep(0.01)
        self.assert_others_unharmed()
        self.assertLess(sent, 16 * MIB)
        self.assertLess(self.memory(), 600 * MIB)
        if self.twin:
            self.command('nyx-quarantine-device', device='bad0')
        else:
            # It does not read what QEMU has to say, either.
            self.vm.monitor.wait_event('NYX_DEVICE_STATE', device='bad0',
                                       new='quarantined')
        self.assert_others_unharmed()

    def memory(self):
        with open(f'/proc/{self.vm.process.pid}/statm',
                  encoding='ascii') as file:
            return int(file.read().split()[1]) * os.sysconf('SC_PAGE_SIZE')


@needs_nyx
class DmaOverTheSameSocketTest(DmaTest):
    """The same with a server that has not heard of a second socket."""

    twin = False


@needs_nyx
class InterruptTest(_HostileCase):
    """More interrupts than anybody can take."""

    def delivered(self):
        return self.info('bad0')['interrupts']['delivered']

    def test_storm(self):
        self.start_both(msix=True)
        self.vm.set_bar(DEVFN, 1, BAR + 0x1000)
        self.vm.enable_msix(DEVFN, BAR + 0x1000, 0, 0xfee00000, 0x41)
        self.vm.read64(BAR)
        stop = threading.Event()

        def storm():
            while not stop.is_set():
                os.eventfd_write(self.bad.interrupts[-1], 1)
        thread = threading.Thread(target=storm)
        thread.start()
        try:
            self.wait_for(lambda: self.delivered() > 1000, 'interrupts')
            for _ in range(10):
                self.assert_others_unharmed()
            began = time.monotonic()
            self.command('nyx-quarantine-device', device='bad0')
            self.assertLess(time.monotonic() - began, SOON)
            before = self.delivered()
            for _ in range(10):
                self.assert_others_unharmed()
            self.assertEqual(self.delivered(), before)
        finally:
            stop.set()
            thread.join()


@needs_nyx
class GarbageTest(_HostileCase):
    """Answers that are none: the server is not listened to any more."""

    def reply(self, command, function):
        self.start_both()
        self.bad.replies[command] = function
        if command == REGION_READ:
            self.assertEqual(self.vm.read64(BAR), ALL_ONES)
        else:
            self.bad.socket.sendall(function(0, b''))

    def check_read(self, why, function):
        self.reply(REGION_READ, function)
        self.assert_broken(why)

    def test_another_command(self):
        self.check_read(
            'answers another command than it was given',
            lambda i, body: header(i, DMA_MAP, 0))

    def test_unknown_id(self):
        self.check_read('answers what it was not asked',
                        lambda i, body: header(i ^ 1, REGION_READ, 0))

    def test_too_long(self):
        self.check_read('answers with more than there is room for',
                        lambda i, body: header(i, REGION_READ, 4096)
                        + bytes(4096))

    def test_too_short(self):
        self.check_read('sends an answer that is too short',
                        lambda i, body: header(i, REGION_READ, 4) + bytes(4))

    def test_wrong_count(self):
        self.check_read(
            'answers with another amount of data than it was asked for',
            lambda i, body: header(i, REGION_READ, 24)
            + body[:12] + struct.pack('<I', 4096) + bytes(8))

    def test_no_size(self):
        self.check_read('sends a message of a size that cannot be',
                        lambda i, body: struct.pack(
                            '<HHIII', i, REGION_READ, 0, REPLY, 0))

    def test_huge_size(self):
        self.check_read('sends a message of a size that cannot be',
                        lambda i, body: struct.pack(
                            '<HHIII', i, REGION_READ, 0xffffffff, REPLY, 0))

    def test_unknown_type(self):
        self.check_read('sends a message of no known type',
                        lambda i, body: header(i, REGION_READ, 0, 7))

    def test_half_an_answer(self):
        """The rest never comes."""
        self.check_read('does not answer',
                        lambda i, body: header(i, REGION_READ, 24) + body[:7])

    def test_unasked(self):
        self.reply(VERSION, lambda i, body: header(i, RESET, 0))
        self.assert_broken('answers what it was not asked')

    def test_not_a_dma_request(self):
        self.start_both()
        self.bad.dma_socket.sendall(header(1, GET_INFO, 16, 0) + bytes(16))
        self.assert_broken('sends something else than a request for DMA')

    def test_dma_request_of_absurd_size(self):
        self.start_both()
        self.bad.dma_socket.sendall(
            header(1, DMA_READ, 16, 0) + struct.pack('<QQ', 0, 1 << 40))
        self.assert_broken('sends a request for DMA of a size that cannot be')

    def test_descriptors(self):
        self.start_both()
        with open('/dev/null', 'rb') as null:
            self.bad.replies[REGION_READ] = lambda i, body: socket.send_fds(
                self.bad.socket, [header(i, REGION_READ, 24) + body[:16]],
                [null.fileno()]) and bytes(8)
            before = len(os.listdir(f'/proc/{self.vm.process.pid}/fd'))
            self.assertEqual(self.vm.read64(BAR), ALL_ONES)
        self.assert_broken('sends descriptors that nobody asked for')
        self.assertLessEqual(
            len(os.listdir(f'/proc/{self.vm.process.pid}/fd')), before)

    def test_noise(self):
        """Whatever bytes come."""
        self.start_both()
        self.bad.socket.sendall(bytes(range(256)) * 64)
        self.vm.monitor.wait_event('NYX_DEVICE_STATE', device='bad0',
                                   new='quarantined')
        self.assert_others_unharmed()

    def test_refuses_windows(self):
        """Its device does without; QEMU says so once."""
        self.start_both(',default-map=none')
        self.bad.replies[DMA_MAP] = lambda i, body: header(
            i, DMA_MAP, 0, REPLY | ERROR, errno.ENOMEM)
        for page in range(20):
            self.command('nyx-map', domain='d', iova=page * 4096,
                         gpa=MIB + page * 8192, size=4096, access='rw')
        self.command('nyx-unmap', domain='d', iova=0, size=20 * 4096)
        self.assertEqual(self.vm.said().count('refuses guest memory'), 1)
        self.assertEqual(self.info('bad0')['state'], 'operational')
        self.assertNotIn(DMA_UNMAP, [r[0] for r in self.bad.requests])
        self.assert_others_unharmed()

    def test_keeps_windows(self):
        """One that does not give up memory is cut off altogether."""
        self.start_both()
        self.bad.replies[DMA_UNMAP] = lambda i, body: header(
            i, DMA_UNMAP, 0, REPLY | ERROR, errno.EBUSY)
        self.command('nyx-unmap', domain='d', iova=MIB, size=4096)
        self.assert_broken('does not give up guest memory')

    def test_errors(self):
        """An error is an answer: all-ones, as from any device, and no more."""
        self.reply(REGION_READ, lambda i, body: header(
            i, REGION_READ, 0, REPLY | ERROR, errno.EINVAL))
        for _ in range(50):
            self.assertEqual(self.vm.read64(BAR), ALL_ONES)
        self.assertEqual(self.info('bad0')['state'], 'operational')
        self.assertLess(len(self.vm.said().splitlines()), 10)
        self.assert_others_unharmed()


@needs_nyx
class SilenceTest(_HostileCase):
    """Servers that leave, hang or take their time."""

    patience_ms = PATIENCE_MS

    def test_leaves(self):
        self.start_both()
        self.bad.socket.shutdown(socket.SHUT_RDWR)
        self.assert_broken('closed the connection')

    def test_hangs(self):
        """QEMU waits once, and not for long."""
        self.start_both()
        self.bad.answers[REGION_READ] = lambda body: None
        began = time.monotonic()
        self.assertEqual(self.vm.read64(BAR), ALL_ONES)
        self.assertLess(time.monotonic() - began, PATIENCE_MS / 1000 + SOON)
        self.assert_broken('does not answer')

    def test_hangs_in_quarantine(self):
        """The command that withdraws its windows ends all the same."""
        self.start_both()
        self.bad.answers[DMA_UNMAP] = lambda body: None
        began = time.monotonic()
        self.command('nyx-quarantine-device', device='bad0')
        self.assertLess(time.monotonic() - began, PATIENCE_MS / 1000 + SOON)
        self.assertEqual(self.info('bad0')['dma'], 'blocked')
        self.assertFalse(self.info('bad0')['server']['connected'])
        self.assert_others_unharmed()

    def test_hangs_contained(self):
        """Then not even these commands wait for it."""
        self.start_both(',contained=on', **{'x-msg-timeout': 60000})
        self.assertEqual(self.bad.dma(DMA_READ, MIB, size=8)[0], 0)
        self.bad.answers[DMA_UNMAP] = self.bad.answers[DMA_MAP] = \
            lambda body: None
        began = time.monotonic()
        self.command('nyx-unmap', domain='d', iova=MIB, size=4096)
        self.assertNotEqual(self.bad.dma(DMA_READ, MIB, size=8)[0], 0)
        self.command('nyx-map', domain='d', iova=MIB, gpa=2 * MIB, size=4096,
                     access='rw')
        self.assertEqual(self.bad.dma(DMA_READ, MIB, size=8)[0], 0)
        self.command('nyx-quarantine-device', device='bad0')
        self.assertNotEqual(self.bad.dma(DMA_READ, MIB, size=8)[0], 0)
        self.assertLess(time.monotonic() - began, SOON)
        self.assertTrue(self.info('bad0')['server']['connected'])
        self.assert_others_unharmed()

    def test_hangs_in_reset(self):
        self.start_both()
        self.command('nyx-quarantine-device', device='bad0')
        self.bad.answers[RESET] = lambda body: None
        self.assert_refused('its vfio-user server does not answer: ',
                            'nyx-recover-device', device='bad0')
        self.assertEqual(self.info('bad0')['state'], 'failed')
        self.assert_others_unharmed()

    def test_refuses_reset(self):
        self.start_both()
        self.bad.replies[RESET] = lambda i, body: header(
            i, RESET, 0, REPLY | ERROR, errno.EIO)
        # On the root bus, so that it says what it cannot do.
        self.command('nyx-set-policy', device='bad0',
                     on_recovery_limit='unplug')
        self.command('nyx-quarantine-device', device='bad0')
        self.assert_refused('its vfio-user server failed to reset it',
                            'nyx-recover-device', device='bad0')
        self.assertEqual(self.info('bad0')['state'], 'failed')
        self.vm.monitor.wait_event('NYX_LIMIT_ACTION', device='bad0',
                                   limit='recoveries', action='unplug',
                                   success=False)
        # What is forced is not followed by it.
        since = self.vm.monitor.position()
        self.assert_refused('its vfio-user server failed to reset it',
                            'nyx-recover-device', device='bad0', force=True)
        self.info('bad0')
        self.assertEqual(self.vm.monitor.seen('NYX_LIMIT_ACTION', since), [])
        self.assert_others_unharmed()

    def test_unplug_while_it_hangs(self):
        self.start_both()
        other = RawServer(self.sockets / 'other')
        self.addCleanup(other.stop)
        self.command('device_add', driver='vfio-user-pci', id='other',
                     bus='port0', **{'x-msg-timeout': PATIENCE_MS},
                     socket={'type': 'unix', 'path': str(other.path)})
        other.answers.clear()
        began = time.monotonic()
        self.vm.unplug(PORT_DEVFN, 'other')
        self.assertLess(time.monotonic() - began,
                        PATIENCE_MS / 1000 + SOON)
        self.assert_others_unharmed()

    def test_does_not_read(self):
        """Posted writes fill its socket; QEMU does not wait for that."""
        self.start_both()
        stuck = threading.Event()
        self.addCleanup(stuck.set)
        self.bad.answers[REGION_WRITE] = lambda body: stuck.wait(60) and body
        for _ in range(20000):
            self.vm.write64(BAR, 1)
            if self.info('bad0')['state'] != 'operational':
                break
        self.assert_broken('does not answer')

    def test_slow(self):
        """Each answer in time, but together the VM would stand still."""
        self.start_both()
        self.bad.on_read = lambda offset: time.sleep(0.4)
        for _ in range(10):
            self.vm.read64(BAR)
        self.assert_broken('answers too slowly')


@needs_nyx
class LiesTest(_HostileCase):
    """What it says of the device when it is plugged in."""

    def setUp(self):
        super().setUp()
        self.start_both()
        self.liar = RawServer(self.sockets / 'liar', twin=self.twin)
        self.addCleanup(self.liar.stop)

    def plug(self):
        self.command('device_add', driver='vfio-user-pci', id='liar',
                     bus='port0', socket={'type': 'unix',
                                          'path': str(self.liar.path)})

    def assert_rejected(self, why):
        with self.assertRaises(ExecuteError) as caught:
            self.plug()
        self.assertIn(f'its vfio-user server {why}: ', str(caught.exception))
        self.assert_others_unharmed()
        self.assertNotIn('liar', [d['device'] for d in
                                  self.command('query-nyx-devices')])

    def capability(self, at, kind, following):
        self.liar.config[6] |= 0x10
        self.liar.config[at:at + 2] = bytes((kind, following))

    def test_the_truth(self):
        """Else the others would prove nothing."""
        self.plug()
        self.assertEqual(self.info('liar')['state'], 'operational')
        self.assert_others_unharmed()

    def test_capabilities_in_a_circle(self):
        self.liar.config[0x34] = 0x40
        self.capability(0x40, 9, 0x50)
        self.capability(0x50, 9, 0x40)
        self.assert_rejected('has a list of PCI capabilities that cannot be')

    def test_capability_past_the_end(self):
        self.liar.config[0x34] = 0xfc
        self.capability(0xfc, 5, 0)
        self.assert_rejected('has a list of PCI capabilities that cannot be')

    def test_capability_in_the_header(self):
        self.liar.config[0x34] = 0x04
        self.liar.config[6] |= 0x10
        self.assert_rejected('has a list of PCI capabilities that cannot be')

    def extended_capabilities(self, *at):
        self.liar.region_sizes[CONFIG_REGION] = 4096
        self.liar.config.extend(bytes(4096 - 256))
        for here, following in zip(at, (*at[1:], 0)):
            struct.pack_into('<I', self.liar.config, here,
                             0x00010003 | following << 20)

    def test_extended_capabilities(self):
        self.extended_capabilities(0x100, 0x200, 0x180)
        self.plug()
        self.assert_others_unharmed()

    def test_extended_capabilities_in_a_circle(self):
        self.extended_capabilities(0x100, 0x200)
        struct.pack_into('<I', self.liar.config, 0x200,
                         0x00010003 | 0x100 << 20)
        self.assert_rejected('has a list of PCI capabilities that cannot be')

    def test_extended_capabilities_too_close(self):
        self.extended_capabilities(0x100, 0x104)
        self.assert_rejected('has a list of PCI capabilities that cannot be')

    def test_msix_outside(self):
        self.liar.config[0x34] = 0x40
        self.capability(0x40, 0x11, 0)
        struct.pack_into('<HII', self.liar.config, 0x42, 2047, 0, 0x800)
        self.assert_rejected('has an MSI-X table outside of its BARs')

    def test_too_many_msi_vectors(self):
        self.liar.config[0x34] = 0x40
        self.capability(0x40, 5, 0)
        self.liar.config[0x42] = 7 << 1
        self.assert_rejected('has more MSI vectors than there can be')

    def test_another_tale_at_second_reading(self):
        self.liar.config[0x34] = 0x40
        self.capability(0x40, 5, 0)
        answer = self.liar.answers[REGION_READ]

        def lie(body):
            self.liar.config[0x42] = 7 << 1 \
                if struct.unpack_from('<Q', body)[0] == 0x42 else 0
            return answer(body)
        self.liar.answers[REGION_READ] = lie
        self.assert_rejected('has more MSI vectors than there can be')

    def test_hidden_configuration_space(self):
        """It shows all but its BARs."""
        answer = self.liar.answers[REGION_READ]
        self.liar.replies[REGION_READ] = lambda i, body: header(
            i, REGION_READ, 0, REPLY | ERROR, errno.EACCES) \
            if struct.unpack_from('<Q', body)[0] else header(
                i, REGION_READ, 16 + 256) + answer(body)
        self.assert_rejected('refuses to show its configuration space')

    def test_bar_of_odd_size(self):
        self.liar.region_sizes[0] = 3 << 20
        self.assert_rejected('has a BAR whose size is no power of 2')

    def test_rom_of_odd_size(self):
        self.liar.rom_mask = 0xffff5000
        self.assert_rejected('has an expansion ROM whose size is no power of '
                             '2')

    def test_tiny_configuration_space(self):
        self.liar.region_sizes[CONFIG_REGION] = 16
        self.assert_rejected('has a configuration space of neither 256 nor '
                             '4096 bytes')

    def test_region_of_another_index(self):
        answer = self.liar.answers[GET_REGION_INFO]
        self.liar.answers[GET_REGION_INFO] = lambda body: answer(
            body[:8] + struct.pack('<I', 3) + body[12:])
        self.assert_rejected('describes another region than it was asked for')

    def test_region_with_too_much_to_say(self):
        self.liar.answers[GET_REGION_INFO] = lambda body: struct.pack(
            '<IIIIQQ', 1 << 20, 0xf, struct.unpack_from('<I', body, 8)[0], 32,
            4096, 0)
        self.assert_rejected('has too much to say of a region')

    def test_capabilities_of_a_region_are_not_believed(self):
        """A mapping is only believed with a file that cannot be truncated."""
        self.liar.answers[GET_REGION_INFO] = lambda body: struct.pack(
            '<IIIIQQ', 32, 0xf, struct.unpack_from('<I', body, 8)[0], 28,
            {0: 4096, 7: 256}.get(struct.unpack_from('<I', body, 8)[0], 0), 0)
        self.plug()
        self.assert_others_unharmed()

    def test_refuses_memory(self):
        self.liar.replies[DMA_MAP] = lambda i, body: header(
            i, DMA_MAP, 0, REPLY | ERROR, errno.ENOMEM)
        self.assert_rejected('refuses guest memory')

    def test_no_version(self):
        self.liar.answers[VERSION] = lambda body: None
        began = time.monotonic()
        with self.assertRaises(ExecuteError):
            self.plug()
        self.assertLess(time.monotonic() - began, 5 + SOON)
        self.assert_others_unharmed()

    def test_twin_socket_that_is_none(self):
        answer = self.liar.answers[VERSION](b'')
        with open('/dev/null', 'rb') as null:
            self.liar.replies[VERSION] = lambda i, body: socket.send_fds(
                self.liar.socket, [header(i, VERSION, len(answer)) + answer],
                [null.fileno()]) and b''
            self.assert_rejected('offers a twin_socket without sending it')

    def test_twin_socket_without_socket(self):
        said = bytes(4) + b'{"capabilities":{"twin_socket":' \
            b'{"supported":true,"fd_index":0}}}\0'
        self.liar.replies[VERSION] = lambda i, body: header(
            i, VERSION, len(said)) + said
        self.assert_rejected('offers a twin_socket without sending it')

    def test_leaves_at_each_step(self):
        """Whenever it does, the device is refused, and no more."""
        for step in (VERSION, DMA_MAP, GET_INFO, GET_REGION_INFO, REGION_READ,
                     GET_IRQ_INFO):
            with self.subTest(step):
                self.liar.stop()
                path = self.sockets / f'liar{step}'
                self.liar = RawServer(path, twin=self.twin)
                self.addCleanup(self.liar.stop)
                self.liar.replies[step] = self.leave
                try:
                    self.plug()
                except ExecuteError:
                    self.assert_others_unharmed()
                    continue
                # What it left after may not matter to a device without it.
                self.assertEqual(step, GET_IRQ_INFO)
                self.command('device_del', id='liar')

    def leave(self, *_args):
        self.liar.socket.shutdown(socket.SHUT_RDWR)
        return b''


@needs_nyx
class ColdLiesTest(_HostileCase):
    """At start, QEMU says why it does not."""

    def test_bar_of_odd_size(self):
        bad = RawServer(self.sockets / 'bad0')
        self.addCleanup(bad.stop)
        bad.region_sizes[0] = 12345
        with self.assertRaises(GuestDied) as caught:
            self.run_vm('-device', vfio_user('bad0', bad.path, addr='10.0'))
        self.assertIn('has a BAR whose size is no power of 2',
                      str(caught.exception))
