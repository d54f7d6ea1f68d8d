# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""Linux guests, by KVM, with a VF of a real (so they think) network card."""

import re

from nested.case import NestedTest
from nyxtest.httpserver import FileServer
from nyxtest.stage1 import MODELS

FETCH_BYTES = 1 << 20
GATEWAY = '10.0.2.2'
RESET_SECONDS = 180
DHCP_SCRIPT = ('#!/bin/sh\\n[ "$1" = bound ] && ip addr flush dev $interface '
               '&& ip addr add $ip/24 dev $interface\\nexit 0\\n')


class _VfGuestTest(NestedTest):
    """self.guest is the guest; its VF is vf0, in the domain net."""

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

    @classmethod
    def boot(cls, machine='nyx-pc', append='', modules=()):
        return cls.host.inner(
            '-object', 'nyx-domain,id=net',
            '-device', 'pcie-root-port,id=rp,slot=1',
            '-device', f'vfio-pci,id=vf0,host={cls.vfs[0]},bus=rp,'
            'nyx-domain=net', machine=machine, kernel=True,
            modules=[*modules, 'igbvf'], append=append)

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

    def check_traffic(self, dma):
        self.connect()
        before = self.interrupts()
        self.fetch()
        self.assertGreater(self.interrupts(), before)
        info = self.device(self.guest, 'vf0')
        self.assertEqual((info['domain'], info['state'], info['backend'],
                          info['faults-observable'], info['dma']),
                         ('net', 'operational', 'vfio', False, dma))
        self.assertEqual(self.host.iommu_faults(self.vfs[0]), set())

    def check_quarantine_and_recovery(self):
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

    def check_guest_unharmed(self):
        self.assertEqual(self.guest.agent.check('echo alive'), 'alive')
        self.assertFalse(re.search(r'Call Trace|BUG:|Oops',
                                   self.guest.console()))


class VfTest(_VfGuestTest):
    """One guest, in which the tests go in the order of their names."""

    @classmethod
    def prepare(cls, host):
        super().prepare(host)
        cls.guest = cls.boot()

    def test_1_traffic(self):
        self.check_traffic('pass-through')

    def test_2_quarantine_and_recovery(self):
        self.check_quarantine_and_recovery()

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

    def test_4_reset_of_vm(self):
        self.guest.monitor.command('system_reset')
        self.guest.agent.wait_ready(RESET_SECONDS)
        self.connect()
        self.fetch()

    def test_5_guest_unharmed(self):
        self.check_guest_unharmed()


class _Stage1Test(_VfGuestTest):
    """Guests with an IOMMU, which map for the VF what it needs at a time."""

    def check(self, kind, options=''):
        model = MODELS[kind]
        type(self).guest = self.boot(
            f'nyx-pc,stage1={kind}{options}',
            f'{model.kernel_arguments} iommu.passthrough=0 iommu.strict=1',
            model.modules)
        self.check_traffic('translating')
        self.check_quarantine_and_recovery()
        self.check_guest_unharmed()
        self.assertEqual(self.guest.stop(), 0)


class VfStage1Test(_Stage1Test):
    def test_intel(self):
        self.check('intel', ',kernel-irqchip=split')

    def test_amd(self):
        self.check('amd', ',kernel-irqchip=split')


class VfVirtioIommuTest(_Stage1Test):
    rare_module = MODELS['virtio'].rare_module

    def test_virtio(self):
        self.check('virtio')
