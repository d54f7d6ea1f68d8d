# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""nyx run --libvirt: what libvirt of Debian makes of it."""

import json
import shutil
import subprocess
import unittest
import xml.etree.ElementTree as ET

from nyxtest.libvirtd import Libvirtd, needs_libvirt
from nyxtest.nyxrun import EXAMPLES, RunCase

ALL = sorted(path.stem for path in EXAMPLES.glob('*.toml'))
# Of what the others need there is nothing here: servers, devices of the host,
# a bridge.
STARTED = ('first', 'secure', 'storage', 'network', 'operated', 'window')
# Spec -> device of libvirt, domain of Nyx
JOINED = {'secure': {'ua-disk0': 'system'},
          'storage': {'pool0': 'pool', 'pool1': 'pool',
                      'ua-scsi-ctl0': 'batch', 'ua-system': 'auto:ua-system'},
          'network': {'back': 'tenant', 'front': 'tenant',
                      'sriov': 'auto:sriov'},
          'window': {'dma': 'cage'}, 'first': {}, 'operated': {}}


class _XmlCase(RunCase):
    """Domains of all examples."""

    def xml(self, name, *words):
        path = self.folder / f'{name}.xml'
        path.write_text(self.says('run', '--libvirt', self.example(name),
                                  '--set', 'machine.accel=tcg', *words))
        return path


class SchemaTest(_XmlCase):
    """libvirt's own schema."""

    @unittest.skipUnless(shutil.which('virt-xml-validate'),
                         'virt-xml-validate is missing: libvirt-clients')
    def test_valid(self):
        for name in ALL:
            done = subprocess.run(['virt-xml-validate', self.xml(name),
                                   'domain'], capture_output=True, text=True,
                                  check=False)
            self.assertEqual(done.returncode, 0, done.stderr)

    def test_nothing_is_lost(self):
        """Each entry of a spec is in the domain, or named in a comment."""
        for name in ALL:
            text = self.xml(name).read_text()
            spec = json.loads(self.says(
                'run', '--print', '--json', self.folder / f'{name}.toml',
                '--set', 'machine.accel=tcg'))
            for word in spec['command']:
                if word.startswith('nyx-domain,'):
                    self.assertIn(word, text)
        self.assertIn('not here: domain.map', self.xml('window').read_text())
        self.assertIn('not here: metrics', self.xml('operated').read_text())


@needs_libvirt
class LibvirtTest(_XmlCase):
    """A libvirtd that defines and starts them."""

    def setUp(self):
        super().setUp()
        self.libvirtd = Libvirtd()
        self.addCleanup(self.libvirtd.stop)

    def make_disks(self, path):
        """What nyx run would make by disk.create."""
        for disk in ET.parse(path).iter('source'):
            if disk.get('file'):
                self.image(disk.get('file'))
        for arg in ET.parse(path).iter():
            for word in (arg.get('value') or '').split(','):
                if word.startswith('file.filename='):
                    self.image(word.partition('=')[2])

    @staticmethod
    def image(name):
        kind = 'qcow2' if name.endswith('.qcow2') else 'raw'
        from nyxtest.paths import QEMU  # pylint: disable=C0415
        subprocess.run([QEMU.with_name('qemu-img'), 'create', '-q', '-f',
                        kind, name, '16M'], check=True)

    def test_all_are_defined(self):
        for name in ALL:
            self.libvirtd.check('define', self.xml(name))
        self.assertEqual(
            sorted(self.libvirtd.check('list', '--all', '--name').split()),
            ALL)

    def test_started(self):
        for name in STARTED:
            with self.subTest(name):
                path = self.xml(name, *(('--set', 'nic.0.forward=[]')
                                        if name == 'first' else ()))
                self.make_disks(path)
                self.libvirtd.check('define', path)
                self.libvirtd.check('start', name)
                said = json.loads(self.libvirtd.check(
                    'qemu-monitor-command', name,
                    '{"execute": "query-nyx-devices"}'))['return']
                domains = {dev['device']: dev['domain'] for dev in said}
                for device, domain in JOINED[name].items():
                    self.assertEqual(domains.get(device), domain, device)
                self.libvirtd.check('destroy', name)
