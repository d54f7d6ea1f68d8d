# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""All figures of a VM at one moment, as QMP gives them."""

import re
import time

from .errors import Refused

COMMANDS = ('query-status', 'query-version', 'query-kvm', 'query-cpus-fast',
            'query-blockstats', 'query-migrate', 'query-nyx-iommu',
            'query-nyx-domains', 'query-nyx-devices', 'query-nyx-latency',
            'query-nyx-net', 'query-nyx-migration')


def _ask(vm, seconds, command, **arguments):
    """The result, or None if this QEMU does not know the command."""
    try:
        return vm.execute(command, _seconds=seconds, **arguments)
    except Refused as err:
        if err.error_class == 'CommandNotFound':
            return None
        raise


def _statistics(answer):
    """What query-stats says of one object, by name."""
    return {stat['name']: stat['value'] for stat in answer['stats']
            if isinstance(stat['value'], int)}


def _vcpu_exits(vm, seconds):
    """KVM's counters of exits of each vCPU; None where KVM is not used."""
    answers = _ask(vm, seconds, 'query-stats', target='vcpu',
                   providers=[{'provider': 'kvm'}])
    if not answers:
        return None
    return [{name: value for name, value in _statistics(answer).items()
             if name == 'exits' or name.endswith('_exits')}
            for answer in answers]


def read(vm, seconds=10):
    """Figures by name: the command's, plus machine, statistics, vcpu-exits
    and time (monotonic, in seconds). None: this VM has none of that kind.
    """
    figures = {command: _ask(vm, seconds, command) for command in COMMANDS}
    figures['machine'] = _ask(vm, seconds, 'qom-get', path='/machine',
                              property='type')
    figures['statistics'] = None
    if figures['query-nyx-iommu']:      # else there is no such provider
        answers = _ask(vm, seconds, 'query-stats', target='vm',
                       providers=[{'provider': 'nyx'}])
        if answers:
            figures['statistics'] = _statistics(answers[0])
    figures['vcpu-exits'] = _vcpu_exits(vm, seconds)
    figures['time'] = time.monotonic()
    return figures


def disk_name(stats):
    """How people call the disk of an element of query-blockstats."""
    path = stats.get('qdev') or ''
    match = re.match(r'/machine/peripheral/([^/]+)', path)
    if match:
        return match.group(1)
    return path.removeprefix('/machine/') or stats.get('device') or \
        stats.get('node-name', '')


def disks(figures):
    """(name, stats) of disks that belong to a device."""
    return [(disk_name(entry), entry['stats'])
            for entry in figures['query-blockstats'] or []
            if disk_name(entry)]


def nic_name(counter):
    """How people call the NIC of an element of query-nyx-net."""
    return counter.get('device') or counter['netdev']
