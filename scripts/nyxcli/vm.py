# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""A running VM: commands, events. It may be libvirt's, too."""

import difflib
import time
from pathlib import Path

from . import virsh
from .errors import Gone, NyxError
from .qmp import QmpMonitor
from .rundir import NAME, run_dir, running, vm_dir

COMMAND_SECONDS = 60


class Vm:
    """A connection to one VM, for one thread; close() it, or use "with"."""

    def __init__(self, name, monitor):
        self.name = name
        self._monitor = monitor

    @property
    def of_libvirt(self):
        """Whether commands and events go through libvirt."""
        return isinstance(self._monitor, virsh.LibvirtMonitor)

    def not_by_libvirt(self, instead):
        """NyxError if libvirt would not know of what is to be done."""
        if self.of_libvirt:
            raise NyxError(f'{self.name} is a domain of libvirt, which has to '
                           f'do that itself; use "{instead}".')

    def execute(self, command, _seconds=COMMAND_SECONDS, **arguments):
        """Run a QMP command and return its result.

        An underscore in an argument's name stands for a dash; arguments that
        are None are left out. Refused if QEMU refuses, Gone if it ends.
        """
        return self._monitor.execute(
            command, {key.replace('_', '-'): value
                      for key, value in arguments.items()
                      if value is not None}, _seconds)

    def events(self, timeout=None):
        """Events as they come, for so many seconds (None: without end).

        With a QMP socket also those that came since it was connected. Ends in
        time also while events keep coming. Gone if the VM ends.
        """
        limit = None if timeout is None else time.monotonic() + timeout
        left = timeout
        while left is None or left >= 0:
            event = self._monitor.event(left)
            if event is None:
                return
            yield event
            if limit is not None:
                left = limit - time.monotonic()

    def close(self):
        self._monitor.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def _none_running():
    return NyxError(f'no VM is running below {run_dir()}; start one with '
                    '"nyx run SPEC.toml", or name a libvirt domain or the '
                    'path of a QMP socket.')


def _the_only_one():
    names = running()
    if not names:
        raise _none_running()
    if len(names) > 1:
        raise NyxError(f'{len(names)} VMs are running; name one of '
                       f'{", ".join(names)}.')
    return names[0]


def _not_found(name, others):
    if not others:
        return NyxError(f'there is no VM "{name}", and none is running below '
                        f'{run_dir()}.')
    close = difflib.get_close_matches(name, others, 1)
    hint = f'did you mean "{close[0]}"' if close else \
        f'these are: {", ".join(others)}'
    return NyxError(f'no VM "{name}" is running; {hint}'
                    f'{"?" if close else "."}')


def _by_path(path):
    path = Path(path).absolute()
    if not path.is_socket():
        raise NyxError(f'{path} is not a socket; give the path of a QMP '
                       'socket, or the name of a VM.')
    name = path.parent.name if path.parent.parent == run_dir() else str(path)
    return Vm(name, QmpMonitor(name, path))


def _socket_of(name, socket):
    """Where its monitor is; None if it is not below the run directory."""
    if not NAME.fullmatch(name):
        return None
    path = vm_dir(name) / f'{socket}.sock'
    return path if path.is_socket() else None


def connect(name=None, socket='qmp'):
    """A Vm: by name, by libvirt's name, by a socket's path, or the only one.

    socket is one of those of the VM's folder: qmp, metrics, events.
    """
    if name is None:
        name = _the_only_one()
    elif '/' in name:
        return _by_path(name)
    path = _socket_of(name, socket)
    if path is not None:
        try:
            return Vm(name, QmpMonitor(name, path))
        except Gone as err:
            ended = err             # its socket was left behind
    else:
        ended = None
    others = virsh.domains()
    if name in others:
        return Vm(name, virsh.LibvirtMonitor(name))
    raise ended or _not_found(name, [*running(), *others])
