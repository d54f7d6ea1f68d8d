# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""Hostile vfio-user servers: what they say of the device at the start."""

import errno
import socket
import struct
import time

from qemu.qmp.qmp_client import ExecuteError

from nyxtest.case import needs_nyx
from nyxtest.errors import GuestDied
from nyxtest.hostile import SOON, HostileCase
from nyxtest.vfiouser import (
    CONFIG_REGION, DMA_MAP, ERROR, GET_INFO, GET_IRQ_INFO, GET_REGION_INFO,
    REGION_READ, REPLY, VERSION, RawServer, header)
from nyxtest.vfiousercase import BAR, vfio_user


@needs_nyx
class LiesTest(HostileCase):
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
class ColdLiesTest(HostileCase):
    """At start, QEMU says why it does not."""

    def test_bar_of_odd_size(self):
        bad = RawServer(self.sockets / 'bad0')
        self.addCleanup(bad.stop)
        bad.region_sizes[0] = 12345
        with self.assertRaises(GuestDied) as caught:
            self.run_vm('-device', vfio_user('bad0', bad.path, addr='10.0'))
        self.assertIn('has a BAR whose size is no power of 2',
                      str(caught.exception))
