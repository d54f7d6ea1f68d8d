# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""Read a spec and check it against the schema."""

import tomllib
from pathlib import Path

from ..errors import NyxError
from . import changes as changing
from . import cross
from .hint import did_you_mean
from .position import Positions
from .schema import BY_NAME, SECTIONS, TOP
from .values import File, Invalid, shown

MAX_SHOWN = 10


class Problems:
    """What is wrong with a spec, each with its line.

    origins: what of it comes from elsewhere, and from where.
    """

    def __init__(self, path, positions, origins):
        self._path = path
        self._positions = positions
        self._origins = origins
        self._found = []

    def _origin(self, where):
        """What has changed a key or one of its tables, or None."""
        for size in range(len(where), 0, -1):
            if where[:size] in self._origins:
                return self._origins[where[:size]]
        return None

    def is_changed(self, where):
        """Whether a value does not come from the file."""
        return self._origin(where) is not None

    def add(self, where, text):
        """where: names and numbers that lead to a key in the file."""
        where = tuple(where)
        origin = self._origin(where)
        if origin:
            self._found.append((0, origin, text))
            return
        line = self._positions.line(where)
        self._found.append((line, f'{self._path}:{line}', text))

    def end(self):
        """NyxError with all that was found, if anything was."""
        if not self._found:
            return
        self._found.sort()
        lines = [f'{place}: {text}{"" if text[-1] == "?" else "."}'
                 for _, place, text in self._found[:MAX_SHOWN]]
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


def load(path, changes=()):
    """Read a file; NyxError names each line with an error.

    changes: texts "KEY=VALUE" that go before what the file says.
    """
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
    _expand_shorthands(data)
    origins = changing.apply(data, changes, {
        section.name: section.shorthand for section in SECTIONS
        if section.shorthand})
    problems = Problems(path, Positions(text), origins)
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


def _expand_shorthands(data):
    """memory = "4G" becomes memory.size = "4G"."""
    for section in SECTIONS:
        value = data.get(section.name)
        if section.shorthand and value is not None and \
                not isinstance(value, dict):
            data[section.name] = {section.shorthand: value}


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
        problems.add((section.name,), f'{section.name} is a table; write '
                     f'{section.header} and its keys below')
        value = {}
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
        start = Path.cwd() if problems.is_changed((*where, key.name)) \
            else folder
        value = str(start / Path(value).expanduser())
    return value


def _check_when(section, key, values, where, problems):
    name, wanted = key.when
    if not key.applies(values):
        text = ' or '.join(shown(item) for item in wanted)
        problems.add((*where, key.name), f'{key.name} goes only with {name} = '
                     f'{text}, not with {shown(values[name])}, in '
                     f'{section.header}')
