# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""What many devices and domains cost: time to start, memory; and how late an
operator hears of a quarantine.

No guest: machines are compared by starting them by turns.
"""

import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / 'tests/functional'))

# pylint: disable=C0413
from nyxtest.qtest import QtestVM                       # noqa: E402

DEVICES, MANY = 64, 1000
PAGE = os.sysconf('SC_PAGE_SIZE')
FUNCTIONS = 8       # of a slot
# Slots of the root bus that the chipset leaves free
SLOTS = range(1, 0x1f)


def _functions(count):
    """Addresses on the root bus, slot by slot."""
    return [f'{slot:x}.{function}' for slot in SLOTS
            for function in range(FUNCTIONS)][:count]


def _device(driver, address, **properties):
    words = [driver, f'addr={address}', 'multifunction=on',
             *(f'{name}={value}' for name, value in properties.items())]
    return ['-device', ','.join(words)]


def _few(nyx):
    """A device in a domain of its own, DEVICES times."""
    arguments = []
    for n, address in enumerate(_functions(DEVICES)):
        arguments += _device('nyx-testdev', address, id=f'td{n}')
        if nyx:
            arguments[-1] += f',nyx-domain=d{n}'
            arguments += ['-object', f'nyx-domain,id=d{n}']
    return arguments


def _many():
    """MANY devices behind root ports: a port has a slot of 8 functions."""
    ports = -(-MANY // FUNCTIONS)
    arguments = []
    for n, address in enumerate(_functions(ports)):
        arguments += _device('pcie-root-port', address, id=f'rp{n}', slot=n)
        arguments[-1] += ',io-reserve=0,mem-reserve=1M,pref64-reserve=1M'
    for n in range(MANY):
        arguments += _device('nyx-testdev', f'0.{n % FUNCTIONS}', id=f'td{n}',
                             bus=f'rp{n // FUNCTIONS}')
        arguments[-1] += f',nyx-domain=d{n}'
        arguments += ['-object', f'nyx-domain,id=d{n}']
    return arguments


def _start(folder, machine, arguments):
    """A machine, and the nanoseconds until it takes commands."""
    begin = time.monotonic_ns()
    # The later option of the machine's type counts.
    vm = QtestVM(folder, '-M', machine, *arguments)
    return vm, time.monotonic_ns() - begin


def _resident(vm):
    fields = Path(f'/proc/{vm.process.pid}/statm').read_text().split()
    return int(fields[1]) * PAGE


def _creation(points, folder, quick):
    contenders = {'q35': ('q35', _few(False)), 'nyx': ('nyx-pc', _few(True))}
    ns = {name: [] for name in contenders}
    for _ in range(3 if quick else 11):
        for name, (machine, arguments) in contenders.items():
            vm, took = _start(folder, machine, arguments)
            vm.stop()
            ns[name].append(took)
    for name, samples in ns.items():
        points.add({'suite': 'scale', 'contender': name, 'ns': samples,
                    'op': f'start with {DEVICES} devices in {DEVICES} domains'})


def _domains(points, folder):
    """Memory of domains that nobody is in."""
    sizes = []
    for count in 0, MANY:
        objects = [word for n in range(count) for word in (
            '-object', f'nyx-domain,id=d{n},default-map=none')]
        vm, _ = _start(folder, 'nyx-pc', objects)
        sizes.append(_resident(vm))
        vm.stop()
    points.add({'suite': 'scale', 'contender': 'nyx',
                'ns': [(sizes[1] - sizes[0]) / MANY],
                'op': 'bytes of a domain'})


def _thousand(points, folder):
    vm, took = _start(folder, 'nyx-pc', _many())
    try:
        devices = vm.monitor.command('query-nyx-devices')
        domains = {device['domain'] for device in devices
                   if device['device'].startswith('td')}
        size = _resident(vm)
    finally:
        vm.stop()
    if len(domains) != MANY:
        raise RuntimeError(f'{len(domains)} domains in use, not {MANY}')
    points.add({'suite': 'scale', 'contender': 'nyx', 'ns': [took],
                'op': f'start with {MANY} devices in {MANY} domains'})
    points.add({'suite': 'scale', 'contender': 'nyx', 'ns': [size],
                'op': f'bytes with {MANY} devices in {MANY} domains'})


def _quarantine(points, folder, quick):
    """From the access past the limit to the event."""
    ns = []
    vm, _ = _start(folder, 'nyx-pc', [
        '-object', 'nyx-domain,id=d,default-map=none,max-faults=0,'
        'max-recoveries=255', '-device',
        'nyx-testdev,id=td,addr=5,nyx-domain=d'])
    try:
        for _ in range(20 if quick else 200):
            since = vm.monitor.position()
            begin = time.monotonic_ns()
            vm.monitor.command('nyx-inject-fault', device='td', address=0,
                               access='w')
            vm.monitor.wait_event('NYX_DEVICE_STATE', since)
            ns.append(time.monotonic_ns() - begin)
            vm.monitor.command('nyx-recover-device', device='td', force=True)
    finally:
        vm.stop()
    points.add({'suite': 'scale', 'contender': 'nyx', 'ns': ns,
                'op': 'fault past the limit to event'})


def measure(points, quick):
    """All of it; a thousand devices take a while."""
    folder = Path(tempfile.mkdtemp(prefix='nyx-bench-'))
    try:
        print('scale:', file=sys.stderr)
        _creation(points, folder, quick)
        _domains(points, folder)
        _quarantine(points, folder, quick)
        if not quick:
            print(f'  {MANY} devices', file=sys.stderr)
            _thousand(points, folder)
    finally:
        shutil.rmtree(folder)
