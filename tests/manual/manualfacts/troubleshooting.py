# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""Messages that the manual explains, and those that the program has."""

from .messages import in_program, matches, messages, pieces
from .pages import shown_messages
from .paths import QEMU

WHERE = 'troubleshooting.rst'
PROGRAM_ONLY = 'qemu-system-x86_64: '


def every_message(pages, _program, _schema):
    """Each error and warning of our C source is explained somewhere."""
    shown = [text for text, _page, _line in shown_messages(pages)]
    return [f'no page explains "{message}" ({place}); add it to {WHERE}'
            for message, place in messages()
            if not any(matches(text, message) for text in shown)]


def no_other_message(pages, _program, _schema):
    """Each message in troubleshooting.rst is a text of the program."""
    program = QEMU.read_bytes()
    problems = []
    for text, page, line in shown_messages({WHERE: pages[WHERE]}):
        if not pieces(text):
            problems.append(f'{page}:{line} stands for any message: "{text}"')
        elif not in_program(program, text):
            problems.append(f'{page}:{line} has a message that the program '
                            f'does not have: "{text}"')
    return problems


CHECKS = (every_message, no_other_message)
