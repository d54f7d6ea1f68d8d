# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""A virtual machine with the Linux guest: devices, life, monitor, agent."""

import os
import re
import signal
import socket
import subprocess

from .agent import Agent
from .errors import GuestDied, GuestTimeout, NyxTestError
from .monitor import Monitor
from .paths import QEMU

BOOT_SECONDS = 180
# A test of the timer, which counts on 5 ticks in 40 ms, is no use on a busy
# machine.
KERNEL_ARGUMENTS = ('console=ttyS0 panic=-1 random.trust_cpu=on '
                    'mitigations=off net.ifnames=0 ipv6.disable=1 '
                    'no_timer_check')
# What libvirt gives a domain; the machine must work within it.
SANDBOX = 'on,obsolete=deny,elevateprivileges=deny,spawn=deny,' \
          'resourcecontrol=deny'

# Lines of a kernel that is in trouble.
TROUBLE = re.compile(
    r'Kernel panic|\bBUG:|\bOops\b|general protection fault|Call Trace:'
    r'|blocked for more than|soft lockup|hard LOCKUP|rcu: INFO: .*stall'
    r'|WARNING: CPU|UBSAN:|refcount_t:|list_(add|del) corruption'
    r'|Internal error')

# A warning of a kernel, from its first line to its last.
WARNING = re.compile(r'-+\[ cut here \]-+.*?-+\[ end trace \w+ \]-+', re.S)


def trouble_in(console, allowed=()):
    """Lines that tell of a kernel in trouble.

    A warning with its trace is left out if it has an allowed text.
    """
    for warning in WARNING.findall(console):
        if any(words in warning for words in allowed):
            console = console.replace(warning, '')
    return [line.strip() for line in console.splitlines()
            if TROUBLE.search(line)]


def machine_name():
    return os.environ.get('MACHINE', 'nyx-pc')


class VM:
    """Describe devices, start(), use agent and monitor, stop().

    All files of the machine (console.log, qemu.log, disks) are in folder.
    """

    def __init__(self, image, folder, accel, cpus=2, memory='512M'):
        self.folder = folder
        self.run_folder = folder    # another one after each migration
        self.machine = machine_name()
        self.machine_options = []
        self.kernel_arguments = [KERNEL_ARGUMENTS]
        self.accel = accel
        self.cpus = cpus
        self.memory = memory
        self.monitor = None
        self.agent = None
        self._image = image
        self.arguments = []
        self._modules = []
        self._process = None

    @property
    def image(self):
        return self._image

    @property
    def has_nyx(self):
        return self.machine.startswith(('nyx-pc', 'pc-q35-nyx'))

    def add(self, *arguments, modules=()):
        """Command line arguments, and guest modules that they need."""
        self.arguments += arguments
        self._modules += [m for m in modules if m not in self._modules]

    def domain(self, name, **properties):
        """A domain, where the machine has them."""
        if self.has_nyx:
            self.add('-object', _join('nyx-domain', {'id': name,
                                                     **properties}))

    def device(self, driver, modules=(), domain=None, **properties):
        """A device; an underscore in a property stands for a dash."""
        if domain and self.has_nyx:
            properties['nyx-domain'] = domain
        self.add('-device', _join(driver, properties), modules=modules)

    @property
    def append(self):
        """The command line of the guest's kernel."""
        append = ' '.join(self.kernel_arguments)
        if self._modules:
            append += ' nyx.load=' + ','.join(self._modules)
        return append

    def _boot_arguments(self):
        """What makes QEMU start the guest's kernel."""
        return ['-kernel', str(self._image.kernel),
                '-initrd', str(self._image.initrd), '-append', self.append]

    def _command(self, qmp, serial):
        cpu = 'host' if self.accel == 'kvm' else 'max'
        return [
            str(QEMU), '-M', ','.join([self.machine, *self.machine_options]),
            '-accel', self.accel, '-cpu', cpu, '-smp', str(self.cpus),
            '-m', self.memory, '-nodefaults', '-no-user-config',
            '-display', 'none', '-vga', 'none', '-no-reboot',
            '-run-with', 'exit-with-parent=on', '-sandbox', SANDBOX,
            *self._boot_arguments(),
            '-chardev', f'socket,id=qmp-socket,fd={qmp}',
            '-object', 'monitor-qmp,id=qmp,chardev=qmp-socket',
            '-serial', f'file:{self.run_folder / "console.log"}',
            '-chardev', f'socket,id=agent,fd={serial}',
            '-serial', 'chardev:agent', *self.arguments]

    def start(self, seconds=BOOT_SECONDS, incoming=None, snapshot=None):
        """Start QEMU and wait until the guest takes commands.

        With incoming, QEMU waits there for the guest of another VM instead;
        with snapshot, the guest goes on from there.
        """
        if not QEMU.exists():
            raise NyxTestError(f'{QEMU} is missing; run "make" first, or set '
                               'QEMU to the program to test.')
        self.run_folder.mkdir(parents=True, exist_ok=True)
        qmp, qmp_there = socket.socketpair()
        serial, serial_there = socket.socketpair()
        with qmp_there, serial_there, \
                (self.run_folder / 'qemu.log').open('w') as log:
            fds = qmp_there.fileno(), serial_there.fileno()
            command = self._command(*fds)
            if incoming:
                command += ['-incoming', incoming]
            if snapshot:
                command += ['-loadvm', snapshot]
            (self.run_folder / 'command').write_text(_shell_text(command))
            try:
                self._process = subprocess.Popen(
                    command, pass_fds=fds, stdin=subprocess.DEVNULL,
                    stdout=log, stderr=log)
            except OSError as err:
                raise NyxTestError(
                    f'{QEMU} cannot be started: {err.strerror}; build it anew '
                    'with "make", and not while tests run.') from err
        self.agent = Agent(serial)
        try:
            self.monitor = Monitor(qmp)
            if not incoming and not snapshot:
                self._await_guest(seconds)
        except (EOFError, OSError, NyxTestError) as err:
            raise self._explain(err) from err

    def _await_guest(self, seconds):
        self.agent.wait_ready(seconds)

    def reset(self, seconds=BOOT_SECONDS):
        """Reset the machine and wait until the guest is up again."""
        # As long as nobody asks for it, a reset is a panic of the guest.
        self.monitor.command('set-action', reboot='reset')
        since = self.monitor.position()
        self.monitor.command('system_reset')
        self.monitor.wait_event('RESET', since)
        self.agent.wait_ready(seconds)
        self.monitor.command('set-action', reboot='shutdown')

    def _explain(self, err):
        """An error with what QEMU or the guest last said."""
        try:
            code = self._process.wait(1 if self.monitor is None else 0)
        except subprocess.TimeoutExpired:
            return GuestTimeout(f'{err} The guest said last: '
                                f'{self.console().strip()[-300:]}')
        text = f'{err} QEMU ended with status {code}'
        if code < 0:
            text = f'{err} QEMU was ended by {signal.Signals(-code).name}'
        said = (self.run_folder / 'qemu.log').read_text().strip().splitlines()
        return GuestDied(f'{text} and said: {said[-1]}' if said
                         else f'{text}.')

    def become(self, other):
        """Be the VM into which the guest of this one has moved."""
        self.stop()
        self.run_folder, self._process = other.run_folder, other._process
        self.monitor, self.agent = other.monitor, other.agent

    def read_memory(self, address, size):
        """Guest memory as it is seen from outside."""
        path = self.folder / 'memory'
        self.monitor.command('pmemsave', val=address, size=size,
                             filename=str(path))
        data = path.read_bytes()
        path.unlink()
        return data

    def console(self):
        """All that the guest's kernel has said."""
        path = self.run_folder / 'console.log'
        return path.read_bytes().decode(errors='replace') \
            if path.exists() else ''

    def trouble(self, allowed=()):
        """Lines of the console that tell of a kernel in trouble."""
        return trouble_in(self.console(), allowed)

    def running(self):
        return self._process is not None and self._process.poll() is None

    def stop(self):
        """End QEMU, whatever state the guest is in."""
        if self.running():
            if self.monitor:
                try:
                    self.monitor.command('quit')
                except NyxTestError:
                    pass
            try:
                self._process.wait(10 if self.monitor else 0)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        for part in (self.monitor, self.agent):
            if part:
                part.close()
        self.monitor = self.agent = None


def _join(first, properties):
    words = [f'{key.replace("_", "-")}={value}'
             for key, value in properties.items() if value is not None]
    return ','.join([first, *words])


def _shell_text(command):
    return ' \\\n  '.join(f"'{word}'" if re.search(r'[^\w./,=:-]', word)
                          else word for word in command) + '\n'
