# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""The tables of the manual: all keys of a spec, and components of the log."""

from .loglevels import COMPONENTS, LEVELS
from .schema import SECTIONS, TOP
from .values import Size, shown, size_text


def default_text(key):
    """What holds when a key is left out."""
    if key.required:
        return 'required'
    if key.default_text:
        return key.default_text
    if isinstance(key.type, Size) and key.default:
        return f'"{size_text(key.default)}"'
    if isinstance(key.default, tuple):
        return '[]'
    return 'none' if key.default is None else shown(key.default)


def _condition(key):
    if not key.when:
        return ''
    name, values = key.when
    return f' With {name} ' + ' or '.join(shown(v) for v in values) + '.'


def rows(section):
    """(key, values, default, meaning) of each key."""
    return [(key.name, key.type.text, default_text(key),
             key.help + _condition(key)) for key in section.keys]


def _table(titles, lines, widths):
    """A list-table of reStructuredText."""
    text = ['.. list-table::', '   :header-rows: 1',
            f'   :widths: {" ".join(str(width) for width in widths)}', '']
    for line in (titles, *lines):
        text += [f'   {"*" if number == 0 else " "} - {cell}'
                 for number, cell in enumerate(line)]
    return [*text, '']


def _plain(text):
    """Text without what would be markup; code in ``...`` stays."""
    parts = text.split('``')
    parts[::2] = [part.replace('*', '\\*') for part in parts[::2]]
    return '``'.join(parts)


def _section(section):
    title = section.header if section.name else 'Top'
    text = [title, '~' * len(title), '', section.help]
    if section.shorthand:
        text[-1] += f' ``{section.name} = ...`` alone sets ' \
            f'``{section.shorthand}``.'
    lines = [(f'``{name}``', *(_plain(cell) for cell in cells))
             for name, *cells in rows(section)]
    return [*text, '', *_table(('key', 'values', 'default', 'meaning'), lines,
                               (18, 24, 18, 40))]


def reference():
    """All sections, as reStructuredText."""
    text = []
    for section in (TOP, *SECTIONS):
        text += _section(section)
    return '\n'.join(text)


def components():
    """The components of the log, as reStructuredText."""
    lines = []
    for name, component in COMPONENTS.items():
        told = [level for level in LEVELS[1:]
                if getattr(component, level) or component.masks.get(level)]
        lines.append((f'``{name}``', component.help, ', '.join(told)))
    return '\n'.join(_table(('component', 'what of', 'levels with events'),
                            lines, (15, 50, 35)))
