# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""Linux uses the IOMMU of its machine, in each mode that it knows: disks and
cards work, alone and all at once, and may be pulled out meanwhile.
"""

from nyxtest.devices import add_disk, add_nic
from nyxtest.guest import (block_device, bring_up, disk_load, disk_sum,
                           fetch_sum, network_load, pci_address, send_sum,
                           sha256, write_random)
from nyxtest.stage1 import (GROUPS, MODELS, Stage1Test, group_of,
                            iommu_groups)

MIB = 1 << 20


class _DmaTest(Stage1Test):
    domain_type = 'DMA'         # of Linux: DMA is strict, DMA-FQ lazy
    dma = 'translating'
    fetch_bytes = MIB // 2

    @classmethod
    def describe(cls, vm):
        super().describe(vm)
        for number in range(2):
            vm.device('pcie-root-port', id=f'port{number}', chassis=1 + number,
                      slot=1 + number)
        vm.device('pcie-pci-bridge', id='bridge')
        vm.add('-object', 'iothread,id=io0')
        vm.domain('behind-bridge', isolation='shared')
        cls.disks = {
            # Linux 6.1 frees dbcs' memory after the device has left its IOMMU.
            'nvme0': add_disk(vm, 'nvme', 'nvme0', bus='port0', dbcs='off'),
            'vblk0': add_disk(vm, 'virtio-blk-pci', 'vblk0', iothread='io0'),
            'ahci0': add_disk(vm, 'ahci', 'ahci0')}
        cls.nics = {
            'nic0': add_nic(vm, 'e1000e', 'nic0', bus='port1'),
            'vnet0': add_nic(vm, 'virtio-net-pci', 'vnet0'),
            'bridged0': add_nic(vm, 'e1000', 'bridged0', 'behind-bridge',
                                bus='bridge', addr=1)}
        vm.device('nyx-testdev', (), 'behind-bridge', id='bridged1',
                  bus='bridge', addr=2)

    @classmethod
    def prepare(cls, vm):
        for nic in cls.nics.values():
            bring_up(vm, nic)

    def alone(self):
        """Those that Linux can tell apart from all others."""
        return [name for name in (*self.disks, *self.nics)
                if name != 'bridged0']

    def test_active(self):
        """Linux has found the IOMMU, and interrupt remapping where it is."""
        model = MODELS[self.kind]
        devices = self.vm.agent.check('ls /sys/class/iommu').split()
        self.assertEqual(len(devices), 1)
        self.assertRegex(devices[0], f'^{model.device}$')
        if model.remapping:
            self.assertIn(model.remapping, self.vm.console())
            self.assertRegex(self.vm.console(), '(?i)x2apic enabled')

    def test_groups(self):
        """A group for each function, but one for all behind a PCI bridge."""
        for name in self.alone():
            self.assertEqual(group_of(self.vm, name),
                             (self.domain_type, [pci_address(self.vm, name)]))
            self.assert_dma(name, self.dma)
        bridged = [pci_address(self.vm, name)
                   for name in ('bridge', 'bridged0', 'bridged1')]
        if self.kind == 'virtio':
            # Linux's virtio-iommu leaves these out; on q35, too.
            self.assertEqual(group_of(self.vm, 'bridged0'), (None, []))
            self.assert_dma('bridged0', 'pass-through')
        else:
            self.assertEqual(sorted(group_of(self.vm, 'bridged0')[1]),
                             sorted(bridged))
            self.assert_dma('bridged0', self.dma)

    def check_disk(self, name):
        device = block_device(self.vm, name)
        disk = self.disks[name]
        self.assertEqual(disk_sum(self.vm, device, 0, 2),
                         sha256(disk.read(0, 2)), name)
        self.assertEqual(write_random(self.vm, device, 16, 2),
                         sha256(disk.read(16, 2)), name)

    def check_nic(self, name):
        url = self.server.url(self.nics[name])
        self.assertEqual(fetch_sum(self.vm, url), self.server.sha256, name)
        self.assertEqual(*send_sum(self.vm, url, 1))

    def test_io(self):
        for name in self.disks:
            self.check_disk(name)
        for name in self.nics:
            self.check_nic(name)
        for name in (*self.disks, *self.nics):
            self.assertGreater(
                self.nyx_device(name)['interrupts']['delivered'] or
                name == 'bridged0', 0, name)
        self.assert_no_faults()

    def start_load(self, name):
        if name in self.disks:
            return disk_load(self.vm, name, block_device(self.vm, name), 32, 4)
        return network_load(self.vm, name, self.server, self.nics[name])

    def check_loads(self, loads, when):
        for name, load in loads.items():
            load.wait_bytes(MIB // 2)
            now = load.progress()
            self.assertEqual((now.errors, now.mismatches), (0, 0),
                             f'{name} {when}')

    def test_load(self):
        """All at once."""
        loads = {name: self.start_load(name)
                 for name in (*self.disks, *self.nics)}
        try:
            self.check_loads(loads, 'all at once')
        finally:
            for load in loads.values():
                load.stop()
        self.assert_no_faults()


class _TranslatingTest(_DmaTest):
    def replug(self, name, others, **properties):
        """Out and in again, while it and others are busy."""
        monitor = self.vm.monitor
        load = self.start_load(name)
        since = monitor.position()
        monitor.command('device_del', id=name)
        monitor.wait_event('DEVICE_DELETED', since, device=name)
        load.stop()
        self.check_loads(others, f'without {name}')
        monitor.command('device_add', id=name, **properties)
        if name in self.nics:
            bring_up(self.vm, self.nics[name])
            self.check_nic(name)
        else:
            self.check_disk(name)
        kind, members = group_of(self.vm, name)
        self.assertEqual(members, [pci_address(self.vm, name)])
        self.assertEqual(kind, self.replugged_type())
        self.assert_dma(name, self.dma)
        self.check_loads(others, f'with {name} again')

    def replugged_type(self):
        return self.domain_type

    def test_replug(self):
        others = {name: self.start_load(name) for name in ('vblk0', 'vnet0')}
        self.replug('nvme0', others, driver='nvme', bus='port0',
                    drive='nvme0', serial='nvme0', dbcs=False)
        self.replug('nic0', others, driver='e1000e', bus='port1',
                    netdev='nic0-net', romfile='')
        self.assert_no_faults()


class _LazyTest(_TranslatingTest):
    """Linux tells the IOMMU late that a mapping is gone."""
    arguments = ('iommu.strict=0',)
    domain_type = 'DMA-FQ'


class _StrictTest(_TranslatingTest):
    arguments = ('iommu.strict=1',)


class _PassthroughTest(_DmaTest):
    arguments = ('iommu=pt',)
    domain_type = 'identity'
    dma = 'pass-through'


class IntelLazyTest(_LazyTest):
    kind = 'intel'
    # With it, Linux wants to be strict.
    properties = {'caching_mode': 'off'}


class IntelFirstStageTest(_LazyTest):
    """Scalable mode, with tables like a CPU's."""
    kind = 'intel'
    properties = {'scalable_mode': 'on', 'fsts': 'on'}


class IntelStrictTest(_StrictTest):
    kind = 'intel'


class IntelPassthroughTest(_PassthroughTest):
    kind = 'intel'


class AmdLazyTest(_LazyTest):
    """On an IOMMU that may cache what is not mapped, Linux is strict at first.
    """
    kind = 'amd'

    @classmethod
    def prepare(cls, vm):
        super().prepare(vm)
        for number, (kind, members) in iommu_groups(vm).items():
            if kind == 'DMA' and len(members) == 1:
                vm.agent.check(f'echo DMA-FQ >{GROUPS}/{number}/type')

    def replugged_type(self):
        """A device that is new has a new group."""
        return 'DMA'


class AmdStrictTest(_StrictTest):
    kind = 'amd'


class AmdPassthroughTest(_PassthroughTest):
    kind = 'amd'


class VirtioLazyTest(_LazyTest):
    kind = 'virtio'


class VirtioStrictTest(_StrictTest):
    kind = 'virtio'


class VirtioPassthroughTest(_PassthroughTest):
    kind = 'virtio'
