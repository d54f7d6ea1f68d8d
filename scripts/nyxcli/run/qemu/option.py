# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""Options as QEMU's command line has them."""


def value_text(value):
    """One value; a comma within would end it, and is doubled."""
    if isinstance(value, bool):
        return 'on' if value else 'off'
    return str(value).replace(',', ',,')


def option(first, properties):
    """"first,key=value,..."; properties that are None are left out."""
    words = [] if first is None else [first]
    words += [f'{name}={value_text(value)}'
              for name, value in properties.items() if value is not None]
    return ','.join(words)
