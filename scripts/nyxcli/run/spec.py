# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""Read a spec and check it against the schema."""

import tomllib
from pathlib import Path

from ..errors import NyxError
from . import cross
from .hint import did_you_mean
from .position import Positions
from .schema import BY_NAME, SECTIONS, TOP
from .values import File, Invalid, shown

MAX_SHOWN = 10


class Problems:
    """What is wrong with a spec, each with its line."""

    def __init__(self, path, positions):
        self._path = path
        self._positions = positions
        self._found = []

    def add(self, where, text):
        """where: names and numbers that lead to a key in the file."""
        self._found.append((self._positions.line(where), text))

    def end(self):
        """NyxError with all that was found, if anything was."""
        if not self._found:
            return
        self._found.sort()
        lines = [f'{self._path}:{line}: {text}.' if text[-1] != '?' else
                 f'{self._path}:{line}: {text}'
                 for line, text in self._found[:MAX_SHOWN]]
        if len(self._found) > MAX_SHOWN:
            lines.append(f'{self._path}: and {len(self._found) - MAX_SHOWN} '
                         'more.')
        raise NyxError('\n'.join(lines))


class Spec:
    """A checked spec: each section by its name, with all keys.

    spec['disk'] is a list of dicts, spec['cpus'] a dict, spec['name'] what
    the key at the top says. Keys that were left out have their default.
    """

    def __init__(self, path, values):
        self.path = path
        self._values = values

    def __getitem__(self, name):
        return self._values[name]

    def entries(self):
        """(section, number, entry) of all that is in lists, and has an id."""
        for section in SECTIONS:
            if section.many:
                for number, entry in enumerate(self._values[section.name]):
                    yield section, number, entry


def load(path):
    """Read a file; NyxError names each line with an error."""
    path = Path(path)
    try:
        text = path.read_bytes().decode()
    except OSError as err:
        raise NyxError(f'{path} cannot be read: {err.strerror.lower()}; name '
                       'the file that describes the VM.') from err
    except UnicodeDecodeError as err:
        raise NyxError(f'{path} is no text in UTF-8; save it as '
                       'such.') from err
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as err:
        raise NyxError(f'{path}: this is no TOML: {err}.') from err
    problems = Problems(path, Positions(text))
    values = _read_all(data, path.absolute().parent, problems)
    problems.end()
    spec = Spec(path, values)
    cross.check(spec, problems)
    problems.end()
    return spec


def _read_all(data, folder, problems):
    names = [*TOP.by_name, *BY_NAME]
    for name in data:
        if name not in names:
            problems.add((name,), f'unknown key "{name}"'
                         f'{did_you_mean(name, names) or _where_it_is(name)}')
    values = _read_table(TOP, {name: value for name, value in data.items()
                               if name in TOP.by_name}, (), folder, problems)
    for section in SECTIONS:
        values[section.name] = _read_section(
            section, data.get(section.name), folder, problems)
    return values


def _where_it_is(name):
    """For a key that belongs to a table, and stands outside of it."""
    homes = [section.header for section in SECTIONS if name in section.by_name]
    return f'; it is a key of {" and ".join(homes)}' if homes else ''


def _read_section(section, value, folder, problems):
    if section.many:
        if value is None:
            return []
        if not isinstance(value, list) or \
                not all(isinstance(item, dict) for item in value):
            problems.add((section.name,), f'{section.name} is a list of '
                         f'tables; write {section.header}')
            return []
        return [_read_table(section, item, (section.name, number), folder,
                            problems) for number, item in enumerate(value)]
    if value is not None and not isinstance(value, dict):
        if not section.shorthand:
            problems.add((section.name,), f'{section.name} is a table; write '
                         f'{section.header} and its keys below')
            value = {}
        else:
            value = {section.shorthand: value}
    return _read_table(section, value or {}, (section.name,), folder, problems)


def _read_table(section, table, where, folder, problems):
    for name in table:
        if name not in section.by_name:
            problems.add((*where, name), f'unknown key "{name}" in '
                         f'{section.header}'
                         f'{did_you_mean(name, section.by_name)}')
    values = {}
    for key in section.keys:
        values[key.name] = _read_key(section, key, table, where, folder,
                                     problems)
    for key in section.keys:
        if key.name in table and key.when:
            _check_when(section, key, values, where, problems)
    return values


def _read_key(section, key, table, where, folder, problems):
    if key.name not in table:
        if key.required:
            what = f'the key "{key.name}" is missing'
            problems.add(where, f'{what} in {section.header}' if where else
                         f'{what}; write it at the beginning')
        return key.default
    try:
        value = key.type.parse(table[key.name])
    except Invalid as err:
        problems.add((*where, key.name), f'{key.name} is {err}')
        return key.default
    if isinstance(key.type, File):
        value = str(folder / Path(value).expanduser())
    return value


def _check_when(section, key, values, where, problems):
    name, wanted = key.when
    if not key.applies(values):
        text = ' or '.join(shown(item) for item in wanted)
        problems.add((*where, key.name), f'{key.name} goes only with {name} = '
                     f'{text}, not with {shown(values[name])}, in '
                     f'{section.header}')
