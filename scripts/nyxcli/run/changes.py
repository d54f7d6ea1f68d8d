# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""Changes to a spec on the command line: --set memory=4G."""

import re
import tomllib

from ..errors import NyxError

PATH = re.compile(r'[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*')


def _value(text):
    """A value as TOML has it; what is none is a text without its quotes."""
    try:
        return tomllib.loads(f'x = {text}')['x']
    except tomllib.TOMLDecodeError:
        return text


def _step(table, name, wrong):
    """One level down, by a key or a number; makes missing tables."""
    if isinstance(table, list):
        if not name.isdecimal() or int(name) >= len(table):
            raise NyxError(f'{wrong}: the list has {len(table)} entries, '
                           'counted from 0; name one by its number.')
        return table[int(name)]
    if not isinstance(table, dict):
        raise NyxError(f'{wrong}: what stands before "{name}" is a plain '
                       'value, not a table.')
    return table.setdefault(name, {})


def apply(data, changes, shorthands):
    """Change data in place; returns path -> where it comes from.

    shorthands: section -> the key that its name alone stands for.

    Each change is "KEY=VALUE" or "SECTION.KEY=VALUE"; SECTION.NUMBER.KEY for
    an entry of a list.
    """
    origins = {}
    for change in changes:
        path, sign, text = change.partition('=')
        path = path.strip()
        wrong = f'--set {change}'
        if not sign or not PATH.fullmatch(path):
            raise NyxError(f'{wrong}: write KEY=VALUE, such as '
                           '"memory.size=4G".')
        *parents, last = path.split('.')
        value = _value(text.strip())
        if not parents and last in shorthands and not isinstance(value, dict):
            parents, last = [last], shorthands[last]
        table = data
        for name in parents:
            table = _step(table, name, wrong)
        if isinstance(table, list) and last.isdecimal() and \
                int(last) < len(table):
            table[int(last)] = value
        elif isinstance(table, dict):
            table[last] = value
        else:
            _step(table, last, wrong)
        origins[tuple(int(name) if name.isdecimal() else name
                      for name in path.split('.'))] = wrong
    return origins
