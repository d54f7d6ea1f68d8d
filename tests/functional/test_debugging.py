# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""gdb on nyx-pc: breakpoints and watchpoints by symbols; trace events.

What docs/nyx/debugging.rst shows, with a program without an operating system
(tests/bare-metal), by TCG and KVM, and with Debian's kernel.
"""

import os
import platform
import re
import subprocess
import unittest

from nyxtest.case import GuestTest, needs_nyx
from nyxtest.gdb import Gdb, needs_gdb
from nyxtest.paths import LOGS
from nyxtest.payload import PayloadVM, build_payload

IOVA_UNMAPPED = 0x7f00010000        # as in tests/bare-metal/main.c
NYX = ('-M', 'nyx-pc,stage1=intel')
Q35 = ('-M', 'q35,kernel-irqchip=split', '-device', 'intel-iommu,intremap=on')

# Of the kernel's image; nothing of it lies below or beyond.
TEXT, END = 0xffffffff81000000, 0xffffffff85000000


def payload_vm(test, accel, machine):
    """The payload before its first instruction, and gdb on it."""
    folder = LOGS / f'{test.__module__}.{type(test).__name__}' / \
        machine[1].split(',')[0]
    socket = folder / 'gdb'
    vm = PayloadVM(folder, *machine, '-accel', accel, '-m', '256M',
                   '-device', 'nyx-testdev,id=td,addr=5', '-S',
                   '-gdb', f'unix:{socket},server=on,wait=off')
    test.addCleanup(vm.stop)
    vm.monitor.command('query-status')      # the socket is there
    gdb = Gdb(socket, build_payload())
    test.addCleanup(gdb.close)
    return gdb


def run_to(gdb, place, kind='hbreak'):
    """What gdb says when the VM has stopped at that place, or before."""
    said = gdb.command(f'{kind} {place}')
    if 'reakpoint ' not in said:
        raise AssertionError(said)
    return gdb.command('continue')


def stop_by_other_means(gdb):
    """What gdb says to a watchpoint, and then to a breakpoint in memory.

    Where these stop nothing, the VM comes to a hardware breakpoint.
    """
    run_to(gdb, '*payload_main')
    gdb.command('watch -l dev.requester')
    watch = run_to(gdb, 'vtd_enable_queue')
    gdb.command('delete')
    gdb.command('break vtd_attach')
    return watch, run_to(gdb, 'vtd_map')


@needs_gdb
@needs_nyx
@unittest.skipUnless(platform.machine() == 'x86_64',
                     'the payload is built with the compiler of this machine, '
                     'which is not for x86-64')
class TcgTest(unittest.TestCase):
    """The program stops where it is told to, and says where that is."""

    accel = 'tcg'

    def test_hardware_breakpoints(self):
        gdb = payload_vm(self, self.accel, NYX)
        said = run_to(gdb, 'vtd_map')
        self.assertRegex(said, r'Breakpoint 1, vtd_map \(iova=.*vtd\.c:\d+')
        self.assertIn('iova = 545460846592', gdb.command('info args'))
        frames = gdb.command('backtrace')
        self.assertRegex(frames, r'(?s)#0 .*vtd_map .*dma_through_stage1 .*'
                         r'payload_main .*start64 ')
        before = gdb.command('print/x $rip')
        gdb.command('stepi')
        self.assertNotEqual(before.split()[-1],
                            gdb.command('print/x $rip').split()[-1])
        gdb.command('delete')
        # The very access that the IOMMU will refuse; RSI: second argument
        run_to(gdb, f'*testdev_read if $rsi == {IOVA_UNMAPPED}')
        self.assertIn(' in faults () at main.c:', gdb.command('backtrace'))
        fault = f'{IOVA_UNMAPPED:#018x}'
        self.assertNotIn(fault, gdb.command('monitor info nyx-faults'))
        gdb.command('delete')
        run_to(gdb, 'vtd_take_fault')
        self.assertIn(fault, gdb.command('monitor info nyx-faults'))

    def test_other_means(self):
        watch, memory = stop_by_other_means(
            payload_vm(self, self.accel, NYX))
        watches = bool(re.search(r'Old value = 0\s+New value = 40\s', watch))
        breaks = ', vtd_attach (' in memory
        if self.accel == 'kvm' and not (watches and breaks):
            watch, memory = stop_by_other_means(
                payload_vm(self, self.accel, Q35))
            self.assertEqual((watches, breaks), (
                'New value = 40' in watch, ', vtd_attach (' in memory),
                'q35 does what nyx-pc does not')
            self.skipTest('this KVM does not stop q35 by a watchpoint or a '
                          'breakpoint in memory either')
        self.assertTrue(watches, watch)
        self.assertTrue(breaks, memory)


@unittest.skipUnless(os.access('/dev/kvm', os.R_OK | os.W_OK),
                     '/dev/kvm cannot be opened')
class KvmTest(TcgTest):
    accel = 'kvm'


def symbols_of(kallsyms, path):
    """Symbols of the running kernel as an object file for gdb."""
    lines = ['.section kernel, "ax", @nobits', f'start: .skip {END - TEXT}']
    for words in map(str.split, kallsyms.splitlines()):
        if len(words) == 3 and TEXT <= int(words[0], 16) < END:
            lines.append(f'.set "{words[2]}", start + 0x{words[0]} - {TEXT}')
    subprocess.run(['as', '-o', path, '-'], input='\n'.join(lines) + '\n',
                   text=True, check=True)


@needs_gdb
@needs_nyx
class LinuxTest(GuestTest):
    """Debian's kernel with the symbols that it has of itself, by TCG."""

    cpus = 1

    @classmethod
    def describe(cls, vm):
        vm.accel = 'tcg'
        vm.kernel_arguments.append('nokaslr')
        vm.domain('cage', default_map='none', max_faults=0,
                  on_fault_limit='pause-vm')
        vm.device('nyx-testdev', id='rogue', addr=5, domain='cage')
        cls.socket = vm.folder / 'gdb'
        vm.add('-gdb', f'unix:{cls.socket},server=on,wait=off')

    @classmethod
    def prepare(cls, vm):
        symbols = vm.folder / 'kernel.o'
        symbols_of(vm.agent.check('cat /proc/kallsyms', 300), symbols)
        cls.gdb = Gdb(cls.socket)
        cls.addClassCleanup(cls.gdb.close)
        cls.gdb.command(f'add-symbol-file {symbols} -s kernel {TEXT:#x}')

    def stop_after(self, text):
        """gdb's words when a command in the guest has stopped the VM."""
        self.gdb.go_on()
        self.vm.agent.begin(text)
        return self.gdb.await_stop()

    def test_1_breakpoint(self):
        self.gdb.command('break __x64_sys_sethostname')
        said = self.stop_after('hostname nyx')
        self.assertIn(' in __x64_sys_sethostname ()', said)
        self.assertIn(' in do_syscall_64 ()', self.gdb.command('backtrace 3'))
        # struct pt_regs: where the program's first argument is
        self.assertIn('"nyx"', self.gdb.command('x/s *(char **)($rdi + 112)'))
        self.gdb.command('delete')

    def test_2_watchpoint(self):
        self.gdb.command('watch *(int *)&panic_timeout')
        said = self.stop_after('echo 5 >/proc/sys/kernel/panic')
        self.assertRegex(said, r'New value = 5\s')
        self.assertIn('proc_dointvec', self.gdb.command('backtrace 4'))
        self.gdb.command('delete')

    def test_3_fault(self):
        """A limit of the policy stops the VM for the debugger."""
        said = self.stop_after('nyx-dma 0000:00:05.0 read 0x1000000 64')
        self.assertIn('SIGINT', said)
        self.assertEqual(self.vm.monitor.command('query-status')['status'],
                         'paused')
        faults = self.gdb.command('monitor info nyx-faults')
        self.assertRegex(faults, r'rogue +unmapped +r +0x0+1000000 1\s')
        self.assert_state('rogue', 'operational')

    def test_4_trace(self):
        """Trace events can be switched on while the VM runs."""
        self.gdb.command('monitor trace-event nyx_domain_map on')
        self.vm.monitor.command('nyx-map', domain='cage', iova=0x1000000,
                                gpa=0x1000000, size=0x1000, access='r')
        log = (self.vm.folder / 'qemu.log').read_text()
        self.assertRegex(log, r'nyx_domain_map cage: .*0x1000000')
        self.gdb.command('detach')
        self.assertEqual(self.vm.agent.check('hostname'), 'nyx')
