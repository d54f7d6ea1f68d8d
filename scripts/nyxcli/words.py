# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""The command line as data, for the manual page and the completion."""

# pylint: disable=protected-access

import argparse
from dataclasses import dataclass


@dataclass(frozen=True)
class Command:
    """path: the words after nyx, () for nyx itself."""
    path: tuple
    parser: argparse.ArgumentParser
    help: str

    def _shown(self):
        return [action for action in self.parser._actions
                if action.help is not argparse.SUPPRESS
                and not isinstance(action, (argparse._HelpAction,
                                            argparse._SubParsersAction))]

    def options(self):
        return [action for action in self._shown() if action.option_strings]

    def arguments(self):
        return [action for action in self._shown()
                if not action.option_strings]

    def actions(self):
        """Its own subcommands: (name, help, parser)."""
        for action in self.parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                helps = {choice.dest: choice.help
                         for choice in action._choices_actions}
                return [(name, helps.get(name), parser)
                        for name, parser in action.choices.items()]
        return []


def commands(parser, path=(), text=''):
    """nyx itself, and all below it."""
    command = Command(path, parser, text)
    yield command
    for name, help_text, below in command.actions():
        yield from commands(below, (*path, name), help_text or '')
