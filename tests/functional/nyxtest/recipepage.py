# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""The commands of a page of the manual, and what they print.

They are in blocks `.. code-block:: console`. A line that begins with "$ " or
"# " is a command on the host, one with "/ # " a command in the guest; it goes
on after a backslash at its end, or in lines that begin with "> ". What follows
up to the next command is its output. A comment `.. recipe: WORDS` before a
block says what is special about it:

    fails           its last command ends with another status than 0
    retry           commands are repeated until they do what the page says
    not run         it is for reading only
    guest NAME      which VM it is about, if not the one of the spec
"""

import re
from dataclasses import dataclass, field

PROMPTS = {'$ ': False, '# ': False, '/ # ': True}      # -> in the guest?
BLOCK = '.. code-block:: console'
WORDS = '.. recipe: '


@dataclass
class Command:
    """One command; said is what came of it, once it has been run."""
    line: int               # of the page
    section: str
    text: str
    in_guest: bool
    guest: str = None       # name of the VM; None: that of the spec
    fails: bool = False
    retry: bool = False
    output: list = field(default_factory=list)
    said: list = None
    first_output: int = 0   # line of the page


class PageError(Exception):
    """A page that cannot be run."""


def _title(lines, number):
    """Whether this line is the title of a section."""
    below = lines[number + 1] if number + 1 < len(lines) else ''
    return bool(lines[number].strip()) and len(below) > 2 and \
        re.fullmatch(r'(-+|=+|~+)', below) is not None


def _block(lines, start):
    """Number of the first line, and of the line after the last, of a block
    that follows its directive.
    """
    first = start
    while first < len(lines) and (not lines[first].strip() or
                                  lines[first].strip().startswith(':')):
        first += 1
    last = end = first
    while last < len(lines) and (lines[last].startswith('   ') or
                                 not lines[last].strip()):
        last += 1
        if lines[last - 1].strip():
            end = last
    return first, end


def _prompt(text):
    for prompt, in_guest in PROMPTS.items():
        if text.startswith(prompt):
            return prompt, in_guest
    return None, None


def _options(words):
    """What the comment before a block says."""
    if not words:
        return {}
    if words in ('fails', 'retry', 'not run'):
        return {words: True}
    if words.startswith('guest '):
        return {'guest': words.split()[1]}
    raise PageError(f'"{WORDS}{words}" is unknown')


class Page:
    """A page as a list of commands, and with what they really said."""

    def __init__(self, path):
        self.path = path
        self._lines = path.read_text().splitlines()
        self.commands = []
        self._parse()

    def _parse(self):
        section, options, number = '', {}, 0
        while number < len(self._lines):
            line = self._lines[number]
            if _title(self._lines, number):
                section = line
            elif line.startswith(WORDS):
                options |= _options(line.removeprefix(WORDS))
            elif line == BLOCK:
                first, end = _block(self._lines, number + 1)
                if not options.pop('not run', False):
                    self._add(first, end, section, options)
                options, number = {}, end
                continue
            number += 1

    def _add(self, first, end, section, options):
        """The commands of a block."""
        added, goes_on = [], False
        for number in range(first, end):
            text = self._lines[number][3:]
            prompt, in_guest = _prompt(text)
            if goes_on or (added and text.startswith('> ')
                           and not added[-1].output):
                added[-1].text += '\n' + text.removeprefix('> ')
                added[-1].first_output = number + 1
            elif prompt:
                added.append(Command(number + 1, section,
                                     text.removeprefix(prompt), in_guest,
                                     options.get('guest'),
                                     first_output=number + 1))
            elif not added:
                if text.strip():
                    raise PageError(f'{self.path.name}:{number + 1}: output '
                                    'without a command')
                continue
            else:
                added[-1].output.append(text.rstrip())
            goes_on = bool(added) and added[-1].text.endswith('\\') and \
                not added[-1].output
        for command in added:
            while command.output and not command.output[-1]:
                command.output.pop()
            command.retry = options.get('retry', False)
        if added:
            added[-1].fails = options.get('fails', False)
        self.commands += added

    def sections(self):
        """Titles of those that have commands, in their order."""
        return list(dict.fromkeys(c.section for c in self.commands))

    def rewritten(self):
        """The page with what its commands really said."""
        lines = list(self._lines)
        for command in reversed(self.commands):
            if command.said is None:
                continue
            start = command.first_output
            said = [('   ' + line).rstrip() for line in command.said]
            lines[start:start + len(command.output)] = said
        return '\n'.join(lines) + '\n'
