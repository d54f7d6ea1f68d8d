# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""The domains of docs/nyx/examples/libvirt, with the tests' guest in them."""

import json
import socket
import subprocess
import xml.etree.ElementTree as ET

from .agent import Agent
from .errors import NyxTestError
from .paths import QEMU, ROOT
from .vm import BOOT_SECONDS, KERNEL_ARGUMENTS

EXAMPLES = ROOT / 'docs' / 'nyx' / 'examples' / 'libvirt'
AGENT = '/run/libvirt/agent'
QEMU_NS = 'http://libvirt.org/schemas/domain/qemu/1.0'
ET.register_namespace('qemu', QEMU_NS)


def _set(parent, name, text=None, **attributes):
    child = ET.SubElement(parent, name, attributes)
    child.text = text
    return child


def example(name, folder, image, accel, modules):
    """Write an example as it can be started here: (file, disks).

    Changed are the names of files, the accelerator if there is no KVM, and
    what boots: the guest image instead of a disk. Its agent is at the second
    serial port.
    """
    tree = ET.parse(EXAMPLES / f'{name}.xml')
    domain = tree.getroot()
    domain.set('type', {'kvm': 'kvm', 'tcg': 'qemu'}[accel])
    domain.find('devices/emulator').text = str(QEMU)
    disks = []
    for source in domain.findall('devices/disk/source'):
        path = folder / source.get('file').rsplit('/', 1)[1]
        subprocess.run([QEMU.with_name('qemu-img'), 'create', '-q', '-f',
                        'qcow2', path, '64M'], check=True)
        source.set('file', str(path))
        disks.append(path)
    system = domain.find('os')
    _set(system, 'kernel', str(image.kernel))
    _set(system, 'initrd', str(image.initrd))
    _set(system, 'cmdline', f'{KERNEL_ARGUMENTS} nyx.load='
         + ','.join(modules))
    devices = domain.find('devices')
    devices.remove(devices.find('serial'))
    console = _set(devices, 'serial', type='file')
    _set(console, 'source', path=str(folder / 'console.log'), append='on')
    _set(console, 'target', port='0')
    agent = _set(devices, 'serial', type='unix')
    _set(agent, 'source', mode='bind', path=AGENT)
    _set(agent, 'target', port='1')
    path = folder / f'{name}.xml'
    tree.write(path)
    return path, disks


class Monitor:
    """QMP through virsh."""

    def __init__(self, host, name):
        self._host = host
        self._name = name

    def command(self, command, **arguments):
        words = {key.replace('_', '-'): value
                 for key, value in arguments.items()}
        said = json.loads(self._host.check(
            'qemu-monitor-command', self._name, json.dumps(
                {'execute': command, 'arguments': words})))
        if 'error' in said:
            raise NyxTestError(f'{command}: {said["error"]["desc"]}')
        return said['return']


class LibvirtVM:
    """A running domain, for the tests' helpers that take a VM.

    After it has moved or come back it is another process: reach() it again.
    """

    def __init__(self, host, name):
        self.name = name
        self.agent = None
        self.reach(host)

    def reach(self, host):
        """Its agent and monitor, on a host where it runs now."""
        self.close()
        self.host = host
        self.monitor = Monitor(host, self.name)
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(str(host.path(AGENT)))
        self.agent = Agent(sock)

    def wait_ready(self):
        self.agent.wait_ready(BOOT_SECONDS)

    def close(self):
        if self.agent:
            self.agent.close()
