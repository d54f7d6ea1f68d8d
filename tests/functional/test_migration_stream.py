# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""Streams that no QEMU has sent: refused, or taken over, but no crash."""

import os
import random
import time

from qemu.qmp.qmp_client import ExecuteError

from nyxtest.migration import (
    MigrationCase, await_migration, device_state, set_capabilities, state)
from nyxtest.postcopy import PackageFilter
from nyxtest.stream import (
    DIGEST, FUNCTIONS, LATE_TABLES, STATE, TABLES, Loader, Stream, number,
    saved_table, saved_tables, subsection)
from nyxtest.vector import FOLDER as VECTORS
from nyxtest.vector import known as known_of
from nyxtest.vector import load as load_vector

# What capture() maps: 16 pages from 0x100 on to 0x20, one from 0x400 to 0x30.
TABLE = b'\x87\x10\x0e\x40\x81\x2f\0\0'
ALL_PAGES = b'\0\xff\xff\xff\xff\xff\x01'
PAGES = 256
SEED = int(os.environ.get('NYX_FUZZ_SEED', '20261120'))
LOADS = int(os.environ.get('NYX_FUZZ_LOADS', '150'))
FUZZ_SECONDS = float(os.environ.get('NYX_FUZZ_SECONDS', '0'))
MEMORY = '2M'
ARGUMENTS = (
    '-object', 'nyx-domain,id=win,isolation=shared,default-map=none',
    '-device', 'nyx-testdev,id=dev,addr=6,nyx-domain=win',
    '-device', 'e1000e,id=nic,addr=8,romfile=',
    '-device', 'virtio-rng-pci,id=rng,addr=9',
    '-device', 'pcie-root-port,id=rp,addr=10,chassis=1',
    '-device', 'e1000,id=below,bus=rp,romfile=',
    '-device', 'nyx-root-port,id=dpc,addr=11,chassis=2',
    '-device', 'e1000e,id=contained,bus=dpc,romfile=')
DEVICES = 'dev', 'nic', 'rng', 'below'
VALUES = (0, 1, 2, 3, 4, 5, 0x3f, 0x40, 0x41, 0x7f, 0x80, 0xff, 0xffff,
          0x7fffffff, 0x80000000, 0xffffffff, 1 << 63, (1 << 64) - 1)
# After a stream was taken over: everything that looks at its state.
ASKED = [(name, {}) for name in (
    'query-nyx-iommu', 'query-nyx-domains', 'query-nyx-devices',
    'query-nyx-faults', 'query-nyx-migration')] + [('cont', {})] + [
    (name, {'device': device, **more}) for device in DEVICES
    for name, more in (
        ('nyx-inject-fault', {'address': 0x5000, 'access': 'w', 'count': 30}),
        ('nyx-quarantine-device', {}),
        ('nyx-recover-device', {'force': True}),
        ('nyx-assign-device', {'domain': 'win'}))] + [
    ('nyx-unmap', {'domain': 'win', 'iova': 0x100000, 'size': 0x10000}),
    ('nyx-set-policy', {'domain': 'win', 'max-faults': 1}),
    ('system_reset', {}), ('query-nyx-migration', {})]


def mutate(rng, data):
    """One change, of a kind that finds its way into parsers."""
    data = bytearray(data)
    at = rng.randrange(len(data))
    kind = rng.randrange(7)
    if kind == 0:
        data[at] ^= 1 << rng.randrange(8)
    elif kind == 1:
        data[at] = rng.choice(VALUES) & 0xff
    elif kind in (2, 3):
        size = (2, 4, 8)[rng.randrange(3)]
        value = rng.choice(VALUES) & ((1 << 8 * size) - 1)
        data[at:at + size] = number(value, size)
    elif kind == 4:
        del data[at:at + rng.randrange(1, 40)]
    elif kind == 5:
        data[at:at] = rng.randbytes(rng.randrange(1, 40))
    else:
        other = rng.randrange(len(data))
        size = rng.randrange(1, 64)
        data[at:at + size] = data[other:other + size]
    return bytes(data)


class _StreamCase(MigrationCase):

    def setUp(self):
        super().setUp()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.path = self.folder / 'stream'
        self.loader = Loader(ARGUMENTS, memory=MEMORY)

    def capture(self, prepare=None):
        """A machine with something of everything, in a file."""
        vm = self.start(*ARGUMENTS, memory=MEMORY)
        command = vm.monitor.command
        command('nyx-map', domain='win', iova=0x100000, gpa=0x20000,
                size=0x10000, access='rw')
        command('nyx-map', domain='win', iova=0x400000, gpa=0x30000,
                size=0x1000, access='r')
        command('nyx-inject-fault', device='dev', address=0x5000, access='w',
                count=3)
        command('nyx-inject-fault', device='nic', address=0x5000, access='r',
                count=12)
        command('nyx-recover-device', device='nic')
        command('nyx-set-policy', device='dev', max_faults=100)
        for name in 'rng', 'below':
            command('nyx-quarantine-device', device=name)
        if prepare:
            prepare(vm)
        self.migrate(vm, f'file:{self.path}')
        vm.stop()
        return Stream(self.path.read_bytes())

    def load(self, stream, *asked):
        self.path.write_bytes(stream.data)
        return self.loader.load(self.path, *asked)

    def assert_load_refused(self, stream, words=''):
        answers, said = self.load(stream)
        self.assertIsNone(answers, 'the stream was taken over')
        self.assertIn(words, said)


class StructureTest(_StreamCase):
    """One thing wrong each time, and what it is called."""

    def setUp(self):
        super().setUp()
        self.stream = self.capture()

    def changed(self, name, old, new):
        content = self.stream.content(name)
        self.assertEqual(content.count(old), 1, old)
        return self.stream.replaced(name, content.replace(old, new)).signed()

    def test_unharmed(self):
        """The stream as it is, and with a digest of our own making."""
        for stream in self.stream, self.stream.signed():
            answers, _ = self.load(stream, ('query-nyx-devices', {}))
            self.assertEqual(
                {dev['device']: dev['state'] for dev in answers[0]['return']
                 if dev['device'] in DEVICES},
                {'dev': 'operational', 'nic': 'operational',
                 'rng': 'quarantined', 'below': 'quarantined'})
        self.assertEqual(self.stream.data, self.stream.signed().data)

    def test_digest(self):
        """Another state than that of the source: each bit of it counts."""
        state = bytearray(self.stream.content(STATE))
        # The number of quarantines, which nothing else could tell is wrong
        state[8 + 29 + 7] ^= 1
        self.assert_load_refused(
            self.stream.replaced(STATE, bytes(state)),
            'it is not the same, and the VM must not run with it')
        broken = bytearray(self.stream.content(DIGEST))
        broken[31] ^= 0x80
        self.assert_load_refused(self.stream.replaced(DIGEST, bytes(broken)),
                                 'it is not the same')

    def test_truncated(self):
        for name in TABLES, STATE, FUNCTIONS, DIGEST:
            _, first, end = self.stream.section(name)
            for at in (first, first + 1, (first + end) // 2, end - 1):
                self.assert_load_refused(Stream(self.stream.data[:at]))

    def test_functions_missing(self):
        """A device in quarantine without what it had set up is refused."""
        self.assert_load_refused(
            self.stream.replaced(FUNCTIONS, b'\0').signed(),
            'what device')

    def test_domain_renamed(self):
        state = self.stream.content(STATE).replace(b'win\0', b'won\0')
        self.assert_load_refused(self.stream.replaced(STATE, state).signed(),
                                 "there is no domain 'won' here")

    def test_device_elsewhere(self):
        self.assert_load_refused(self.changed(
            STATE, b'0000:00:08.0\0', b'0000:00:18.0\0'),
            'there is no device 0000:00:18.0 here')

    def test_device_twice(self):
        self.assert_load_refused(self.changed(
            STATE, b'0000:00:08.0\0', b'0000:00:06.0\0'), 'comes twice')

    def test_bad_string(self):
        for bad in (b'0000:00:08.00', b'0000:00\0:8.0\0', b'0000:00:\xff8.0\0'):
            self.assert_load_refused(
                self.changed(STATE, b'0000:00:08.0\0', bad), 'is no string')

    def with_table(self, table, changed=None):
        """Its table replaced; if only in part, that comes late."""
        return self.stream.replaced(
            TABLES if changed is None else LATE_TABLES,
            saved_tables(saved_table('win', table, changed)))

    def test_table(self):
        """Tables that there cannot be"""
        for bad in (TABLE[:-1], TABLE + b'\0', b'', b'\xff' * 8,
                    b'\x07\x80\x80\x80\x80\x80\x80\x80\x80\x80\x02\0\0',
                    b'\x03\x01\0', b'\x01' * 7 + b'\x00',
                    b'\x04\0\0\x02\0\0\0\x07\0', b'\x84\x10' + b'\0' * 9):
            self.assert_load_refused(self.with_table(bad),
                                     'the table of mappings is damaged')
        # What is there already, as nothing of it has changed
        self.assert_load_refused(self.with_table(TABLE, b''),
                                 'the table of mappings is damaged')

    def test_same_table(self):
        """As versions wrote it that did not pack it, and in parts"""
        for stream in (
                self.with_table(TABLE), self.with_table(TABLE, ALL_PAGES),
                self.with_table(TABLE[:4] + b'\0', b'\0\xff\x07'),
                self.with_table(b'\0', b'\0\0'),
                self.with_table(TABLE).replaced(LATE_TABLES, saved_tables(
                    saved_table('win', b'\0', ALL_PAGES),
                    saved_table('win', TABLE, ALL_PAGES)))):
            answers, said = self.load(stream, ('query-nyx-domains', {}))
            self.assertTrue(answers, said)
            self.assertEqual(
                [domain['mapped-bytes'] for domain in answers[0]['return']
                 if domain['id'] == 'win'], [0x11000])

    def test_other_table(self):
        """One that is sound, and allows something else"""
        read_only = b'\x85' + TABLE[1:]
        for stream in (
                self.with_table(read_only),
                self.stream.replaced(LATE_TABLES, saved_tables(
                    saved_table('win', read_only))),
                self.with_table(b'\0', ALL_PAGES),
                self.with_table(read_only, ALL_PAGES),
                # A run beyond what has changed
                self.with_table(b'\x03\x60\0', b'\0\0'),
                self.stream.replaced(TABLES, saved_tables(
                    saved_table('win', TABLE, large_pages=False)))):
            self.assert_load_refused(
                stream, "the table of domain 'win' is not that of the source")

    def test_bad_changes(self):
        """Ranges that there cannot be, and changes of what has not come"""
        for changed in (b'\0', b'\x80', b'\0\x80\x80\x80\x80\x80\x02',
                        b'\x80\x80\x80\x80\x80\x02\0'):
            self.assert_load_refused(self.with_table(TABLE, changed),
                                     'are no ranges')
        self.assert_load_refused(
            self.with_table(TABLE, ALL_PAGES).without(TABLES),
            'its table has changed, and has not come')

    def test_no_ram(self):
        """A table that leads to what is no RAM of this side's"""
        self.assert_load_refused(self.with_table(b'\x03\x80\x80\x80\x80\1\0'),
                                 'does not lead to RAM')

    def test_no_table(self):
        self.assert_load_refused(self.stream.without(TABLES),
                                 "the table of domain 'win' has not come")
        # It may come late.
        tables = self.stream.content(TABLES)
        answers, _ = self.load(self.stream.without(TABLES).replaced(
            LATE_TABLES, tables), ('query-nyx-domains', {}))
        self.assertEqual([domain['mapped-bytes'] for domain in
                          answers[0]['return'] if domain['id'] == 'win'],
                         [0x11000])

    def test_lengths(self):
        """A length that no memory could hold is not believed."""
        for length in (0x7fffffff, 0xffffffff):
            self.assert_load_refused(self.changed(
                STATE, number(13) + b'0000:00:08.0\0',
                number(length) + b'0000:00:08.0\0'))

    def test_section_twice(self):
        for name in TABLES, LATE_TABLES, STATE, FUNCTIONS, DIGEST:
            answers, _ = self.load(self.stream.twice(name), *ASKED)
            self.assertTrue(answers is None or answers[-1])


class CutTest(_StreamCase):
    """Sections that are missing: QEMU itself takes them for nothing."""

    def setUp(self):
        super().setUp()
        self.stream = self.capture()

    def test_all(self):
        """As if the source had had no Nyx IOMMU"""
        stream = self.stream
        for name in TABLES, LATE_TABLES, STATE, FUNCTIONS, DIGEST:
            stream = stream.without(name)
        self.assert_load_refused(stream, "has no section 'nyx-iommu'")

    def test_each(self):
        for name, missing in ((STATE, None), (FUNCTIONS, None),
                              (DIGEST, "has no section 'nyx-iommu-digest'")):
            self.assert_load_refused(self.stream.without(name), missing or '')
        # Nothing is in quarantine, and so nothing of functions.
        vm = self.start(*ARGUMENTS, memory=MEMORY)
        self.migrate(vm, f'file:{self.path}')
        vm.stop()
        plain = Stream(self.path.read_bytes())
        self.assertIsNotNone(self.load(plain)[0])
        for name in STATE, FUNCTIONS, DIGEST:
            self.assert_load_refused(plain.without(name))

    def test_order(self):
        """A digest that came before what it is of proves nothing."""
        start, _, end = self.stream.section(DIGEST)
        digest = self.stream.data[start:end]
        first = self.stream.section(STATE)[0]
        rest = self.stream.without(DIGEST).data
        self.assert_load_refused(
            Stream(rest[:first] + digest + rest[first:]), 'nyx-iommu')


class PostcopyTest(_StreamCase):
    """The same when the VM is to run before the stream ends"""

    def begin(self, leave_out):
        """Postcopy begins; what of its devices is left out on the way."""
        source = self.start(*ARGUMENTS, memory='64M')
        destination = self.start(*ARGUMENTS, memory='64M', incoming='defer')
        self.folder.mkdir(parents=True, exist_ok=True)
        there = self.folder / 'there'
        between = PackageFilter(self.folder / 'between', there, leave_out)
        source.qtest('memset', 0x200000, 0x1000000, 0x55)
        for vm in source, destination:
            set_capabilities(vm, 'postcopy-ram')
        destination.monitor.command('migrate-incoming', uri=f'unix:{there}')
        source.monitor.command('migrate-set-parameters', max_bandwidth=1 << 20)
        source.monitor.command('migrate',
                               uri=f'unix:{self.folder / "between"}')
        await_migration(source, 'active')
        source.monitor.command('migrate-start-postcopy')
        source.monitor.command('migrate-set-parameters', max_bandwidth=0)
        self.assertTrue(between.cut.wait(60))
        return source, destination

    def test_whole(self):
        source, destination = self.begin(())
        await_migration(source, 'completed')
        await_migration(destination, 'completed')
        self.assert_arrived(source, destination)

    def test_cut(self):
        source, destination = self.begin((DIGEST,))
        self.assert_ended(destination, "has no section 'nyx-iommu-digest'")
        await_migration(source, 'failed')
        self.assertEqual(source.monitor.command('query-status')['status'],
                         'running')


class PendingTest(_StreamCase):
    """What is about to be done travels, and is done where the VM runs."""

    def setUp(self):
        super().setUp()
        self.stream = self.capture()

    def start_with(self, stream):
        self.path.write_bytes(stream.data)
        # Its events would be lost before the monitor is connected.
        vm = self.start(*ARGUMENTS, memory=MEMORY, incoming='defer')
        vm.monitor.command('migrate-incoming', uri=f'file:{self.path}')
        await_migration(vm, 'completed')
        return vm

    def with_limit(self, action):
        """nic is past its limit, with that action due."""
        state = self.stream.content(STATE)
        at = state.index(b'nyx-endpoint/fault-types',
                         state.index(b'0000:00:08.0\0')) + 24 + 4 + 6 * 8
        return self.stream.replaced(STATE, state[:at] + subsection(
            'nyx-endpoint/limit', number(action)) + state[at:]).signed()

    def test_limit(self):
        schema = self.start(*ARGUMENTS, memory=MEMORY)
        actions = self.actions(schema)
        for action in 'pause-vm', 'report', 'quarantine', 'unplug':
            vm = self.start_with(self.with_limit(actions.index(action)))
            event = vm.monitor.wait_event('NYX_LIMIT_ACTION', device='nic')
            self.assertEqual(event['data']['action'], action)
            self.assertEqual(
                device_state(vm, 'nic'),
                'quarantined' if action in ('quarantine', 'unplug')
                else 'operational')
            vm.stop()
        self.assert_load_refused(self.with_limit(len(actions)),
                                 'with an action that there is not')

    @staticmethod
    def actions(vm):
        schema = vm.monitor.command('query-qmp-schema')
        event = next(entry for entry in schema
                     if entry['name'] == 'NYX_FAULT_LIMIT')
        types = {entry['name']: entry for entry in schema}
        member = next(m for m in types[event['arg-type']]['members']
                      if m['name'] == 'action')
        return types[member['type']]['values']

    def test_port(self):
        """The link of a port comes up, and recovery=auto with that."""
        def prepare(vm):
            vm.monitor.command('nyx-quarantine-device', device='contained')
            vm.monitor.command('nyx-set-policy', device='contained',
                               recovery='auto')

        stream = self.capture(prepare)
        vm = self.start_with(stream)
        self.assertEqual(device_state(vm, 'contained'), 'quarantined')
        vm.stop()
        vm = self.start_with(stream.with_section(
            '0000:00:11.0/nyx-root-port-release', b'\1'))
        vm.monitor.wait_event('NYX_DEVICE_STATE', device='contained',
                              new='operational')


class ChangeTest(MigrationCase):
    """Tables change after they were sent: no more than that comes late."""

    def migrate_and_change(self, name, change):
        """The source meanwhile stands still, with its tables sent."""
        source = self.start(*ARGUMENTS, memory=MEMORY)
        command = source.monitor.command
        for page in range(PAGES):
            command('nyx-map', domain='win', iova=page << 12,
                    gpa=(page * 37 % 128) << 12, size=0x1000, access='rw')
        path = self.folder / name
        set_capabilities(source, 'pause-before-switchover')
        command('migrate', uri=f'file:{path}')
        await_migration(source, 'pre-switchover')
        change(command)
        command('migrate-continue', state='pre-switchover')
        await_migration(source, 'completed')
        stream = Stream(path.read_bytes())
        destination = self.start(*ARGUMENTS, memory=MEMORY,
                                 incoming=f'file:{path}')
        await_migration(destination, 'completed')
        self.assert_arrived(source, destination)
        return stream, state(destination)

    def test_nothing(self):
        stream, _ = self.migrate_and_change('nothing', lambda command: None)
        self.assertEqual(stream.content(LATE_TABLES), saved_tables())
        self.assertLess(len(stream.content(TABLES)), PAGES * 2)

    def test_little(self):
        def change(command):
            command('nyx-unmap', domain='win', iova=0x7000, size=0x2000)
            command('nyx-map', domain='win', iova=0x8000, gpa=0x10000,
                    size=0x1000, access='r')
            command('nyx-map', domain='win', iova=1 << 40, gpa=0x10000,
                    size=0x4000, access='w')

        stream, seen = self.migrate_and_change('little', change)
        self.assertLess(len(stream.content(LATE_TABLES)), 100)
        self.assertEqual([domain['mapped-bytes'] for domain
                          in seen['query-nyx-domains']
                          if domain['id'] == 'win'], [(PAGES + 3) << 12])

    def test_new_table(self):
        """The first range taken from all RAM, which had no table before"""
        def change(command):
            command('nyx-unmap', domain='auto:nic', iova=0x100000, size=0x4000)

        _, seen = self.migrate_and_change('new', change)
        self.assertTrue(seen['query-nyx-domains'])

    def test_at_random(self):
        rng = random.Random(SEED)

        def change(command):
            for _ in range(300):
                page, size = rng.randrange(PAGES), rng.randrange(1, 9)
                try:
                    if rng.randrange(2):
                        command('nyx-unmap', domain='win', iova=page << 12,
                                size=size << 12)
                    else:
                        command('nyx-map', domain='win', iova=page << 12,
                                gpa=rng.randrange(64) << 12, size=size << 12,
                                access=rng.choice(('r', 'w', 'rw')))
                except ExecuteError:    # mapped, or not mapped
                    pass

        self.migrate_and_change('random', change)

    def test_again(self):
        """After a migration that was cancelled all is sent anew."""
        source = self.start(*ARGUMENTS, memory=MEMORY)
        command = source.monitor.command
        set_capabilities(source, 'pause-before-switchover')
        command('nyx-map', domain='win', iova=0x1000, gpa=0x1000, size=0x1000,
                access='rw')
        command('migrate', uri=f'file:{self.folder / "first"}')
        await_migration(source, 'pre-switchover')
        command('nyx-unmap', domain='win', iova=0x1000, size=0x1000)
        command('migrate_cancel')
        await_migration(source, 'cancelled')
        command('nyx-map', domain='win', iova=0x3000, gpa=0x1000, size=0x1000,
                access='rw')
        path = self.folder / 'second'
        command('migrate', uri=f'file:{path}')
        await_migration(source, 'pre-switchover')
        command('migrate-continue', state='pre-switchover')
        await_migration(source, 'completed')
        self.assertEqual(Stream(path.read_bytes()).content(LATE_TABLES),
                         saved_tables())
        destination = self.start(*ARGUMENTS, memory=MEMORY,
                                 incoming=f'file:{path}')
        await_migration(destination, 'completed')
        self.assert_arrived(source, destination)


class FuzzTest(_StreamCase):
    """Seeded; NYX_FUZZ_SEED, and NYX_FUZZ_LOADS or NYX_FUZZ_SECONDS for each
    test, change what is tried.
    """

    def streams(self):
        """One with tables that came early, one with some that changed late."""
        early = self.capture()
        late = early.replaced(TABLES, saved_tables(
            saved_table('win', b'\x87\0\x0e\0\0'))).replaced(
                LATE_TABLES, saved_tables(
                    saved_table('win', b'\0', b'\0\x0f'),
                    saved_table('win', TABLE, b'\x80\2\xff\x07')))
        return early, late

    @staticmethod
    def changed(rng, stream, sign):
        """One or more changes in one of its sections, or it ends there."""
        name = rng.choice((STATE, STATE, STATE, FUNCTIONS, DIGEST, TABLES,
                           LATE_TABLES))
        content = stream.content(name)
        for _ in range(rng.choice((1, 1, 1, 2, 5))):
            content = mutate(rng, content) or b'\0'
        changed = stream.replaced(name, content)
        if rng.randrange(10) == 0:
            start, _, end = changed.section(name)
            return Stream(changed.data[:rng.randrange(start, end)])
        return changed.signed() if sign and name != DIGEST else changed

    def run_loads(self, seed, sign):
        rng = random.Random(seed)
        streams = self.streams()
        digests = [self.digest_of(self.load(stream, *ASKED)[0])
                   for stream in streams]
        self.assertEqual(digests[0], digests[1])
        taken = count = 0
        end = time.monotonic() + FUZZ_SECONDS
        while time.monotonic() < end if FUZZ_SECONDS else count < LOADS:
            stream = rng.choice(streams)
            changed = self.changed(rng, stream, sign)
            count += 1
            with self.subTest(count=count, seed=seed):
                answers = self.load_any(changed, count)
                if answers and changed.content(DIGEST) == \
                        stream.content(DIGEST):
                    self.assertEqual(self.digest_of(answers), digests[0])
                taken += answers is not None
        print(f'{count} streams with seed {seed}, {taken} taken over')
        return taken

    def load_any(self, stream, count):
        """What was answered; a stream that does harm is kept."""
        try:
            answers, said = self.load(stream, *ASKED)
            self.assertTrue(answers or said.strip(), 'refused, silently')
        except Exception:
            (self.folder / f'stream-{count}').write_bytes(stream.data)
            raise
        return answers

    @staticmethod
    def digest_of(answers):
        return next(answer['return']['digest'] for answer in answers
                    if answer['id'] == 'query-nyx-migration')

    def test_accident(self):
        """Damage: nothing that changes the state goes unnoticed."""
        self.run_loads(SEED, False)

    def test_intent(self):
        """With a digest that fits: some is taken over, and then lived with."""
        self.assertGreater(self.run_loads(SEED + 1, True), 0)


class VectorTest(MigrationCase):
    """Streams of earlier versions load, and mean what they meant."""

    def check(self, path):
        vm, known = load_vector(path, self.folder / path.stem)
        self.addCleanup(vm.stop)
        await_migration(vm, 'completed')
        now = known_of(vm)
        for what, before in known.items():
            # Later versions may tell more.
            self.assertEqual(reduce_to(now[what], before), before, what)
        self.assertEqual(vm.monitor.command('query-status')['status'],
                         'running')
        for name in 'rng', 'below':
            vm.monitor.command('nyx-recover-device', device=name)

    def test_all(self):
        paths = sorted(VECTORS.glob('*.json'))
        self.assertTrue(paths)
        for path in paths:
            with self.subTest(path.stem):
                self.check(path)


def reduce_to(now, before):
    """Of what is known now, what was known before."""
    if isinstance(before, dict):
        return {key: reduce_to(now.get(key), value)
                for key, value in before.items()}
    if isinstance(before, list) and len(now) == len(before):
        return [reduce_to(*pair) for pair in zip(now, before)]
    return now
