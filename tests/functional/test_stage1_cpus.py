# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""More CPUs than 8-bit APIC IDs can name: interrupts need stage 1 for them."""

import re

from nyxtest.case import GuestTest, needs_nyx
from nyxtest.devices import add_disk
from nyxtest.guest import block_device, disk_sum, pci_address, sha256

ALL_CPUS = 260
LAST = ALL_CPUS - 1
# No CPU measures its clock by itself, or checks it against another's; none waits
# for all others to have been idle once before the next one starts. That so many
# wait long for the few that the host has is no trouble of the kernel.
KERNEL_ARGUMENTS = ('lpj=3000000 tsc=reliable nowatchdog '
                    'rcupdate.rcu_expedited=1 '
                    'rcupdate.rcu_cpu_stall_suppress=1')


class _ManyCpusTest(GuestTest):
    cpus = ALL_CPUS
    memory = '1G'
    boot_limit = 500
    stage1 = None
    remapping = None            # what Linux says that it uses

    @classmethod
    def describe(cls, vm):
        vm.machine_options.append(f'stage1={cls.stage1}')
        vm.kernel_arguments.append(KERNEL_ARGUMENTS)
        cls.disk = add_disk(vm, 'ahci', 'disk0')

    def test_1_cpus(self):
        """All CPUs work, the last ones by APIC IDs above 255."""
        self.assertEqual(self.vm.agent.check('nproc'), str(ALL_CPUS))
        self.assertRegex(self.vm.console(), self.remapping)
        self.assertEqual(
            self.vm.agent.check(f'taskset -c {LAST} '
                                'awk \'{ print $39 }\' /proc/self/stat'),
            str(LAST))

    def test_2_interrupts(self):
        """A disk's interrupts go to the last CPU only."""
        device = block_device(self.vm, 'disk0')
        numbers = self.vm.agent.check(
            f'ls /sys/bus/pci/devices/{pci_address(self.vm, "disk0")}/msi_irqs'
        ).split()
        for number in numbers:
            self.vm.agent.check(
                f'echo {LAST} >/proc/irq/{number}/smp_affinity_list')
        before = self.interrupts(numbers)
        self.assertEqual(disk_sum(self.vm, device, 0, 8),
                         sha256(self.disk.read(0, 8)))
        # A request of 1 MiB makes an interrupt, or more.
        self.assertGreaterEqual(self.interrupts(numbers), before + 8)
        self.assert_no_faults()

    def interrupts(self, numbers):
        """How many of them the last CPU has had."""
        lines = self.vm.agent.check('cat /proc/interrupts').splitlines()
        names = lines[0].split()
        column = names.index(f'CPU{LAST}') + 1
        rows = {line.split(':')[0].strip(): line.split()
                for line in lines[1:]}
        return sum(int(rows[number][column]) for number in numbers
                   if number in rows)


@needs_nyx
class IntelManyCpusTest(_ManyCpusTest):
    stage1 = 'intel'
    remapping = re.compile('DMAR-IR: Enabled IRQ remapping in x2apic mode')


@needs_nyx
class AmdManyCpusTest(_ManyCpusTest):
    stage1 = 'amd'
    remapping = re.compile('AMD-Vi: X2APIC enabled')
