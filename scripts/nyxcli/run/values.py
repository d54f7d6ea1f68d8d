# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""Types of the values in a spec: what is accepted, and what it becomes.

Each has a text for the manual, and parse(), which raises Invalid with the
words that follow "KEY is ...".
"""

import re
from dataclasses import dataclass

from .hint import did_you_mean

UNITS = {'': 1, 'K': 1 << 10, 'M': 1 << 20, 'G': 1 << 30, 'T': 1 << 40}
SIZE = re.compile(r'(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?', re.IGNORECASE)
CPU_LIST = re.compile(r'\d+(-\d+)?(,\d+(-\d+)?)*')
MAX_CPU = 4095


class Invalid(ValueError):
    """Why a value is none of its type."""


def shown(value):
    """A value as it stands in TOML."""
    if isinstance(value, bool):
        return 'true' if value else 'false'
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, list):
        return '[' + ', '.join(shown(item) for item in value) + ']'
    if isinstance(value, dict):
        return 'a table'
    return str(value)


@dataclass(frozen=True)
class Bool:
    text = 'true, false'

    def parse(self, value):
        if not isinstance(value, bool):
            raise Invalid(f'{shown(value)}, but true or false is wanted')
        return value


@dataclass(frozen=True)
class Whole:
    """A whole number within inclusive bounds."""

    first: int
    last: int

    @property
    def text(self):
        return f'{self.first} to {self.last}'

    def parse(self, value):
        if isinstance(value, bool) or not isinstance(value, int) or \
                not self.first <= value <= self.last:
            raise Invalid(f'{shown(value)}, but a whole number from '
                          f'{self.first} to {self.last} is wanted')
        return value


@dataclass(frozen=True)
class Size:
    """Bytes, as a number or as text with a unit; becomes a number."""

    multiple: int = 1
    first: int = 1
    text = 'size: "512M", "4G", or bytes'

    def parse(self, value):
        match = SIZE.fullmatch(value.strip()) if isinstance(value, str) \
            else None
        if match:
            size = float(match.group(1)) * UNITS[match.group(2).upper()]
        elif isinstance(value, int) and not isinstance(value, bool):
            size = value
        else:
            raise Invalid(f'{shown(value)}, but a size such as "512M" or "4G" '
                          'is wanted')
        if size != int(size) or size < self.first or \
                int(size) % self.multiple:
            raise Invalid(f'{shown(value)}, but a multiple of '
                          f'{size_text(self.multiple)}, and at least '
                          f'{size_text(self.first)}, is wanted')
        return int(size)


def size_text(size):
    """The shortest way to write a size exactly: 512M, 1536K, 100."""
    for unit in 'TGMK':
        if size and size % UNITS[unit] == 0:
            return f'{size // UNITS[unit]}{unit}'
    return f'{size}'


@dataclass(frozen=True)
class Choice:
    names: tuple

    @property
    def text(self):
        return ', '.join(f'"{name}"' for name in self.names)

    def parse(self, value):
        if value not in self.names or not isinstance(value, str):
            hint = did_you_mean(value, self.names)
            raise Invalid(f'{shown(value)}, which is none of {self.text}'
                          f'{hint}')
        return value


@dataclass(frozen=True)
class Text:
    """Text without control characters that matches a pattern as a whole."""

    pattern: str = '.+'
    wanted: str = 'text'

    @property
    def text(self):
        return self.wanted

    def parse(self, value):
        if not isinstance(value, str) or \
                not re.fullmatch(self.pattern, value) or \
                any(ord(char) < 32 for char in value):
            raise Invalid(f'{shown(value)}, but {self.wanted} is wanted')
        return value


def Ident():
    """The name of a device, as QEMU and libvirt take it."""
    return Text(r'[A-Za-z][A-Za-z0-9_.-]{0,30}',
                'a name of letters, digits, "-", "_" and "."')


@dataclass(frozen=True)
class File:
    """A path; a relative one is below the folder of the spec.

    It becomes absolute in spec.py, which knows the folder.
    """

    text = 'path'

    def parse(self, value):
        return Text(wanted='a path').parse(value)


@dataclass(frozen=True)
class Ref:
    """The id of an entry of another section; looked up in spec.py."""

    section: str

    @property
    def text(self):
        return f'id of a [[{self.section}]]'

    def parse(self, value):
        return Text(wanted=self.text).parse(value)


@dataclass(frozen=True)
class Cpus:
    """CPUs as taskset(1) writes them; becomes a sorted list."""

    what: str = 'host CPUs'

    @property
    def text(self):
        return f'{self.what}: "3", "0-3,8"'

    def parse(self, value):
        if isinstance(value, int) and not isinstance(value, bool):
            value = str(value)
        if not isinstance(value, str) or not CPU_LIST.fullmatch(value):
            raise Invalid(f'{shown(value)}, but {self.what} such as "0-3,8" '
                          'are wanted')
        cpus = set()
        for part in value.split(','):
            first, _, last = part.partition('-')
            first, last = int(first), int(last or first)
            if first > last or last > MAX_CPU:
                raise Invalid(f'{shown(value)}, but "{part}" is no range of '
                              'CPUs')
            cpus.update(range(first, last + 1))
        return sorted(cpus)


def cpus_text(cpus):
    """[0, 1, 2, 5] as "0-2,5"."""
    parts = []
    for cpu in cpus:
        if parts and parts[-1][1] == cpu - 1:
            parts[-1][1] = cpu
        else:
            parts.append([cpu, cpu])
    return ','.join(str(first) if first == last else f'{first}-{last}'
                    for first, last in parts)


@dataclass(frozen=True)
class Many:
    """A list, each item of one type."""

    item: object
    least: int = 0

    @property
    def text(self):
        return f'list of: {self.item.text}'

    def parse(self, value):
        if not isinstance(value, list) or len(value) < self.least:
            raise Invalid(f'{shown(value)}, but a list is wanted')
        return [self.item.parse(item) for item in value]


@dataclass(frozen=True)
class Properties:
    """A table of properties of QEMU, handed on as they are."""

    text = 'table of properties'

    def parse(self, value):
        if not isinstance(value, dict) or not all(
                isinstance(item, (str, int, bool)) for item in value.values()):
            raise Invalid(f'{shown(value)}, but a table of texts, whole '
                          'numbers, true and false is wanted')
        return dict(value)


@dataclass(frozen=True)
class Levels:
    """A table: some of the names, each with one of the levels."""

    names: tuple
    levels: tuple

    @property
    def text(self):
        return 'table: component = level'

    def parse(self, value):
        if not isinstance(value, dict):
            raise Invalid(f'{shown(value)}, but a table such as '
                          f'{{ {self.names[0]} = "debug" }} is wanted')
        for name, level in value.items():
            if name not in self.names:
                raise Invalid(f'a table with "{name}", which is none of '
                              f'{", ".join(self.names)}'
                              f'{did_you_mean(name, self.names)}')
            try:
                Choice(self.levels).parse(level)
            except Invalid as err:
                raise Invalid(f'a table whose {name} is {err}') from err
        return dict(value)


@dataclass(frozen=True)
class Records:
    """A list of tables, or one table, that have keys of their own."""

    keys: tuple

    @property
    def text(self):
        return 'list of tables: ' + ', '.join(key.name for key in self.keys)

    def parse(self, value):
        if isinstance(value, dict):
            value = [value]
        if not isinstance(value, list) or \
                not all(isinstance(item, dict) for item in value):
            raise Invalid(f'{shown(value)}, but a list of tables is wanted')
        return [self._record(item) for item in value]

    def _record(self, item):
        names = [key.name for key in self.keys]
        for name in item:
            if name not in names:
                raise Invalid(f'a table with "{name}", which is none of '
                              f'{", ".join(names)}{did_you_mean(name, names)}')
        result = {}
        for key in self.keys:
            if key.name in item:
                try:
                    result[key.name] = key.type.parse(item[key.name])
                except Invalid as err:
                    raise Invalid(f'a table whose {key.name} is {err}') \
                        from err
            elif key.required:
                raise Invalid(f'a table without {key.name}')
            else:
                result[key.name] = key.default
        return result
