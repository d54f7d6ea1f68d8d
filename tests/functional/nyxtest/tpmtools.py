# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""tpm2-tools of Debian in the guest, and what they say there."""

import subprocess
import unittest
from dataclasses import replace
from pathlib import Path

from . import eventlog
from .errors import NyxTestError
from .image import guest_image, locked
from .initrd import extended_initrd, libraries
from .paths import GUEST_BUILD
from .tpm import program

FOLDER = GUEST_BUILD / 'tpm'
DEVICE_LIBRARY = 'libtss2-tcti-device.so.0'
SECURITY = '/sys/kernel/security'
LOG = f'{SECURITY}/tpm0/binary_bios_measurements'

needs_tpm_tools = unittest.skipUnless(
    program('tpm2'), 'tpm2 is missing; install the package tpm2-tools')


def _files():
    """Name in the guest -> file here."""
    tool = Path(program('tpm2')).resolve()
    names = libraries(tool)
    # Loaded by name when the tool runs; it stands beside its kin.
    beside = next(Path(name).parent for name in names if 'libtss2-mu' in name)
    device = beside / DEVICE_LIBRARY
    if not device.exists():
        raise NyxTestError(f'{device} is missing; install what the package '
                           'tpm2-tools depends on.')
    names = {*names, *libraries(device), str(device)}
    return {'bin/tpm2': tool,
            **{name.lstrip('/'): Path(name) for name in names}}


def tpm_image():
    """The GuestImage with tpm2-tools."""
    image = guest_image()
    with locked(FOLDER):
        try:
            return replace(image, initrd=extended_initrd(
                FOLDER / 'initrd', image.initrd, _files()))
        except (OSError, subprocess.SubprocessError) as err:
            raise NyxTestError(f'the guest image with tpm2-tools cannot be '
                               f'made: {err}.') from err


def pcr(vm, bank, number):
    """In hexadecimal digits, as Linux shows it"""
    return vm.agent.check(f'cat /sys/class/tpm/tpm0/pcr-{bank}/{number}')


def event_log(vm):
    """The Events that the firmware has left, as Linux shows them"""
    vm.agent.check(f'mountpoint -q {SECURITY} || '
                   f'mount -t securityfs securityfs {SECURITY}')
    text = vm.agent.check(f'od -A n -v -t x1 {LOG}', 300)
    return eventlog.parse(bytes.fromhex(text))


def tpm2(vm, words, seconds=120):
    """Run tpm2 in the guest; what it says."""
    return vm.agent.check(f'tpm2 {words} -T device:/dev/tpmrm0', seconds)
