# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""An unmodified guest takes part in recovery, by downstream port containment.

The guest's DPC driver finds the error that nyx-root-port contains, has the
device's driver let go of it and set it up anew; a mounted file system and a
configured network interface stay what they are.
"""

import os
import time

from nyxtest.case import GuestTest, needs_nyx
from nyxtest.devices import add_disk, add_nic
from nyxtest.guest import block_device, bring_up, fetch_sum

RECOVERED = 'device recovery successful'
SECONDS = 30


@needs_nyx
class _RootPortTest(GuestTest):
    """NVMe with a file system, and e1000e, each behind a port of its own."""

    recovery = None
    max_recoveries = 5

    @classmethod
    def describe(cls, vm):
        vm.machine_options += [f'recovery={cls.recovery}',
                               f'max-recoveries={cls.max_recoveries}']
        for number, port in enumerate(('rp0', 'rp1'), 1):
            vm.device('nyx-root-port', id=port, chassis=number, slot=number)
        # Linux 6.1 loses requests with shadow doorbells: recovery.rst
        add_disk(vm, 'nvme', 'nvme0', bus='rp0', dbcs='off')
        cls.nic = add_nic(vm, 'e1000e', 'nic0', bus='rp1')

    @classmethod
    def prepare(cls, vm):
        bring_up(vm, cls.nic)
        device = block_device(vm, 'nvme0')
        vm.agent.check(f'load-modules crc32c_generic ext4; mke2fs {device} '
                       f'>/dev/null 2>&1 && mount -t ext4 {device} /mnt')

    def write_file(self, name):
        """Write a file to the disk; return its sum as the disk has it."""
        self.vm.agent.check(f'dd if=/dev/urandom of=/mnt/{name} bs=64k '
                            'count=16 2>/dev/null; sync')
        return self.read_file(name)

    def read_file(self, name):
        return self.vm.agent.check('echo 3 >/proc/sys/vm/drop_caches; '
                                   f'sha256sum </mnt/{name}')

    def await_console(self, words, count):
        end = time.monotonic() + SECONDS
        while self.vm.console().count(words) < count:
            self.assertLess(time.monotonic(), end,
                            f'the guest did not say "{words}" {count} times')
            time.sleep(0.1)

    def contain_and_recover(self, name):
        """Quarantine a device, and wait until its driver works again."""
        before = self.vm.console().count('DPC: containment event')
        succeeded = self.vm.console().count(RECOVERED)
        since = self.vm.monitor.position()
        self.vm.monitor.command('nyx-quarantine-device', device=name)
        if self.recovery == 'manual':
            # The port has told of an error that contains nothing.
            self.assert_state(name, 'quarantined')
            self.await_console(RECOVERED, succeeded + 1)
            succeeded += 1
            self.vm.monitor.command('nyx-recover-device', device=name)
        self.vm.monitor.wait_event('NYX_DEVICE_STATE', since, device=name,
                                   new='operational')
        self.await_console('DPC: containment event', before + 1)
        self.await_console(RECOVERED, succeeded + 1)

    def throttle(self, iops):
        """How many requests the disk does in a second; 0: all it can"""
        said = self.vm.monitor.command(
            'human-monitor-command',
            command_line=f'block_set_io_throttle nvme0 0 0 0 {iops} 0 0')
        self.assertEqual(said, '')

    def start_readers(self, device):
        """Read for ever on each processor, several requests at a time."""
        self.vm.agent.check('touch /run/go')
        for cpu in range(self.cpus):
            self.vm.agent.check(
                f'(while [ -e /run/go ] && taskset {1 << cpu} dd if={device} '
                'of=/dev/null bs=4M count=1 iflag=direct 2>/dev/null; '
                f'do echo >>/run/done{cpu}; done; echo >/run/ended{cpu}) '
                '>/dev/null 2>&1 &')

    def await_reads(self):
        """Wait until each reader has read twice more."""
        for cpu in range(self.cpus):
            path = f'/run/done{cpu}'
            had = int(self.vm.agent.check(f'touch {path}; wc -l <{path}'))
            self.vm.agent.wait(f'[ $(wc -l <{path}) -ge {had + 2} ]', SECONDS)

    def check_requests_under_way(self):
        """What waits in the disk when it is cut off is done thereafter."""
        device = block_device(self.vm, 'nvme0')
        self.start_readers(device)
        self.addCleanup(self.vm.agent.check, 'rm -f /run/go')
        self.await_reads()
        self.throttle(5)
        self.addCleanup(self.throttle, 0)
        inflight = f'/sys/block/{os.path.basename(device)}/inflight'
        self.vm.agent.wait(f'[ $(cut -c -8 <{inflight}) -ge 8 ]', SECONDS)
        self.contain_and_recover('nvme0')
        self.throttle(0)
        self.await_reads()
        self.vm.agent.check('rm /run/go')
        for cpu in range(self.cpus):
            self.vm.agent.wait(f'[ -e /run/ended{cpu} ]', SECONDS)
        self.assertNotRegex(self.vm.console(), r'I/O .*timeout')

    def test_containment_is_enabled(self):
        self.assertIn('DPC: enabled', self.vm.console())

    def test_file_system_goes_on(self):
        kept = self.write_file('kept')
        self.contain_and_recover('nvme0')
        self.assertEqual(self.read_file('kept'), kept)
        self.assertEqual(self.write_file('new'), self.read_file('new'))

    def test_network_goes_on(self):
        url = self.server.url(self.nic)
        self.assertEqual(fetch_sum(self.vm, url), self.server.sha256)
        self.contain_and_recover('nic0')
        self.assertEqual(fetch_sum(self.vm, url), self.server.sha256)


class ManualTest(_RootPortTest):
    recovery = 'manual'

    def test_requests_under_way(self):
        self.check_requests_under_way()


class AutomaticTest(_RootPortTest):
    recovery = 'auto'

    def test_requests_under_way(self):
        self.check_requests_under_way()

    def test_fault_limit(self):
        """Nobody does anything: faults, containment, recovery, work."""
        kept = self.write_file('limit')
        since = self.vm.monitor.position()
        succeeded = self.vm.console().count(RECOVERED)
        self.vm.monitor.command('nyx-inject-fault', device='nvme0',
                                address=0x1000, access='w', count=11)
        self.vm.monitor.wait_event('NYX_DEVICE_STATE', since, device='nvme0',
                                   new='operational')
        self.await_console(RECOVERED, succeeded + 1)
        self.assertEqual(self.read_file('limit'), kept)


class BudgetTest(_RootPortTest):
    """Beyond the budget a device fails, and its guest loses only that."""

    recovery = 'auto'
    max_recoveries = 1

    def test_network_goes_on(self):
        self.contain_and_recover('nic0')
        since = self.vm.monitor.position()
        self.vm.monitor.command('nyx-quarantine-device', device='nic0')
        self.vm.monitor.wait_event('NYX_DEVICE_STATE', since, device='nic0',
                                   new='failed')
        self.assertEqual(self.write_file('after'), self.read_file('after'))
