# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""The tables of the quick reference, and what the program has of it."""

import fnmatch
import re

from . import compare, enums
from .pages import first_literals, literals, tables

WHERE = 'quick-reference.rst'
# The machine's property that is no option, but the IOMMU itself.
NO_OPTIONS = {'nyx-iommu'}


def _tables(pages, title):
    return list(tables(pages[WHERE].section(title)))


def _first_table(pages, title):
    return _tables(pages, title)[0]


def _defaults(rows):
    return {name: row[1] for row in rows for name in literals(row[0])}


def machine_options(pages, program, _schema):
    shown = _defaults(_first_table(pages, 'Machine options'))
    shown.pop('stage1.PROP', None)
    real = program.own_machine_options()
    for name in NO_OPTIONS:
        real.pop(name, None)
    return compare.names('machine option', shown, real, WHERE) + \
        compare.values('default of the machine option', shown, real, WHERE)


def domain_properties(pages, program, _schema):
    rows = _first_table(pages, 'Domains')
    shown = _defaults(rows)
    policy = [name for row in rows if row[0] == 'the policy'
              for name in literals(row[2])]
    real = program.domain_properties()
    return compare.names('property of nyx-domain', [*shown, *policy], real,
                         WHERE) + \
        compare.values('default of nyx-domain\'s', shown, real, WHERE)


def _members(text):
    """Names of arguments or members in a cell, without what is explained."""
    text = re.sub(r'\([^)]*\)', '', text.split('. ')[0])
    text = text.replace('and at least one of', ',').replace(' or ', ',')
    return set(re.findall(r'[a-z][a-z0-9-]*', text))


def _with_members(what, shown, real):
    problems = compare.names(what, shown, real, WHERE)
    for name in sorted(shown.keys() & real.keys()):
        if ':doc:' not in shown[name]:
            problems += compare.names(f'{name} member', _members(shown[name]),
                                      real[name], WHERE)
    return problems


def qmp_commands(pages, _program, schema):
    shown = _defaults(_first_table(pages, 'QMP commands'))
    return _with_members('QMP command', shown, schema.commands('nyx'))


def optional_arguments(pages, _program, schema):
    shown = _defaults(_first_table(pages, 'QMP commands'))
    problems = []
    for name, arguments in schema.commands('nyx').items():
        text = shown.get(name, ':doc:')
        if ':doc:' in text or ' or ' in text:
            continue
        brackets = set(re.findall(r'\[([a-z0-9-]+)\]', text))
        optional = {arg for arg, may in arguments.items() if may}
        problems += compare.names(f'optional argument of {name}', brackets,
                                  optional, WHERE)
    return problems


def qmp_events(pages, _program, schema):
    shown = _defaults(_first_table(pages, 'QMP events'))
    return _with_members('QMP event', shown, schema.events('NYX_'))


def fault_types(pages, _program, _schema):
    shown = first_literals(_first_table(pages, 'Fault types'))
    return compare.names('fault type', shown, enums.enum('NyxFaultType'),
                         WHERE)


def limit_actions(pages, _program, _schema):
    rows = [table for table in _tables(pages, 'Machine options')
            if '``quarantine``' in [row[0] for row in table]]
    shown = first_literals(rows[0]) if rows else []
    return compare.names('on-fault-limit', shown,
                         enums.enum('NyxLimitAction'), WHERE)


def statistics(pages, program, _schema):
    shown = _defaults(_first_table(pages, 'Statistics'))
    real = program.statistics()
    return compare.names('statistic', shown, real, WHERE) + \
        compare.values('type of the statistic', shown, real, WHERE)


def monitor_commands(pages, program, _schema):
    shown = [name.split(' [')[0] for name in
             first_literals(_first_table(pages, 'Human monitor'))]
    real = [words[0] + ' ' + words[1] if words[0] == 'info' else words[0]
            for help_of in ('help', 'help info')
            for words in map(str.split, program.monitor(help_of).splitlines())
            if words and 'nyx' in ' '.join(words[:2])]
    return compare.names('monitor command', shown, real, WHERE)


def trace_events(pages, program, _schema):
    shown = first_literals(_first_table(pages, 'Trace events'))
    patterns = [name.replace('...', '*') for name in shown]
    real = {name for name in program.trace_events()
            if not name.startswith('qmp_')}
    return [f'{WHERE} does not name the trace event "{name}"; add it'
            for name in sorted(real)
            if not any(fnmatch.fnmatch(name, p) for p in patterns)] + \
        [f'{WHERE} names the trace event "{shown}", which there is not'
         for shown, pattern in zip(shown, patterns)
         if not fnmatch.filter(real, pattern)]


CHECKS = (machine_options, domain_properties, qmp_commands,
          optional_arguments, qmp_events, fault_types, limit_actions,
          statistics, monitor_commands, trace_events)
