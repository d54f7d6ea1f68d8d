# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""A Linux guest with the disks and network cards that are measured."""

import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / 'tests/functional'))

# pylint: disable=C0413
from nyxtest.guest import block_device, find_class      # noqa: E402
from nyxtest.vm import VM                               # noqa: E402

from . import load                                      # noqa: E402

# Contender: machine, its options, further devices, kernel arguments
LAZY, STRICT = 'iommu.strict=0', 'iommu.strict=1'
# virtio disks and cards bypass it otherwise.
INTEL = ('-device', 'intel-iommu,caching-mode=on,device-iotlb=on',
         '-global', 'virtio-device.iommu_platform=on',
         '-global', 'virtio-blk-pci.disable-legacy=on',
         '-global', 'virtio-net-pci.disable-legacy=on')
CONTENDERS = {
    'q35': ('q35', [], (), []),
    'nyx pass-through': ('nyx-pc', [], (), []),
    'q35 intel-iommu, lazy': ('q35', [], INTEL, ['intel_iommu=on', LAZY]),
    'nyx intel, lazy': ('nyx-pc', ['stage1=intel'], (),
                        ['intel_iommu=on', LAZY]),
    'q35 intel-iommu, strict': ('q35', [], INTEL, ['intel_iommu=on', STRICT]),
    'nyx intel, strict': ('nyx-pc', ['stage1=intel'], (),
                          ['intel_iommu=on', STRICT]),
    'nyx irq-coalescing': ('nyx-pc', [], (), []),
}
# Reads of 1M take up to four times as long in one fio as in the next if some of
# their buffers happen to be huge pages.  The addresses of the kernel's code,
# which decide on what collides in TCG's jump cache (10 percent), are left to
# chance: the same at each boot, they would favour one of a pair in all of them.
ALIKE = ['transparent_hugepage=never']
COALESCING_US = 50
# A port where nobody listens
NOWHERE = 'local.type=inet,local.host=127.0.0.1,local.port=0,' \
          'remote.type=inet,remote.host=127.0.0.1,remote.port=9'
DISKS = {'nvme': ['nvme'], 'virtio-blk-pci': ['virtio_pci', 'virtio_blk']}
NICS = {'e1000e': ['e1000e'], 'virtio-net-pci': ['virtio_pci', 'virtio_net']}
# Size of a request, and how many of them at once
READS = [('4k', 1), ('4k', 32), ('1M', 4)]
PACKETS = 12000


def _describe(vm, domain):
    """The devices, alike on every machine; what cards send goes nowhere."""
    for driver, modules in DISKS.items():
        vm.add('-blockdev', 'driver=null-co,read-zeroes=on,size=68719476736,'
               f'node-name={driver}')
        vm.device(driver, modules, domain, id=driver, drive=driver,
                  serial='0' if driver == 'nvme' else None)
    for driver, modules in NICS.items():
        vm.add('-netdev', f'dgram,id={driver}-net,{NOWHERE}')
        vm.device(driver, [*modules, 'pktgen'], domain, id=driver,
                  netdev=f'{driver}-net', romfile='')


class Guest:
    """A guest of a contender: start(), turn() as often as needed, stop()."""

    def __init__(self, name, folder, accel='tcg'):
        machine, options, devices, arguments = CONTENDERS[name]
        self.vm = VM(load.image(), folder / name.replace(' ', '-'), accel,
                     memory='1G')
        self.vm.machine = machine
        self.vm.machine_options = list(options)
        self.vm.kernel_arguments += [*ALIKE, *arguments]
        self._reads = {}
        self._nics = {}
        # An IOMMU must come before what is behind it.
        self.vm.add(*devices)
        domain = None
        if name == 'nyx irq-coalescing':
            domain = 'calm'
            self.vm.domain(domain, isolation='shared',
                           irq_coalescing=COALESCING_US)
        _describe(self.vm, domain)

    def start(self):
        """Boot, and find the devices; the nanoseconds to userland."""
        begin = time.monotonic_ns()
        self.vm.start()
        took = time.monotonic_ns() - begin
        self._find_devices()
        return took

    def _find_devices(self):
        """Disks are looked for while the links of the cards come up."""
        self._nics = {driver: find_class(self.vm, 'net', driver)
                      for driver in NICS}
        for nic in self._nics.values():
            self.vm.agent.check(f'ip link set {nic} up')
        for driver in DISKS:
            disk = block_device(self.vm, driver)
            for size, depth in READS:
                op = f'{driver}, {depth} reads of {size} at once'
                self._reads[op] = disk, size, depth
        for nic in self._nics.values():
            self.vm.agent.wait(
                f'[ "$(cat /sys/class/net/{nic}/carrier)" = 1 ]')

    def turn(self):
        """Do each operation for a while: operation -> nanoseconds of one."""
        took = load.fio(self.vm, self._reads)
        for driver, nic in self._nics.items():
            took[f'{driver}, packets sent'] = load.flood(self.vm, nic, PACKETS)
        return took

    def stop(self):
        """End it, whatever state it is in."""
        self.vm.stop()
