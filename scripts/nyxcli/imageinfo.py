# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""What is in an image, by qemu-img."""

import json
import subprocess

from .errors import NyxError


class InUse(NyxError):
    """A QEMU has an image open to write."""


def snapshots(tool, image):
    """Tags of the snapshots of an image; InUse if somebody writes to it."""
    done = subprocess.run(
        [str(tool), 'info', '--output=json', str(image)], text=True,
        capture_output=True, check=False)
    if done.returncode:
        why = done.stderr.strip().splitlines()
        if any('lock' in line for line in why):
            raise InUse(f'{image} is in use, so the VM still runs '
                        'somewhere; end it there first.')
        text = why[-1].rstrip('.') if why else 'qemu-img does not say why'
        raise NyxError(f'{image} cannot be read: '
                       f'{text.removeprefix("qemu-img: ")}.')
    found = json.loads(done.stdout).get('snapshots', [])
    return {snapshot['name']: snapshot for snapshot in found}
