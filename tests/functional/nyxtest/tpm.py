# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""A VM with a TPM 2.0, which is a process swtpm for each of QEMU."""

import os
import shutil
import subprocess
import tempfile
import time
import unittest
from pathlib import Path

from .errors import NyxTestError
from .vm import VM

BANKS = ('sha256', 'sha384')
SECONDS = 60
PATH = f'{os.environ["PATH"]}:/usr/sbin'


def program(name):
    return shutil.which(name, path=PATH)


needs_swtpm = unittest.skipUnless(
    program('swtpm') and program('swtpm_setup'),
    'swtpm or swtpm_setup is missing; install the packages swtpm and '
    'swtpm-tools')


def new_state(folder, banks=BANKS):
    """The memory of a TPM that has never been used, with these PCR banks."""
    folder.mkdir(parents=True)
    done = subprocess.run(
        [program('swtpm_setup'), '--tpm2', '--tpmstate', str(folder),
         '--pcr-banks', ','.join(banks)], capture_output=True, text=True,
        check=False, timeout=SECONDS)
    if done.returncode:
        raise NyxTestError(f'swtpm_setup: {done.stdout}{done.stderr}')


class Swtpm:
    """The process; it listens when this is made, and ends with its QEMU."""

    def __init__(self, state, log, version=('--tpm2',)):
        # The path of a socket must be short.
        self._folder = Path(tempfile.mkdtemp(prefix='nyx-tpm-'))
        self.socket = self._folder / 'socket'
        self._process = subprocess.Popen(
            [program('swtpm'), 'socket', *version, '--tpmstate',
             f'dir={state}', '--ctrl', f'type=unixio,path={self.socket}',
             '--log', f'file={log}', '--terminate'],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL)
        limit = time.monotonic() + SECONDS
        while not self.socket.exists():
            if self._process.poll() is not None or time.monotonic() > limit:
                self.end()
                raise NyxTestError(f'swtpm does not start; see {log}.')
            time.sleep(0.01)

    def end(self):
        """At once, whether QEMU has gone or never came."""
        self._process.kill()
        self._process.wait()
        shutil.rmtree(self._folder)


class TpmVM(VM):
    """With tpm_model None, a VM like any other."""

    def __init__(self, *arguments, **more):
        super().__init__(*arguments, **more)
        self.tpm_model = None       # 'crb' or 'tis'
        self.tpm_banks = BANKS
        self.tpm_option = self.has_nyx      # or -device
        self._swtpm = None

    def _command(self, qmp, serial):
        words = super()._command(qmp, serial)
        if self.tpm_model:
            words += ['-chardev',
                      f'socket,id=tpm-chr,path={self._swtpm.socket}',
                      '-tpmdev', 'emulator,id=tpm0,chardev=tpm-chr']
            if self.tpm_option:
                words += ['-machine',
                          f'tpm=tpm0,tpm-model={self.tpm_model}']
            else:
                words += ['-device', f'tpm-{self.tpm_model},tpmdev=tpm0']
        return words

    def start(self, *arguments, **more):
        """With a new TPM in each folder; after a migration, its state comes
        with the guest.
        """
        if self.tpm_model:
            state = self.run_folder / 'tpm'
            if not state.exists():
                new_state(state, self.tpm_banks)
            self._swtpm = Swtpm(state, self.run_folder / 'tpm.log')
        super().start(*arguments, **more)

    def become(self, other):
        """Be the VM into which the guest of this one has moved."""
        super().become(other)
        self._swtpm = other._swtpm

    def stop(self):
        """End QEMU and its TPM."""
        super().stop()
        if self._swtpm:
            self._swtpm.end()
            self._swtpm = None
