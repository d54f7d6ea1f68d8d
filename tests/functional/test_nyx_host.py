# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""scripts/nyx host: on a real kernel, and on trees that look like its own."""

import contextlib
import io
import json
import sys
import tempfile
import unittest
from pathlib import Path

from nested.case import NestedTest
from nyxtest.guest import pci_address
from nyxtest.paths import ROOT

sys.path.insert(0, str(ROOT / 'scripts'))
from nyxcli.main import main  # noqa: E402

SYSFS = '/sys/bus/pci/devices'


class HostTest(NestedTest):
    """In the middle guest: its IOMMU, its devices, its drivers."""

    @classmethod
    def describe(cls, host):
        host.igb('igb0')
        host.add('-netdev', 'user,id=route', '-device', 'e1000e,id=route0,'
                 f'bus={host.root_port()},netdev=route,romfile=',
                 modules=['e1000e'])
        disk = host.folder / 'disk.raw'
        host.folder.mkdir(parents=True)
        with disk.open('wb') as file:
            file.truncate(16 << 20)
        host.add('-blockdev', f'driver=file,node-name=disk,filename={disk}',
                 '-device', f'nvme,id=nvme0,bus={host.root_port()},drive=disk,'
                 'serial=1', modules=['nvme', 'ext4', 'crc32c_generic'])
        # Two functions without ACS: the IOMMU cannot tell them apart.
        for function, extra in ((0, ',multifunction=on'), (1, '')):
            host.add('-device', f'e1000,id=pair{function},romfile=,'
                     f'addr=8.{function}{extra}', modules=['e1000'])

    @classmethod
    def prepare(cls, host):
        cls.addr = {name: pci_address(host, name) for name in
                    ('igb0', 'route0', 'nvme0', 'pair0', 'pair1', 'rp1')}
        host.agent.wait('[ -b /dev/nvme0n1 ]')
        for name in ('igb0', 'route0', 'pair0', 'pair1'):
            host.agent.wait(f'[ -d {SYSFS}/{cls.addr[name]}/net ]')

    def nyx(self, *words):
        return self.host.agent.run('python3 /nyx/scripts/nyx host '
                                   + ' '.join(words), 120)

    def done(self, *words):
        """A command that must succeed; what it printed."""
        result = self.nyx(*words)
        self.assertEqual(result.status, 0, result.output)
        return result.output

    def refused(self, words, *texts):
        result = self.nyx(*words)
        self.assertEqual(result.status, 1, result.output)
        self.assertEqual(len(result.output.strip().splitlines()), 1,
                         result.output)
        for text in texts:
            self.assertIn(text, result.output)

    def driver(self, address):
        link = self.host.agent.run(f'readlink {SYSFS}/{address}/driver')
        return link.output.strip().rsplit('/', 1)[-1] or None

    def state(self, address):
        """All that bind and unbind may change."""
        return self.driver(address), self.host.agent.check(
            f'cat {SYSFS}/{address}/driver_override')

    def vfs(self):
        out = self.host.agent.check(f'cd {SYSFS}/{self.addr["igb0"]}; for f in '
                                    'virtfn*; do [ -e $f ] && readlink $f; '
                                    'done; true')
        return [line.rsplit('/', 1)[-1] for line in out.split()]

    def test_1_list(self):
        devices = {dev['address']: dev
                   for dev in json.loads(self.done('list', '--json'))}
        igb = devices[self.addr['igb0']]
        self.assertEqual((igb['class'], igb['ids'], igb['driver'],
                          igb['iommu-group'], igb['sriov']),
                         ('network', '8086:10c9', 'igb',
                          self.host.group(self.addr['igb0']),
                          {'vfs': 0, 'total-vfs': 7}))
        self.assertEqual(devices[self.addr['pair0']]['iommu-group'],
                         devices[self.addr['pair1']]['iommu-group'])
        table = self.done('list')
        self.assertRegex(table, r'(?m)^DEVICE +ID +CLASS +GROUP +DRIVER')
        self.assertEqual(len(table.splitlines()), len(devices) + 1)

    def test_2_vfs(self):
        igb = self.addr['igb0']
        self.refused(['vfs', igb, '8'], '7 virtual functions at most')
        self.refused(['vfs', self.addr['route0'], '1'], 'no SR-IOV')
        planned = self.done('vfs', '--dry-run', igb, '3')
        self.assertEqual(self.vfs(), [])
        self.done('vfs', igb, '3')
        vfs = self.vfs()
        self.assertEqual([self.driver(vf) for vf in vfs], [None] * 3)
        self.refused(['vfs', vfs[0], '1'], 'physical function', igb)
        self.refused(['bind', igb], '3 virtual functions', 'vfs')
        self.done('vfs', igb, '0')
        self.assertEqual(self.vfs(), [])
        autoprobe = f'{SYSFS}/{igb}/sriov_drivers_autoprobe'
        self.assertEqual(self.host.agent.check(f'cat {autoprobe}'), '1')
        # What a dry run prints does the same.
        self.host.agent.check(planned)
        self.assertEqual(self.vfs(), vfs)
        self.assertEqual(self.host.agent.check(f'cat {autoprobe}'), '0')

    def test_3_bind_vf(self):
        vf = self.vfs()[0]
        before = self.state(vf)
        planned = self.done('bind', '--dry-run', vf[5:])
        self.assertEqual(self.state(vf), before)
        self.done('bind', vf[5:])
        self.assertEqual(self.driver(vf), 'vfio-pci')
        self.done('bind', vf)           # nothing left to do
        self.refused(['vfs', self.addr['igb0'], '0'], vf, 'vfio-pci')
        self.done('unbind', vf)
        self.assertEqual(self.state(vf), before)
        self.refused(['unbind', vf], 'not bound to vfio-pci')
        self.host.agent.check(planned)
        self.assertEqual(self.driver(vf), 'vfio-pci')
        self.done('unbind', vf)         # nobody noted what was before

    def test_4_bind_and_restore(self):
        """The former driver comes back, for a whole group."""
        pair = [self.addr['pair0'], self.addr['pair1']]
        before = [self.state(address) for address in pair]
        self.assertEqual(before[0][0], 'e1000')
        self.refused(['bind', pair[0]], pair[1], '(driver e1000)',
                     f'group {self.host.group(pair[0])} ')
        self.assertEqual([self.state(address) for address in pair], before)
        out = self.done('bind', '--json', *pair)
        self.assertEqual([dev['driver'] for dev in json.loads(out)],
                         ['vfio-pci'] * 2)
        self.done('unbind', *pair)
        self.assertEqual([self.state(address) for address in pair], before)

    def test_5_in_use(self):
        check = self.host.agent.check
        check('mke2fs /dev/nvme0n1 && mount -t ext4 /dev/nvme0n1 /mnt')
        self.refused(['bind', self.addr['nvme0']], 'mounted on /mnt')
        check('umount /mnt')
        self.done('bind', self.addr['nvme0'])
        self.done('unbind', self.addr['nvme0'])
        self.assertEqual(self.driver(self.addr['nvme0']), 'nvme')
        card = check(f'ls {SYSFS}/{self.addr["route0"]}/net')
        # A bridge, as hosts of VMs have it, does not hide the card.
        check(f'ip link set {card} up && ip addr add 10.9.9.9/24 dev {card} '
              f'&& ip route add default via 10.9.9.1 dev {card}')
        self.refused(['bind', self.addr['route0']], 'default route', card)
        check('ip route del default')
        self.done('bind', self.addr['route0'])
        self.done('unbind', self.addr['route0'])
        self.assertEqual(self.driver(self.addr['route0']), 'e1000e')

    def test_6_used_by_a_vm(self):
        vf = self.vfs()[1]
        self.done('bind', vf)
        inner = self.host.inner('-device', f'vfio-pci,host={vf},id=v')
        try:
            self.refused(['unbind', vf], 'in use by process', '(qemu)')
            self.assertEqual(self.driver(vf), 'vfio-pci')
        finally:
            inner.stop()
        self.done('unbind', vf)
        self.assertIsNone(self.driver(vf))

    def test_7_refusals(self):
        self.refused(['bind', self.addr['rp1']], 'bridge')
        self.refused(['bind', '0000:77:00.0'], 'no PCI device 0000:77:00.0',
                     'nyx host list')
        self.refused(['bind', 'eth0'], 'no PCI address')


class TreeTest(unittest.TestCase):
    """Cases that the nested host cannot show, on a made-up tree."""

    NIC = '0000:03:00.0'
    DISK = '0000:04:00.0'

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = Path(folder.name)
        for address, kind in ((self.NIC, '0x020000'), (self.DISK, '0x010802')):
            self.device(address, kind)
        self.put('proc/self/mountinfo', '')

    def put(self, name, text):
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + '\n')

    def link(self, name, target):
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(self.root / target)

    def device(self, address, kind):
        real = f'sys/devices/pci0000:00/{address}'
        for name, text in (('vendor', '0x8086'), ('device', '0x1234'),
                           ('class', kind), ('driver_override', '(null)')):
            self.put(f'{real}/{name}', text)
        self.link(f'sys/bus/pci/devices/{address}', real)

    def group(self, address, number, name='DMAR'):
        self.put(f'sys/kernel/iommu_groups/{number}/name', name)
        self.link(f'sys/bus/pci/devices/{address}/iommu_group',
                  f'sys/kernel/iommu_groups/{number}')
        self.link(f'sys/kernel/iommu_groups/{number}/devices/{address}',
                  f'sys/devices/pci0000:00/{address}')

    def nyx(self, *words):
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = main(['host', words[0], '--root', str(self.root),
                           *words[1:]])
        return status, out.getvalue() + err.getvalue()

    def refused(self, words, text):
        status, output = self.nyx(*words)
        self.assertEqual(status, 1, output)
        self.assertRegex(output, text)

    def test_without_iommu(self):
        self.refused(['bind', '--dry-run', self.NIC],
                     'no IOMMU group.*intel_iommu=on')
        self.assertRegex(self.nyx('list')[1], f'{self.NIC} .* - ')

    def test_noiommu(self):
        self.group(self.NIC, 0, 'vfio-noiommu')
        self.refused(['bind', '--dry-run', self.NIC], 'without an IOMMU')
        self.assertIn('0 (no IOMMU)', self.nyx('list')[1])

    def test_dry_run(self):
        self.group(self.NIC, 3)
        self.link(f'sys/bus/pci/devices/{self.NIC}/driver',
                  'sys/bus/pci/drivers/ixgbe')
        self.put('sys/bus/pci/drivers/vfio-pci/bind', '')
        path = f'/sys/bus/pci/devices/{self.NIC}'
        self.assertEqual(self.nyx('bind', '--dry-run', self.NIC), (0, (
            f'echo vfio-pci >{path}/driver_override\n'
            f'echo {self.NIC} >/sys/bus/pci/drivers/ixgbe/unbind\n'
            f'echo {self.NIC} >/sys/bus/pci/drivers_probe\n')))
        self.assertFalse((self.root / 'run').exists())

    def test_default_route_through_bond_and_vlan(self):
        self.group(self.NIC, 3)
        self.link('sys/class/net/eth0/device',
                  f'sys/devices/pci0000:00/{self.NIC}')
        self.link('sys/class/net/bond0/lower_eth0', 'sys/class/net/eth0')
        self.link('sys/class/net/bond0.7/lower_bond0', 'sys/class/net/bond0')
        self.put('proc/net/route', 'Iface Destination ...\nbond0.7 00000000 '
                 '0100000A 0003 0 0 0 00000000 0 0 0')
        self.refused(['bind', '--dry-run', self.NIC],
                     'default route goes through eth0')

    def test_root_on_lvm(self):
        self.group(self.DISK, 4)
        disk = f'sys/devices/pci0000:00/{self.DISK}/nvme/nvme0/nvme0n1'
        self.put(f'{disk}/nvme0n1p2/dev', '259:2')
        self.link('sys/devices/virtual/block/dm-0/slaves/nvme0n1p2',
                  f'{disk}/nvme0n1p2')
        self.link('sys/dev/block/253:0', 'sys/devices/virtual/block/dm-0')
        self.put('proc/self/mountinfo', '22 1 253:0 / / rw - ext4 '
                 '/dev/mapper/vg-root rw')
        self.refused(['bind', '--dry-run', self.DISK], 'is mounted on /;')

    def test_root_with_nvme_multipath(self):
        self.group(self.DISK, 4)
        controller = f'sys/devices/pci0000:00/{self.DISK}/nvme/nvme5'
        self.put(f'{controller}/state', 'live')
        subsystem = 'sys/devices/virtual/nvme-subsystem/nvme-subsys2'
        self.put(f'{subsystem}/nvme2n1/nvme2n1p1/dev', '259:1')
        self.link(f'{subsystem}/nvme5', controller)
        self.link('sys/class/nvme-subsystem/nvme-subsys2', subsystem)
        self.link('sys/dev/block/259:1', f'{subsystem}/nvme2n1/nvme2n1p1')
        self.put('proc/self/mountinfo', '22 1 259:1 / /srv rw - xfs '
                 '/dev/nvme2n1p1 rw')
        self.refused(['bind', '--dry-run', self.DISK], 'is mounted on /srv;')
