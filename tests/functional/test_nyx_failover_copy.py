# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""nyx checkpoint --to and failover --from: hosts that share a directory only.

The guest keeps a journal: the number n is in block n of each disk, and in
memory when it is on both. Disks that are older than memory lack entries, and
newer ones have some that the guest is about to write, which it notes.
"""

import json
import os
import signal
import time
from pathlib import Path

from nyxtest.nyxrun import Guest, RunCase

SECONDS = 240
SPEC = '''
memory = "256M"
cpus = 1

[[disk]]
id = "disk0"
file = "disk0.qcow2"
create = "64M"
bus = "nvme"

[[disk]]
id = "disk1"
file = "disk1.raw"
create = "64M"
'''
MODULES = 'nvme', 'virtio_blk'
DISKS = '/dev/nvme0n1', '/dev/vda'
LOAD = '''
cat >/run/load.sh <<'END'
i=0
while :; do
    i=$((i + 1))
    for disk in /dev/nvme0n1 /dev/vda; do
        there=$(dd if=$disk bs=512 skip=$i count=1 iflag=direct 2>/dev/null |
            tr -d '\\000 \\n')
        [ -z "$there" ] || echo "$disk has $there" >>/run/future
        printf '%-511d\\n' $i |
            dd of=$disk bs=512 seek=$i conv=fsync,notrunc 2>/dev/null
    done
    echo $i >/run/count.new
    mv /run/count.new /run/count
done
END
sh /run/load.sh >/dev/null 2>&1 &
'''


class CopyTest(RunCase):
    """The primary is killed in the midst of a checkpoint; and back."""

    def setUp(self):
        super().setUp()
        self.copies = self.folder / 'copies'
        self.addCleanup(self.remove_copies)
        self.description = self.spec(SPEC)
        self.changes = self.guest_changes('vm', MODULES)
        there = self.folder / 'there'
        there.mkdir()
        for number, name in enumerate(('disk0.qcow2', 'disk1.raw')):
            self.changes_there = getattr(self, 'changes_there', []) + [
                '--set', f'disk.{number}.file={there / name}']
        self.addCleanup(lambda: [path.unlink() for path in there.iterdir()])

    def remove_copies(self):
        for path in self.copies.iterdir():
            path.unlink()

    def count(self, guest):
        return int(guest.agent.check('cat /run/count'))

    def check_journal(self, guest):
        """Each entry up to now, and none of the future; what now is."""
        for disk in DISKS:
            now = self.count(guest)
            self.assertEqual(guest.agent.check(
                f'dd if={disk} bs=512 skip=1 count={now} iflag=direct '
                "2>/dev/null | awk '$1 != NR {bad++} END {print NR, "
                "bad + 0}'"), f'{now} 0', disk)
        guest.agent.wait(f'[ $(cat /run/count) -gt {now + 3} ]', SECONDS)
        self.assertEqual(guest.agent.check('cat /run/future 2>/dev/null; :'),
                         '')
        self.assertEqual(guest.trouble(), [])
        return now

    def kill(self):
        """QEMU, at once; until nyx run has noticed."""
        folder = self.run_dir / 'vm'
        process = int((folder / 'qemu.pid').read_text())
        os.kill(process, signal.SIGKILL)
        end = time.monotonic() + SECONDS
        while (folder / 'qmp.sock').exists() or \
                Path(f'/proc/{process}').exists():
            self.assertLess(time.monotonic(), end, 'it does not end')
            time.sleep(0.05)

    def go_on(self, *words):
        said = self.says('failover', self.description, '--detach', '--from',
                         self.copies, *self.changes, *words)
        self.addCleanup(self.nyx, 'stop', 'vm', '--now')
        return Guest(self, 'vm', self.run_dir / 'vm'), said.split()[4]

    def take(self, *words):
        return json.loads(self.says('checkpoint', 'vm', '--to', self.copies,
                                    '--json', *words))

    def test_failover_and_back(self):
        guest = self.boot(self.description, 'vm', modules=MODULES)
        guest.agent.check(LOAD)
        guest.agent.wait('[ $(cat /run/count) -gt 5 ]', SECONDS)
        whole = self.take()
        tags = [whole['checkpoint']]
        for _ in range(2):
            changed = self.take()
            tags.append(changed['checkpoint'])
            # Only what was written in between is copied again.
            self.assertLess(changed['disk-bytes'], whole['disk-bytes'] // 4)
        self.assertEqual(sorted(path.stem for path
                                in self.copies.glob('*.json')), tags[1:])
        self.assertEqual(sorted(path.stem for path
                                in self.copies.glob('*.memory')), tags[1:])
        self.assertGreater(self.check_journal(guest), 5)
        self.assertIn('so the VM still runs', self.fails(
            'failover', self.description, '--from', self.copies,
            *self.changes, *self.changes_there)[0])

        # The last one is not finished when QEMU dies.
        dying = self.popen('checkpoint', 'vm', '--to', self.copies)
        end = time.monotonic() + SECONDS
        while not any(path.stat().st_blocks for path
                      in self.copies.glob('*.memory')
                      if path.stem not in tags):
            self.assertLess(time.monotonic(), end, 'nothing is saved')
            time.sleep(0.01)
        self.kill()
        dying.communicate(timeout=SECONDS)
        self.assertEqual(dying.returncode, 1)

        self.assertIn('say --replace', self.fails(
            'failover', self.description, '--from', self.copies,
            *self.changes)[0])
        guest, tag = self.go_on(*self.changes_there)
        self.assertEqual(tag, tags[-1])
        self.check_journal(guest)

        # And back, losing nothing.
        before = self.count(guest)
        last = self.take('--end')
        self.assertTrue(last['ended'])
        guest, tag = self.go_on('--replace')
        self.assertEqual(tag, last['checkpoint'])
        self.assertGreaterEqual(self.check_journal(guest), before)

    def test_refused(self):
        """What cannot be done, and where there is nothing to go on from."""
        spec = self.spec('memory = "64M"\n[[disk]]\nid = "disk0"\n'
                         'file = "disk.qcow2"\ncreate = "1M"\n')
        self.copies.mkdir()
        self.assertIn('has no complete checkpoint', self.fails(
            'failover', spec, '--from', self.copies)[0])
        guest = self.launch(spec, 'vm')
        self.assertIn('cannot be made', self.fails(
            'checkpoint', 'vm', '--to', '/proc/nowhere')[0])
        guest.qmp('stop')
        self.assertIn('continue it first', self.fails(
            'checkpoint', 'vm', '--to', self.copies)[0])
        guest.qmp('cont')
        # A file that is not as long as it was is not complete.
        tag = self.take()['checkpoint']
        self.says('stop', 'vm', '--now')
        self.assertEqual(self.says('failover', spec, '--from', self.copies,
                                   '--dry-run').strip(), tag)
        memory = self.copies / f'{tag}.memory'
        os.truncate(memory, memory.stat().st_size - 1)
        self.assertIn('has no complete checkpoint', self.fails(
            'failover', spec, '--from', self.copies)[0])
