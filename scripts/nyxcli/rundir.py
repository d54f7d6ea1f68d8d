# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""Where running VMs are found: one folder for each below the run directory.

In the folder of a VM are
    qmp.sock        for the commands of this tool, which connect briefly
    metrics.sock    for the exporter
    events.sock     for who listens: nyx trace, nyx top, nyx migrate
    console.sock    the guest's serial console
    qemu.pid, spec.json, log
A QMP socket serves one connection at a time; that is why there are three.
"""

import os
import re
import socket
import struct
from pathlib import Path

from .errors import NyxError

NAME = re.compile(r'[A-Za-z0-9][A-Za-z0-9_.-]{0,63}')
# sun_path of unix(7), less its zero byte
SOCKET_BYTES = 107
LONGEST_SOCKET = 'metrics.sock'


def run_dir():
    """$NYX_RUN_DIR; else /run/nyx for root, and the user's own for others."""
    chosen = os.environ.get('NYX_RUN_DIR')
    if chosen:
        return Path(chosen).absolute()
    if os.geteuid() == 0:
        return Path('/run/nyx')
    runtime = os.environ.get('XDG_RUNTIME_DIR')
    if not runtime:
        raise NyxError('XDG_RUNTIME_DIR is not set, so there is no place for '
                       'sockets of VMs; log in with a session, or set '
                       'NYX_RUN_DIR to a directory of your own.')
    return Path(runtime) / 'nyx'


def vm_dir(name):
    """The folder of a VM, which need not exist; NyxError for a bad name."""
    if not NAME.fullmatch(name):
        raise NyxError(f'"{name}" cannot be the name of a VM; use up to 64 '
                       'letters, digits, ".", "_" and "-", and begin with a '
                       'letter or digit.')
    folder = run_dir() / name
    if len(os.fsencode(folder / LONGEST_SOCKET)) > SOCKET_BYTES:
        raise NyxError(f'{folder} is too long a path for a socket; choose a '
                       'shorter name, or a shorter directory with '
                       'NYX_RUN_DIR.')
    return folder


def listens(path):
    """Whether a process listens on a Unix socket; a stale file does not."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(5)
        try:
            sock.connect(str(path))
        except BlockingIOError:
            return True             # its queue is full: somebody is there
        except OSError:
            return False
    return True


def running():
    """Sorted names of the VMs whose qmp.sock is listened to."""
    try:
        folders = sorted(run_dir().iterdir())
    except OSError:
        return []
    return [folder.name for folder in folders
            if NAME.fullmatch(folder.name) and listens(folder / 'qmp.sock')]


def listener(path):
    """Process ID of who listens on a Unix socket; None if nobody does."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(5)
        try:
            sock.connect(str(path))
            # struct ucred of unix(7): that of the call of listen()
            credentials = sock.getsockopt(socket.SOL_SOCKET,
                                          socket.SO_PEERCRED, 12)
        except OSError:
            return None
    return struct.unpack('3i', credentials)[0]
