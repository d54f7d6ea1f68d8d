# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""A domain of libvirt as a resource of Pacemaker, on two hosts.

The resource is docs/nyx/examples/ha/web.xml, the domain that of the manual's
chapter on libvirt. There is no fencing: that a host is dead is certain here.
"""

import shutil
import time
import unittest
import xml.etree.ElementTree as ET

from nyxtest.accel import choose_accel
from nyxtest.case import needs_nyx
from nyxtest.cluster import LOOK_SECONDS, Cluster, needs_cluster
from nyxtest.image import guest_image
from nyxtest.libvirtd import needs_libvirt
from nyxtest.libvirtvm import LibvirtVM, example
from nyxtest.paths import LOGS, ROOT
from nyxtest.vm import BOOT_SECONDS

RESOURCE = ROOT / 'docs' / 'nyx' / 'examples' / 'ha' / 'web.xml'
MODULES = 'virtio_pci', 'virtio_blk'
OPTIONS = ('<cluster_property_set id="options">'
           '<nvpair id="stonith" name="stonith-enabled" value="false"/>'
           '<nvpair id="quorum" name="no-quorum-policy" value="ignore"/>'
           '</cluster_property_set>')


@needs_nyx
@needs_libvirt
@needs_cluster
class PacemakerTest(unittest.TestCase):
    """Started, moved, started anew, taken over."""

    def setUp(self):
        self.folder = LOGS / f'{type(self).__module__}.{type(self).__name__}'
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        image = guest_image()
        self.xml, disks = example('web', self.folder, image,
                                  choose_accel(image)[0], MODULES)
        for disk in disks:
            self.addCleanup(disk.unlink, missing_ok=True)
        self.keep_log()
        self.cluster = Cluster(self.folder)
        self.addCleanup(self.cluster.stop)
        self.one, self.two = self.cluster.nodes.values()

    def keep_log(self):
        """What the guest says before anybody is there to hear it."""
        self.said = self.folder / 'agent.log'
        tree = ET.parse(self.xml)
        port = tree.getroot().find("devices/serial[@type='unix']")
        ET.SubElement(port, 'log', file=str(self.said), append='on')
        tree.write(self.xml)

    def await_boots(self, wanted):
        limit = time.monotonic() + BOOT_SECONDS
        while not self.said.exists() or \
                self.said.read_bytes().count(b'agent ready') < wanted:
            self.assertLess(time.monotonic(), limit, 'no guest is ready')
            time.sleep(LOOK_SECONDS)

    def configure(self):
        """The resource of the manual, with the path of the domain here."""
        self.one.await_line('Online: [ one two ]', 'crm_mon', '-1')
        resource = self.folder / 'resource.xml'
        resource.write_text(RESOURCE.read_text().replace(
            '/srv/vm/web.xml', str(self.xml)))
        self.one.run('cibadmin', '--modify', '--allow-create', '-o',
                     'crm_config', '--xml-text', OPTIONS)
        self.one.run('cibadmin', '--create', '-o', 'resources', '--xml-file',
                     resource)

    def runs_on(self, node, boots):
        """Pacemaker says so, and libvirt; after so many boots, if any."""
        node.await_line(f'is running on: {node.name}', 'crm_resource',
                        '--resource', 'web', '--locate')
        node.await_line('web', 'virsh', '-q', 'list', '--name')
        if boots:
            self.await_boots(boots)
        vm = LibvirtVM(node, 'web')
        self.addCleanup(vm.close)
        self.assertEqual(vm.monitor.command(
            'query-nyx-devices', device='ua-system')[0]['domain'], 'tenant')
        return vm

    def test_life(self):
        self.configure()
        self.one.run('crm_resource', '--resource', 'web', '--move', '--node',
                     'one')
        vm = self.runs_on(self.one, 1)
        vm.agent.check('echo kept >/tmp/mark')

        # Moved: it is the same guest.
        self.one.run('crm_resource', '--resource', 'web', '--move', '--node',
                     'two')
        vm = self.runs_on(self.two, 1)
        self.assertEqual(vm.agent.check('cat /tmp/mark'), 'kept')
        self.assertEqual(self.one.check('list', '--name'), '')

        # QEMU dies: it is started anew.
        qemu, = self.two.pids('^/.*qemu-system')
        self.two.run('kill', '-9', qemu)
        self.two.await_line('fail-count=1', 'crm_mon', '-1', '-f')
        vm = self.runs_on(self.two, 2)
        self.assertEqual(vm.agent.check('[ -e /tmp/mark ] || echo gone'),
                         'gone')

        # The host dies: the other one has it.
        self.two.stop()
        self.one.await_line('OFFLINE: [ two ]', 'crm_mon', '-1')
        self.runs_on(self.one, 0)
