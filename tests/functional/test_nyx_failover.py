# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""nyx checkpoint, failover and failback: a guest survives its QEMU, under I/O.

Two hosts are two network namespaces with run directories of their own, which
see the same images.
"""

import os
import shlex
import shutil
import signal
import subprocess
import tempfile
import time
import unittest
from pathlib import Path

from nyxtest.nyxrun import Guest, RunCase
from nyxtest.paths import QEMU

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
file = "disk1.qcow2"
create = "64M"
'''
MODULES = 'nvme', 'virtio_blk'
# Numbers in memory, then on both disks, each forced out: a disk may be behind
# memory by what is under way, and by no more.
LOAD = '''
cat >/run/load.sh <<'END'
i=0
while :; do
    i=$((i + 1))
    echo $i >/run/count
    for disk in /dev/nvme0n1 /dev/vda; do
        printf '%-511d\\n' $i | dd of=$disk bs=512 conv=fsync 2>/dev/null
    done
done
END
sh /run/load.sh >/dev/null 2>&1 &
'''


class Host:
    """Where a VM may run: its network, its run directory."""

    def __init__(self, case, name):
        self.run_dir = Path(tempfile.mkdtemp(prefix=f'nyx-{name}-'))
        case.addCleanup(shutil.rmtree, self.run_dir)
        self.network = f'nyx-test-{os.getpid()}-{name}'
        subprocess.run(['ip', 'netns', 'add', self.network], check=True)
        case.addCleanup(subprocess.run,
                        ['ip', 'netns', 'del', self.network], check=False)


def _namespaces_work():
    name = f'nyx-try-{os.getpid()}'
    try:
        done = subprocess.run(['ip', 'netns', 'add', name], check=False,
                              capture_output=True)
    except OSError:
        return False
    subprocess.run(['ip', 'netns', 'del', name], check=False,
                   capture_output=True)
    return done.returncode == 0


@unittest.skipUnless(_namespaces_work(), 'there can be no network namespaces '
                     'here (ip netns add, as root)')
class FailoverTest(RunCase):
    """The primary is killed, and the guest goes on elsewhere; and back."""

    def setUp(self):
        super().setUp()
        self.here, self.there = Host(self, 'a'), Host(self, 'b')
        self.host = self.here

    def words(self, *words):
        return ['ip', 'netns', 'exec', self.host.network,
                *super().words(*words)]

    def on(self, host):
        """What follows happens on that host."""
        self.host, self.run_dir = host, host.run_dir
        self._environment['NYX_RUN_DIR'] = str(host.run_dir)

    def kill(self, name):
        """QEMU, at once; until nyx run has noticed."""
        folder = self.run_dir / name
        process = int((folder / 'qemu.pid').read_text())
        os.kill(process, signal.SIGKILL)
        end = time.monotonic() + SECONDS
        while (folder / 'qmp.sock').exists() or \
                Path(f'/proc/{process}').exists():
            self.assertLess(time.monotonic(), end, 'it does not end')
            time.sleep(0.05)

    def counts(self, guest):
        """In memory, on the disks."""
        text = guest.agent.check(
            'cat /run/count; for disk in /dev/nvme0n1 /dev/vda; do '
            'dd if=$disk bs=512 count=1 iflag=direct 2>/dev/null; done')
        return [int(word) for word in text.split()]

    def goes_on(self, guest, least, most):
        """Memory and disks are of the same moment, and numbers grow."""
        memory, *disks = self.counts(guest)
        self.assertGreaterEqual(memory, least)
        self.assertLessEqual(memory, most)
        guest.agent.wait(f'[ $(cat /run/count) -gt {memory + 3} ]', SECONDS)
        for disk in disks:
            self.assertIn(disk - memory, (-1, 0, 1))
        self.assertEqual(guest.trouble(), [])

    def take_over(self, spec):
        said = self.says('failover', spec, '--detach',
                         *self.guest_changes('vm', MODULES))
        self.addCleanup(self.nyx, 'stop', 'vm', '--now')
        tag = said.split()[4]
        return Guest(self, 'vm', self.run_dir / 'vm'), tag

    def test_failover_and_failback(self):
        self.on(self.here)
        spec = self.spec(SPEC)
        changes = self.guest_changes('vm', MODULES)
        guest = self.boot(spec, 'vm', modules=MODULES)
        guest.agent.check(LOAD)
        guest.agent.wait('[ $(cat /run/count) -gt 5 ]', SECONDS)

        # One after the other; the newest two stay.
        taking = self.popen('checkpoint', 'vm', '--every', '1s', '--count',
                            '3')
        out, error = taking.communicate(timeout=SECONDS)
        self.assertEqual((taking.returncode, error), (0, ''))
        tags = [line.split(':')[0] for line in out.splitlines()]
        self.assertEqual(len(tags), 3)
        at_checkpoint = self.counts(guest)[0]

        # The images are in use: no second QEMU may start on them.
        self.on(self.there)
        self.assertIn('so the VM still runs', self.fails(
            'failover', spec, *changes)[0])

        # The last one is not finished when QEMU dies.
        self.on(self.here)
        written = self.written()
        dying = self.popen('checkpoint', 'vm')
        end = time.monotonic() + SECONDS
        while self.written() < written + (8 << 20):
            self.assertLess(time.monotonic(), end, 'nothing is saved')
            time.sleep(0.01)
        self.kill('vm')
        dying.communicate(timeout=SECONDS)
        self.assertEqual(dying.returncode, 1)

        self.on(self.there)
        self.assertEqual(self.says('failover', spec, '--dry-run',
                                   *changes).strip(), tags[-1])
        began = time.monotonic()
        guest, tag = self.take_over(spec)
        seconds = time.monotonic() - began
        self.assertEqual(tag, tags[-1])
        self.goes_on(guest, 1, at_checkpoint + 1)
        print(f'took over in {seconds:.1f} s, at {tag}', flush=True)

        self.comes_back(spec, changes, guest)

    def comes_back(self, spec, changes, guest):
        """nyx failback: nothing of what the guest did is lost."""
        self.on(self.here)
        fetch = ('failback', spec, '--detach', *changes, '--from')
        # What is wrong is found before the guest is disturbed.
        self.assertIn('cannot be run', self.fails(*fetch, '/nowhere')[0])
        self.assertIn('does not come back', self.fails(*fetch, 'false')[0])
        other = self.spec(SPEC.replace('disk1.qcow2', 'disk2.qcow2'), 'other')
        shutil.copy(self.folder / 'disk1.qcow2', self.folder / 'disk2.qcow2')
        self.assertIn('disk2.qcow2 is not in use', self.fails(
            'failback', other, *changes, '--from', 'false')[0])
        self.goes_on(guest, 1, 1 << 30)

        # The load goes on up to the moment at which the guest stops.
        before = self.counts(guest)[0]
        there = ('ip', 'netns', 'exec', self.there.network, 'env',
                 f'NYX_RUN_DIR={self.there.run_dir}', *RunCase.words(self))
        began = time.monotonic()
        said = self.says(*fetch, shlex.join(there))
        seconds = time.monotonic() - began
        self.assertRegex(said, '^vm comes back at checkpoint-')
        self.addCleanup(self.nyx, 'stop', 'vm', '--now')
        self.assertFalse((self.there.run_dir / 'vm' / 'qmp.sock').exists())
        guest = Guest(self, 'vm', self.run_dir / 'vm')
        self.goes_on(guest, before, 1 << 30)
        print(f'came back in {seconds:.1f} s', flush=True)

        # On one host it is started anew, and does not notice that either.
        before = self.counts(guest)[0]
        self.says(*fetch[:-1])
        guest = Guest(self, 'vm', self.run_dir / 'vm')
        self.goes_on(guest, before, 1 << 30)

    def written(self):
        """Bytes that QEMU has written; it answers nobody while it saves."""
        process = (self.run_dir / 'vm' / 'qemu.pid').read_text().strip()
        text = Path(f'/proc/{process}/io').read_text()
        return int(text.split('wchar:')[1].split()[0])


class RefusedTest(RunCase):
    """What cannot be saved, and where there is nothing to go on from."""

    def test_raw_disk(self):
        (self.folder / 'disk.raw').write_bytes(bytes(1 << 20))
        spec = self.spec('memory = "64M"\n[[disk]]\nid = "disk0"\n'
                         'file = "disk.raw"\nformat = "raw"\n')
        self.launch(spec, 'vm')
        self.assertIn('use qcow2', self.fails('checkpoint', 'vm')[0])
        self.assertIn('use qcow2', self.fails('checkpoint', 'vm', '--end')[0])
        self.assertIn('"running"', self.says('status', 'vm', '--json'))
        self.assertIn('leave one of them out', self.fails(
            'checkpoint', 'vm', '--end', '--every', '1s')[0])
        self.assertIn('--keep 1 or more',
                      self.fails('checkpoint', 'vm', '--keep', 0)[0])

    def test_no_checkpoint(self):
        spec = self.spec('memory = "64M"\n[[disk]]\nid = "disk0"\n'
                         'file = "disk.qcow2"\ncreate = "1M"\n')
        self.launch(spec, 'vm')
        self.says('stop', 'vm', '--now')
        self.assertIn('no complete checkpoint',
                      self.fails('failover', spec)[0])
        self.assertIn('is not in use', self.fails('failback', spec)[0])
        # A list that has a tag is not enough: it needs the VM's memory.
        subprocess.run([QEMU.with_name('qemu-img'), 'snapshot', '-c',
                        'checkpoint-20261120-121220.923',
                        self.folder / 'disk.qcow2'], check=True)
        self.assertIn('no complete checkpoint',
                      self.fails('failover', spec)[0])
        diskless = self.spec('memory = "64M"\n', 'none')
        self.assertIn('has no disk', self.fails('failover', diskless)[0])
