# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""Errors that end a command with one sentence."""


class NyxError(Exception):
    """What is wrong, and what to do about it."""


class Gone(NyxError):
    """The VM has ended, or its monitor was closed."""


class Refused(NyxError):
    """QEMU refused a command: error_class and description are its own."""

    def __init__(self, name, command, error_class, description):
        self.command = command
        self.error_class = error_class
        self.description = description
        text = f'{name} refused {command}: {description}'
        if error_class == 'CommandNotFound':
            text = f'the QEMU of {name} does not know {command}; it is not ' \
                   'the one that came with this tool'
        super().__init__(text if text.endswith('.') else text + '.')
