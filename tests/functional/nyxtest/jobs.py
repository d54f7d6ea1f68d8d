# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""Snapshots by QEMU's jobs."""

import subprocess
import time

from .errors import GuestTimeout, NyxTestError
from .paths import BUILD

SECONDS = 120
NODE = 'snapshots'


class JobFailed(NyxTestError):
    """What the job said."""


def snapshot_disk(path, size='256M', node=NODE):
    """Make a qcow2 image; arguments for it as block node."""
    path.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run([BUILD / 'qemu-img', 'create', '-q', '-f', 'qcow2',
                    path, size], check=True)
    return ('-blockdev', f'qcow2,node-name={node},discard=unmap,'
            f'file.driver=file,file.filename={path}')


def snapshot(vm, what, tag, nodes=(NODE,)):
    """snapshot-save, snapshot-load or snapshot-delete; JobFailed if it fails.

    what: save, load or delete. nodes: of all disks; the first has the state.
    """
    command = vm.monitor.command
    job = f'{what}-{tag}'
    where = {'devices': list(nodes)}
    if what != 'delete':
        where['vmstate'] = nodes[0]
    command(f'snapshot-{what}', job_id=job, tag=tag, **where)
    limit = time.monotonic() + SECONDS
    while True:
        info, = (i for i in command('query-jobs') if i['id'] == job)
        if info['status'] == 'concluded':
            break
        if time.monotonic() > limit:
            raise GuestTimeout(f'job {job} is {info} after {SECONDS} s')
        time.sleep(0.02)
    command('job-dismiss', id=job)
    if 'error' in info:
        raise JobFailed(info['error'])
