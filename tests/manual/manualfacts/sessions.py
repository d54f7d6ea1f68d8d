# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""Commands that pages show: options, properties and arguments that exist."""

import re

from .program import MACHINE

MACHINE_OPTIONS = re.compile(r'-M(?:achine)? nyx-pc,([^\s\'`"\\]+)')
DOMAIN_OPTIONS = re.compile(r'-object nyx-domain,([^\s\'`"\\\]]+)')
QMP_SHELL = re.compile(r'\(QEMU\) ([a-z_-]+)((?: +[a-z0-9-]+=[^ ]+)*)')
# What QEMU takes as an option of the machine without a property of that name,
# and words that stand for any.
NO_PROPERTIES = {'help', 'kernel-irqchip', 'option', 'property'}
ARGUMENT = re.compile(r' ([a-z0-9-]+)=')


def _keys(options):
    """Names in a comma-separated list; the rest of a list that breaks off."""
    words = [word.split('=')[0] for word in options.split(',')]
    return [word for word in words if re.fullmatch(r'[a-z][a-z0-9.-]*', word)]


def _lines(pages):
    for page in pages.values():
        for number, line in enumerate(page.lines, 1):
            yield f'{page.name}:{number}', line


def machine_options(pages, program, _schema):
    real = program.properties(MACHINE)
    return [f'{place} sets the machine option "{key}", which there is not'
            for place, line in _lines(pages)
            for options in MACHINE_OPTIONS.findall(line)
            for key in _keys(options)
            if key not in real | NO_PROPERTIES and
            not key.startswith('stage1.')]


def domain_properties(pages, program, _schema):
    real = program.properties('nyx-domain') | NO_PROPERTIES | {'id'}
    return [f'{place} sets "{key}" of a nyx-domain, which it has not'
            for place, line in _lines(pages)
            for options in DOMAIN_OPTIONS.findall(line)
            for key in _keys(options) if key not in real]


def qmp_commands(pages, _program, schema):
    real = schema.commands()
    problems = []
    for place, line in _lines(pages):
        for command, rest in QMP_SHELL.findall(line):
            if command not in real:
                problems.append(f'{place} has the QMP command "{command}", '
                                'which there is not')
                continue
            if command in ('device_add', 'object-add'):
                continue        # arguments are properties
            problems += [f'{place}: {command} has no argument "{name}"'
                         for name in ARGUMENT.findall(rest)
                         if name not in real[command]]
    return problems


CHECKS = machine_options, domain_properties, qmp_commands
