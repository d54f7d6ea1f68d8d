# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""Hostile vfio-user servers: DMA and interrupts that are not theirs."""

import errno
import os
import socket
import struct
import threading
import time

from nyxtest.case import needs_nyx
from nyxtest.hostile import SOON, HostileCase
from nyxtest.vfiouser import DMA_READ, DMA_WRITE, Gone, header
from nyxtest.vfiousercase import BAR, DEVFN, MIB, RAM

VTD = 0xfed90000


@needs_nyx
class DmaTest(HostileCase):
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
class InterruptTest(HostileCase):
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
