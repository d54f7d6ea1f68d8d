# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""What a VM finds on this host: programs, directories, accelerator."""

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

from ..errors import NyxError
from ..rundir import vm_dir
from . import firmware
from .schema.other import WINDOWS

NAME = 'qemu-system-x86_64'
BUILD_WITH = {'gtk': '--enable-gtk', 'sdl': '--enable-sdl',
              'spice-app': '--enable-spice'}
# Where scripts/nyx is: in the sources beside build/, installed in lib/nyx.
HERE = Path(__file__).resolve().parents[2]


def state_dir(name):
    """What outlives the VM: UEFI variables, the TPM's memory."""
    chosen = os.environ.get('NYX_STATE_DIR')
    if chosen:
        return Path(chosen).absolute() / name
    if os.geteuid() == 0:
        return Path('/var/lib/nyx') / name
    home = os.environ.get('XDG_STATE_HOME') or \
        Path('~/.local/state').expanduser()
    return Path(home) / 'nyx' / name


def _program(spec):
    chosen = spec['qemu']['program'] or os.environ.get('NYX_QEMU')
    if chosen:
        found = shutil.which(chosen)
        if not found:
            raise NyxError(f'there is no program {chosen}; correct '
                           'qemu.program or NYX_QEMU.')
        return Path(found).absolute()
    for place in (HERE.parent / 'build' / NAME,
                  HERE.parent.parent / 'bin' / NAME):
        if os.access(place, os.X_OK):
            return place
    raise NyxError(f'{NAME} is neither in {HERE.parent / "build"} nor in '
                   f'{HERE.parent.parent / "bin"}; build it with "make", or '
                   'set NYX_QEMU to the program.')


def _accel(spec):
    wanted = spec['machine']['accel']
    usable = os.access('/dev/kvm', os.R_OK | os.W_OK)
    if wanted == 'kvm' and not usable:
        raise NyxError('/dev/kvm cannot be opened, but the spec has accel = '
                       '"kvm"; join the group kvm, switch virtualization on '
                       "in the host's firmware, or leave accel out.")
    if wanted == 'auto':
        return 'kvm' if usable else 'tcg'
    return wanted


def installed(name, package):
    """The path of a program; NyxError names the package that has it."""
    found = shutil.which(name, path=os.environ.get('PATH', os.defpath) +
                         ':/usr/sbin:/sbin')
    if not found:
        raise NyxError(f'{name} is not installed; install the package '
                       f'{package}.')
    return found


class Host:
    """Everything that command() asks for beside the spec."""

    def __init__(self, spec):
        self.run = vm_dir(spec['name'])
        self.state = state_dir(spec['name'])
        self.program = _program(spec)
        self.image_tool = self.program.with_name('qemu-img')
        self.accel = _accel(spec)
        self.firmware = firmware.find(spec, self.state)
        self._check_display(spec['display']['type'])
        self.log = Path(spec['logging']['file'] or self.run / 'log')
        self._vm = spec['name']
        self.starts_stopped = self._starts_stopped(spec)

    def _check_display(self, kind):
        """NyxError if this QEMU cannot open such a window."""
        if kind not in WINDOWS:
            return
        try:
            said = subprocess.run([self.program, '-display', 'help'],
                                  capture_output=True, text=True,
                                  check=False).stdout
        except OSError as err:
            raise NyxError(f'{self.program} cannot be run: '
                           f'{err.strerror.lower()}.') from err
        if kind not in said.split():
            raise NyxError(f'the display "{kind}" is not built into '
                           f'{self.program}; choose "vnc", which needs no '
                           'window here, or build QEMU with '
                           f'"{BUILD_WITH[kind]}".')

    @staticmethod
    def _starts_stopped(spec):
        """Whether something is to be done before the guest runs."""
        return bool(spec['cpus']['pin'] or spec['cpus']['emulator-pin'] or
                    any(thread['pin'] for thread in spec['iothread']) or
                    any(domain['map'] for domain in spec['domain']))

    def interface(self, nic):
        """The host's end of a card; for a bridge one of our own."""
        if nic['interface']:
            return nic['interface']
        digest = hashlib.sha256(f'{self._vm}/{nic["id"]}'.encode())
        return f'nyx{digest.hexdigest()[:10]}'
