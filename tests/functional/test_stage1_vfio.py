# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""A program in the guest drives a device by VFIO: the IOMMU that the guest sees
confines it to the memory that the program has mapped.
"""

from nyxtest.guest import pci_address
from nyxtest.stage1 import Stage1Test, bind


class _VfioTest(Stage1Test):
    @classmethod
    def describe(cls, vm):
        super().describe(vm)
        # What the program tries on purpose is no reason to cut it off.
        vm.machine_options.append('count-stage1=off')
        vm.device('pcie-root-port', id='port0', chassis=1, slot=1)
        for name, bus in (('on-port', 'port0'), ('on-root', None)):
            vm.device('nyx-testdev', ('vfio_pci', 'vfio_iommu_type1'), id=name,
                      bus=bus)

    @classmethod
    def prepare(cls, vm):
        vm.agent.check('echo 2 >/proc/sys/vm/nr_hugepages')
        for name in ('on-port', 'on-root'):
            bind(vm, name, 'vfio-pci')

    def check(self, name):
        address = pci_address(self.vm, name)
        group = self.vm.agent.check(
            f'readlink /sys/bus/pci/devices/{address}/iommu_group')
        group = group.rsplit('/', 1)[-1]
        result = self.vm.agent.run(f'nyx-vfio {address} {group}')
        self.assertEqual(result.status, 0, result.output)
        refused = [(int(line.split()[1], 16), line.split()[2])
                   for line in result.output.splitlines()]
        self.assertGreater(len(refused), 5)
        faults = self.vm.monitor.command('query-nyx-faults', device=name)
        self.assertEqual({fault['type'] for fault in faults}, {'stage1'})
        told = [(fault['address'], fault['access'])
                for fault in reversed(faults) for _ in range(fault['count'])]
        self.assertEqual(told, refused)
        info = self.nyx_device(name)
        self.assertEqual((info['state'], info['total-faults']),
                         ('operational', len(refused)))
        self.assertGreater(info['interrupts']['delivered'], 0)
        return address, refused

    def test_on_root_bus(self):
        address, refused = self.check('on-root')
        # Later ones the kernel may leave out: it tells only so many in 5 s.
        self.assertEqual(refused[0][1], 'w')
        self.wait_logged(address, 'Write', refused[0][0])

    def test_on_root_port(self):
        self.check('on-port')



class IntelVfioTest(_VfioTest):
    kind = 'intel'


class IntelScalableVfioTest(_VfioTest):
    """Scalable mode; which tables it uses is for Linux to choose."""
    kind = 'intel'
    properties = {'scalable_mode': 'on', 'fsts': 'on'}
    # Linux 6.1 flushes ranges that are not aligned, which it warns of itself.
    allowed_trouble = ('qi_flush_piotlb',)


class AmdVfioTest(_VfioTest):
    kind = 'amd'


class VirtioVfioTest(_VfioTest):
    """This IOMMU does not remap interrupts, which VFIO has to be told."""

    kind = 'virtio'

    @classmethod
    def prepare(cls, vm):
        super().prepare(vm)
        vm.agent.check('echo 1 >/sys/module/vfio_iommu_type1/parameters/'
                       'allow_unsafe_interrupts')
