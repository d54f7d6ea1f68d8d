# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""The VM as a shell script, for nyx run --print."""

import shlex

from .afterwards import describe
from .qemu import command
from .steps import steps


def _folded(words):
    """A command with one option and its value on each line."""
    lines = [shlex.quote(words[0])]
    for word in words[1:]:
        if word.startswith('-') and len(word) > 1:
            lines.append(shlex.quote(word))
        else:
            lines[-1] += f' {shlex.quote(word)}'
    return ' \\\n    '.join(lines)


def script(spec, host):
    """All that nyx run would do, as text."""
    lines = [step.shell() for step in steps(spec, host)]
    lines.append(_folded(command(spec, host)))
    lines += [f'# {text}' for text in describe(spec)]
    return '\n'.join(lines)
