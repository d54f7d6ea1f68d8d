# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""Sphinx: the tables of "nyx run", made from the code that checks specs.

    .. nyx-spec:: reference
    .. nyx-spec:: components
"""

from docutils.parsers.rst import Directive

from nyxcli.run import manual

PARTS = {'reference': manual.reference, 'components': manual.components}


class SpecDirective(Directive):
    """Inserts one of PARTS, with its titles, where it stands."""

    required_arguments = 1

    def run(self):
        part = PARTS.get(self.arguments[0])
        if part is None:
            raise self.error(f'nyx-spec has no part "{self.arguments[0]}".')
        self.state_machine.insert_input(part().splitlines(),
                                        'scripts/nyxcli/run/schema')
        return []


def setup(app):
    app.add_directive('nyx-spec', SpecDirective)
    return {'version': '1', 'parallel_read_safe': True}
