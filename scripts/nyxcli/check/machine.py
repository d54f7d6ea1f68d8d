# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""The machine as a whole: state, processor, memory, firmware, disks."""

from pathlib import Path

from ..units import bytes_text
from .finding import Area

BROKEN = 'internal-error', 'io-error', 'guest-panicked'


def state(facts):
    area = Area('state')
    status = facts['query-status']['status']
    if status in BROKEN:
        yield area.error(facts.name, f'the VM is stopped: {status}',
                         'see its log, mend the cause, then "cont" or '
                         '"system_reset"')
    elif status not in ('running', 'inmigrate'):
        yield area.note(facts.name, f'the VM does not run: {status}',
                        'let it run with "cont"')
    else:
        yield area.ok(facts.name, status)
    if facts['query-kvm']['enabled']:
        yield area.ok('processor', 'KVM')
    else:
        yield area.note('processor', 'TCG translates every instruction',
                        'use KVM where the host has /dev/kvm')


def disks(facts):
    area = Area('disks')
    for disk in facts['query-block']:
        name = disk.get('qdev') or disk['device']
        trouble = disk.get('io-status', 'ok')
        if trouble == 'nospace':
            yield area.error(name, 'its image has no room left',
                             'free space on the host, then "cont"')
        elif trouble != 'ok':
            yield area.error(name, 'its image cannot be read or written',
                             'see the log of QEMU and of the host')
        elif 'inserted' in disk:
            yield area.ok(name, 'no I/O error')


def _kib(path, name):
    """A line like "MemAvailable: 123 kB" of a file of /proc, in bytes."""
    try:
        lines = Path(path).read_text(encoding='ascii').splitlines()
    except OSError:
        return None
    for line in lines:
        if line.startswith(f'{name}:'):
            return int(line.split()[1]) << 10
    return None


def _lock_limit(process):
    """How much memory QEMU may lock; None: unlimited or not known."""
    try:
        text = Path(f'/proc/{process}/limits').read_text(encoding='ascii')
    except OSError:
        return None
    words = text.split('Max locked memory')[1].split()
    return None if words[0] == 'unlimited' else int(words[0])


def memory(facts):
    area = Area('memory')
    sizes = facts['query-memory-size-summary']
    size = sizes['base-memory'] + sizes.get('plugged-memory', 0)
    used = _kib(f'/proc/{facts.process}/status', 'VmRSS')
    free = _kib('/proc/meminfo', 'MemAvailable')
    if facts.process is None or used is None or free is None:
        yield area.note(facts.name, f'{bytes_text(size)}; what QEMU uses is '
                        'not to be seen from here', 'ask as root, on its '
                        'host')
    elif size - used > free:
        yield area.warning(
            facts.name, f'it may want {bytes_text(size - used)} more, and '
            f'the host has {bytes_text(free)}', 'give it less, or reserve '
            'memory at the start (prealloc=on, or huge pages)')
    else:
        yield area.ok(facts.name, f'{bytes_text(size)}; QEMU uses '
                      f'{bytes_text(used)}, the host has {bytes_text(free)}')
    limit = _lock_limit(facts.process)
    if limit is not None and limit < size and any(
            device['backend'] == 'vfio'
            for device in facts['query-nyx-devices']):
        yield area.warning(
            'locked memory', f'QEMU may lock {bytes_text(limit)}, and '
            'another VFIO device needs all of the memory to be',
            'raise the limit (ulimit -l; LimitMEMLOCK= in a unit)')


def firmware(facts):
    area = Area('firmware')
    flash = facts.get('/machine', 'pflash0')
    if not flash:
        name = facts.get('/machine', 'firmware') or 'none'
        yield area.ok('firmware', f'BIOS ({name}), no Secure Boot')
        return
    smm = facts.get('/machine', 'smm')
    secure = facts.get('/machine/system.flash0', 'secure')
    if secure and smm == 'off':
        yield area.error('firmware', 'UEFI with flash that only SMM may '
                         'write, and no SMM', 'switch smm=on, or give it '
                         'another firmware')
    elif secure:
        yield area.ok('firmware', 'UEFI, its variables are guarded by SMM')
    else:
        yield area.note('firmware', 'UEFI, its variables can be written by '
                        'the guest\'s kernel', 'for Secure Boot that holds, '
                        'use the firmware with SMM (secure flash)')


def tpm(facts):
    area = Area('TPM')
    for device in facts['query-tpm']:
        yield area.ok(device['id'], device['model'])
    if not facts['query-tpm']:
        yield area.note('TPM', 'there is none', 'add one if the guest '
                        'measures its boot or keeps keys')
