# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""The examples of the manual under Debian's libvirt, with a Linux guest.

Saving, restoring and migrating are what two of Nyx's edits to QEMU are for.
"""

import shutil
import subprocess
import time
import unittest

from nyxtest.accel import choose_accel
from nyxtest.case import needs_nyx
from nyxtest.guest import (
    PROBE_SECONDS, block_device, disk_load, disk_sum, find_class, pci_address,
    write_random)
from nyxtest.image import guest_image
from nyxtest.libvirtd import Libvirtd, needs_libvirt
from nyxtest.libvirtvm import AGENT, EXAMPLES, LibvirtVM, example
from nyxtest.paths import LOGS, QEMU
from nyxtest.rogue import Rogue
from nyxtest.vm import KERNEL_ARGUMENTS

MIB = 1 << 20
SECONDS = 180
NOWHERE = 1 << 40
MODULES = 'virtio_pci', 'virtio_blk', 'virtio_net', 'e1000e'
# Device -> what is plugged in for it; an override does not reach it then.
NICS = {'ua-web': EXAMPLES / 'nic.xml', 'ua-later': EXAMPLES / 'assigned.xml'}
SHORT = '''
<domain type='qemu'>
  <name>short</name><memory unit='MiB'>64</memory>
  <os><type arch='x86_64' machine='{machine}'>hvm</type></os>{features}
  <devices><emulator>{qemu}</emulator>{controller}</devices>
</domain>
'''
PCIE_ROOT = "<controller type='pci' index='0' model='pcie-root'/>"
ACPI = '<features><acpi/></features>'


@needs_nyx
@needs_libvirt
class LibvirtTest(unittest.TestCase):
    """One guest from its start to its end, on two hosts in turn."""

    @classmethod
    def setUpClass(cls):
        cls.folder = LOGS / f'{cls.__module__}.{cls.__name__}'
        shutil.rmtree(cls.folder, ignore_errors=True)
        cls.folder.mkdir(parents=True)
        image = guest_image()
        xml, disks = example('web', cls.folder, image, choose_accel(image)[0],
                             MODULES)
        for path in disks:
            cls.addClassCleanup(path.unlink, missing_ok=True)
        cls.host = Libvirtd('one')
        cls.addClassCleanup(cls.host.stop)
        cls.host.check('define', xml)
        cls.host.check('start', 'web')
        cls.vm = LibvirtVM(cls.host, 'web')
        cls.addClassCleanup(cls.vm.close)
        cls.vm.wait_ready()
        cls.disk = block_device(cls.vm, 'ua-system')
        cls.load = disk_load(cls.vm, 'system', cls.disk, 16, 8)

    def command(self, name, **arguments):
        return self.vm.monitor.command(name, **arguments)

    def device(self, name):
        found = [dev for dev in self.command('query-nyx-devices')
                 if dev['device'] == name]
        return found[0] if found else None

    def virsh(self, *words):
        return self.vm.host.check(*words)

    def check_work(self):
        """I/O goes on as if nothing had been."""
        self.load.wait_bytes(MIB, SECONDS)
        now = self.load.progress()
        self.assertEqual((now.mismatches, now.errors), (0, 0))

    def test_1_domains(self):
        """Override, machine option and object are what QEMU has got."""
        self.assertEqual(
            {name: self.device(name)['domain']
             for name in ('ua-system', 'ua-nic', 'rogue', 'ua-port3')},
            {'ua-system': 'tenant', 'ua-nic': 'tenant', 'rogue': 'tenant',
             'ua-port3': 'auto:ua-port3'})
        self.assertEqual(self.device('ua-port3')['driver'], 'nyx-root-port')
        self.assertEqual(self.device('rogue')['policy']['max-faults'], 8)
        self.assertEqual(self.device('ua-port3')['policy']['max-faults'], 64)
        self.check_work()

    def plug(self):
        """One whose domain a global names, and one that is assigned."""
        for name, xml in NICS.items():
            self.virsh('attach-device', 'web', xml)
            if name == 'ua-later':
                self.assertEqual(self.device(name)['domain'],
                                 'auto:ua-later')
                self.command('nyx-assign-device', device=name,
                             domain='guests')
            card = find_class(self.vm, 'net', name)
            self.vm.agent.check(f'ip link set {card} up')
            self.assertEqual(self.device(name)['domain'], 'guests')

    def test_2_hotplug(self):
        for _ in range(2):
            self.plug()
            self.check_work()
            for name, xml in NICS.items():
                address = pci_address(self.vm, name)
                self.virsh('detach-device', 'web', xml)
                self.vm.agent.wait(
                    f'[ ! -e /sys/bus/pci/devices/{address} ]',
                    PROBE_SECONDS)
                # libvirt forgets it after the guest has.
                self.await_that(lambda gone=name: gone not in self.virsh(
                    'dumpxml', 'web').split('<qemu:')[0], name)
        self.check_work()

    def await_that(self, condition, what):
        limit = time.monotonic() + SECONDS
        while not condition():
            self.assertLess(time.monotonic(), limit, what)
            time.sleep(0.1)

    def test_3_events(self):
        """A device that does what it must not is told of."""
        listening = subprocess.Popen(
            self.vm.host.command('qemu-monitor-event', 'web', '--event',
                                 'NYX_DEVICE_STATE', '--timeout', 60),
            text=True, stdout=subprocess.PIPE)
        self.addCleanup(listening.communicate)
        self.addCleanup(listening.kill)
        rogue = Rogue(self.vm, 'rogue', NOWHERE)
        # When virsh has begun to listen cannot be seen: repeat it.
        while listening.poll() is None:
            rogue.wait_more('gone')
            self.command('nyx-recover-device', device='rogue', force=True)
        out, _ = listening.communicate(timeout=SECONDS)
        self.assertRegex(out, r'^event NYX_DEVICE_STATE at .* for domain '
                         r"'web': .*\"device\":\"rogue\"")
        self.await_that(
            lambda: self.device('rogue')['state'] == 'quarantined', 'rogue')
        self.assertEqual(rogue.stop().ok, 0)

    def lasting(self):
        """State and counters that travel"""
        return {dev['device']: (dev['domain'], dev['state'],
                                dev['total-faults'], dev['policy'])
                for dev in self.command('query-nyx-devices')}

    def test_4_save_restore(self):
        """With a device in quarantine, and one that was plugged in."""
        self.plug()
        before = self.lasting()
        file = self.folder / 'web.save'
        for _ in range(2):
            self.virsh('save', 'web', file)
            self.assertEqual(self.virsh('domstate', 'web'), 'shut off')
            self.virsh('restore', file)
            self.vm.reach(self.vm.host)
            self.assertEqual(self.lasting(), before)
            self.check_work()
        file.unlink()
        self.virsh('managedsave', 'web')
        self.virsh('start', 'web')
        self.vm.reach(self.vm.host)
        self.assertEqual(self.lasting(), before)
        self.check_work()

    def test_5_snapshot(self):
        before = self.lasting()
        digest = write_random(self.vm, self.disk, 4, 4)
        self.virsh('snapshot-create-as', 'web', 'good')
        write_random(self.vm, self.disk, 4, 4)
        self.command('nyx-recover-device', device='rogue', force=True)
        self.assertNotEqual(self.lasting(), before)
        self.virsh('snapshot-revert', 'web', 'good')
        self.vm.reach(self.vm.host)
        self.assertEqual(self.lasting(), before)
        self.assertEqual(disk_sum(self.vm, self.disk, 4, 4), digest)
        self.check_work()
        self.virsh('snapshot-delete', 'web', 'good')
        self.assertEqual(self.virsh('snapshot-list', 'web', '--name'), '')

    def test_6_migrate(self):
        """To another daemon and back, while the guest works."""
        other = Libvirtd('two')
        self.addCleanup(other.stop)
        before = self.lasting()
        for there in other, self.host:
            here = self.vm.host
            # The disk is the same file here and there, as libvirt cannot know.
            here.check('migrate', '--live', '--unsafe', 'web', there.uri,
                       '--migrateuri', 'tcp://127.0.0.1')
            self.assertEqual(here.check('list', '--name'), '')
            self.vm.reach(there)
            self.assertEqual(self.lasting(), before)
            self.check_work()
        self.command('nyx-recover-device', device='rogue', force=True)

    def test_7_shutdown(self):
        """The guest is asked to end, and libvirt sees that it has."""
        self.load.stop()
        self.assertNotRegex((self.folder / 'console.log').read_text(),
                            r'Kernel panic|\bBUG:|Call Trace:')
        listening = subprocess.Popen(
            self.vm.host.command('qemu-monitor-event', 'web', '--event',
                                 'POWERDOWN', '--timeout', 60), text=True,
            stdout=subprocess.PIPE)
        while listening.poll() is None:
            self.virsh('shutdown', 'web', '--mode', 'acpi')
        self.assertIn('event POWERDOWN', listening.communicate()[0])
        # The test's guest has no driver for the button.
        listening = subprocess.Popen(
            self.vm.host.command('event', 'web', '--event', 'lifecycle',
                                 '--timeout', 60), text=True,
            stdout=subprocess.PIPE)
        self.vm.agent.begin('poweroff -f')
        out, _ = listening.communicate(timeout=SECONDS)
        self.assertIn('Shutdown Finished', out)


@needs_nyx
@needs_libvirt
class NameTest(unittest.TestCase):
    """What a short domain has to say, under libvirt 9.0."""

    def setUp(self):
        self.host = Libvirtd('names')
        self.addCleanup(self.host.stop)
        if self.host.check('--version') != '9.0.0':
            self.skipTest('tells of libvirt 9.0.0 only')

    def define(self, machine, controller=PCIE_ROOT, features=ACPI):
        return self.host.virsh('define', '/dev/stdin', input=SHORT.format(
            machine=machine, features=features, controller=controller,
            qemu=QEMU))

    def assert_starts(self):
        """And keeps the canonical name."""
        self.host.check('start', 'short')
        self.assertIn("machine='pc-q35-nyx-11.1'",
                      self.host.check('dumpxml', 'short'))

    def test_canonical(self):
        self.define('pc-q35-nyx-11.1', controller='')
        self.assert_starts()

    def test_alias(self):
        self.define('nyx-pc')
        self.assert_starts()

    def test_alias_alone(self):
        """libvirtd crashes: once it does not, the manual has to change."""
        self.assertIn('Disconnected', self.define('nyx-pc',
                                                  controller='').stderr)

    def test_without_acpi(self):
        self.define('pc-q35-nyx-11.1', features='')
        self.assertIn('-no-acpi: invalid option',
                      self.host.virsh('start', 'short').stderr)


@needs_nyx
@needs_libvirt
@unittest.skipUnless(shutil.which('virt-install'),
                     'virt-install is missing: virtinst')
class VirtInstallTest(unittest.TestCase):
    """virt-install with the machine's name, as the manual has it."""

    def setUp(self):
        self.folder = LOGS / f'{type(self).__module__}.{type(self).__name__}'
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        self.host = Libvirtd('install')
        self.addCleanup(self.host.stop)
        self.image = guest_image()

    def install(self, *words):
        disk = self.folder / 'system.qcow2'
        self.addCleanup(disk.unlink, missing_ok=True)
        kind = {'kvm': 'kvm', 'tcg': 'qemu'}[choose_accel(self.image)[0]]
        done = subprocess.run(
            self.host.inside(
                'virt-install', '--connect', 'qemu:///system', '--machine',
                'pc-q35-nyx-11.1', '--virt-type', kind, '--name', 'new',
                '--memory', '512', '--vcpus', '2', '--import', '--disk',
                f'{disk},size=1,bus=virtio', '--network', 'user,model=e1000e',
                '--graphics', 'none', '--osinfo', 'detect=on,require=off',
                *words),
            capture_output=True, text=True, check=False, timeout=SECONDS)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def test_print(self):
        """QEMU is found in libvirt's PATH, with the machine's name."""
        text = self.install('--print-xml')
        self.assertIn('machine="pc-q35-nyx-11.1"', text)
        self.assertIn(f'<emulator>{QEMU}</emulator>', text)

    def test_boot(self):
        """A guest, its disk in a domain."""
        self.install(
            '--boot', f'kernel={self.image.kernel},initrd={self.image.initrd},'
            f'kernel_args="{KERNEL_ARGUMENTS} nyx.load={",".join(MODULES)}"',
            '--serial', 'pty', '--serial', f'unix,path={AGENT},mode=bind',
            '--noautoconsole',
            '--qemu-commandline',
            '-object nyx-domain,id=tenant,max-faults=8 '
            '-global virtio-blk-pci.nyx-domain=tenant')
        vm = LibvirtVM(self.host, 'new')
        self.addCleanup(vm.close)
        vm.wait_ready()
        disk, = (dev for dev in vm.monitor.command('query-nyx-devices')
                 if dev['driver'] == 'virtio-blk-pci')
        self.assertEqual(disk['domain'], 'tenant')
        path = block_device(vm, disk['device'])
        digest = write_random(vm, path, 4, 4)
        self.assertEqual(disk_sum(vm, path, 4, 4), digest)
