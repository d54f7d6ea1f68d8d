# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""Hosts with libvirt, Corosync and Pacemaker, in namespaces of their own.

Debian's packages need not be installed, which would start their services:
they are unpacked below the build folder and laid over /usr and /etc.
"""

import os
import shutil
import subprocess
import time

from .errors import GuestTimeout, NyxTestError
from .libvirtd import RUN, Libvirtd
from .packages import Apt, unpack
from .paths import BUILD

PACKAGES = ('pacemaker', 'pacemaker-cli-utils', 'corosync', 'resource-agents')
NETWORK = '10.77.0.'
SECONDS = 240
LOOK_SECONDS = 0.2

# /run and its like are the host's own; the daemons run as another user.
BEFORE = '''ip link set lo up
mount -t overlay none -o lowerdir={packages}/usr:/usr /usr
for folder in /run /var/lib /var/log /dev/shm; do
    mount -t tmpfs none $folder
done
mkdir -p /run/etc/upper /run/etc/work /run/lock /run/corosync /run/crm \
    /run/resource-agents
mount -t overlay none -o lowerdir={packages}/etc:/etc \
    -o upperdir=/run/etc/upper,workdir=/run/etc/work /etc
cp -r {packages}/var/lib/. /var/lib/
cp -r {packages}/var/log/. /var/log/
grep -q ^haclient: /etc/group || echo haclient:x:64001: >>/etc/group
grep -q ^hacluster: /etc/passwd ||
    echo hacluster:x:64001:64001::/var/lib/pacemaker:/bin/false >>/etc/passwd
chown -R hacluster:haclient /var/lib/pacemaker /var/log/pacemaker
cp {folder}/corosync.conf /etc/corosync/
cp {folder}/hosts /etc/
'''
# The first process of the namespace waits for whom others have left behind.
AFTER = '''cat >>/etc/libvirt/libvirtd.conf <<'END'
listen_tls = 0
listen_tcp = 1
auth_tcp = "none"
END
{run} --listen &
while :; do
    wait || :
done'''


def needs_cluster(test):
    """Skip where there can be no such hosts."""
    # pylint: disable=import-outside-toplevel
    import unittest
    name = f'nyx-try-{os.getpid()}'
    try:
        done = subprocess.run(['ip', 'netns', 'add', name], check=False,
                              capture_output=True)
    except OSError:
        return unittest.skip('iproute2 is not installed')(test)
    if done.returncode:
        return unittest.skip('there can be no network namespaces here (ip '
                             'netns add, as root)')(test)
    subprocess.run(['ip', 'netns', 'del', name], check=False)
    return test


def packages():
    """Where the programs are, unpacked once."""
    folder = BUILD / 'pacemaker'
    root = folder / 'root'
    if root.exists():
        return root
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    apt = Apt(folder)
    new = folder / 'new'
    for name in {*PACKAGES, *apt.missing(*PACKAGES)}:
        unpack(apt.fetch(name), new)
    new.rename(root)
    return root


class Node(Libvirtd):
    """One host; everything in it ends with it, as in a power failure."""

    namespaces = '--mount', '--uts', '--ipc'

    def __init__(self, name, network, folder):
        self.name = name
        self._network = network
        self._folder = folder
        self._logs = []
        self._daemons = []
        super().__init__(name)

    def script(self):
        return (BEFORE.format(packages=packages(), folder=self._folder),
                AFTER.format(run=RUN))

    def unshare(self):
        return ['ip', 'netns', 'exec', self._network, *super().unshare(),
                '--pid', '--fork', '--kill-child', '--mount-proc']

    def inside(self, *words):
        own = f'/proc/{self._process.pid}/ns/pid_for_children'
        return ['nsenter', f'--pid={own}', '--net',
                *super().inside(*words)[1:]]

    def start(self, *words):
        """A daemon that stays in the foreground."""
        log = (self._folder / f'{self.name}.{words[0]}.log').open('w')
        self._logs.append(log)
        self._daemons.append(subprocess.Popen(
            self.inside(*words), stdin=subprocess.DEVNULL, stdout=log,
            stderr=log))

    def run(self, *words):
        """The output of a command that goes well."""
        done = subprocess.run(self.inside(*words), capture_output=True,
                              text=True, check=False, timeout=SECONDS)
        if done.returncode:
            raise NyxTestError(f'{" ".join(map(str, words))}: '
                               f'{done.stderr.strip()}')
        return done.stdout

    def await_line(self, text, *words):
        """Until a command says so; what it says."""
        limit = time.monotonic() + SECONDS
        said = None
        while time.monotonic() < limit:
            try:
                said = self.run(*words)
            except NyxTestError as err:
                said = str(err)
            if text in said:
                return said
            time.sleep(LOOK_SECONDS)
        raise GuestTimeout(f'{words} does not say {text!r}, but {said}')

    def pids(self, program):
        """Of the processes of a program in here, as it numbers them."""
        done = subprocess.run(self.inside('pgrep', '-f', program),
                              capture_output=True, text=True, check=False)
        return done.stdout.split()

    def stop(self):
        """Nobody is asked, and nothing is left."""
        self._process.kill()
        for process in (self._process, *self._daemons):
            process.wait()
        for log in (*self._logs, self._log):
            log.close()


class Cluster:
    """Two hosts that see each other; stop() ends them."""

    names = 'one', 'two'

    def __init__(self, folder):
        self._folder = folder
        self._networks = {name: f'nyx-test-{os.getpid()}-{name}'
                          for name in self.names}
        self.nodes = {}
        self._write_files()
        try:
            self._wire()
            for name, network in self._networks.items():
                self.nodes[name] = Node(name, network, folder)
            for node in self.nodes.values():
                node.start('corosync', '-f')
            for node in self.nodes.values():
                node.await_line('LINK ID', 'corosync-cfgtool', '-s')
                node.start('env', f'PCMK_logfile={folder}/{node.name}.log',
                           'pacemakerd')
        except Exception:
            self.stop()
            raise

    def _write_files(self):
        hosts = {name: f'{NETWORK}{number + 1}'
                 for number, name in enumerate(self.names)}
        nodes = '\n'.join(
            f'  node {{\n    name: {name}\n    nodeid: {number + 1}\n'
            f'    ring0_addr: {hosts[name]}\n  }}'
            for number, name in enumerate(self.names))
        (self._folder / 'corosync.conf').write_text(
            'totem {\n  version: 2\n  cluster_name: nyx\n'
            '  transport: knet\n  token: 10000\n}\n'
            'quorum {\n  provider: corosync_votequorum\n  two_node: 1\n'
            '  wait_for_all: 0\n}\n'
            f'nodelist {{\n{nodes}\n}}\n'
            'logging {\n  to_stderr: yes\n  to_syslog: no\n}\n')
        (self._folder / 'hosts').write_text('127.0.0.1 localhost\n' + ''.join(
            f'{address} {name}\n' for name, address in hosts.items()))

    def _wire(self):
        """A cable between the hosts."""
        one, two = self._networks.values()

        def ip(*words):
            subprocess.run(['ip', *words], check=True)
        for network in one, two:
            ip('netns', 'add', network)
        ip('link', 'add', 'cable', 'netns', one, 'type', 'veth', 'peer',
           'name', 'cable', 'netns', two)
        for number, network in enumerate((one, two)):
            ip('-n', network, 'address', 'add', f'{NETWORK}{number + 1}/24',
               'dev', 'cable')
            ip('-n', network, 'link', 'set', 'cable', 'up')

    def stop(self):
        for node in self.nodes.values():
            node.stop()
        for network in self._networks.values():
            subprocess.run(['ip', 'netns', 'del', network], check=False,
                           capture_output=True)
