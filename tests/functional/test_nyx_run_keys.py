# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""nyx run: each key of the schema does something in a QEMU that runs."""

import os
import tomllib
import unittest

from nyxtest.nyxrun import EXAMPLES, RunCase

# pylint: disable=wrong-import-order,import-error
from nyxcli.run.schema import SECTIONS, TOP
from nyxcli.vm import connect

# Without the hardware there is only their command line: OutputTest.
NOT_STARTED = {('passthrough', 'rom'), ('migration', 'listen'),
               ('snapshot', 'load'), ('memory', 'hugepages')}
DISK = '[[disk]]\nfile = "d.qcow2"\ncreate = "16M"\n'


def qom(path, name, **more):
    return 'qom-get', {'path': path, 'property': name, **more}


# Spec -> a command of QMP, what its answer has to contain (a function tells
# whether it does).
VARIANTS = {
    'clock = "localtime"\nuuid = "9e1f2f5c-58a1-4d1a-8f3c-0d5a2c5e7b10"':
        (('query-uuid', {}), lambda a: a['UUID'].startswith('9e1f2f5c')),
    'rng = false\ncpus = { count = 2, max = 4, sockets = 1, cores = 2, '
    'threads = 2, model = "Skylake-Server-v4,x2apic=off" }':
        (('query-hotpluggable-cpus', {}), lambda a: len(a) == 4),
    'cpus = { count = 2, pin = ["0"], emulator-pin = "0-1" }':
        (('query-status', {}), lambda a: a['running']),
    'memory = { size = "64M", preallocate = true, host-node = 0 }':
        (('query-memdev', {}), lambda a: a[0]['prealloc'] and
         a[0]['host-nodes'] == [0] and a[0]['policy'] == 'bind'),
    'memory = { size = "64M", max = "256M", slots = 3 }\n'
    'cpus = { count = 1, max = 2 }\n[[numa]]\nid = "a"\nmemory = "48M"\n'
    'host-node = 0\ncpus = "0"\ndistances = [10, 40]\n[[numa]]\n'
    'memory = "16M"\ncpus = "1"\n':
        (('query-memdev', {}), lambda a: {m['size'] >> 20 for m in a} ==
         {48, 16} and [m['host-nodes'] for m in a
                       if m['size'] >> 20 == 48] == [[0]]),
    DISK + 'bus = "usb"\n':
        (qom('/machine/peripheral/disk0', 'type'),
         lambda a: a == 'usb-storage'),
    'memory = { size = "64M", shared = true, lock = true }':
        (('query-memdev', {}), lambda a: a[0]['share']),
    '[machine]\nstage1 = "intel"\nstage1-options = { aw-bits = 39 }\n'
    'default-isolation = "shared"\nhotplug-ports = 9\nmax-restores = 1\n'
    'unplug-timeout-ms = 0\nlatency-sampling = 1000\n'
    'recovery-snapshot = "good"\n':
        (qom('/machine', 'recovery-snapshot'), lambda a: a == 'good'),
    '[machine]\nmax-faults = 1\nfault-window-ms = 2\nmax-recoveries = 3\n'
    'on-fault-limit = "report"\non-recovery-limit = "pause-vm"\n'
    'scope = "domain"\ncount-stage1 = false\nrecovery = "auto"\n' + DISK:
        (('query-nyx-devices', {'device': 'disk0'}), lambda a:
         a[0]['policy']['max-faults'] == 1 and
         a[0]['policy']['fault-window-ms'] == 2 and
         a[0]['policy']['max-recoveries'] == 3 and
         a[0]['policy']['on-fault-limit'] == 'report' and
         a[0]['policy']['on-recovery-limit'] == 'pause-vm' and
         a[0]['policy']['scope'] == 'domain' and
         not a[0]['policy']['count-stage1'] and
         a[0]['policy']['recovery'] == 'auto'),
    '[machine]\non-guest-panic = "pause-vm"\non-triple-fault = "reset-vm"\n'
    'on-machine-check = "pause-vm"\non-vcpu-stuck = "ignore"\n'
    'on-device-error = "isolate-device"\non-watchdog = "shutdown"\n'
    'max-resets = 1\nmax-dumps = 2\ndump = "."\ndump-memory = true\n'
    'vcpu-check-ms = 500\nvcpu-stuck-ms = 20000\n'
    '[[device]]\ndriver = "pvpanic-pci"\n'
    '[watchdog]\nmodel = "itco"\n':
        (qom('/machine', 'on-device-error'), lambda a: a == 'isolate-device'),
    '[[domain]]\nid = "d"\nmax-faults = 1\nfault-window-ms = 2\n'
    'max-recoveries = 3\non-fault-limit = "report"\nscope = "domain"\n'
    'on-recovery-limit = "pause-vm"\ncount-stage1 = false\n'
    'recovery = "auto"\npeer-to-peer = true\nlarge-pages = false\n'
    'irq-coalescing = 100\nbatch-invalidation = true\n'
    'contained = true\nisolation = "shared"\ndefault-map = "none"\n':
        (qom('/objects/d', 'large-pages'), lambda a: a is False),
    '[[iothread]]\nid = "t"\npoll-max-ns = 1000\npin = "0"\n' + DISK +
    'iothread = "t"\nqueues = 2\nserial = "abc"\ncache = "unsafe"\n'
    'discard = false\nformat = "qcow2"\naio = "io_uring"\nport = false\n':
        (('query-iothreads', {}), lambda a: a[0]['poll-max-ns'] == 1000),
    DISK + 'read-only = true\nbus = "nvme"\n':
        (('query-block', {}), lambda a: any(
            b.get('inserted', {}).get('ro') for b in a)),
    DISK + 'bus = "nvme"\n':
        (qom('/machine/peripheral/disk0', 'dbcs'), lambda a: a is False),
    DISK + 'bus = "nvme"\nshadow-doorbells = true\n':
        (qom('/machine/peripheral/disk0', 'dbcs'), lambda a: a is True),
    DISK + 'id = "x"\nbus = "scsi"\n[[disk]]\ncdrom = true\nbus = "scsi"\n'
    '[boot]\norder = ["x", "disk0"]\nmenu = true\n':
        (qom('/machine/peripheral/disk0', 'bootindex'), lambda a: a == 2),
    '[[nic]]\ncount = false\nrestrict = true\nport = false\n':
        (qom('/machine/peripheral/nic0', 'type'),
         lambda a: a == 'virtio-net-pci'),
    '[[device]]\ndriver = "edu"\nproperties = { dma_mask = 255 }\n'
    'port = true\n':
        (qom('/machine/peripheral/device0', 'dma_mask'), lambda a: a == 255),
    '[display]\ntype = "vnc"\nlisten = "unix:vnc"\nvideo = "std"\n':
        (qom('/machine/peripheral/video', 'type'), lambda a: a == 'VGA'),
    '[display]\ntype = "vnc"\nlisten = "unix:vnc"\nvideo = "bochs"\n':
        (('query-vnc', {}), lambda a: a['enabled']),
    'console = { type = "file", path = "console" }\n[[serial]]\n[[serial]]\n'
    'id = "second"\ntype = "file"\npath = "s"\n[[serial]]\n':
        (('query-chardev', {}), lambda a: {'console-chr', 'serial0-chr',
                                           'second-chr', 'serial1-chr'} <=
         {c['label'] for c in a}),
    'console = "none"\n[[serial]]\n':
        (('query-chardev', {}), lambda a: 'console-chr' not in
         {c['label'] for c in a}),
    'watchdog = { model = "itco", action = "pause" }':
        (('query-status', {}), lambda a: a['running']),
    '[[domain]]\nid = "w"\n[watchdog]\nmodel = "i6300esb"\ndomain = "w"\n':
        (('query-nyx-devices', {'device': 'watchdog'}),
         lambda a: a[0]['domain'] == 'w'),
    '[logging]\nlevel = "trace"\nfile = "l.log"\n':
        (('trace-event-get-state', {'name': 'nyx_msi_deliver'}),
         lambda a: a[0]['state'] == 'enabled'),
    '[qemu]\nsandbox = false\narguments = ["-name", "process=other"]\n':
        (('query-name', {}), lambda a: a['name'] == 'vm'),
}
# What other tests start: guests, servers, firmware, bridges
ELSEWHERE = '''
[machine]
accel = "kvm"
[boot]
kernel = ""
initrd = ""
append = ""
[firmware]
code = ""
vars = ""
template = ""
[tpm]
model = ""
state = ""
[[nic]]
type = "tap"
interface = ""
queues = 2
[[vhost-user]]
queues = 1
tag = ""
mac = ""
domain = ""
port = true
[[vfio-user]]
port = true
[[passthrough]]
port = true
[migration]
mapped-ram = true
[qemu]
program = ""
'''


def used_keys(text):
    """(section, key) of all keys in a spec."""
    found = set()
    for name, value in tomllib.loads(text).items():
        section = next((s for s in SECTIONS if s.name == name), None)
        if section is None:
            found.add(('', name))
        elif not isinstance(value, (dict, list)):
            found.add((name, section.shorthand))
        else:
            for entry in value if isinstance(value, list) else [value]:
                found |= {(name, key) for key in entry}
    return found


class KeysTest(RunCase):
    """A QEMU for each variant, asked whether it has what the spec says."""

    def run_variant(self, text, question, holds):
        path = self.spec(text + '\n')
        self.says('run', '--detach', path, '--set', 'machine.accel=tcg',
                  *(() if 'memory' in text else ('--set', 'memory=64M')))
        try:
            command, arguments = question
            with connect(str(self.run_dir / 'vm' / 'qmp.sock')) as vm:
                answer = vm.execute(command, **arguments)
            self.assertTrue(holds(answer), answer)
        finally:
            self.says('stop', 'vm', '--now')
            for left in self.folder.glob('*.qcow2'):
                left.unlink()

    def test_variants(self):
        for text, (question, holds) in VARIANTS.items():
            with self.subTest(text):
                self.run_variant(text, question, holds)

    def test_no_key_is_left_out(self):
        """Each key of the schema is in a spec that some test starts."""
        used = used_keys(ELSEWHERE)
        for text in VARIANTS:
            used |= used_keys(text)
        for path in EXAMPLES.glob('*.toml'):
            used |= used_keys(path.read_text())
        known = {(section.name, key.name) for section in (TOP, *SECTIONS)
                 for key in section.keys}
        self.assertEqual(known - used - NOT_STARTED, set())
        self.assertEqual(used - known, set())


class HugePagesTest(RunCase):
    """Memory from pages of 2 MiB, where the host has them free."""

    FREE = '/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages'

    def test_hugepages(self):
        try:
            with open(self.FREE, encoding='ascii') as file:
                free = int(file.read())
        except OSError:
            free = 0
        spec = self.spec('memory = { size = "32M", hugepages = "2M", '
                         'preallocate = true }\nrng = false\n')
        if free < 16:
            said = self.fails('run', '--detach', spec, '--set',
                              'machine.accel=tcg')
            self.assertEqual(len(said), 1)
            self.skipTest(f'{free} pages of 2 MiB are free, 16 are needed')
        self.addCleanup(self.nyx, 'stop', 'vm', '--now')
        self.says('run', '--detach', spec, '--set', 'machine.accel=tcg')
        with connect(str(self.run_dir / 'vm' / 'qmp.sock')) as vm:
            self.assertEqual(vm.execute('query-memdev')[0]['size'], 32 << 20)
        with open(self.FREE, encoding='ascii') as file:
            self.assertLessEqual(int(file.read()), free - 16)


@unittest.skipUnless(os.access('/dev/kvm', os.R_OK | os.W_OK),
                     '/dev/kvm cannot be opened')
class KvmExamplesTest(RunCase):
    """Examples with a BIOS run under KVM, too."""

    def test_start(self):
        for name in ('first', 'storage', 'network', 'operated', 'window'):
            with self.subTest(name):
                self.says('run', '--detach', self.example(name), '--set',
                          'machine.accel=kvm',
                          *(('--set', 'nic.0.forward=[]')
                            if name in ('first', 'network') else ()),
                          *(('--set', 'display={type = "none"}', '--set',
                             'metrics.listen=127.0.0.1:0')
                            if name == 'operated' else ()))
                with connect(str(self.run_dir / name / 'qmp.sock')) as vm:
                    self.assertTrue(vm.execute('query-kvm')['enabled'])
                    self.assertEqual(vm.execute('query-status')['status'],
                                     'running')
                self.says('stop', name, '--now')
