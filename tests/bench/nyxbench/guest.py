# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""What a Linux guest gets: disks that answer at once, packets sent, a boot.

Machines are compared by pairs of guests that live at the same time and take
turns, so that what else the host does hits them alike.
"""

import shutil
import sys
import tempfile
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
COALESCING_US = 50
# A port where nobody listens
NOWHERE = 'local.type=inet,local.host=127.0.0.1,local.port=0,' \
          'remote.type=inet,remote.host=127.0.0.1,remote.port=9'
PAIRS = [('q35', 'nyx pass-through'),
         ('q35 intel-iommu, lazy', 'nyx intel, lazy'),
         ('q35 intel-iommu, strict', 'nyx intel, strict'),
         ('nyx pass-through', 'nyx irq-coalescing')]
DISKS = {'nvme': ['nvme'], 'virtio-blk-pci': ['virtio_pci', 'virtio_blk']}
NICS = {'e1000e': ['e1000e'], 'virtio-net-pci': ['virtio_pci', 'virtio_net']}


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
    """A guest of a contender; start() returns the seconds until it is up."""

    def __init__(self, name, folder, accel='tcg'):
        machine, options, devices, arguments = CONTENDERS[name]
        self.vm = VM(load.image(), folder / name.replace(' ', '-'), accel,
                     memory='1G')
        self.vm.machine = machine
        self.vm.machine_options = list(options)
        self.vm.kernel_arguments += arguments
        # An IOMMU must come before what is behind it.
        self.vm.add(*devices)
        domain = None
        if name == 'nyx irq-coalescing':
            domain = 'calm'
            self.vm.domain(domain, isolation='shared',
                           irq_coalescing=COALESCING_US)
        _describe(self.vm, domain)

    def start(self):
        begin = time.monotonic()
        self.vm.start()
        return time.monotonic() - begin

    def prepare(self):
        self.disks = {driver: block_device(self.vm, driver)
                      for driver in DISKS}
        self.nics = {driver: find_class(self.vm, 'net', driver)
                     for driver in NICS}
        for nic in self.nics.values():
            self.vm.agent.check(f'ip link set {nic} up')
            self.vm.agent.wait(
                f'[ "$(cat /sys/class/net/{nic}/carrier)" = 1 ]')

    def read(self, driver, size, depth):
        return load.fio(self.vm, self.disks[driver], size, depth)

    def flood(self, driver, packets):
        return load.flood(self.vm, self.nics[driver], packets)

    def stop(self):
        self.vm.stop()


def _works():
    """(operation, how to do it), which takes about half a second"""
    for driver in DISKS:
        for size, depth in ('4k', 1), ('4k', 32), ('1M', 4):
            yield (f'{driver}, {depth} reads of {size} at once',
                   lambda guest, driver=driver, size=size, depth=depth:
                   guest.read(driver, size, depth))
    for driver in NICS:
        yield (f'{driver}, packets sent',
               lambda guest, driver=driver: guest.flood(driver, 20000))


def _compare(points, pair, folder, quick):
    guests = {name: Guest(name, folder) for name in pair}
    try:
        for guest in guests.values():
            guest.start()
            guest.prepare()
        for op, work in _works():
            ns = {name: [] for name in pair}
            for turn in range(3 if quick else 5):
                for name, guest in guests.items():
                    took = work(guest)
                    if turn:        # the first is to warm up
                        ns[name].append(took)
            for name in pair:
                points.add({'suite': 'guest', 'pair': pair[1],
                            'contender': name, 'op': op, 'ns': ns[name]})
            print(f'  {" and ".join(pair)}: {op}', file=sys.stderr)
    finally:
        for guest in guests.values():
            guest.stop()


def _boot(points, folder, quick):
    ns = {name: [] for name in PAIRS[0]}
    for turn in range(3 if quick else 5):
        for name in ns:
            guest = Guest(name, folder / f'boot{turn}')
            try:
                ns[name].append(guest.start() * 1e9)
            finally:
                guest.stop()
    for name, samples in ns.items():
        points.add({'suite': 'boot', 'pair': PAIRS[0][1], 'contender': name,
                    'op': 'boot to userland', 'ns': samples})


def measure(points, quick):
    """Linux guests under TCG; KVM runs none on every machine."""
    folder = Path(tempfile.mkdtemp(prefix='nyx-bench-'))
    try:
        print('guests:', file=sys.stderr)
        _boot(points, folder, quick)
        for pair in PAIRS[:1] if quick else PAIRS:
            _compare(points, pair, folder, quick)
    finally:
        shutil.rmtree(folder)
