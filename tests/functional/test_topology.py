# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""Devices work in their domains wherever they are on the PCI bus."""

import subprocess
import unittest

from nyxtest.case import GuestTest, has_nyx, needs_nyx
from nyxtest.devices import add_disk, add_nic
from nyxtest.guest import (block_device, bring_up, disk_sum, fetch_sum,
                           pci_address, sha256, write_random)
from nyxtest.paths import QEMU
from nyxtest.vm import machine_name


class TopologyTest(GuestTest):
    """Root bus, root port, switch, PCI bridge and multifunction in a guest."""

    @classmethod
    def describe(cls, vm):
        cls.disks, cls.nics, cls.domains = {}, {}, {}
        cls.vm = vm
        vm.device('pcie-root-port', id='port0', chassis=1, slot=1)
        vm.device('pcie-root-port', id='port1', chassis=2, slot=2)
        vm.device('x3130-upstream', id='up', bus='port1')
        for number in (0, 1):
            vm.device('xio3130-downstream', id=f'down{number}', bus='up',
                      chassis=3 + number, slot=number)
        vm.device('pcie-pci-bridge', id='bridge')
        cls.disk('virtio-blk-pci', 'on-root')
        cls.disk('nvme', 'on-port', bus='port0')
        cls.nic('e1000e', 'on-switch0', bus='down0')
        cls.disk('virtio-blk-pci', 'on-switch1', bus='down1')
        vm.domain('behind-bridge', isolation='shared')
        cls.nic('e1000', 'on-bridge0', 'behind-bridge', bus='bridge', addr=1)
        cls.disk('ahci', 'on-bridge1', 'behind-bridge', bus='bridge', addr=2)
        cls.disk('nvme', 'function0', addr='10.0', multifunction='on')
        cls.disk('virtio-blk-pci', 'function1', addr='10.1')
        cls.nic('e1000e', 'function2', addr='10.2')

    @classmethod
    def own_domain(cls, name, domain):
        if domain is None:
            domain = f'dom-{name}'
            cls.vm.domain(domain, isolation='strict')
        cls.domains[name] = domain
        return domain

    @classmethod
    def disk(cls, driver, name, domain=None, **where):
        cls.disks[name] = add_disk(cls.vm, driver, name,
                                   cls.own_domain(name, domain), **where)

    @classmethod
    def nic(cls, driver, name, domain=None, **where):
        cls.nics[name] = add_nic(cls.vm, driver, name,
                                 cls.own_domain(name, domain), **where)

    @classmethod
    def prepare(cls, vm):
        for nic in cls.nics.values():
            bring_up(vm, nic)

    def check(self, name):
        if name in self.disks:
            disk = self.disks[name]
            device = block_device(self.vm, name)
            self.assertEqual(disk_sum(self.vm, device, 0, 4),
                             sha256(disk.read(0, 4)))
            self.assertEqual(write_random(self.vm, device, 16, 4),
                             sha256(disk.read(16, 4)))
        else:
            url = self.server.url(self.nics[name])
            self.assertEqual(fetch_sum(self.vm, url), self.server.sha256)
        if has_nyx():
            self.assert_in_domain(name, self.domains[name])
            self.assertEqual(self.nyx_device(name)['bdf'],
                             pci_address(self.vm, name))
        self.assert_no_faults()

    def test_root_bus(self):
        self.check('on-root')

    def test_root_port(self):
        self.check('on-port')

    def test_switch(self):
        self.check('on-switch0')
        self.check('on-switch1')

    def test_pcie_to_pci_bridge(self):
        self.check('on-bridge0')
        self.check('on-bridge1')

    def test_multifunction(self):
        for number in range(3):
            self.check(f'function{number}')


@needs_nyx
class RefusalTest(unittest.TestCase):
    """What cannot be isolated as asked is refused at start, in a sentence."""

    def refused(self, *arguments):
        """Start QEMU with these devices; returns what it complains about."""
        done = subprocess.run(
            [str(QEMU), '-M', machine_name(), '-nodefaults', '-display',
             'none', '-S', '-monitor', 'none', *arguments],
            stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=20, check=False)
        self.assertEqual(done.returncode, 1, done.stderr)
        return done.stderr

    def test_different_domains_behind_a_pci_bridge(self):
        said = self.refused(
            '-object', 'nyx-domain,id=one', '-object', 'nyx-domain,id=two',
            '-device', 'pcie-pci-bridge,id=bridge',
            '-device', 'e1000,id=nic0,bus=bridge,addr=1,nyx-domain=one',
            '-device', 'e1000,id=nic1,bus=bridge,addr=2,nyx-domain=two')
        self.assertRegex(said, 'nic1')

    def test_second_device_in_a_strict_domain(self):
        said = self.refused(
            '-object', 'nyx-domain,id=one,isolation=strict',
            '-device', 'e1000e,id=nic0,nyx-domain=one',
            '-device', 'e1000e,id=nic1,nyx-domain=one')
        self.assertRegex(said, 'strict')

    def test_unknown_domain(self):
        said = self.refused('-device', 'e1000e,id=nic0,nyx-domain=nowhere')
        self.assertRegex(said, 'nowhere')

    def test_legacy_virtio(self):
        said = self.refused(
            '-device', 'virtio-rng-pci,id=rng0,disable-modern=on')
        self.assertRegex(said, 'rng0|virtio')
