# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""Compare what a command said with what the manual says that it does.

A line "..." of the manual stands for any number of lines. Other lines are
the same but for blanks, times, sizes, sums and numbers; a number that is 0 in
one is 0 in both.
"""

import re

ELLIPSIS = '...'
HASH = re.compile(r'\b[0-9a-fA-F]{32,}\b')
SIZE = re.compile(r'\b\d+(\.\d+)? ([KMGT]i?)?B\b')
TIME = re.compile(r'\b\d+(\.\d+)? ?(ns|us|ms|s)\b')
ADDRESS = re.compile(r'\b[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]\b')
MAC = re.compile(r'\b[0-9a-f]{2}(:[0-9a-f]{2}){5}\b')
CLOCK = re.compile(r'\b(\d{4}-\d\d-\d\d[T ])?\d\d:\d\d:\d\d'
                   r'(\.\d+)?(\+\d\d:\d\d)?\b')
HEX = re.compile(r'0x[0-9a-f]+')
NUMBER = re.compile(r'\d+(\.\d+)?')
RULE = re.compile(r'[-=]{3,}')


def _number(match):
    text = match.group()
    if '.' in text:
        return 'D'
    return 'N' if int(text) else '0'


def _loose(line):
    """The line without what differs from run to run."""
    for pattern, short in ((HASH, 'HASH'), (SIZE, 'SIZE'), (TIME, 'TIME'),
                           (MAC, 'MAC'), (CLOCK, 'CLOCK'), (RULE, 'RULE')):
        line = pattern.sub(short, line)
    kept = ADDRESS.findall(line)            # they are not what differs
    line = HEX.sub('HEX', ADDRESS.sub('ADDRESS', line))
    line = NUMBER.sub(_number, line)
    return ' '.join(line.split()), kept


def same_line(expected, said):
    return ' '.join(expected.split()) == ' '.join(said.split()) or \
        _loose(expected) == _loose(said)


def matches(expected, said):
    """Whether the lines said are those that the manual expects."""
    if not expected:
        return not said
    if expected[0] == ELLIPSIS:
        return any(matches(expected[1:], said[start:])
                   for start in range(len(said) + 1))
    return bool(said) and same_line(expected[0], said[0]) and \
        matches(expected[1:], said[1:])


def difference(expected, said):
    """Both, for the reader of a failure."""
    return '\n'.join(['the manual says:', *(f'  {x}' for x in expected),
                      'it said:', *(f'  {x}' for x in said)])
