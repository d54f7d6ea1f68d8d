# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""A VM whose firmware finds what it boots: SeaBIOS, or OVMF from flash."""

import shutil
import sys
import time

from . import bootdisk
from .devices import CONTROLLERS
from .errors import GuestTimeout
from .paths import ROOT
from .tpm import TpmVM

sys.path.insert(0, str(ROOT / 'scripts'))
# pylint: disable=wrong-import-order,wrong-import-position,import-error
from nyxcli.run import firmware                             # noqa: E402
from nyxcli.errors import NyxError                          # noqa: E402

GRUB_CFG = 'EFI/debian/grub.cfg'
KEY_SECONDS = 3                 # between two keys
REFUSED = 'Verification failed: '
SHIM, GRUB = 'EFI/BOOT/BOOTX64.EFI', 'EFI/BOOT/grubx64.efi'


def find_ovmf(secure):
    """The firmware.Firmware that nyx run takes; None where there is none."""
    values = {'type': 'uefi', 'secure-boot': secure, 'code': None,
              'template': None, 'vars': 'none'}
    try:
        return firmware.find({'firmware': values}, None)
    except NyxError:
        return None


class FirmwareVM(TpmVM):
    """SeaBIOS, unless use_ovmf() was called."""

    def __init__(self, *arguments, **more):
        super().__init__(*arguments, **more)
        self._template = None
        self._disks = 0

    def _boot_arguments(self):
        return []

    def use_ovmf(self, ovmf):
        self._template = ovmf.template
        self.machine_options += ['pflash0=code', 'pflash1=vars']
        if ovmf.smm:
            self.machine_options.append('smm=on')
            self.add('-global',
                     'driver=cfi.pflash01,property=secure,value=on')
        self.add('-blockdev', 'driver=file,node-name=code,read-only=on,'
                 f'filename={ovmf.code_flash}',
                 '-blockdev', 'driver=file,node-name=vars,'
                 f'filename={self.folder / "vars.raw"}')

    def boot_disk(self, driver, name):
        """A disk behind a PCI function; they are tried in this order.

        write_boot_disk() says what is on it.
        """
        modules, inner = CONTROLLERS[driver]
        self.add('-blockdev', f'driver=file,node-name={name},'
                 f'filename={self.folder / name}.raw')
        index, self._disks = self._disks, self._disks + 1
        if inner:
            self.device(driver, modules, id=name)
            self.device(inner, bus=f'{name}.0', drive=name, bootindex=index)
        else:
            self.device(driver, modules, id=name, drive=name, bootindex=index,
                        serial=name if driver == 'nvme' else None)

    def write_boot_disk(self, name, shim, grub, config, more):
        """Programs as bytes, GRUB's configuration as text, more files: name
        -> bytes.
        """
        files = {SHIM: shim, GRUB: grub, GRUB_CFG: config.encode(), **more}
        self.folder.mkdir(parents=True, exist_ok=True)
        bootdisk.write_disk(self.folder / f'{name}.raw', files)

    def _await_guest(self, seconds):
        """Answer shim, which wants a key for each refusal."""
        limit = time.monotonic() + seconds
        while True:
            left = limit - time.monotonic()
            try:
                self.agent.wait_ready(min(KEY_SECONDS, left))
                return
            except GuestTimeout:
                if left <= KEY_SECONDS:
                    raise
            if REFUSED in self.console():
                self.monitor.command('send-key', keys=[
                    {'type': 'qcode', 'data': 'ret'}])

    def start(self, *arguments, **more):
        """The first time with the variables that the firmware comes with."""
        variables = self.folder / 'vars.raw'
        if self._template and not variables.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self._template, variables)
        super().start(*arguments, **more)
