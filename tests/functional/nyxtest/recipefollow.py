# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""Follow a page of the manual: run its commands, compare what they print.

With NYX_RECIPE_RECORD=1 differences from the page are no failures.
"""

import os
import time

from .paths import ROOT
from .recipeoutput import difference, matches

RECIPES = ROOT / 'docs' / 'nyx' / 'recipes'
COMMAND_SECONDS = 300
RETRY_SECONDS = 180
PAUSE_SECONDS = 0.3


class Follower:
    """Mixed into a test case that has a page, on_host() and in_guest()."""

    page = None

    def on_host(self, text):
        """Status and output of a command on the host."""
        raise NotImplementedError

    def in_guest(self, text, name):
        """The same in the guest of a VM; None: that of the recipe."""
        raise NotImplementedError

    def follow(self, *titles):
        """Run the sections with these titles; without any, the whole page."""
        for title in titles or self.page.sections():
            commands = [c for c in self.page.commands if c.section == title]
            self.assertTrue(commands, f'no section "{title}" has commands')
            for command in commands:
                self._run(command)

    def assert_followed(self):
        """Nothing of the page was left out."""
        left = [f'{c.line}: {c.text}' for c in self.page.commands
                if c.said is None]
        self.assertEqual(left, [], 'commands of the page that were not run')

    def _run(self, command):
        """Run it, again and again if the page says so; print it once."""
        began = time.monotonic()
        wrong = self._try(command)
        while wrong and command.retry and \
                time.monotonic() - began < RETRY_SECONDS:
            time.sleep(PAUSE_SECONDS)
            wrong = self._try(command)
        print(f'{command.line}: {command.text} '
              f'({time.monotonic() - began:.1f} s)',
              *command.said, '', sep='\n', flush=True)
        if wrong:
            self.fail(f'{self.page.path.name}:{command.line}: '
                      f'"{command.text}": {wrong}')

    def _try(self, command):
        """Run it once; what is wrong with what came of it."""
        if command.in_guest:
            status, text = self.in_guest(command.text, command.guest)
        else:
            status, text = self.on_host(command.text)
        command.said = [line.rstrip() for line in text.rstrip().splitlines()]
        if bool(status) != command.fails:
            return f'its status was {status}; it said: {text}'
        if os.environ.get('NYX_RECIPE_RECORD') and not command.retry:
            return None
        if not matches(command.output, command.said):
            return difference(command.output, command.said)
        return None
