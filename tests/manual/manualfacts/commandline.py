# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""The commands of the nyx tool, and their options, as pages show them."""

import argparse
import re
import sys

from . import compare
from .pages import literals, tables
from .paths import ROOT

WHERE = 'quick-reference.rst'
SHOWN = re.compile(r'^(?: +[$#] | *``|   )(?:scripts/)?nyx ([a-z]+)\b(.*)')
# What follows a command that is misspelt on purpose
NO_SUCH = 'there is no command'
OPTION = re.compile(r'(?<=[ \[])--([a-z][a-z0-9-]*)')


def _commands():
    """{name: {option: ...}} of the tool itself."""
    sys.path.insert(0, str(ROOT / 'scripts'))
    sys.dont_write_bytecode = True
    from nyxcli.main import parser      # only where its packages are
    return {name: set(_options(sub)) for name, sub in
            _subparsers(parser()).items()}


def _subparsers(parser):
    for action in parser._actions:      # argparse has no other way
        if isinstance(action, argparse._SubParsersAction):
            return action.choices
    return {}


def _options(parser):
    for action in parser._actions:
        yield from action.option_strings
    for sub in _subparsers(parser).values():
        yield from _options(sub)


def commands(pages, _program, _schema):
    page = pages[WHERE]
    rows = [row for title in ('The nyx command', 'VMs', 'The host')
            for row in next(tables(page.section(title)))]
    shown = {words[0] for row in rows for text in literals(' '.join(row[:2]))
             for words in [text.removeprefix('nyx ').split()]}
    return [f'{WHERE} does not name the command "nyx {name}"; add it'
            for name in sorted(_commands().keys() - shown)]


def options(pages, _program, _schema):
    real = _commands()
    problems = []
    for page in pages.values():
        for number, line in enumerate(page.lines, 1):
            match = SHOWN.match(line)
            if not match or NO_SUCH in ' '.join(page.lines[number:number + 1]):
                continue
            place, name = f'{page.name}:{number}', match[1]
            if name not in real:
                problems += compare.names('command', [f'nyx {name}'], [],
                                          place)
                continue
            problems += [f'{place} gives "nyx {name}" the option --{option}, '
                         'which it has not'
                         for option in OPTION.findall(match[2].split('``')[0])
                         if f'--{option}' not in real[name]]
    return problems


CHECKS = commands, options
