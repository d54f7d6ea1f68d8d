# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""Checkpoints of a VM into a directory, for hosts that share no disks.

In the directory are
    DISK.qcow2    a copy of each disk, with an internal snapshot for each
                  checkpoint that is kept, by its tag
    TAG.memory    memory and devices, a migration stream with mapped-ram
    TAG.json      which disks belong to it; written last, so what has it is
                  complete

Memory is written while the guest runs. When QEMU has stopped it for the rest,
backup jobs begin, which copy each disk as it was at that moment while the
guest goes on: all of it at first, later what has changed. QEMU keeps the
copies open, so that their locks tell that the VM still runs.
"""

import hashlib
import json
import os
import time
from pathlib import Path

from .errors import NyxError
from .jobs import JOB_SECONDS, LOOK_SECONDS, TAG, new_tag, run_job
from .rundir import NAME

ENDED = 'completed', 'failed', 'cancelled'


def _digest(text):
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class _Copy:
    """The copy of one disk; node is QEMU's name of it."""

    def __init__(self, folder, name, source):
        self.name = name
        self.source = source                # node of the disk itself
        self.path = folder / f'{name}.qcow2'
        self.node = f'nyxcp-{_digest(str(self.path))}'
        self.bitmap = f'nyx-{_digest(str(folder))}'
        self.job = f'nyx-copy-{_digest(str(self.path))}'


def _copies(vm, folder):
    """One for each disk that the guest can write to."""
    found = []
    for disk in vm.execute('query-block'):
        inserted = disk.get('inserted')
        if not inserted or inserted['ro']:
            continue
        node = inserted['node-name']
        name = node.removesuffix('-image')
        if not NAME.fullmatch(name):
            raise NyxError(f'the image of {disk.get("qdev") or node} has no '
                           'name by which it could be copied; give it a '
                           'node-name.')
        found.append(_Copy(folder, name, node))
    return found


def _attach(vm, copies):
    """Have QEMU open the copies; those that it has opened just now.

    A copy that was not open may have been changed by others, and is made
    anew; snapshots in it stay what they are.
    """
    known = {node['node-name']: node for node in
             vm.execute('query-named-block-nodes', flat=True)}
    fresh = []
    for copy in copies:
        if copy.node in known and copy.path.exists():
            continue
        if copy.node in known:
            vm.execute('blockdev-del', node_name=copy.node)
        size = known[copy.source]['image']['virtual-size']
        if not copy.path.exists():
            _create(vm, copy, size)
        vm.execute('blockdev-add', driver='qcow2', node_name=copy.node,
                   discard='unmap',
                   file={'driver': 'file', 'filename': str(copy.path)})
        fresh.append(copy)
    return fresh


def _create(vm, copy, size):
    """An empty image, by the VM's own QEMU."""
    what = f'making {copy.path}'
    file = {'driver': 'file', 'filename': str(copy.path)}
    run_job(vm, 'blockdev-create', what, options={**file, 'size': 0})
    vm.execute('blockdev-add', node_name=f'{copy.node}-file', **file)
    try:
        run_job(vm, 'blockdev-create', what, options={
            'driver': 'qcow2', 'file': f'{copy.node}-file', 'size': size})
    finally:
        vm.execute('blockdev-del', node_name=f'{copy.node}-file')


def _save_memory(vm, path):
    """Until the guest stands still and all is written; query-migrate."""
    vm.execute('migrate-set-capabilities', capabilities=[
        {'capability': name, 'state': name in ('mapped-ram', 'events')}
        for name in ('mapped-ram', 'events', 'multifd', 'postcopy-ram',
                     'return-path')])
    try:
        vm.execute('migrate', uri=f'file:{path}')
        for event in vm.events(JOB_SECONDS):
            if event['event'] == 'MIGRATION' and \
                    event['data']['status'] in ENDED:
                break
        else:
            vm.execute('migrate_cancel')
            raise NyxError(f'the memory of {vm.name} is not written within '
                           f'{JOB_SECONDS} s; the guest changes it faster '
                           'than it can be written.')
        info = vm.execute('query-migrate')
    finally:
        vm.execute('migrate-set-capabilities', capabilities=[
            {'capability': 'mapped-ram', 'state': False}])
    if info['status'] != 'completed':
        raise NyxError(f'the memory of {vm.name} cannot be written: '
                       f'{info.get("error-desc", info["status"]).rstrip(".")}'
                       '.')
    return info


def _begin_copies(vm, copies, fresh):
    """Backup jobs of one moment, all or none; the guest stands still."""
    actions = []
    bitmaps = {node['node-name']: {bitmap['name'] for bitmap
                                   in node.get('dirty-bitmaps', [])}
               for node in vm.execute('query-named-block-nodes', flat=True)}
    for copy in copies:
        about = {'node': copy.source, 'name': copy.bitmap}
        whole = copy in fresh or copy.bitmap not in bitmaps[copy.source]
        if whole and copy.bitmap in bitmaps[copy.source]:
            vm.execute('block-dirty-bitmap-remove', **about)
        if whole:
            actions.append({'type': 'block-dirty-bitmap-add', 'data': about})
        job = {'job-id': copy.job, 'device': copy.source, 'target': copy.node,
               'sync': 'full' if whole else 'incremental',
               'auto-dismiss': False}
        if not whole:
            job['bitmap'] = copy.bitmap
        actions.append({'type': 'blockdev-backup', 'data': job})
    vm.execute('transaction', actions=actions)


def _await_copies(vm, copies):
    """Bytes copied; NyxError, and the next one is whole, if one fails."""
    limit = time.monotonic() + JOB_SECONDS
    jobs = {copy.job: copy for copy in copies}
    errors, total = [], 0
    while jobs:
        if time.monotonic() > limit:
            raise NyxError(f'copying the disks of {vm.name} takes longer than '
                           f'{JOB_SECONDS} s.')
        for info in vm.execute('query-jobs', _seconds=JOB_SECONDS):
            if info['id'] in jobs and info['status'] == 'concluded':
                vm.execute('job-dismiss', id=info['id'])
                copy = jobs.pop(info['id'])
                total += info['total-progress']
                if 'error' in info:
                    errors.append(f'{copy.name}: {info["error"].rstrip(".")}')
                    vm.execute('blockdev-del', node_name=copy.node)
        time.sleep(LOOK_SECONDS if jobs else 0)
    if errors:
        raise NyxError(f'disks of {vm.name} are not copied: '
                       f'{"; ".join(errors)}.')
    return total


def _sync(path):
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def _complete(folder, tag, copies):
    """The file that makes it one."""
    memory = folder / f'{tag}.memory'
    _sync(memory)
    about = {'checkpoint': tag, 'disks': [copy.name for copy in copies],
             'memory-bytes': memory.stat().st_size}
    new = folder / f'{tag}.new'
    new.write_text(json.dumps(about), encoding='utf-8')
    _sync(new)
    new.rename(folder / f'{tag}.json')
    _sync(folder)


def complete(folder):
    """What the files of complete checkpoints say, the oldest first."""
    found = []
    for path in sorted(folder.glob('*.json')):
        if not TAG.fullmatch(path.stem):
            continue
        try:
            about = json.loads(path.read_text(encoding='utf-8'))
            size = (folder / f'{path.stem}.memory').stat().st_size
            if size == about['memory-bytes'] and \
                    about['checkpoint'] == path.stem:
                found.append(about)
        except (OSError, ValueError, KeyError, TypeError):
            continue                # it is being made or deleted
    return found


def _delete_others(vm, folder, copies, keep):
    """All but the newest, and what was never completed."""
    kept = {about['checkpoint'] for about in complete(folder)[-keep:]}
    for path in (*folder.glob('*.json'), *folder.glob('*.memory'),
                 *folder.glob('*.new')):
        if TAG.fullmatch(path.stem) and path.stem not in kept:
            path.unlink()
    nodes = {node['node-name']: node for node in
             vm.execute('query-named-block-nodes', flat=True)}
    for copy in copies:
        for snapshot in nodes[copy.node]['image'].get('snapshots', []):
            if TAG.fullmatch(snapshot['name']) and \
                    snapshot['name'] not in kept:
                vm.execute('blockdev-snapshot-delete-internal-sync',
                           device=copy.node, name=snapshot['name'])


def take(vm, folder, keep, end=False):
    """One more in folder; what it was like. With end the guest stays stopped.
    """
    vm.not_by_libvirt(f'virsh snapshot-create {vm.name}')
    status = vm.execute('query-status')
    if not status['running']:
        raise NyxError(f'{vm.name} is {status["status"]}; a checkpoint into a '
                       'directory is of a guest that runs, so continue it '
                       'first.')
    folder = Path(folder).absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as err:
        raise NyxError(f'{folder} cannot be made: {err.strerror.lower()}; '
                       'choose another directory.') from err
    tag, began = new_tag(), time.monotonic()
    copies = _copies(vm, folder)
    fresh = _attach(vm, copies)
    try:
        info = _save_memory(vm, folder / f'{tag}.memory')
        stopped = time.monotonic() - info['downtime'] / 1000
        # Migration gave the disks up, for another QEMU to have them.
        vm.execute('blockdev-set-active', active=True)
        if copies:
            _begin_copies(vm, copies, fresh)
    finally:
        if not end and not vm.execute('query-status')['running']:
            vm.execute('cont')
    still = time.monotonic() - stopped
    total = _await_copies(vm, copies)
    for copy in copies:
        vm.execute('blockdev-snapshot-internal-sync', device=copy.node,
                   name=tag)
    _complete(folder, tag, copies)
    _delete_others(vm, folder, copies, keep)
    memory = os.stat(folder / f'{tag}.memory').st_blocks * 512
    return {'vm': vm.name, 'checkpoint': tag, 'directory': str(folder),
            'seconds': round(time.monotonic() - began, 3),
            'stood-still-seconds': None if end else round(still, 3),
            'vm-state-bytes': memory, 'disk-bytes': total}
