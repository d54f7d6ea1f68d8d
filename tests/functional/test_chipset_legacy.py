# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""A guest that knows nothing of ACPI: MP table, or not even IOAPICs."""

from nyxtest.case import GuestTest
from nyxtest.devices import add_nic
from nyxtest.guest import bring_up, fetch_sum

SECONDS = 240
SOCKETS = 4
TICKS = '/sys/devices/system/clockevents'


class _LegacyTest(GuestTest):
    memory = '256M'
    arguments = ''

    @classmethod
    def describe(cls, vm):
        vm.kernel_arguments.append(f'acpi=off {cls.arguments}')
        # It has no MSI, so its pin is led through what is tested here.
        cls.nic = add_nic(vm, 'e1000', 'nic0')

    def rows(self, controller):
        """What interrupts by it: name -> how often."""
        found = {}
        for line in self.vm.agent.check('cat /proc/interrupts').splitlines():
            words = line.split()
            if controller in words:
                at = words.index(controller)
                found[words[-1]] = sum(map(int, words[1:at]))
        return found

    def check_card(self, controller):
        """Data comes by a card that interrupts there."""
        card = bring_up(self.vm, self.nic, SECONDS)
        before = self.rows(controller)[card]
        self.assertEqual(
            fetch_sum(self.vm, self.server.url(self.nic), SECONDS),
            self.server.sha256)
        self.assertGreater(self.rows(controller)[card], before)
        self.assert_no_faults()

    def test_1_no_acpi(self):
        self.vm.agent.check('[ ! -e /sys/firmware/acpi/tables ]')
        self.assertEqual(self.vm.agent.check('nproc'), str(self.found))


class MpTableTest(_LegacyTest):
    """The firmware's MP table names CPUs, IOAPIC, and what is wired to it.

    Of each socket it names one CPU only: the specification is older than cores.
    """

    cpus = f'{SOCKETS},sockets={SOCKETS},cores=1,threads=1'
    found = SOCKETS

    def test_2_table(self):
        said = self.vm.console()
        self.assertIn('Intel MultiProcessor Specification v1.4', said)
        self.assertRegex(said, r'IOAPIC\[0\]: apic_id \d+, version 32, '
                         'address 0xfec00000')

    def test_3_interrupts(self):
        self.check_card('IO-APIC')
        self.assertEqual(self.rows('XT-PIC').keys() - {'cascade'}, set())


class PicTest(_LegacyTest):
    """As on the first PCs: two PICs, and the PIT ticks."""

    cpus = found = 1
    arguments = 'noapic nolapic hpet=disable'

    def test_2_ticks(self):
        self.assertEqual(self.vm.agent.check(
            f'cat {TICKS}/clockevent0/current_device'), 'pit')
        before = self.rows('XT-PIC')['timer']
        self.vm.agent.wait("[ $(awk '/XT-PIC.* timer/ { print $2 }' "
                           f'/proc/interrupts) -gt {before} ]', SECONDS)

    def test_3_interrupts(self):
        self.check_card('XT-PIC')
        self.assertEqual(self.rows('IO-APIC'), {})
