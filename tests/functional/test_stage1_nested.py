# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""A guest that is a host itself: it passes VFs of its machine, which is nyx-pc
with a stage 1, to a VM of its own. Both machines have a nyx-iommu: the inner
one's domains are enforced by the guest's IOMMU, which the outer one composes
with its own domains.
"""

from nested.case import NestedTest
from nested.nvme import Nvme
from nyxtest.stage1 import wait_logged

MIB = 1 << 20
BAR = 0xc0000000
QUEUES, DATA = 16 * MIB, 32 * MIB       # in the innermost machine's memory
FAR = 1 << 32                           # IOVA where it has no RAM


class _NestedStage1Test(NestedTest):
    machine = 'nyx-pc'

    @classmethod
    def describe(cls, host):
        host.nvme('nvme0', 1)

    @classmethod
    def prepare(cls, host):
        cls.vf = host.create_nvme_vfs('nvme0', 1)[0]

    def outer(self):
        """What the outer machine knows of the VF."""
        return next(dev for dev in
                    self.host.monitor.command('query-nyx-devices')
                    if dev['bdf'] == self.vf)

    def start(self):
        inner = self.inner('-object', 'nyx-domain,id=d', '-device',
                           f'vfio-pci,host={self.vf},id=v0,addr=1,'
                           'nyx-domain=d')
        nvme = Nvme(inner.qtest, 1 << 3, BAR, QUEUES, QUEUES)
        nvme.place()
        nvme.enable()
        return inner, nvme

    def test_dma(self):
        """Real DMA through three tables; what one refuses, both tell."""
        inner, nvme = self.start()
        self.assertEqual(self.outer()['dma'], 'translating')
        self.assertTrue(nvme.delivers(DATA, DATA))
        self.assertTrue(nvme.delivers(255 * MIB, 255 * MIB))
        self.assertEqual(self.outer()['total-faults'], 0)
        self.assertFalse(nvme.delivers(FAR, DATA))
        wait_logged(self.host, self.iommu, self.vf, 'Write', FAR)
        faults = self.host.monitor.command('query-nyx-faults',
                                           device=self.outer()['device'])
        self.assertEqual({(fault['type'], fault['access'],
                           fault['address'] & ~0xfff) for fault in faults},
                         {('stage1', 'w', FAR)})

    def test_unmap(self):
        """An unmapped page of the inner machine is gone at once."""
        inner, nvme = self.start()
        command = inner.monitor.command
        self.assertTrue(nvme.delivers(DATA, DATA))
        command('nyx-unmap', domain='d', iova=DATA, size=MIB)
        self.assertFalse(nvme.delivers(DATA, DATA))
        command('nyx-map', domain='d', iova=DATA, gpa=DATA + MIB, size=MIB,
                access='rw')
        self.assertTrue(nvme.delivers(DATA, DATA + MIB))


class IntelNestedTest(_NestedStage1Test):
    iommu = 'intel'


class AmdNestedTest(_NestedStage1Test):
    iommu = 'amd'
