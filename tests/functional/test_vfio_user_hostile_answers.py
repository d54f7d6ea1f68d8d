# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""Hostile vfio-user servers: answers that are none, late, or never come."""

import errno
import os
import socket
import struct
import threading
import time

from nyxtest.case import needs_nyx
from nyxtest.hostile import ALL_ONES, PORT_DEVFN, SOON, HostileCase
from nyxtest.vfiouser import (
    DMA_MAP, DMA_READ, DMA_UNMAP, ERROR, GET_INFO, REGION_READ, REGION_WRITE,
    REPLY, RESET, VERSION, RawServer, header)
from nyxtest.vfiousercase import BAR, MIB

PATIENCE_MS = 1000


@needs_nyx
class GarbageTest(HostileCase):
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
class SilenceTest(HostileCase):
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
