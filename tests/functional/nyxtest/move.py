# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""Move a VM with its Linux guest into another QEMU process."""

import copy

from .migration import await_migration, state

SECONDS = 180
CAPABILITIES = 'events', 'postcopy-ram', 'multifd'


def moves_of(vm):
    """How often that VM has been moved, attempts included."""
    return sum(1 for _ in vm.folder.glob('moved-*'))


def prepare_move(vm, *capabilities):
    """A second VM, like this one, that waits; and where it waits."""
    number = moves_of(vm) + 1
    there = copy.copy(vm)
    there.run_folder = vm.folder / f'moved-{number}'
    there.start(incoming='defer')
    for side in vm, there:
        side.monitor.command('migrate-set-capabilities', capabilities=[
            {'capability': name,
             'state': name == 'events' or name in capabilities}
            for name in CAPABILITIES])
        if 'multifd' in capabilities:
            side.monitor.command('migrate-set-parameters', multifd_channels=2)
    uri = f'unix:{vm.folder / f"channel-{number}"}'
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
