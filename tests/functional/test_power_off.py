# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""S4 and S5: a Linux guest hibernates or switches off, and comes back.

QEMU stays, as with -no-shutdown, and with it all that the operator has said.
"""

from nyxtest.case import needs_nyx
from nyxtest.guest import block_device
from nyxtest.power import (CUT_OFF, SECONDS, PowerTest, stay_off, switch_on,
                           wait_off)
from nyxtest.stage1 import Stage1Test

SWAP_SIZE = '512M'
OFF = {'guest': True, 'reason': 'guest-shutdown'}
MARK = '/run/before'


class _HibernateTest(PowerTest):
    @classmethod
    def describe(cls, vm):
        super().describe(vm)
        # No test of the compressor, which may be a module.
        vm.kernel_arguments.append('hibernate=nocompress')
        path = vm.folder / 'swap.raw'
        vm.folder.mkdir(parents=True, exist_ok=True)
        with path.open('wb') as file:
            file.truncate(int(SWAP_SIZE[:-1]) << 20)
        vm.add('-blockdev', f'driver=file,node-name=swap,filename={path}')
        vm.device('nvme', ('nvme',), 'disks', id='swap', drive='swap',
                  serial='swap')

    @classmethod
    def prepare(cls, vm):
        super().prepare(vm)
        stay_off(vm)

    def test_1_hibernate(self):
        """Off by S4, on again: the guest goes on in what it was doing."""
        vm = self.vm
        swap = block_device(vm, 'swap', SECONDS)
        vm.agent.check(f'mkswap {swap} && swapon {swap} && '
                       f'cat /proc/sys/kernel/random/boot_id >{MARK} && '
                       'echo platform >/sys/power/disk && '
                       'echo 0 >/sys/power/image_size')
        mark = vm.agent.check(f'cat {MARK}')
        before, since = self.lasting(), vm.monitor.position()
        number = vm.agent.begin('echo disk >/sys/power/state')
        self.assertEqual(wait_off(vm, since), OFF)
        self.assertTrue(vm.monitor.seen('SUSPEND_DISK', since))
        self.assert_state(CUT_OFF, 'quarantined')
        switch_on(vm)
        # This kernel loads the other one, whose agent then answers.
        self.assertNotEqual(
            vm.agent.check('cat /proc/sys/kernel/random/boot_id'), mark)
        swap = block_device(vm, 'swap', SECONDS)
        vm.agent.begin(f'cat /sys/class/block/{swap[5:]}/dev '
                       '>/sys/power/resume')
        result = vm.agent.finish(number, 'hibernate', SECONDS)
        self.assertEqual(result.status, 0, result.output)
        self.assertEqual(
            vm.agent.check(f'cat /proc/sys/kernel/random/boot_id {MARK}'),
            f'{mark}\n{mark}')
        self.assert_lasted(before, since)
        self.assert_disks_work()
        self.assert_no_faults()


    def test_2_off(self):
        """Off by S5, on again: the guest boots anew."""
        vm = self.vm
        before, since = self.lasting(), vm.monitor.position()
        vm.agent.begin('poweroff -f')
        self.assertEqual(wait_off(vm, since), OFF)
        self.assertEqual(vm.monitor.command('query-status')['status'],
                         'shutdown')
        self.assertEqual(vm.monitor.seen('SUSPEND_DISK', since), [])
        self.assert_state(CUT_OFF, 'quarantined')
        switch_on(vm)
        self.assertEqual(vm.agent.run(f'[ -e {MARK} ]').status, 1)
        self.assert_lasted(before, since)
        self.assert_disks_work()


@needs_nyx
class OffTest(_HibernateTest):
    """stage1=none"""

    def test_3_confined(self):
        self.assert_confined()

    def test_4_recovery(self):
        self.assert_recovers()


class _Stage1OffTest(_HibernateTest, Stage1Test):
    def test_3_stage1(self):
        self.assert_dma('nvme0', 'translating')


class IntelOffTest(_Stage1OffTest):
    kind = 'intel'


class AmdOffTest(_Stage1OffTest):
    kind = 'amd'
