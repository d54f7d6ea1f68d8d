# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""The machine of the demo: its domains, its devices, what keeps them busy."""

from dataclasses import dataclass

from nyxtest.devices import add_disk, add_nic
from nyxtest.guest import (block_device, bring_up, disk_load, network_load,
                           pci_address)
from nyxtest.httpserver import FileServer

MIB = 1 << 20
ROGUE = 'rogue'
CAGE = 'cage'                   # the rogue's domain
MAX_FAULTS = 10
MAX_RECOVERIES = 1
WINDOW = 384 * MIB              # reserved for the rogue, unknown to Linux
WINDOW_SIZE = 2 * MIB
FETCH_BYTES = MIB // 2
LOAD_FIRST_MIB, LOAD_MIB = 16, 16


class Scene:
    """A VM in which two disks share a domain and two cards have one each."""

    def __init__(self, vm, unprotected=False):
        self.vm = vm
        self.unprotected = unprotected
        self.server = FileServer(FETCH_BYTES)
        self.loads = {}
        self._describe()

    def _describe(self):
        vm = self.vm
        vm.kernel_arguments.append(
            f'memmap={WINDOW_SIZE // MIB}M${WINDOW:#x}')
        vm.domain('storage', isolation='shared')
        vm.domain('net0', isolation='strict')
        vm.domain('net1', isolation='strict')
        if self.unprotected:
            vm.domain(CAGE, isolation='unmanaged')
        else:
            vm.domain(CAGE, isolation='strict', default_map='none',
                      max_faults=MAX_FAULTS, max_recoveries=MAX_RECOVERIES)
        self.disks = [add_disk(vm, 'nvme', 'disk0', 'storage'),
                      add_disk(vm, 'virtio-blk-pci', 'disk1', 'storage')]
        self.nics = [add_nic(vm, 'e1000e', 'nic0', 'net0'),
                     add_nic(vm, 'virtio-net-pci', 'nic1', 'net1')]
        vm.device('nyx-testdev', domain=CAGE, id=ROGUE)

    def start_loads(self):
        vm = self.vm
        for nic in self.nics:
            bring_up(vm, nic)
            self.loads[nic.name] = network_load(
                vm, nic.name, self.server, nic)
        for disk in self.disks:
            self.loads[disk.name] = disk_load(
                vm, disk.name, block_device(vm, disk.name), LOAD_FIRST_MIB,
                LOAD_MIB)

    def progress(self):
        return {name: load.progress() for name, load in self.loads.items()}

    def restart_gaps(self):
        for load in self.loads.values():
            load.restart_gap()

    def wait_progress(self):
        """Wait until every load has moved a good deal more."""
        for name, load in self.loads.items():
            load.wait_bytes(8 * MIB if name.startswith('disk')
                            else 2 * FETCH_BYTES)

    def stop_loads(self):
        for load in self.loads.values():
            load.stop()

    def close(self):
        self.vm.stop()
        self.server.close()
        for disk in self.disks:
            disk.path.unlink(missing_ok=True)


@dataclass(frozen=True)
class Answer:
    """What the rogue device said after a command."""
    result: str         # ok, refused, gone, error
    data: bytes         # the first bytes of its buffer
    refused: int        # accesses that it saw refused


class Rogue:
    """The rogue device, driven by a program in the guest's user space."""

    def __init__(self, vm):
        self._vm = vm
        self.address = pci_address(vm, ROGUE)

    def _run(self, *words):
        text = ' '.join(map(str, ['nyx-dma', self.address, *words]))
        output = self._vm.agent.run(text).output.split()
        if len(output) != 3:
            return Answer('error', b'', 0)
        return Answer(output[0], bytes.fromhex(output[1]), int(output[2]))

    def read(self, address, size):
        return self._run('read', hex(address), size)

    def overwrite(self, address, size, pages):
        """Write a piece of this size into each of so many pages."""
        return self._run('sweep', hex(address), size, pages)

    def use_window(self):
        """Move data both ways within the window, and compare."""
        return self._run('window', hex(WINDOW), 65536)

    def bus_master(self):
        """Whether bus mastering is on, as the guest sees it."""
        command = self._vm.agent.check(
            f'dd if=/sys/bus/pci/devices/{self.address}/config bs=1 skip=4 '
            'count=1 2>/dev/null | hexdump -e \'1/1 "%d"\'')
        return bool(int(command) & 4)


class KernelMemory:
    """Where parts of the guest's kernel are in its physical memory."""

    def __init__(self, vm):
        symbols = dict(reversed(line.split()[::2]) for line in vm.agent.check(
            "grep -wE '(_text|linux_banner|sys_call_table)$' /proc/kallsyms"
        ).splitlines())
        base = int(vm.agent.check("grep 'Kernel code' /proc/iomem"
                                  ).split('-')[0], 16)
        text = int(symbols['_text'], 16)
        self.banner = base + int(symbols['linux_banner'], 16) - text
        self.calls = base + int(symbols['sys_call_table'], 16) - text
