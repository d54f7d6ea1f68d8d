# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""Every kind of network card carries real traffic, without a fault."""

from nyxtest.case import GuestTest, has_nyx
from nyxtest.devices import NIC_MODELS, add_nic
from nyxtest.guest import bring_up, fetch_sum, network_load, send_sum

ROUNDS = 3


class NetTest(GuestTest):
    """One guest with a card of every model, each in a domain of its own."""

    models = NIC_MODELS

    @classmethod
    def describe(cls, vm):
        cls.nics = {}
        for name, driver in cls.models.items():
            vm.domain(f'dom-{name}', isolation='strict')
            cls.nics[name] = add_nic(vm, driver, name, f'dom-{name}')

    @classmethod
    def prepare(cls, vm):
        for nic in cls.nics.values():
            bring_up(vm, nic)

    def check_nic(self, name):
        url = self.server.url(self.nics[name])
        for _ in range(ROUNDS):
            self.assertEqual(fetch_sum(self.vm, url), self.server.sha256)
        here, there = send_sum(self.vm, url, 1)
        self.assertEqual(here, there)
        if has_nyx():
            self.assert_in_domain(name, f'dom-{name}')
        self.assert_no_faults()

    def test_e1000(self):
        self.check_nic('e1000')

    def test_e1000e(self):
        self.check_nic('e1000e')

    def test_igb(self):
        self.check_nic('igb')

    def test_virtio_net(self):
        self.check_nic('vnet')


class DualNicTest(GuestTest):
    """Two cards of one model in two strict domains, busy at the same time."""

    @classmethod
    def describe(cls, vm):
        cls.nics = []
        for name in ('left', 'right'):
            vm.domain(f'dom-{name}', isolation='strict')
            cls.nics.append(add_nic(vm, 'e1000e', name, f'dom-{name}'))

    @classmethod
    def prepare(cls, vm):
        for nic in cls.nics:
            bring_up(vm, nic)

    def test_both_at_once(self):
        loads = [network_load(self.vm, nic.name, self.server, nic) for nic in self.nics]
        for load in loads:
            load.wait_bytes(4 * self.server.size)
        for load in loads:
            progress = load.progress()
            self.assertEqual((progress.errors, progress.mismatches), (0, 0))
            load.stop()
        if has_nyx():
            for nic in self.nics:
                self.assert_in_domain(nic.name, f'dom-{nic.name}')
        self.assert_no_faults()
