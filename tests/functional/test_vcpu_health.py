# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""A Linux guest whose vCPUs are watched: which of them count as stuck."""

import tempfile
import time
from pathlib import Path

from nyxtest.case import GuestTest, needs_nyx
from nyxtest.gdbstub import EFLAGS, RIP, GdbStub
from nyxtest.jobs import snapshot, snapshot_disk

SECONDS = 180
LIMIT_MS = 1000                 # once Linux is up
STEPS = 40
EFLAGS_IF = 1 << 9
LOOP = bytes.fromhex('ebfe')    # jmp to itself
CHUNK = 1 << 16
KERNEL = range(0xffffffff80000000, 0xffffffffc0000000)  # without modules


@needs_nyx
class VcpuHealthTest(GuestTest):
    """One guest with two vCPUs; it is halted at the end."""

    memory = '256M'

    @classmethod
    def describe(cls, vm):
        cls.sockets = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.sockets.cleanup)
        cls.gdb_path = Path(cls.sockets.name) / 'gdb'
        path = vm.folder / 'snapshots.qcow2'
        vm.add(*snapshot_disk(path))
        cls.addClassCleanup(path.unlink)
        # What is to be found here, its kernel must not find before.
        vm.kernel_arguments += ['nowatchdog',
                                'rcupdate.rcu_cpu_stall_suppress=1']
        vm.add('-gdb', f'unix:{cls.gdb_path},server=on,wait=off')

    def vcpus(self):
        return self.vm.monitor.command('query-nyx-vcpus')

    def set_option(self, name, value):
        self.vm.monitor.command('qom-set', path='/machine', property=name,
                                value=value)

    def await_vcpu(self, index, what, **members):
        limit = time.monotonic() + SECONDS
        while True:
            info = self.vcpus()[index]
            if all(info.get(key.replace('_', '-')) == value
                   for key, value in members.items()):
                return info
            self.assertLess(time.monotonic(), limit,
                            f'vCPU {index} is not {what}: {info}')
            time.sleep(0.05)

    def await_progress(self, limits):
        """Both vCPUs are seen to be well after so many limits more."""
        command = self.vm.monitor.command
        for index in range(self.cpus):
            start = self.vcpus()[index]['last-progress-ns']
            end = time.monotonic() + SECONDS
            while self.vcpus()[index]['last-progress-ns'] < \
                    start + limits * LIMIT_MS * 1_000_000:
                self.assertLess(time.monotonic(), end, command(
                    'query-nyx-vcpus'))
                time.sleep(0.05)

    def assert_never_stuck(self, since=0):
        self.assertEqual(self.vm.monitor.seen('NYX_VCPU_STUCK', since), [])
        self.assertFalse([i for i in self.vcpus() if 'stuck' in i])

    def test_1_boot(self):
        """Not the firmware, not a kernel that unpacks itself, not idling."""
        for info in self.vcpus():
            self.assertGreater(info['cpu-time-ns'], 0)
        self.set_option('vcpu-check-ms', 100)
        self.set_option('vcpu-stuck-ms', LIMIT_MS)
        self.await_progress(2)
        self.assert_never_stuck()

    def test_2_offline(self):
        """A CPU that Linux has put aside is halted without interrupts."""
        online = '/sys/devices/system/cpu/cpu1/online'
        self.vm.agent.check(f'echo 0 > {online}')
        self.await_vcpu(1, 'offline', state='halted', interrupts=False)
        self.await_progress(2)
        self.vm.agent.check(f'echo 1 > {online}')
        self.await_progress(1)
        self.assert_never_stuck()

    def test_3_snapshot(self):
        """The state of another time is loaded while vCPUs work."""
        self.vm.agent.check('(while :; do :; done) & echo $! > /tmp/busy')
        snapshot(self.vm, 'save', 'then')
        self.await_progress(1)
        snapshot(self.vm, 'load', 'then')
        self.await_progress(1)
        self.vm.agent.check('kill $(cat /tmp/busy)')
        self.assert_never_stuck()

    def stop_in_kernel(self):
        """A debugger that has stopped vCPU 1 there, at work."""
        limit = time.monotonic() + SECONDS
        while True:
            gdb = GdbStub(self.gdb_path)
            gdb.choose(1)
            if gdb.register(RIP) in KERNEL:
                return gdb
            gdb.detach()
            self.assertLess(time.monotonic(), limit, 'never in the kernel')

    def loop_in_kernel(self, pc):
        """Where the kernel has a jump to itself, in its code below pc."""
        path = self.vm.folder / 'text'
        text = b''
        start = pc
        while LOOP not in text:
            start -= CHUNK
            self.vm.monitor.command('memsave', val=start, size=CHUNK,
                                    filename=str(path), cpu_index=1)
            text = path.read_bytes()
            path.unlink()
        return start + text.index(LOOP)

    def test_4_closed(self):
        """A debugger has vCPU 1 spin in the kernel without interrupts."""
        # One for each vCPU: what is halted would not run.
        self.vm.agent.check('for i in 0 1; do dd if=/dev/zero of=/dev/null '
                            'bs=64k & done')
        since = self.vm.monitor.position()
        gdb = self.stop_in_kernel()
        pc, flags = gdb.register(RIP), gdb.register(EFLAGS)
        loop = self.loop_in_kernel(pc)
        gdb.set_register(EFLAGS, flags & ~EFLAGS_IF, 4)
        gdb.set_register(RIP, loop)
        # Stopped, and again and again for a moment, it is not stuck.
        for _ in range(STEPS):
            gdb.step(1)
            time.sleep(2 * LIMIT_MS / 1000 / STEPS)
        self.assert_never_stuck()
        gdb.detach()
        event = self.vm.monitor.wait_event('NYX_VCPU_STUCK', since, SECONDS)
        self.assertEqual((event['data']['vcpu'], event['data']['reason'],
                          event['data']['pc']), (1, 'interrupts-off', loop))
        self.assertNotIn('stuck', self.vcpus()[0])
        self.assertIn('interrupts-off', self.vm.monitor.command(
            'human-monitor-command', command_line='info nyx-vcpus'))
        gdb = GdbStub(self.gdb_path)
        gdb.choose(1)
        gdb.set_register(EFLAGS, flags, 4)
        gdb.set_register(RIP, pc)
        gdb.detach()
        self.vm.monitor.wait_event('NYX_VCPU_RECOVERED', since, SECONDS,
                                   vcpu=1)
        self.vm.agent.check('killall dd')

    def test_zzz_halt(self):
        """Once the guest is halted, all its vCPUs are for good."""
        self.vm.agent.begin('halt -f')
        event = self.vm.monitor.wait_event('NYX_VCPU_STUCK', 0, SECONDS,
                                           reason='halted')
        self.assertEqual(event['data']['vcpu'], 0)
