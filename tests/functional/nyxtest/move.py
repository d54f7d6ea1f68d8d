# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""Move a VM with its Linux guest into another QEMU process."""

import copy
import json
import os
import time

from .errors import GuestTimeout
from .migration import await_migration, state

SECONDS = 180
CAPABILITIES = 'events', 'postcopy-ram', 'multifd', 'mapped-ram'


def moves_of(vm):
    """How often that VM has been moved, attempts included."""
    return sum(1 for _ in vm.folder.glob('moved-*'))


def _like(vm):
    """A second VM, like this one, that has not been started."""
    there = copy.copy(vm)
    there.run_folder = vm.folder / f'moved-{moves_of(vm) + 1}'
    return there


def _set_capabilities(vm, capabilities):
    """These, and no other."""
    vm.monitor.command('migrate-set-capabilities', capabilities=[
        {'capability': name, 'state': name == 'events' or name in capabilities}
        for name in CAPABILITIES])


def _prepare(vm, capabilities):
    there = _like(vm)
    there.start(incoming='defer')
    for side in vm, there:
        _set_capabilities(side, capabilities)
        if 'multifd' in capabilities:
            side.monitor.command('migrate-set-parameters', multifd_channels=2)
    return there


def prepare_move(vm, *capabilities):
    """A second VM, like this one, that waits; and where it waits."""
    there = _prepare(vm, capabilities)
    uri = f'unix:{there.run_folder / "channel"}'
    there.monitor.command('migrate-incoming', uri=uri)
    return there, uri


def move(vm, *capabilities, postcopy=False, meanwhile=None):
    """Move the guest; vm is then the other process. What QEMU says of it.

    meanwhile() is called when memory is under way. The state of the IOMMU has
    to be the same on both sides, which is what is returned second.
    """
    there, uri = prepare_move(vm, *capabilities)
    try:
        since = there.monitor.position()
        vm.monitor.command('migrate-set-parameters', downtime_limit=500)
        vm.monitor.command('migrate', uri=uri)
        if meanwhile:
            meanwhile()
        if postcopy:
            await_migration(vm, 'active', 'completed', seconds=SECONDS)
            vm.monitor.command('migrate-start-postcopy')
        info = await_migration(vm, 'completed', seconds=SECONDS)
        there.monitor.wait_event('RESUME', since, seconds=SECONDS)
        before = state(vm)
    except BaseException:
        there.stop()
        raise
    vm.become(there)
    return info, before


def move_by_file(vm, *capabilities):
    """The same by a file, in which the guest is while it is in no VM."""
    there = _prepare(vm, ('mapped-ram', *capabilities))
    try:
        since = there.monitor.position()
        path = there.run_folder / 'state'
        vm.monitor.command('migrate', uri=f'file:{path}')
        await_migration(vm, 'completed', seconds=SECONDS)
        before = state(vm)
        there.monitor.command('migrate-incoming', uri=f'file:{path}')
        there.monitor.wait_event('RESUME', since, seconds=SECONDS)
        path.unlink()
    except BaseException:
        there.stop()
        raise
    vm.become(there)
    return before


def _channel(kind, path):
    return {'channel-type': kind, 'addr': {
        'transport': 'socket', 'type': 'unix', 'path': str(path)}}


def update_in_place(vm, pool):
    """Another QEMU on this host takes over memory as it is (cpr-transfer).

    The VM's memory is in a memory-backend-memfd. pool: of threads, which have
    to live as long as the VM.
    """
    there = _like(vm)
    there.run_folder.mkdir()
    cpr, main = (_channel(kind, there.run_folder / kind)
                 for kind in ('cpr', 'main'))
    there.arguments = [*vm.arguments, '-incoming', json.dumps(cpr)]
    # It says nothing before it has what comes through the CPR channel.
    started = pool.submit(there.start, incoming=json.dumps(main))
    limit = time.monotonic() + SECONDS
    while not os.path.exists(cpr['addr']['path']):
        if started.done():
            started.result()
        if time.monotonic() > limit:
            raise GuestTimeout('the other QEMU does not listen.')
        time.sleep(0.02)
    _set_capabilities(vm, ())
    vm.monitor.command('migrate-set-parameters', mode='cpr-transfer')
    vm.monitor.command('migrate', channels=[cpr, main])
    started.result()
    try:
        await_migration(vm, 'completed', seconds=SECONDS)
        before = state(vm)
        while there.monitor.command('query-status')['status'] == 'inmigrate':
            if time.monotonic() > limit:
                raise GuestTimeout('the guest does not arrive.')
            time.sleep(0.02)
        there.monitor.command('cont')
    except BaseException:
        there.stop()
        raise
    vm.become(there)
    return before
