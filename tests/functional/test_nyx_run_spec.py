# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""nyx run: what it accepts, what it says of mistakes, what it makes of it."""

import json
import re
import subprocess
import tomllib
import unittest
from datetime import datetime, timezone

from nyxtest.nyxrun import EXAMPLES, RunCase
from nyxtest.paths import QEMU

# The folder of scripts is in the path since nyxrun was imported.
# pylint: disable=wrong-import-order,import-error
from nyxcli.run import manual
from nyxcli.run.loglevels import COMPONENTS, LEVELS, classify
from nyxcli.run.logline import parse
from nyxcli.run.position import Positions
from nyxcli.run.schema import BY_NAME, SECTIONS, TOP
from nyxcli.run.schema.policy import ERRORS

# Properties that are handed on in another way.
NOT_NYX = re.compile(r'stage1-options|hotplug-ports|tpm|tpm-model')
WRONG = [
    # lines of the spec; line of the error, what it says
    ('memry = "2G"', 2, 'unknown key "memry"; did you mean "memory"?'),
    ('stage1 = "intel"', 2, 'unknown key "stage1"; it is a key of [machine].'),
    ('memory = "2Q"', 2, 'size is "2Q", but a size such as "512M" or "4G"'),
    ('memory = 1000000', 2, 'a multiple of 1M'),
    ('[cpus]\ncount = 0', 3, 'count is 0, but a whole number from 1 to 1024'),
    ('cpus = 2.5', 2, 'count is 2.5, but a whole number'),
    ('cpus = { count = 4, sockets = 3 }', 2,
     'sockets, cores and threads make 3 processors, but there are 4'),
    ('cpus = { count = 1, pin = ["0", "1"] }', 2, 'pin is for 2 processors'),
    ('memory = { size = "64M", slots = 2 }', 2, 'slots needs max'),
    ('memory = { size = "64M", slots = 2, max = "64M" }', 2,
     'max is 64M, no more than size (64M)'),
    ('memory = "64M"\n[[numa]]\nmemory = "32M"\n[[numa]]\nmemory = "64M"', 4,
     'the nodes have 96M together, but the memory is 64M'),
    ('cpus = 2\n[[numa]]\ncpus = "0-1"\n[[numa]]\ncpus = "1"', 6,
     'processor 1 is in "numa0" already'),
    ('cpus = 2\n[[numa]]\ncpus = "0-2"', 4,
     'there is no processor 2; the last one is 1'),
    ('cpus = 4\n[[numa]]\ncpus = "0,2"\n[[numa]]\ncpus = "1,3"', 5,
     'the processors 0-1 are one socket, but in several nodes'),
    ('cpus = 3\n[[numa]]\n[[numa]]', 4, 'the processors 0-2 are one socket'),
    ('cpus = 3\n[[numa]]\ncpus = "1"', 3, 'no node has the processors 0,2'),
    ('[[numa]]\ndistances = [10]\n[[numa]]', 3,
     '1 distances are given, but there are 2 nodes'),
    ('[[numa]]\n[[numa]]\ndistances = [20, 20]', 4,
     'a node is 10 from itself'),
    ('[memory]\nhost-node = 0\n[[numa]]', 3, 'say it in each [[numa]]'),
    ('[display]\ntype = "spice-app"', 3, 'set sandbox = false in [qemu]'),
    ('[[disk]]\nfile = "a"\nbus = "usb"\ndomain = "d"\n[[domain]]\nid = "d"',
     5, 'domain goes only with bus = "virtio" or "nvme" or "scsi"'),
    ('cpus = { pin = ["1-x"] }', 2, 'pin is "1-x", but host CPUs'),
    ('cpus = { model = "host" }\nmachine = { accel = "tcg" }', 2,
     'model = "host" needs KVM'),
    ('[machine]\nstage1 = "inetl"', 3, 'did you mean "intel"?'),
    ('[machine]\nstage1-options = { aw-bits = 39 }', 3, 'needs a stage1'),
    ('[domain]\nid = "a"', 2, 'domain is a list of tables; write [[domain]]'),
    ('disk = 3', 2, 'disk is a list of tables; write [[disk]]'),
    ('[[domain]]\nisolation = "shared"', 2, 'the key "id" is missing'),
    ('[[domain]]\nid = "a"\nmap = [\n  {iova = 0, size = "4K"},\n'
     '  {iova = 4096, siez = "4K"}]', 4, 'did you mean "size"?'),
    ('[[domain]]\nid = "a"\nmap = [{iova = 100, size = "4K"}]', 4,
     'a multiple of 4K'),
    ('[[domain]]\nid = "a"\nmap = [\n {iova = 0, size = 4096},\n {iova = '
     '0xfffffffff000, size = 8192}]', 6, 'ends beyond 48 bits'),
    ('[[disk]]\nfile = "a"\n[[disk]]\nfile = "b"\nbus = "nvmee"', 6,
     'did you mean "nvme"?'),
    ('[[disk]]\nfile = "a"\ndomain = "x"', 4, 'there is no [[domain]] with'),
    ('[[disk]]\nbus = "ahci"\nfile = "a"\niothread = "t"\n[[iothread]]\n'
     'id = "t"', 5, 'iothread goes only with bus = "virtio" or "scsi"'),
    ('[[disk]]\nfile = "a"\naio = "native"', 4, 'needs cache = "none"'),
    ('[[disk]]\n\n[[nic]]', 2, '"disk0" has no file'),
    ('[[disk]]\nid = "x"\nfile = "a"\n[[nic]]\nid = "x"', 6,
     'the id "x" is taken by another entry, a [[disk]]'),
    ('[[disk]]\nid = "nyx-port0"\nfile = "a"', 3, 'Nyx uses for itself'),
    ('[[domain]]\nid = "d"\n[[disk]]\nfile = "a"\ndomain = "d"\n[[nic]]\n'
     'domain = "d"', 8, 'strict, and takes one device, which is "disk0"'),
    ('[[nic]]\ntype = "tap"', 2, 'has type = "tap", but no interface'),
    ('[[nic]]\nmac = "01:00:00:00:00:00"', 3, 'a unicast MAC address'),
    ('[[nic]]\nforward = ["2222:22"]', 3, '"tcp:HOSTPORT:GUESTPORT"'),
    ('[[nic]]\nvhost = true', 3, 'vhost goes only with type = "tap" or'),
    ('[[passthrough]]\nhost = "3:0.0"', 3, 'a PCI address such as'),
    ('[[passthrough]]\nhost = "03:00.0"\nbeside = "gpu"', 4,
     'there is no [[passthrough]] with id = "gpu"'),
    ('[[vhost-user]]\nkind = "blk"\nsocket = "s"\n[memory]\nshared = false',
     6, 'shared is false, but "vhost-user0" is served by another process'),
    ('[boot]\norder = ["disk7"]\n[[disk]]\nid = "disk1"\nfile = "a"', 3,
     'did you mean "disk1"?'),
    ('[boot]\nappend = "quiet"', 3, 'append needs a kernel'),
    ('[firmware]\nsecure-boot = true', 3, 'goes only with type = "uefi"'),
    ('[logging]\ncomponents = { iommmu = "debug" }', 3,
     'did you mean "iommu"?'),
    ('[logging]\ncomponents = { iommu = "loud" }', 3, 'is none of "error"'),
    ('snapshot = "s"\n[[disk]]\nfile = "a.raw"', 3, 'has no snapshots'),
    ('a = 1\na = 2', None, 'this is no TOML'),
]


class MistakesTest(RunCase):
    """Each mistake is told with its line, and what may have been meant."""

    def test_lines(self):
        for text, line, said in WRONG:
            with self.subTest(text):
                found = self.fails('run', '--check', self.spec(text))
                self.assertEqual(len(found), 1, found)
                where = '' if line is None else f'vm.toml:{line}: '
                self.assertIn(where, found[0])
                self.assertIn(said, found[0])
                self.assertRegex(found[0], '[.?]$')

    def test_all_at_once(self):
        found = self.fails('run', self.spec('cpu = 1\n[machine]\naccel = 1\n'
                                            '[[nic]]\nmodle = "igb"'))
        self.assertEqual([line.split(': ')[0].split(':')[-1]
                          for line in found], ['2', '4', '6'])

    def test_files(self):
        self.assertIn('no such file', self.fails('run', 'none.toml')[0])
        path = self.folder / 'latin.toml'
        path.write_bytes(b'name = "\xe4"')
        self.assertIn('UTF-8', self.fails('run', path)[0])
        path.write_text('memory = "1G"')
        self.assertIn('the key "name" is missing', self.fails('run', path)[0])
        path.write_text('name = "../x"')
        self.assertIn('name is "../x", but', self.fails('run', path)[0])

    def test_changes(self):
        spec = self.spec('memory = "1G"\n[[disk]]\nfile = "a"\n')
        words = json.loads(self.says(
            'run', '--print', '--json', spec, '--set', 'memory.size=2G',
            '--set', 'disk.0.bus=nvme', '--set', 'cpus=3'))['command']
        self.assertIn('size=2G', words)
        self.assertIn('3', words)
        self.assertTrue(any(word.startswith('nvme,') for word in words))
        for change, said in (('disk.1.bus=nvme', 'has 1 entries'),
                             ('cpus', 'write KEY=VALUE'),
                             ('name.x=1', 'plain value'),
                             ('cpus=0', '--set cpus=0: count is 0')):
            self.assertIn(said, self.fails('run', '--check', spec, '--set',
                                           change)[0])


class PositionTest(unittest.TestCase):
    """Lines of keys, in TOML of all kinds."""

    TEXT = '''# comment [a]
top = "with # and ] and \\" in it"
multi = """
[no]
x = 1
"""
literal = 'a\\'

["quoted.name"]
key = [ 1, # one
  { a = 1, b = [2,
    3] }, "x" ]
dotted.inner.deep = 2024-01-01 10:00:00

[[list]]
a = 1
[list.sub]
b = 2
  [[list.more]]
  c = """x
]"""
[[list]]
a = ["]", ']', "\\"" ]
'''

    def test_lines(self):
        text = self.TEXT.rstrip() + '\n'
        tomllib.loads(text)
        at = Positions(text)
        for path, line in {
                ('top',): 2, ('multi',): 3, ('literal',): 7,
                ('quoted.name', 'key'): 10, ('quoted.name', 'key', 1): 11,
                ('quoted.name', 'key', 1, 'b', 1): 12,
                ('quoted.name', 'key', 2): 12,
                ('quoted.name', 'dotted', 'inner', 'deep'): 13,
                ('list', 0, 'a'): 16, ('list', 0, 'sub', 'b'): 18,
                ('list', 0, 'more', 0, 'c'): 20, ('list', 1, 'a'): 23,
                ('list', 1, 'unknown'): 22, ('nowhere',): 1}.items():
            self.assertEqual(at.line(path), line, path)


class LogLineTest(unittest.TestCase):
    """What becomes of a line that QEMU says."""

    WHEN = datetime(2026, 11, 20, 11, 50, 0, 112000, timezone.utc)

    def test_levels(self):
        for raw, level, component, text in (
                ('qemu-kvm: -device x: no such', 'error', 'qemu',
                 '-device x: no such'),
                ('qemu-kvm: -mon x: warning: old', 'warn', 'qemu',
                 '-mon x: warning: old'),
                ('qemu-kvm: info: good', 'info', 'qemu', 'info: good'),
                ('qemu: could not', 'error', 'qemu', 'could not'),
                ('nyx_fault d: 1', 'warn', 'iommu', 'nyx_fault d: 1'),
                ('nyx_msi_deliver 1', 'trace', 'interrupts',
                 'nyx_msi_deliver 1'),
                ('Bad write \x1b[2J', 'warn', 'guest', 'Bad write ?[2J')):
            line = parse(raw, self.WHEN, 'qemu-kvm')
            self.assertEqual((line.level, line.component, line.text),
                             (level, component, text))
            self.assertEqual(line.plain(), '2026-11-20T11:50:00.112+00:00 '
                             f'{level:5} {component:10} {text}')

    def test_colours(self):
        line = parse('qemu-kvm: bad', self.WHEN, 'qemu-kvm')
        self.assertEqual(line.coloured(), '\x1b[2m11:50:00.112\x1b[0m '
                         '\x1b[1;31merror\x1b[0m qemu       bad')


class SchemaTest(RunCase):
    """The schema, and QEMU and the manual, agree."""

    def qemu_properties(self, *words):
        text = subprocess.run([QEMU, *words], capture_output=True, text=True,
                              check=True).stdout
        return dict(re.findall(r'^  ([\w-]+)=<(\w+)>', text, re.M))

    def options(self, section, target):
        return {key.option.partition(':')[2] for key in section.keys
                if (key.option or '').startswith(f'{target}:')}

    def test_domains_have_all_properties(self):
        self.assertEqual(
            self.options(BY_NAME['domain'], 'domain'),
            set(self.qemu_properties('-object', 'nyx-domain,help')))

    def test_machine_has_all_properties_of_nyx(self):
        stock = self.qemu_properties('-machine', 'q35,help')
        nyx = self.qemu_properties('-machine', 'nyx-pc,help')
        self.assertEqual(
            self.options(BY_NAME['machine'], 'machine'),
            {name for name in set(nyx) - set(stock)
             if not NOT_NYX.fullmatch(name)})

    def test_choices_are_those_of_qemu(self):
        """Each value of a choice that goes to QEMU as it is."""
        for section, start in (('domain', '-object nyx-domain,id=d,'),
                               ('machine', '-machine nyx-pc,')):
            for key in BY_NAME[section].keys:
                names = getattr(key.type, 'names', ())
                if not key.option or not key.option.startswith(section) or \
                        key.name in ERRORS:
                    continue
                for name in names:
                    option, value = start.split()
                    words = [QEMU, '-machine', 'nyx-pc', option,
                             f'{value}{key.name}={name}', '-display', 'none',
                             '-nodefaults', '-S', '-monitor', 'stdio']
                    done = subprocess.run(words, input='quit\n', text=True,
                                          capture_output=True, timeout=60,
                                          check=False)
                    self.assertEqual(done.returncode, 0, done.stderr)

    def test_error_actions_are_those_of_qemu(self):
        """As QEMU's help lists them; which need a device that may tell."""
        text = subprocess.run([QEMU, '-machine', 'nyx-pc,help'], check=True,
                              capture_output=True, text=True).stdout
        for name, (actions, _) in ERRORS.items():
            listed = re.search(rf'{name}=.*what QEMU does; (.*)\)', text)
            self.assertEqual(set(re.split(', | or ', listed.group(1))),
                             set(actions), name)

    def test_trace_events_exist(self):
        text = subprocess.run([QEMU, '-trace', 'help'], capture_output=True,
                              text=True, check=True).stdout.split()
        for name, component in COMPONENTS.items():
            for level in LEVELS[1:]:
                for pattern in getattr(component, level):
                    known = re.compile(pattern.replace('*', '.*'))
                    self.assertTrue(any(known.fullmatch(e) for e in text),
                                    f'{name}: {pattern}')
        ours = [event for event in text if event.startswith('nyx_')]
        self.assertEqual([event for event in ours if not classify(event)], [])

    def test_vhost_user_devices_have_the_properties(self):
        """Also of servers that no test starts."""
        spec = self.spec(''.join(
            f'[[vhost-user]]\nkind = "{kind}"\nsocket = "s"\nqueues = 2\n'
            for kind in ('blk', 'net', 'fs')) + 'tag = "t"\n')
        plan = json.loads(self.says('run', '--print', '--json', spec))
        seen = set()
        for word in plan['command']:
            if ',id=vhost-user' not in word or ',bus=' not in word:
                continue
            driver, *properties = word.split(',')
            known = self.qemu_properties('-device', f'{driver},help')
            self.assertLessEqual({p.split('=')[0] for p in properties} -
                                 {'id', 'bus'}, set(known), driver)
            seen.add(driver)
        self.assertEqual(seen, {'vhost-user-blk-pci', 'vhost-user-fs-pci',
                                'virtio-net-pci'})

    def test_manual_has_all_keys(self):
        text = manual.reference()
        for section in (TOP, *SECTIONS):
            self.assertIn(section.header if section.name else 'Top', text)
            for key in section.keys:
                self.assertIn(f'* - ``{key.name}``', text)


class OutputTest(RunCase):
    """--print and --libvirt."""

    def test_every_example_is_right(self):
        for path in sorted(EXAMPLES.glob('*.toml')):
            self.assertIn('is right', self.says('run', '--check', path))

    def test_printed_script_is_what_runs(self):
        """The script starts QEMU, which takes each of its words."""
        spec = self.example('first')
        script = self.says('run', '--print', spec, '--set',
                           'machine.accel=tcg', '--set',
                           'qemu.arguments=["-S", "-monitor", "stdio"]',
                           '--set', 'display=none', '--set', 'nic=[]')
        script = f'{script.strip()} <<end\nquit\nend'
        done = subprocess.run(['sh', '-e'], input=script, text=True,
                              capture_output=True, timeout=120,
                              cwd=self.folder, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertTrue((self.folder / 'first.qcow2').exists())

    def test_commas(self):
        """A comma in a path does not end a value."""
        spec = self.spec('[[disk]]\nfile = "a,readonly=on.raw"\n')
        script = self.says('run', '--print', spec)
        self.assertIn('a,,readonly=on.raw', script)
