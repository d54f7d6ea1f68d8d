# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""What is done when QEMU is there, and before the guest runs."""

import os

from ..errors import NyxError
from .values import cpus_text, size_text


def _pins(spec):
    """(kind, name or number, CPUs) of all that is pinned."""
    cpus = spec['cpus']
    if cpus['emulator-pin']:
        yield 'emulator', None, cpus['emulator-pin']
    if cpus['pin']:
        most = cpus['max'] or cpus['count']
        for number in range(most):
            place = min(number, len(cpus['pin']) - 1)
            yield 'cpu', number, cpus['pin'][place]
    for thread in spec['iothread']:
        if thread['pin']:
            yield 'iothread', thread['id'], thread['pin']


def describe(spec):
    """Each action in words; with any of them QEMU starts stopped."""
    lines = []
    for kind, name, cpus in _pins(spec):
        what = {'cpu': f'processor {name}', 'iothread': f'iothread {name}',
                'emulator': "QEMU's other threads"}[kind]
        lines.append(f'pin {what} to host CPUs {cpus_text(cpus)}')
    for domain in spec['domain']:
        for window in domain['map']:
            lines.append(f'nyx-map domain={domain["id"]} '
                         f'iova={window["iova"]:#x} gpa={window["gpa"]:#x} '
                         f'size={size_text(window["size"])} '
                         f'access={window["access"]}')
    if lines:
        lines = ['then, by QMP:', *lines, 'cont']
    return lines


def _set_affinity(thread, cpus, what):
    try:
        os.sched_setaffinity(thread, cpus)
    except OSError as err:
        raise NyxError(
            f'{what} cannot run on the host CPUs {cpus_text(cpus)} '
            f'({err.strerror.lower()}); this host has '
            f'{cpus_text(sorted(os.sched_getaffinity(0)))}.') from err


def _pin(spec, vm, process):
    found = {'cpu': {cpu['cpu-index']: cpu['thread-id']
                     for cpu in vm.execute('query-cpus-fast')},
             'iothread': {thread['id']: thread['thread-id']
                          for thread in vm.execute('query-iothreads')}}
    special = {*found['cpu'].values(), *found['iothread'].values()}
    for kind, name, cpus in _pins(spec):
        if kind == 'emulator':
            for thread in os.listdir(f'/proc/{process}/task'):
                if int(thread) not in special:
                    _set_affinity(int(thread), cpus, "QEMU's main thread")
        elif name in found[kind]:
            _set_affinity(found[kind][name], cpus, f'{kind} {name}')


def finish(spec, vm, process):
    """Pin threads and map windows; vm: vm.Vm, process: QEMU's id."""
    _pin(spec, vm, process)
    for domain in spec['domain']:
        for window in domain['map']:
            vm.execute('nyx-map', domain=domain['id'], **window)
