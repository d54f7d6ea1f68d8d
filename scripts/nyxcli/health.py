# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""The health of a VM, and what has changed since it was last looked at."""

import json
import os
import time
from pathlib import Path

from .check import findings, verdict
from .check.finding import worst
from .errors import NyxError
from .figures import grown, totals
from .metrics_read import read
from .rundir import listener, vm_dir
from .status import look

LATEST = 5                      # fault records in a report


def state_dir():
    """Where the last report of each VM is kept."""
    chosen = os.environ.get('NYX_STATE_DIR')
    if chosen:
        return Path(chosen).absolute() / 'reports'
    if os.geteuid() == 0:
        return Path('/var/lib/nyx/reports')
    home = os.environ.get('XDG_STATE_HOME')
    return (Path(home) if home else Path.home() / '.local/state') / \
        'nyx/reports'


def _file(name):
    return state_dir() / f'{name.strip("/").replace("/", "-")}.json'


def last(name):
    """The report of a VM that was kept last; None if there is none."""
    try:
        data = json.loads(_file(name).read_text(encoding='utf-8'))
    except (OSError, ValueError):
        return None
    return data if isinstance(data, dict) and 'totals' in data else None


def keep(report):
    """Remember a report for the next one."""
    path = _file(report['vm'])
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_suffix('.new')
        new.write_text(json.dumps(report), encoding='utf-8')
        new.rename(path)
    except OSError as err:
        raise NyxError(f'{path.parent} cannot be written '
                       f'({err.strerror.lower()}); set NYX_STATE_DIR, or use '
                       '--peek.') from err


def _life(name):
    """What is another one when the VM was started anew; None: unknown."""
    try:
        process = listener(vm_dir(name) / 'qmp.sock')
        stat = Path(f'/proc/{process}/stat').read_text(encoding='utf-8')
    except (NyxError, OSError):
        return None
    # Field 22 of proc(5); the second may have blanks, but ends with ")".
    return f'{process}-{stat.rpartition(")")[2].split()[19]}'


def _devices(figures, before):
    """Those that are not operational, or have faults."""
    known = {device['device']: device for device in
             (before or {}).get('devices', [])}
    shown = []
    for device in figures['query-nyx-devices'] or []:
        old = known.get(device['device'], {}).get('total-faults', 0)
        total = device['total-faults']
        if device['state'] != 'operational' or total:
            shown.append({
                'device': device['device'], 'domain': device['domain'],
                'state': device['state'], 'total-faults': total,
                'new-faults': total - old if total >= old else total,
                'recoveries': device['recoveries']})
    return shown


def report(vm):
    """All that a report of a VM says, for JSON."""
    before = last(vm.name)
    about, figures, found = look(vm), read(vm), findings(vm)
    counters, life = totals(figures), _life(vm.name)
    restarted = before is not None and (
        before.get('life') != life or any(
            counters.get(name, 0) < value
            for name, value in before['totals'].items()))
    since = None if restarted else before
    return {
        'vm': vm.name, 'time': round(time.time(), 3),
        'last-time': before['time'] if before else None,
        'restarted': restarted, 'life': life,
        'status': about['status'], 'memory-bytes': about['memory-bytes'],
        'verdict': worst(found), 'summary': verdict(found),
        'totals': counters,
        'new': grown(since['totals'], counters) if since else counters,
        'devices': _devices(figures, since),
        'findings': [each.as_dict() for each in found
                     if each.severity in ('warning', 'error')],
        'latest-faults': vm.execute('query-nyx-faults', limit=LATEST)}


def trouble(name, err):
    """The report of a VM that cannot be asked."""
    return {'vm': name, 'time': round(time.time(), 3), 'status':
            'not answering', 'verdict': 'error', 'summary': str(err)}
