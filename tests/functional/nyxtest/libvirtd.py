# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""libvirtd of Debian, in a namespace of its own: the host's is not touched.

Several at once are several hosts, with names of their own. $NYX_LIBVIRT is a
folder with the unpacked packages of another version than the installed one.
"""

import shutil
import subprocess
import tempfile
import unittest
import uuid
from pathlib import Path

from .errors import NyxTestError
from .paths import QEMU

FOLDERS = ('/run/libvirt', '/var/lib/libvirt', '/var/cache/libvirt',
           '/var/log/libvirt', '/etc/libvirt')
SOCKET = '/run/libvirt/libvirt-sock'
# Nobody but root may read the tests' folders, and there are no cgroups.
CONFIG = '''stdio_handler = "file"
user = "root"
group = "root"
security_driver = "none"
cgroup_controllers = []
'''
SCRIPT = '''set -e
{before}
if [ -n "$NYX_LIBVIRT" ]; then
    mount -t overlay none -o lowerdir="$NYX_LIBVIRT/usr":/usr /usr
    for drivers in "$NYX_LIBVIRT"/usr/lib/*/libvirt; do
        mount --bind "$drivers" "${{drivers#"$NYX_LIBVIRT"}}"
    done
fi
for folder in {folders}; do
    mkdir -p $folder
    mount -t tmpfs none $folder
done
mkdir -p /var/lib/libvirt/swtpm
printf '%s' '{config}' >/etc/libvirt/qemu.conf
printf 'host_uuid = "%s"\n' {uuid} >/etc/libvirt/libvirtd.conf
hostname {name}
PATH={programs}:$PATH
{run}
'''
RUN = 'libvirtd --timeout 600 --pid-file /run/libvirt/libvirtd.pid'
START_SECONDS = 60
SECONDS = 120


def needs_libvirt(test):
    """Skip where a daemon of our own cannot be had."""
    missing = [name for name in ('libvirtd', 'virsh', 'unshare', 'nsenter')
               if not shutil.which(name, path='/usr/sbin:/usr/bin:/sbin:/bin')]
    if missing:
        return unittest.skip(f'{", ".join(missing)}: not installed')(test)
    if subprocess.run(['unshare', '--mount', 'true'], capture_output=True,
                      check=False).returncode:
        return unittest.skip('a libvirtd of our own needs a root that may '
                             'mount')(test)
    return test


class Libvirtd:
    """Runs until stop(); virsh() talks to it.

    A guest can move from one to another if their names differ.
    """

    # What is its own, for unshare and nsenter
    namespaces = '--mount', '--uts'

    def __init__(self, name='nyxhost'):
        self._log = tempfile.TemporaryFile()
        before, run = self.script()
        self._process = subprocess.Popen(
            [*self.unshare(), 'sh', '-c', SCRIPT.format(
                folders=' '.join(FOLDERS), config=CONFIG, name=name,
                before=before, run=run, uuid=uuid.uuid4(),
                programs=QEMU.parent)],
            stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log)
        try:
            self._await()
        except NyxTestError:
            self.stop()
            raise

    def script(self):
        """What a shell does in them: before all else, and for ever."""
        return '', f'exec {RUN}'

    def unshare(self):
        return ['unshare', *self.namespaces]

    def _await(self):
        socket = self.path(SOCKET)
        for _ in range(START_SECONDS * 10):
            try:
                self._process.wait(0.1)
                self._log.seek(0)
                raise NyxTestError('libvirtd ended: '
                                   f'{self._log.read()[-500:].decode()}')
            except subprocess.TimeoutExpired:
                if socket.exists():
                    return
        raise NyxTestError('libvirtd did not start in time.')

    def path(self, name):
        """Where a file of its is for others."""
        return Path(f'/proc/{self._process.pid}/root{name}')

    @property
    def uri(self):
        """For a virsh that is not its own."""
        return f'qemu+unix:///system?socket={self.path(SOCKET)}'

    def inside(self, *words):
        """A command that sees this libvirt, for Popen"""
        return ['nsenter', *self.namespaces, '--target',
                str(self._process.pid), *(str(word) for word in words)]

    def command(self, *words):
        """The same of virsh"""
        return self.inside('virsh', '-q', *words)

    def virsh(self, *words, **more):
        """A finished command; its returncode, stdout and stderr."""
        return subprocess.run(
            self.command(*words), capture_output=True, text=True, check=False,
            timeout=SECONDS, **more)

    def check(self, *words, **more):
        """The output of a command that goes well."""
        done = self.virsh(*words, **more)
        if done.returncode:
            raise NyxTestError(f'virsh {" ".join(map(str, words))}: '
                               f'{done.stderr.strip()}')
        return done.stdout.strip()

    def stop(self):
        """End all of its VMs, and itself."""
        if self._process.poll() is None:
            for name in self.virsh('list', '--name').stdout.split():
                self.virsh('destroy', name)
            self._process.terminate()
            self._process.wait()
        self._log.close()
