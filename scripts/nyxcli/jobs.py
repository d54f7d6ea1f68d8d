# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""What checkpoints of both kinds share: their names, and jobs of QEMU."""

import re
import time

from .errors import NyxError

PREFIX = 'checkpoint-'
TAG = re.compile(PREFIX + r'(\d{8}-\d{6}\.\d{3})')
JOB_SECONDS = 600
LOOK_SECONDS = 0.1


def new_tag():
    """Tags sort by time, which is UTC: hosts may be in different zones."""
    now = time.time()
    stamp = time.strftime('%Y%m%d-%H%M%S', time.gmtime(now))
    return f'{PREFIX}{stamp}.{int(now * 1000) % 1000:03}'


def run_job(vm, name, what, **arguments):
    """A job from its beginning to its end; NyxError with its own error."""
    job = f'nyx-{name}-{time.monotonic_ns()}'
    vm.execute(name, job_id=job, **arguments)
    limit = time.monotonic() + JOB_SECONDS
    while time.monotonic() < limit:
        info = [each for each in vm.execute('query-jobs', _seconds=JOB_SECONDS)
                if each['id'] == job]
        if info and info[0]['status'] == 'concluded':
            vm.execute('job-dismiss', id=job)
            if 'error' in info[0]:
                raise NyxError(f'{what} failed: '
                               f'{info[0]["error"].rstrip(".")}.')
            return
        time.sleep(LOOK_SECONDS)
    raise NyxError(f'{what} takes longer than {JOB_SECONDS} s.')
