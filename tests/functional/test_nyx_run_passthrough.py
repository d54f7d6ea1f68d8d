# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""nyx run with devices of the host: in a host in a VM, whose IOMMU is real
enough for vfio-pci.
"""

import json

from nested.case import NestedTest
from nyxtest.guest import pci_address

SPEC = '''name = "workstation"
memory = "64M"
rng = false
machine = {{ accel = "tcg" }}

[qemu]
program = "/nyx/qemu"
arguments = ["-L", "/nyx/firmware"]

[[domain]]
id = "graphics"
isolation = "shared"

[[passthrough]]
id = "gpu"
host = "{pair0}"
domain = "graphics"
rom = false

[[passthrough]]
id = "gpu-audio"
host = "{pair1}"
beside = "gpu"
domain = "graphics"
rom = false

[[passthrough]]
id = "net"
host = "{vf}"
'''


class PassthroughTest(NestedTest):
    """Two functions of one card, and a VF."""

    @classmethod
    def describe(cls, host):
        host.igb('igb0')
        # Without ACS: the IOMMU cannot tell them apart.
        for function, extra in ((0, ',multifunction=on'), (1, '')):
            host.add('-device', f'e1000,id=pair{function},romfile=,'
                     f'addr=8.{function}{extra}')

    @classmethod
    def prepare(cls, host):
        cls.vf = host.create_vfs('igb0', 1)[0]
        cls.pair = [pci_address(host, f'pair{n}') for n in (0, 1)]
        host.agent.check(f'python3 /nyx/scripts/nyx host bind {cls.vf} '
                         f'{" ".join(cls.pair)}', 120)

    def nyx(self, *words):
        return self.host.agent.run('python3 /nyx/scripts/nyx '
                                   + ' '.join(words), 240)

    def says(self, *words):
        result = self.nyx(*words)
        self.assertEqual(result.status, 0, result.output)
        return result.output

    def write_spec(self, **more):
        text = SPEC.format(pair0=self.pair[0], pair1=self.pair[1],
                           vf=self.vf, **more)
        self.host.agent.check(f"cat >/tmp/w.toml <<'end'\n{text}end")

    def test_1_functions_of_one_device(self):
        self.write_spec()
        self.says('run', '--detach', '/tmp/w.toml')
        devices = {dev['device']: dev for dev in json.loads(
            self.says('devices', '--vm', 'workstation', '--json'))}
        for name, domain in (('gpu', 'graphics'), ('gpu-audio', 'graphics'),
                             ('net', 'auto:net')):
            self.assertEqual(devices[name]['domain'], domain)
            self.assertEqual(devices[name]['backend'], 'vfio')
        gpu, audio = devices['gpu']['bdf'], devices['gpu-audio']['bdf']
        self.assertEqual((gpu[:-1], gpu[-1], audio[:-1], audio[-1]),
                         (audio[:-1], '0', gpu[:-1], '1'))
        self.assertNotEqual(devices['net']['bdf'].split(':')[-2],
                            gpu.split(':')[-2])
        self.assertIn('has ended', self.says('stop', '--now', 'workstation'))

    def test_2_not_prepared(self):
        """A function that its own driver has: one sentence that names it."""
        self.write_spec()
        self.says('host', 'unbind', self.vf)
        result = self.nyx('run', '--detach', '/tmp/w.toml')
        self.assertEqual(result.status, 1, result.output)
        self.assertIn('net', result.output)
        self.assertIn(self.vf, result.output)
        self.assertEqual(self.says('status').strip(), 'No VM is running.')
