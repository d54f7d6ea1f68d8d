# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""S3: a Linux guest sleeps and wakes; what nyx-iommu knows lasts.

Linux's driver of virtio-iommu does not sleep: it waits for answers of a device
that it has switched off, on any machine. So there is no test with that.
"""

import time

from nyxtest.case import needs_nyx
from nyxtest.guest import pci_address
from nyxtest.move import move
from nyxtest.power import (CUT_OFF, SECONDS, WINDOW, PowerTest, sleep,
                           wake)
from nyxtest.stage1 import Stage1Test


class _SleepTest(PowerTest):
    def test_1_sleep(self):
        """Domains, mappings and a quarantine are as before; disks work."""
        self.assert_disks_work()
        before, since = self.lasting(), self.vm.monitor.position()
        slept = sleep(self.vm)
        self.assert_state(CUT_OFF, 'quarantined')
        wake(self.vm, slept)
        self.assert_lasted(before, since)
        self.assert_disks_work()
        self.assert_no_faults()

    def test_2_again(self):
        """What was set up anew after the first sleep, sleeps as well."""
        before, since = self.lasting(), self.vm.monitor.position()
        wake(self.vm, sleep(self.vm))
        self.assert_lasted(before, since)
        self.assert_disks_work()
        self.assert_no_faults()

    def test_3_recovery(self):
        self.assert_recovers()
        self.assert_no_faults()


@needs_nyx
class SleepTest(_SleepTest):
    """stage1=none"""

    def test_4_confined(self):
        self.assert_confined()

    def test_6_move(self):
        """It sleeps on in another process, and wakes there."""
        before = self.lasting()
        _, number = sleep(self.vm)
        move(self.vm)
        self.assertEqual(self.vm.monitor.command('query-status')['status'],
                         'suspended')
        wake(self.vm, (self.vm.monitor.position(), number))
        self.assertEqual(self.lasting(), before)
        self.assert_disks_work()

    def test_5_idle(self):
        """The guest idles by HLT, the one C-state that it knows."""
        self.assertEqual(
            self.vm.agent.check('cat /sys/devices/system/cpu/cpuidle/'
                                'current_driver; ls -d /sys/devices/system/'
                                'cpu/cpu0/cpuidle 2>/dev/null; true'), 'none')
        # On a busy host Linux may give one up in S3 ("do_boot_cpu failed").
        self.assertEqual(self.vm.agent.check(
            'cd /sys/devices/system/cpu; grep -q 0-1 online || '
            'echo 1 >cpu1/online; cat online'), '0-1')
        before = self.halted()
        limit = time.monotonic() + SECONDS
        while any(self.halted()[vcpu] <= halted_ns
                  for vcpu, halted_ns in before.items()):
            self.assertLess(time.monotonic(), limit, 'a vCPU is never idle')
            time.sleep(0.2)

    def halted(self):
        """vCPU -> how long it was found halted, in ns."""
        return {vcpu['vcpu']: vcpu['halted-ns'] for vcpu in
                self.vm.monitor.command('query-nyx-vcpus')}


class _Stage1SleepTest(_SleepTest, Stage1Test):
    """The guest's IOMMU is reset in S3; its driver sets it up again."""

    def test_0_before(self):
        self.assert_dma('nvme0', 'translating')

    def test_4_stage1(self):
        """It refuses again what no driver has mapped, and says so."""
        self.assert_dma('nvme0', 'translating')
        address = pci_address(self.vm, 'caged')
        before = self.nyx_device('caged')['faults-by-type']
        self.assertEqual(self.vm.agent.run(
            f'nyx-dma {address} read {WINDOW} 64').status, 3)
        self.wait_logged(address, 'Read', WINDOW)
        after = self.nyx_device('caged')['faults-by-type']
        self.assertEqual(after, {**before, 'stage1': before['stage1'] + 1})


class IntelSleepTest(_Stage1SleepTest):
    kind = 'intel'


class AmdSleepTest(_Stage1SleepTest):
    kind = 'amd'
