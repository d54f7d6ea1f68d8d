# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""What a Linux guest gets: disks that answer at once, network cards, a boot.

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
from nyxtest.devices import add_nic                     # noqa: E402
from nyxtest.guest import block_device, bring_up        # noqa: E402
from nyxtest.httpserver import FileServer               # noqa: E402
from nyxtest.image import guest_image                   # noqa: E402
from nyxtest.vm import VM                               # noqa: E402

# Contender: machine, its options, further devices, kernel arguments
LAZY, STRICT = 'iommu.strict=0', 'iommu.strict=1'
# virtio disks and cards bypass it otherwise.
INTEL = ('-device', 'intel-iommu,caching-mode=on,device-iotlb=on',
         '-global', 'virtio-device.iommu_platform=on',
         '-global', 'virtio-pci.disable-legacy=on')
CONTENDERS = {
    'q35': ('q35', [], (), []),
    'nyx pass-through': ('nyx-pc', [], (), []),
    'q35 intel-iommu, lazy': ('q35', [], INTEL, ['intel_iommu=on', LAZY]),
    'nyx intel, lazy': ('nyx-pc', ['stage1=intel'], (),
                        ['intel_iommu=on', LAZY]),
    'q35 intel-iommu, strict': ('q35', [], INTEL, ['intel_iommu=on', STRICT]),
    'nyx intel, strict': ('nyx-pc', ['stage1=intel'], (),
                          ['intel_iommu=on', STRICT]),
}
PAIRS = [('q35', 'nyx pass-through'),
         ('q35 intel-iommu, lazy', 'nyx intel, lazy'),
         ('q35 intel-iommu, strict', 'nyx intel, strict')]
DISKS = {'nvme': ['nvme'], 'virtio-blk-pci': ['virtio_pci', 'virtio_blk']}
NICS = 'e1000e', 'virtio-net-pci'


def _describe(vm):
    """The devices, alike on every machine; returns the network cards."""
    for driver, modules in DISKS.items():
        vm.add('-blockdev', 'driver=null-co,read-zeroes=on,size=68719476736,'
               f'node-name={driver}')
        vm.device(driver, modules, id=driver, drive=driver,
                  serial='0' if driver == 'nvme' else None)
    return {driver: add_nic(vm, driver, driver) for driver in NICS}


class Guest:
    """A guest of a contender; start() returns the seconds until it is up."""

    def __init__(self, name, folder, accel='tcg'):
        machine, options, devices, arguments = CONTENDERS[name]
        self.vm = VM(guest_image(), folder / name.replace(' ', '-'), accel)
        self.vm.machine = machine
        self.vm.machine_options = list(options)
        self.vm.kernel_arguments += arguments
        # An IOMMU must come before what is behind it.
        self.vm.add(*devices)
        self.nics = _describe(self.vm)

    def start(self):
        begin = time.monotonic()
        self.vm.start()
        return time.monotonic() - begin

    def prepare(self):
        self.disks = {driver: block_device(self.vm, driver)
                      for driver in DISKS}
        for nic in self.nics.values():
            bring_up(self.vm, nic)

    def timed(self, text):
        """Seconds that a command takes in the guest."""
        begin = time.monotonic()
        self.vm.agent.check(text, 120)
        return time.monotonic() - begin

    def read(self, driver, size, count):
        return self.timed(f'dd if={self.disks[driver]} of=/dev/null bs={size} '
                          f'count={count} iflag=direct 2>/dev/null')

    def fetch(self, driver, server, count):
        url = server.url(self.nics[driver])
        return self.timed(f'for i in $(seq {count}); do '
                          f'wget -q -O /dev/null {url} || exit; done')

    def stop(self):
        self.vm.stop()


def _works(server, quick):
    """(operation, how often at once, how to do it)"""
    scale = 1 if quick else 4
    for driver in DISKS:
        for size, count in ('4k', 1500 * scale), ('1M', 150 * scale):
            yield (f'{driver}, reads of {size}', count,
                   lambda guest, driver=driver, size=size, count=count:
                   guest.read(driver, size, count))
    for driver in NICS:
        yield (f'{driver}, fetches', 2 * scale,
               lambda guest, driver=driver:
               guest.fetch(driver, server, 2 * scale))


def _compare(points, pair, folder, server, quick):
    guests = {name: Guest(name, folder) for name in pair}
    try:
        for guest in guests.values():
            guest.start()
            guest.prepare()
        for op, count, work in _works(server, quick):
            ns = {name: [] for name in pair}
            for _ in range(3 if quick else 9):
                for name, guest in guests.items():
                    ns[name].append(work(guest) / count * 1e9)
            for name in pair:
                points.add({'suite': 'guest', 'contender': name, 'op': op,
                            'ns': ns[name]})
            print(f'  {" and ".join(pair)}: {op}', file=sys.stderr)
    finally:
        for guest in guests.values():
            guest.stop()


def _boot(points, folder, quick):
    ns = {name: [] for name in PAIRS[0]}
    for turn in range(3 if quick else 9):
        for name in ns:
            guest = Guest(name, folder / f'boot{turn}')
            try:
                ns[name].append(guest.start() * 1e9)
            finally:
                guest.stop()
    for name, samples in ns.items():
        points.add({'suite': 'boot', 'contender': name,
                    'op': 'boot to userland', 'ns': samples})


def measure(points, quick):
    """Linux guests under TCG; KVM runs none on every machine."""
    folder = Path(tempfile.mkdtemp(prefix='nyx-bench-'))
    server = FileServer(4 << 20)
    try:
        print('guests:', file=sys.stderr)
        _boot(points, folder, quick)
        for pair in PAIRS[:1] if quick else PAIRS:
            _compare(points, pair, folder, server, quick)
    finally:
        server.close()
        shutil.rmtree(folder)
