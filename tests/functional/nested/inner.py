# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""A QEMU that runs in the middle guest; its ports lead to the test."""

import shlex
import socket

from nyxtest.agent import Agent
from nyxtest.errors import GuestDied, NyxTestError
from nyxtest.monitor import Monitor

from .qtest import QTest

PORTS = ('qmp', 'qtest', 'agent')
PORT_FOLDER = '/dev/virtio-ports'
BOOT_SECONDS = 180
KERNEL_ARGUMENTS = ('console=ttyS0 panic=-1 random.trust_cpu=on nokaslr '
                    'mitigations=off net.ifnames=0 ipv6.disable=1')


def _connect(path):
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(str(path))
    return sock


class Inner:
    """QMP in monitor; without guest qtest's protocol, else agent.

    kernel=True boots the Linux guest under the middle guest's KVM, with the
    modules named; otherwise no CPU runs and the test moves the registers.
    """

    def __init__(self, host, slot, arguments, machine='nyx-pc',
                 memory='256M', kernel=False, modules=(), append=''):
        self._host = host
        self._slot = slot
        self._machine = machine
        self._memory = memory
        self._kernel = kernel
        self._append = append
        self._modules = list(modules)
        self._arguments = arguments
        self._files = f'/run/inner/{slot}'
        self.status = 0         # that it has to end with
        self.monitor = None
        self.qtest = None
        self.agent = None

    def _port(self, name):
        return f'{PORT_FOLDER}/{name}{self._slot}'

    def _command(self):
        command = ['/nyx/qemu', '-L', '/nyx/firmware', '-M', self._machine,
                   '-m', self._memory, '-nodefaults', '-no-user-config',
                   '-display', 'none', '-vga', 'none',
                   '-chardev', f'pipe,id=qmp-port,path={self._port("qmp")}',
                   '-object', 'monitor-qmp,id=qmp,chardev=qmp-port']
        if self._kernel:
            append = f'{KERNEL_ARGUMENTS} {self._append}'
            if self._modules:
                append += ' nyx.load=' + ','.join(self._modules)
            command += ['-accel', 'kvm', '-cpu', 'host',
                        '-kernel', '/nyx/vmlinux', '-initrd', '/nyx/initrd',
                        '-append', append,
                        '-serial', f'file:{self._files}.console',
                        '-chardev',
                        f'pipe,id=agent-port,path={self._port("agent")}',
                        '-serial', 'chardev:agent-port']
        else:
            command += ['-accel', 'qtest', '-qtest-log', '/dev/null',
                        '-qtest', f'pipe:{self._port("qtest")}']
        return [*command, *self._arguments]

    def _job(self):
        """Shell text that starts QEMU and tells its ports when it ends."""
        ports = ('qmp', 'agent' if self._kernel else 'qtest')
        tell = '; '.join(f'echo "exited $s" >{self._port(port)}'
                         for port in ports)
        text = (f'{shlex.join(self._command())} >{self._files}.log 2>&1; '
                f's=$?; {tell}; echo $s >{self._files}.status')
        return (f'rm -f {self._files}.*; setsid sh -c {shlex.quote(text)} '
                '</dev/null >/dev/null 2>&1 &')

    def start(self):
        """Start and connect; GuestDied with QEMU's words if it ends."""
        second = 'agent' if self._kernel else 'qtest'
        qmp, other = (_connect(self._host.socket(f'{name}{self._slot}'))
                      for name in ('qmp', second))
        self._host.agent.check(self._job())
        try:
            self.monitor = Monitor(qmp)
            if self._kernel:
                self.agent = Agent(other)
                self.agent.wait_ready(BOOT_SECONDS)
            else:
                self.qtest = QTest(other)
        except (NyxTestError, OSError, EOFError) as err:
            # Not before it has told both ports: the next one would hear it.
            self._host.agent.run(f'timeout 5 sh -c "until [ -e {self._files}'
                                 '.status ]; do usleep 20000; done"')
            other.close()
            raise GuestDied(f'{err} It said: {self.said()} '
                            f'{self.console()[-300:]}') from err

    def running(self):
        return self._host.agent.run(f'[ -e {self._files}.status ]').status != 0

    def said(self):
        """What QEMU wrote to its standard error."""
        return self._host.agent.run(f'cat {self._files}.log').output.strip()

    def console(self):
        return self._host.agent.run(f'cat {self._files}.console '
                                    '2>/dev/null').output

    def wait_end(self, seconds=30):
        """Wait until QEMU has ended; returns its status."""
        self._host.agent.wait(f'[ -s {self._files}.status ]', seconds)
        return int(self._host.agent.check(f'cat {self._files}.status'))

    def stop(self):
        """End QEMU and wait for it; returns its status."""
        if self.running():
            self.monitor.command('quit')
        status = self.wait_end()
        self.close()
        return status

    def close(self):
        for part in (self.monitor, self.qtest, self.agent):
            if part:
                part.close()
        self.monitor = self.qtest = self.agent = None
