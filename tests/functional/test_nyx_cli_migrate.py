# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""nyx migrate: start, watch, cancel, verify, between two real VMs."""

import json
import os
import time

from nyxtest.cli import SECONDS, CliCase
from nyxtest.migration import await_migration

MIB = 1 << 20
CHUNK = 1 << 16                 # of what qtest takes quickly
CONFIGURATION = ('-object', 'nyx-domain,id=cage,default-map=none',
                 '-device', 'nyx-testdev,id=rogue,nyx-domain=cage,addr=5',
                 '-device', 'e1000e,id=nic0,addr=6')
WAITS = '-incoming', 'defer'
ATTEMPTS = 10


class MigrateTest(CliCase):
    """A VM moves into another one of this host."""

    def pair(self, **more):
        here = self.start('here', *CONFIGURATION, **more)
        there = self.start('there', *CONFIGURATION, *WAITS, **more)
        return here, there

    def test_into(self):
        here, there = self.pair()
        here.monitor.command('nyx-inject-fault', device='rogue', address=4096,
                             access='w', count=3)
        self.says('quarantine', 'nic0', '--vm', 'here')
        ready = self.json('migrate', 'ready', 'here')
        self.assertEqual(ready, here.monitor.command('query-nyx-migration'))
        outcome = self.json('migrate', 'start', '--vm', 'here', '--into',
                            'there')
        verified = outcome.pop('verified')
        # Some bytes are counted when it is completed already.
        for figure in 'status', 'total-time', 'downtime':
            self.assertEqual(outcome[figure], here.monitor.command(
                'query-migrate')[figure], figure)
        self.assertEqual({part['result'] for part in verified}, {'ok'})
        self.assertIn('the same on both sides', verified[2]['text'])
        for command in 'query-nyx-devices', 'query-nyx-faults':
            self.assertEqual(there.monitor.command(command),
                             here.monitor.command(command))
        self.assertIn('completed in',
                      self.says('migrate', 'watch', 'here'))
        self.assert_fails('nothing to cancel', 'migrate', 'cancel', 'here')
        self.assert_fails('does not wait', 'migrate', 'start', '--vm',
                          'here', '--into', 'there')

    def test_multifd(self):
        here, there = self.pair()
        for at in range(MIB, 9 * MIB, CHUNK):
            here.write(at, os.urandom(CHUNK))
        outcome = self.json('migrate', 'start', '--vm', 'here', '--into',
                            'there', '--multifd', '2')
        self.assertEqual({part['result'] for part in outcome['verified']},
                         {'ok'}, outcome)
        self.assertEqual(there.read(5 * MIB, CHUNK),
                         here.read(5 * MIB, CHUNK))
        self.assertGreater(outcome['ram']['multifd-bytes'], 8 * MIB)

    def postcopy(self, attempt):
        """One postcopy of a busy VM; what nyx said."""
        names = f'here{attempt}', f'there{attempt}'
        here = self.start(names[0], *CONFIGURATION)
        there = self.start(names[1], *CONFIGURATION, *WAITS)
        for at in range(MIB, 5 * MIB, CHUNK):
            here.write(at, os.urandom(CHUNK))
        here.monitor.command('nyx-inject-fault', device='rogue', address=4096,
                             access='w', count=3)
        since = here.monitor.position()
        moving = self.popen('migrate', 'start', '--vm', names[0], '--into',
                            names[1], '--postcopy', '--bandwidth', '2M',
                            '--downtime', '1',
                            '--json')
        # It changes memory faster than that: precopy would never end.
        limit = time.monotonic() + SECONDS
        while not here.monitor.seen('STOP', since) and moving.poll() is None:
            self.assertLess(time.monotonic(), limit, 'postcopy does not begin')
            for at in range(5 * MIB, 9 * MIB, CHUNK):
                here.write(at, os.urandom(CHUNK))
        out, error = moving.communicate(timeout=SECONDS)
        if moving.returncode == 0:
            self.assertTrue(here.monitor.seen('MIGRATION', since,
                                              status='postcopy-active'))
            self.assertEqual(there.read(3 * MIB, CHUNK),
                             here.read(3 * MIB, CHUNK))
            self.assertEqual(there.monitor.command('query-nyx-faults'),
                             here.monitor.command('query-nyx-faults'))
            self.assertEqual(there.monitor.command('query-status')['status'],
                             'running')
        here.stop()
        there.stop()
        return moving.returncode, out, error

    def test_postcopy(self):
        """It runs on there before all of its memory is there.

        QEMU 11.1.1 itself, also with q35, now and then loses the end of the
        stream between VMs as small as these: then it is tried again.
        """
        for attempt in range(ATTEMPTS):
            status, out, error = self.postcopy(attempt)
            if status == 0:
                break
            self.assertRegex(error, r'^nyx: .* failed: Sibling indicated '
                             r'error 1; it is [a-z-]+ here\.\n$')
        self.assertEqual((status, error), (0, ''))
        outcome = json.loads(out)
        self.assertEqual(outcome['status'], 'completed')
        self.assertEqual({part['result'] for part in outcome['verified']},
                         {'ok'}, outcome)

    def test_uri(self):
        here, there = self.pair()
        uri = f'unix:{self.run_dir}/channel'
        there.monitor.command('migrate-incoming', uri=uri)
        self.assert_fails('waits elsewhere already', 'migrate', 'start',
                          '--vm', 'here', '--into', 'there')
        self.assertIn('watch here', self.says(
            'migrate', 'start', '--vm', 'here', uri, '--detach'))
        await_migration(here, 'completed')
        self.assertEqual(self.json('migrate', 'watch', 'here'),
                         here.monitor.command('query-migrate'))
        self.assertIn('all there',
                      self.says('migrate', 'verify', 'here', 'there'))

    def test_verify_tells_what_differs(self):
        _, there = self.pair()
        self.says('migrate', 'start', '--vm', 'here', '--into', 'there')
        there.monitor.command('nyx-map', domain='cage', iova=0, gpa=0,
                              size=4096, access='rw')
        there.monitor.command('nyx-quarantine-device', device='nic0')
        done = self.nyx('migrate', 'verify', 'here', 'there', '--json')
        self.assertEqual(done.returncode, 1)
        bad = {part['part']: part['text'] for part in json.loads(done.stdout)
               if part['result'] == 'error'}
        self.assertEqual(set(bad), {'domains', 'devices'})
        self.assertIn('domain cage: mapped-bytes was 0 and is 4096',
                      bad['domains'])
        self.assertIn('device nic0: state was operational and is quarantined',
                      bad['devices'])

    def test_refused_before_it_begins(self):
        here = self.start('here', *CONFIGURATION)
        self.start('there', *WAITS)
        self.assert_fails('here cannot migrate: ', 'migrate', 'start', '--vm',
                          'here', '--into', 'there')
        self.assertEqual(here.monitor.command('query-migrate'), {})
        self.assert_fails('either a URI', 'migrate', 'start', '--vm', 'here')

    def slow(self):
        """A migration that would take a minute."""
        here, there = self.pair()
        for at in range(MIB, 17 * MIB, CHUNK):
            here.write(at, os.urandom(CHUNK))
        self.says('migrate', 'start', '--vm', 'here', '--into', 'there',
                  '--bandwidth', '512K', '--detach')
        return here, there

    def test_watch_and_cancel(self):
        here, _ = self.slow()
        watching = self.popen('migrate', 'watch', 'here')
        first = watching.stdout.readline()
        self.assertRegex(first, r'^(setup|active) +\d+\.\d %')
        second = watching.stdout.readline()
        self.assertRegex(second, r'^active .* left, \d+ Mbit/s, pass 1,')
        done = self.json('migrate', 'cancel', 'here')
        self.assertEqual(done['status'], 'cancelled')
        self.assertEqual(here.monitor.command('query-status')['status'],
                         'running')
        _, error = watching.communicate(timeout=60)
        self.assertEqual(watching.returncode, 1)
        self.assertIn('was cancelled; it runs on here', error)

    def test_vm_ends_meanwhile(self):
        here, _ = self.slow()
        watching = self.popen('migrate', 'watch', 'here')
        watching.stdout.readline()
        here.stop()
        _, error = watching.communicate(timeout=60)
        self.assertEqual(watching.returncode, 1)
        self.assertRegex(error, r'^nyx: here ended while it migrated; .*\n$')

    def test_destination_ends_meanwhile(self):
        here, there = self.slow()
        watching = self.popen('migrate', 'watch', 'here')
        watching.stdout.readline()
        there.stop()
        _, error = watching.communicate(timeout=60)
        self.assertEqual(watching.returncode, 1)
        self.assertIn('the migration of here failed: ', error)
        self.assertEqual(here.monitor.command('query-status')['status'],
                         'running')
