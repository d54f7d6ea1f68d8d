# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""Linux guests, by KVM, with a VF of a real (so they think) network card."""

import re

from nested.case import NestedTest
from nyxtest.httpserver import FileServer

FETCH_BYTES = 1 << 20
GATEWAY = '10.0.2.2'
DHCP_SCRIPT = ('#!/bin/sh\\n[ "$1" = bound ] && ip addr flush dev $interface '
               '&& ip addr add $ip/24 dev $interface\\nexit 0\\n')


class _VfGuestTest(NestedTest):
    """One guest; its tests go in the order of their names."""

    machine = 'nyx-pc'
    append = ''

    @classmethod
    def describe(cls, host):
        host.igb('igb0')

    @classmethod
    def prepare(cls, host):
        host.load_kvm()
        cls.vfs = host.create_vfs('igb0', 2)
        # VFs are silent as long as the card itself is down.
        host.agent.check('ip link set eth0 up')
        cls.server = FileServer(FETCH_BYTES)
        cls.addClassCleanup(cls.server.close)
        cls.guest = host.inner(
            '-object', 'nyx-domain,id=net',
            '-device', 'pcie-root-port,id=rp,slot=1',
            '-device', f'vfio-pci,id=vf0,host={cls.vfs[0]},bus=rp,'
            'nyx-domain=net', machine=cls.machine, kernel=True,
            modules=['igbvf'], append=cls.append)

    def connect(self):
        """Bring the card up by DHCP."""
        check = self.guest.agent.check
        check(f"printf '{DHCP_SCRIPT}' >/run/dhcp && chmod +x /run/dhcp")
        self.guest.agent.wait('[ -d /sys/class/net/eth0 ]')
        check('ip link set eth0 up && udhcpc -i eth0 -n -q -t 20 -T 1 '
              '-s /run/dhcp', 120)

    def can_ping(self):
        return not self.guest.agent.run(f'ping -c 3 -W 2 {GATEWAY}').status

    def interrupts(self):
        """MSI-X messages that the guest has had from the card."""
        lines = self.guest.agent.check('cat /proc/interrupts').splitlines()
        return sum(int(line.split()[1]) for line in lines if 'eth0' in line)

    def fetch(self):
        url = f'http://{GATEWAY}:{self.server.port}/file'
        out = self.guest.agent.check(
            f'wget -q -O - {url} | sha256sum', 120)
        self.assertEqual(out.split()[0], self.server.sha256)

    def rebind(self):
        """The guest's driver sets the card up anew."""
        self.guest.agent.check(
            'd=$(readlink -f /sys/class/net/eth0/device); a=${d##*/}; '
            'echo $a >/sys/bus/pci/drivers/igbvf/unbind && '
            'echo $a >/sys/bus/pci/drivers/igbvf/bind')

    def test_1_traffic(self):
        self.connect()
        before = self.interrupts()
        self.fetch()
        self.assertGreater(self.interrupts(), before)
        info = self.device(self.guest, 'vf0')
        self.assertEqual((info['domain'], info['state'], info['backend'],
                          info['faults-observable']),
                         ('net', 'operational', 'vfio', False))
        self.assertEqual(self.host.iommu_faults(self.vfs[0]), set())

    def test_2_quarantine_and_recovery(self):
        command = self.guest.monitor.command
        self.assertTrue(self.can_ping())
        command('nyx-quarantine-device', device='vf0')
        interrupts = self.interrupts()
        self.assertFalse(self.can_ping())
        self.assertEqual(self.interrupts(), interrupts)
        command('nyx-recover-device', device='vf0')
        self.assertEqual(self.device(self.guest, 'vf0')['state'],
                         'operational')
        self.rebind()
        self.connect()
        self.fetch()

    def test_3_hotplug(self):
        monitor = self.guest.monitor
        since = monitor.position()
        monitor.command('device_del', id='vf0')
        monitor.wait_event('DEVICE_DELETED', since, device='vf0')
        self.guest.agent.wait('[ ! -e /sys/class/net/eth0 ]')
        monitor.command('device_add', driver='vfio-pci', id='vf1', bus='rp',
                        host=self.vfs[1], nyx_domain='net')
        self.connect()
        self.fetch()
        self.assertEqual(self.device(self.guest, 'vf1')['domain'], 'net')

    def test_zy_guest_unharmed(self):
        self.assertEqual(self.guest.agent.check('echo alive'), 'alive')
        self.assertFalse(re.search(r'Call Trace|BUG:|Oops',
                                   self.guest.console()))


class VfTest(_VfGuestTest):
    """All of the guest's RAM by one mapping."""

    def test_4_reset_of_vm(self):
        self.guest.monitor.command('system_reset')
        self.guest.agent.wait_ready(180)
        self.connect()
        self.fetch()


class VfIntelTest(_VfGuestTest):
    """The guest has an IOMMU, and maps for the VF what it needs at a time."""

    machine = 'nyx-pc,stage1=intel,kernel-irqchip=split'
    append = 'intel_iommu=on iommu.passthrough=0 iommu.strict=1'

    def test_1_traffic(self):
        super().test_1_traffic()
        self.assertEqual(self.device(self.guest, 'vf0')['dma'], 'translating')
