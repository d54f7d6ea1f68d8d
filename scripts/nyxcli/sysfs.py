# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""What the kernel shows below /sys and /proc, and writes to it."""

import errno
import os
import shlex
from pathlib import Path

from .errors import NyxError


class Kernel:
    """Reads always; writes only if this is no dry run, which prints them.

    root stands for / in tests.
    """

    def __init__(self, root='/', dry_run=False):
        self.dry_run = dry_run
        self._root = Path(root)

    def path(self, name):
        return self._root / name.lstrip('/')

    def exists(self, name):
        return self.path(name).exists()

    def read(self, name):
        """Content without white space around it; None if there is none."""
        try:
            return self.path(name).read_text(encoding='utf-8').strip()
        except OSError:
            return None

    def lines(self, name):
        return (self.read(name) or '').splitlines()

    def entries(self, name):
        """Sorted names in a directory; none if it is not there."""
        try:
            return sorted(os.listdir(self.path(name)))
        except OSError:
            return []

    def link(self, name):
        """Last part of what a link points to; None if there is no link."""
        try:
            return os.path.basename(os.readlink(self.path(name)))
        except OSError:
            return None

    def resolve(self, name):
        """The real path, as the kernel names it, of a link or directory."""
        real = self.path(name).resolve()
        return '/' + str(real.relative_to(self._root.resolve()))

    def write(self, name, value):
        """Write one value to a file of the kernel; NyxError if it refuses."""
        if self.dry_run:
            print(f'echo {shlex.quote(value)} >{name}')
            return
        try:
            with self.path(name).open('w', encoding='ascii') as file:
                file.write(value + '\n')
        except OSError as err:
            raise NyxError(_refusal(name, value, err)) from err


def _refusal(name, value, err):
    text = f'the kernel refused "{value}" for {name} ({err.strerror.lower()})'
    if err.errno in (errno.EACCES, errno.EPERM):
        return f'{text}; run the command as root.'
    return f'{text}; see the end of "dmesg" for its reason.'
