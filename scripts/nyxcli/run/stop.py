# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""nyx stop: end a VM."""

import fcntl
import json
import subprocess
import time

from ..errors import Gone, NyxError
from ..options import command, vm_argument
from ..output import print_json
from ..rundir import vm_dir
from ..vm import connect

SECONDS = 120


def _await_end(vm, seconds):
    """Whether QEMU ends in time."""
    limit = time.monotonic() + seconds
    try:
        while time.monotonic() < limit:
            for _ in vm.events(limit - time.monotonic()):
                pass
    except Gone:
        return True
    return False


def _clear_up(name):
    """Wait for the nyx run that has started it; do its work if it is gone."""
    try:
        folder = vm_dir(name)
        lock = (folder / 'lock').open('r+')
    except (NyxError, OSError):
        return                  # another has started it
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        about = folder / 'spec.json'
        if about.exists():
            for words in json.loads(about.read_text())['undo']:
                subprocess.run(words, capture_output=True, check=False)
            about.unlink()


def end(vm, now, seconds):
    """Whether a VM ends in time, at once or by its guest; then clear up."""
    try:
        vm.execute('quit' if now else 'system_powerdown')
    except Gone:
        pass
    if not _await_end(vm, seconds):
        return False
    _clear_up(vm.name)
    return True


def _run(options):
    with connect(options.vm) as vm:
        name = vm.name
        ended = end(vm, options.now, options.seconds)
    if not ended:
        raise NyxError(f'{name} has not ended within {options.seconds} s; its '
                       'guest may not heed the power button, so use "nyx stop '
                       f'--now {name}", which ends it as a power failure '
                       'would.')
    if options.json:
        print_json({'vm': name, 'ended': True})
    else:
        print(f'{name} has ended.')


def _seconds(text):
    number = int(text)
    if number <= 0:
        raise ValueError
    return number


def add(commands):
    """Add the subcommand."""
    parser = command(commands, 'stop', _run, 'end a VM', 'Its guest is asked '
                     'to shut down, as by the power button.')
    vm_argument(parser)
    parser.add_argument('--now', action='store_true', help='do not ask the '
                        'guest; it is as if the power failed')
    parser.add_argument('--seconds', type=_seconds, default=SECONDS,
                        metavar='N', help='how long to wait for the guest '
                        f'(default: {SECONDS})')
