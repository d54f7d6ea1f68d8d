# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""Sets and values of manual and program, as sentences where they differ."""


def names(what, shown, real, where):
    """Sentences on what only one side has."""
    missing = sorted(set(real) - set(shown))
    wrong = sorted(set(shown) - set(real))
    return [f'{where} does not name the {what} "{name}"; add it'
            for name in missing] + \
           [f'{where} names the {what} "{name}", which there is not'
            for name in wrong]


def _as_shown(value):
    """A value of QMP as tables have it."""
    if isinstance(value, bool):
        return 'on' if value else 'off'
    return str(value)


def values(what, shown, real, where):
    """Sentences on names that both have, with different values."""
    return [f'{where} says that the {what} "{name}" is "{shown[name]}", but '
            f'it is "{_as_shown(value)}"'
            for name, value in sorted(real.items())
            if name in shown and shown[name] != _as_shown(value)]
