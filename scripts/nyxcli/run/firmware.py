# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""Find UEFI firmware by the descriptors that QEMU's packages install.

Their format is QEMU's docs/interop/firmware.json.
"""

import json
import os
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from ..errors import NyxError

FOLDERS = ('/usr/share/qemu/firmware', '/etc/qemu/firmware')
MACHINE = 'pc-q35-nyx-11.1'
SECURE = {'secure-boot', 'enrolled-keys', 'requires-smm'}


@dataclass(frozen=True)
class Firmware:
    """Files of flash; none of them for a BIOS."""

    code_flash: str = None
    template: str = None        # of vars, and its format is raw
    vars: str = None
    smm: bool = False

    @property
    def vars_format(self):
        return 'qcow2' if self.vars.endswith('.qcow2') else 'raw'


def _descriptors():
    """All descriptors in their order; a later folder replaces a file."""
    files = {}
    home = os.environ.get('XDG_CONFIG_HOME') or \
        Path('~/.config').expanduser()
    for folder in (*FOLDERS, Path(home) / 'qemu/firmware'):
        for path in Path(folder).glob('*.json'):
            files[path.name] = path
    for _, path in sorted(files.items()):
        try:
            yield json.loads(path.read_text())
        except (OSError, ValueError):
            continue            # an empty file switches one off


def _fits(about, secure):
    features = set(about.get('features', ()))
    mapping = about.get('mapping', {})
    return 'uefi' in about.get('interface-types', ()) and \
        mapping.get('device') == 'flash' and \
        mapping.get('nvram-template', {}).get('format') == 'raw' and \
        (SECURE <= features if secure else 'secure-boot' not in features) and \
        any(target.get('architecture') == 'x86_64' and
            any(fnmatchcase(MACHINE, pattern)
                for pattern in target.get('machines', ()))
            for target in about.get('targets', ())) and \
        Path(mapping['executable']['filename']).exists()


def find(spec, state):
    """The Firmware for a spec; state: directory for the variables."""
    values = spec['firmware']
    if values['type'] == 'bios':
        return Firmware()
    secure = values['secure-boot']
    variables = values['vars'] or str(state / 'uefi-vars.fd')
    if values['code']:
        return Firmware(values['code'], values['template'], variables, secure)
    for about in _descriptors():
        if _fits(about, secure):
            mapping = about['mapping']
            return Firmware(mapping['executable']['filename'],
                            values['template'] or
                            mapping['nvram-template']['filename'],
                            variables, secure)
    kind = ' with Secure Boot' if secure else ''
    raise NyxError(f'no UEFI firmware{kind} for {MACHINE} is described in '
                   f'{FOLDERS[0]}; install the package ovmf, or name files '
                   'with firmware.code and firmware.template.')
