# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""Recipes of the manual, run as they are printed.

A recipe NAME is docs/nyx/recipes/NAME.rst, with NAME.toml and whatever other
NAME.* files it needs. The commands of the page run in a folder with copies of
them. To "nyx run" and "nyx failover" is added by --set what starts the guest
of the tests, and where its consoles are.

The page with what was really said is left in the folder of the test's logs.
"""

import os
import shlex
import shutil
import signal
import subprocess

from .nyxrun import Guest, RunCase
from .paths import BUILD, GUEST_BUILD
from .recipefollow import COMMAND_SECONDS, RECIPES, Follower
from .recipepage import Page
from .vm import trouble_in

FOLDER = '/srv/vm'              # where the manual has specs and disks
RUN_DIR = '/run/nyx'
STATE_DIR = '/var/lib/nyx'
READY_SECONDS = 400             # with UEFI, on a busy machine
STARTS = 'run', 'failover', 'failback'

WRAPPER = '''#!/bin/bash
case $1 in
{starts}) exec {nyx} "$@" {changes} --set \\
    "console={{type = 'file', path = '{consoles}/$$.console'}}" ;;
*) exec {nyx} "$@" ;;
esac
'''


class RecipeCase(Follower, RunCase):
    """A class for each recipe; its test calls follow() for each section.

    A test may do more between sections, with guest() and what RunCase has.
    """

    recipe = None           # name of the page and its files
    modules = ()            # of the guest's kernel
    append = ''             # to its command line
    changes = ()            # further words for nyx run
    own_network = False     # the host's commands run in a namespace; as root

    def setUp(self):
        super().setUp()
        self.page = Page(RECIPES / f'{self.recipe}.rst')
        for path in (RECIPES / 'qmp', *RECIPES.glob(f'{self.recipe}.*')):
            shutil.copy(path, self.folder)
        self._guests = {}
        self._groups = []
        self._shell = ['bash', '-o', 'pipefail', '-c']
        if self.own_network:
            self._shell = [*self._make_network(), *self._shell]
        self._bin = self.folder / '.bin'
        self._bin.mkdir()
        self._write_wrapper()
        self._link_programs()
        self._environment |= {
            'PATH': f'{self._bin}:{os.environ["PATH"]}:/usr/sbin:/sbin',
            'COLUMNS': '200', 'TZ': 'UTC', 'NO_COLOR': '1', 'LC_ALL': 'C'}
        self.addCleanup(self._clean_up)

    def _link_programs(self):
        """What the pages use, and need not be installed."""
        busybox = GUEST_BUILD / 'busybox' / 'bin' / 'busybox'
        for name in ('qemu-img', 'qemu-nbd', 'qemu-io'):
            if (BUILD / name).exists():
                (self._bin / name).symlink_to(BUILD / name)
        # All the same, as what they print is compared.
        (self._bin / 'ping').symlink_to(busybox)

    def _make_network(self):
        """A network of the test's own; words before a command in it."""
        name = f'nyx-test-{os.getpid()}'
        if os.geteuid() != 0 or not shutil.which('ip') or \
                not os.path.exists('/dev/net/tun'):
            self.skipTest('it needs root, ip and /dev/net/tun')
        done = subprocess.run(['ip', 'netns', 'add', name], check=False,
                              capture_output=True, text=True)
        if done.returncode:
            self.skipTest('there can be no network namespaces here: '
                          f'{done.stderr.strip()}')
        self.addCleanup(subprocess.run, ['ip', 'netns', 'del', name],
                        check=False)
        # "ip netns exec" would hide what the page's own "ip netns" makes.
        return ['nsenter', f'--net=/run/netns/{name}']

    def _write_wrapper(self):
        """nyx, as one who has installed it has it."""
        changes = self.guest_changes('guest', self.modules, self.append)
        # Each VM, and each time it runs, has a console of its own.
        at = [word.startswith('console=') for word in changes].index(True)
        del changes[at - 1:at + 1]
        path = self._bin / 'nyx'
        path.write_text(WRAPPER.format(
            starts='|'.join(STARTS), nyx=shlex.join(self.words()),
            consoles=self.folder,
            changes=shlex.join([*changes, *map(str, self.changes)])))
        path.chmod(0o755)

    def _clean_up(self):
        page = self.folder / f'{self.recipe}.rst'
        page.write_text(self.page.rewritten())
        for folder in self.run_dir.iterdir():
            if (folder / 'qmp.sock').exists() and \
                    self.nyx('stop', folder.name, '--now').returncode:
                os.kill(int((folder / 'qemu.pid').read_text()),
                        signal.SIGKILL)
        for group in self._groups:
            try:
                os.killpg(group, signal.SIGKILL)
            except ProcessLookupError:
                pass

    # What commands are run with

    def _real(self, text):
        return text.replace(RUN_DIR, str(self.run_dir)) \
            .replace(STATE_DIR, self._environment['NYX_STATE_DIR']) \
            .replace(FOLDER, str(self.folder))

    def _printed(self, text):
        return text.replace(self._environment['NYX_STATE_DIR'], STATE_DIR) \
            .replace(str(self.folder), FOLDER) \
            .replace(str(self.run_dir), RUN_DIR)

    def on_host(self, text, seconds=COMMAND_SECONDS):
        """Status and output of shell text on the host."""
        path = self.folder / 'said'
        with path.open('w') as said:
            process = subprocess.Popen(
                [*self._shell, self._real(text)], env=self._environment,
                cwd=self.folder, stdin=subprocess.DEVNULL, stdout=said,
                stderr=said, start_new_session=True)
            self._groups.append(process.pid)
            try:
                status = process.wait(seconds)
            except subprocess.TimeoutExpired:
                self.fail(f'"{text}" has not ended within {seconds} s: '
                          f'{path.read_text()}')
        self._connect()
        return status, self._printed(path.read_text(errors='replace'))

    def _connect(self):
        """To the guests of VMs that are new: nothing they say is lost."""
        for path in self.run_dir.glob('*/agent.sock'):
            made = path.stat().st_ctime_ns      # inodes are used again
            known = self._guests.get(path.parent.name)
            if known is not None and known.made == made:
                continue
            try:
                guest = RecipeGuest(self, path.parent.name, path.parent)
            except ConnectionRefusedError:
                continue            # of a VM that did not start
            guest.made = made
            self._guests[path.parent.name] = guest

    def guest(self, name=None):
        """The guest of a VM, ready for commands."""
        name = name or self.recipe
        self.assertIn(name, self._guests, f'no VM {name} has been started')
        self._guests[name].settle()
        return self._guests[name]

    def in_guest(self, text, name):
        result = self.guest(name).agent.run(text, COMMAND_SECONDS)
        return result.status, result.output

    # What most recipes ask for in the end

    def device(self, name, guest=None):
        return self.guest(guest).qmp('query-nyx-devices', device=name)[0]

    def trouble(self, allowed=()):
        """Lines of all guests' kernels that tell of trouble."""
        lines = [line for path in self.folder.glob('*.console')
                 for line in trouble_in(path.read_text(errors='replace'),
                                        allowed)]
        return [line for line in lines
                if not any(text in line for text in allowed)]

    def assert_no_trouble(self, *allowed):
        """The guests' kernels, but for these texts, reported none.

        Linux's e1000e says by itself that it disables a device that its error
        handler has disabled, when the card goes after it was cut off.
        """
        self.assertNotEqual(list(self.folder.glob('*.console')), [])
        self.assertEqual(self.trouble((*allowed, 'already-disabled device')),
                         [])


class RecipeGuest(Guest):
    """A guest that a command of the page has started."""

    made = None             # when its socket was
    _settled = False

    def settle(self):
        """Wait until it takes commands: it boots, or comes from elsewhere."""
        if self._settled:
            return
        if {'-incoming', '-loadvm'} & set(self.about['command']):
            self.agent.check('true', READY_SECONDS)
        else:
            # A command that came earlier would be garbage to it.
            self.agent.wait_ready(READY_SECONDS)
        self._settled = True
