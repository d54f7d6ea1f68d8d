# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""Enumerations and transitions of the specification."""

import re

from . import compare, enums
from .pages import literals, tables
from .paths import ROOT

WHERE = 'specification.rst'
MACHINE = ROOT / 'hw' / 'iommu-nyx' / 'device-state.c'
ROW = re.compile(r'\[NYX_DEVICE_STATE_(\w+)\] = \{(.*?)\n    \}', re.S)
CELL = re.compile(r'\[NYX_EVENT_(\w+)\] = TO\((\w+)\)')


def _rows(pages, title):
    return next(tables(pages[WHERE].section(title)))


def enumerations(pages, _program, _schema):
    """Those of the schema's main files; other pages have those of others."""
    shown = {literals(row[0])[0]: literals(row[1])
             for row in _rows(pages, 'Enumerations')}
    real = enums.enums_of('nyx.json', 'nyx-types.json')
    problems = compare.names('enumeration', shown, real, WHERE)
    for name in sorted(shown.keys() & real.keys()):
        problems += compare.names(f'value of {name}', shown[name], real[name],
                                  WHERE)
    return problems


def transitions(pages, _program, _schema):
    shown = {f'{row[0]} {literals(row[3])[0]} {row[2]}'
             for row in _rows(pages, 'States')}
    real = {f'{old.lower()} {event} {new.lower()}'
            for old, cells in ROW.findall(MACHINE.read_text())
            for event, new in CELL.findall(cells)}
    return compare.names('transition', shown, real, WHERE)


CHECKS = enumerations, transitions
