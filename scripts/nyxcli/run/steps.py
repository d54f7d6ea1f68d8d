# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""What is done before QEMU starts, as commands that a shell could run."""

import os
import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path

from ..errors import NyxError
from .host import installed


@dataclass(frozen=True)
class Step:
    """One command; not needed if the file unless is there.

    undo: the command that takes it back when the VM has ended.
    """

    words: tuple
    what: str
    remedy: str
    unless: str = None
    undo: tuple = None

    def shell(self):
        """The line of a shell script."""
        text = shlex.join(self.words)
        return f'[ -e {shlex.quote(self.unless)} ] || {text}' \
            if self.unless else text

    def run(self):
        """Do it; whether it was necessary."""
        if self.unless and os.path.exists(self.unless):
            return False
        try:
            done = subprocess.run(self.words, capture_output=True, text=True,
                                  check=False, stdin=subprocess.DEVNULL)
        except OSError as err:
            raise NyxError(f'{self.what} failed: {self.words[0]}: '
                           f'{err.strerror.lower()}; {self.remedy}.') from err
        if done.returncode:
            said = (done.stderr or done.stdout).strip().splitlines()
            why = said[-1].rstrip('.') if said else \
                f'status {done.returncode}'
            raise NyxError(f'{self.what} failed: {why}; {self.remedy}.')
        return True

    def take_back(self):
        """Undo it; what is gone already is no error."""
        if self.undo:
            subprocess.run(self.undo, capture_output=True, check=False,
                           stdin=subprocess.DEVNULL)


def _folder(path):
    return Step(('mkdir', '-p', '-m', '700', str(path)),
                f'making the directory {path}',
                'run as root, or set NYX_RUN_DIR and NYX_STATE_DIR to '
                'directories of your own', unless=str(path))


def _variables(host):
    """The guest's own copy of the UEFI variables."""
    found = host.firmware
    if not found.code_flash or not found.template:
        return []
    words = ('cp', found.template, found.vars)
    if found.vars_format == 'qcow2':
        words = (str(host.image_tool), 'convert', '-f', 'raw', '-O', 'qcow2',
                 found.template, found.vars)
    return [_folder(Path(found.vars).parent),
            Step(words, f'copying the UEFI variables to {found.vars}',
                 'make room or choose another file with firmware.vars',
                 unless=found.vars)]


def _images(spec, host):
    return [Step((str(host.image_tool), 'create', '-q', '-f', disk['format'],
                  disk['file'], str(disk['create'])),
                 f'making the image {disk["file"]}',
                 'make room, or choose another file', unless=disk['file'])
            for disk in spec['disk'] if disk['create']]


def _tpm(spec, host):
    """swtpm, which ends when QEMU closes its socket."""
    if not spec['tpm']['enabled']:
        return []
    state = Path(spec['tpm']['state'] or host.state / 'tpm')
    program = installed('swtpm', 'swtpm')
    return [_folder(state), Step(
        (program, 'socket', '--tpm2', '--tpmstate', f'dir={state},mode=0600',
         '--ctrl', f'type=unixio,path={host.run}/tpm.sock,mode=0600',
         '--log', f'file={host.run}/tpm.log', '--terminate', '--daemon',
         '--pid', f'file={host.run}/tpm.pid'),
        'starting swtpm', f'see {host.run}/tpm.log; another VM may use the '
        f'state in {state}')]


def _interfaces(spec, host):
    """For a bridge: an interface that QEMU may open, as its member."""
    steps = []
    for nic in spec['nic']:
        if nic['type'] != 'bridge':
            continue
        program = installed('ip', 'iproute2')
        name = host.interface(nic)
        remedy = 'run as root, and see "ip link show type bridge" for bridges'
        queues = ('multi_queue',) if nic['queues'] > 1 else ()
        user = () if os.geteuid() == 0 else ('user', str(os.geteuid()))
        steps += [
            Step((program, 'tuntap', 'add', 'dev', name, 'mode', 'tap',
                  *user, *queues), f'making the interface {name}', remedy,
                 unless=f'/sys/class/net/{name}',
                 undo=(program, 'link', 'delete', 'dev', name)),
            Step((program, 'link', 'set', 'dev', name, 'master',
                  nic['bridge'], 'up'),
                 f'joining {name} to the bridge {nic["bridge"]}', remedy)]
    return steps


def steps(spec, host):
    """All steps for a VM, in order."""
    return [_folder(host.run), *_images(spec, host), *_variables(host),
            *_tpm(spec, host), *_interfaces(spec, host)]
