# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""Limits of the specification, and the constants of the source."""

import re

from .pages import literals, tables
from .paths import ROOT

WHERE = 'specification.rst'
DEFINE = re.compile(r'^#define +(\w+) +(.*?)(?: */\*.*)?$', re.M)
UNITS = {'': 1, 'KiB': 1 << 10, 'MiB': 1 << 20, 'GiB': 1 << 30}
ARITHMETIC = re.compile(r'[0-9xa-f<>()+*/ -]+')


def _constants():
    found = {}
    for folder in 'hw', 'include':
        for path in sorted((ROOT / folder).rglob('*.[ch]')):
            found.update(DEFINE.findall(path.read_text()))
    return found


def value_of(name, constants):
    """The number that a constant stands for; None if there is none."""
    text = re.sub(r'(?<=[0-9a-f])U?L{0,2}\b', '', constants.get(name, ''))
    text = re.sub(r'\b[A-Z]\w+', lambda m: str(value_of(m[0], constants)),
                  text)
    if not ARITHMETIC.fullmatch(text):
        return None
    return eval(text, {'__builtins__': {}})     # digits and operators only


def limits(pages, _program, _schema):
    constants = _constants()
    problems = []
    for row in next(tables(pages[WHERE].section('Limits'))):
        name = literals(row[2])[0]
        number, _, unit = row[1].partition(' ')
        real = value_of(name, constants)
        if real is None:
            problems.append(f'{WHERE} names {name}, which is no constant of '
                            'the source')
        elif int(number) * UNITS[unit] != real:
            problems.append(f'{WHERE} says {row[1]} for {name}, which is '
                            f'{real}')
    return problems


CHECKS = (limits,)
