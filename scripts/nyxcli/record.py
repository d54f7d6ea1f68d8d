# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""What was before a change, so that it can be undone; gone after a reboot.

So is what it describes: sysfs does not survive a reboot either.
"""

import json

from .errors import NyxError

FOLDER = '/run/nyx/host'


class Record:
    """One small file for each PCI function; none is written in a dry run."""

    def __init__(self, kernel):
        self._kernel = kernel
        self._folder = kernel.path(FOLDER)

    def _file(self, address):
        return self._folder / f'{address}.json'

    def get(self, address):
        """What was put last, or {}."""
        try:
            data = json.loads(self._file(address).read_text(encoding='utf-8'))
        except (OSError, ValueError):
            return {}
        return data if isinstance(data, dict) else {}

    def put(self, address, **values):
        """Add to what is known of a function; None takes a value out."""
        if self._kernel.dry_run:
            return
        data = {**self.get(address), **values}
        data = {key: value for key, value in data.items() if value is not None}
        try:
            if not data:
                self._file(address).unlink(missing_ok=True)
                return
            self._folder.mkdir(parents=True, exist_ok=True)
            new = self._file(address).with_suffix('.new')
            new.write_text(json.dumps(data), encoding='utf-8')
            new.rename(self._file(address))
        except OSError as err:
            raise NyxError(f'{self._folder} cannot be written '
                           f'({err.strerror.lower()}); run the command as '
                           'root.') from err
