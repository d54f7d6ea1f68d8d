# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""nyx check: whether a VM is ready for duty, and what is not."""

from ..options import command, vm_argument
from ..output import print_json, show
from ..vm import connect
from .facts import Facts
from .finding import SEVERITIES, worst
from .isolation import confinement, health
from .machine import disks, firmware, memory, state, tpm
from .operation import logging, metrics, migration, ports, thresholds

CHECKS = (state, memory, firmware, tpm, disks, confinement, health,
          thresholds, logging, metrics, ports, migration)
FAILS = {'error': ('error',), 'warning': ('error', 'warning'),
         'note': ('error', 'warning', 'note')}


def findings(vm):
    """All findings of a VM, the worst first."""
    facts = Facts(vm)
    found = [finding for check in CHECKS for finding in check(facts)]
    return sorted(found, key=lambda each:
                  -SEVERITIES.index(each.severity))


def verdict(found):
    """A sentence."""
    counts = [(sum(each.severity == severity for each in found), severity)
              for severity in reversed(SEVERITIES[1:])]
    text = ', '.join(f'{count} {severity}{"s" if count > 1 else ""}'
                     for count, severity in counts if count)
    return text or 'ready'


def _run(options):
    with connect(options.vm) as vm:
        found, name = findings(vm), vm.name
    shown = [each for each in found
             if options.all or options.json or each.severity != 'ok']
    if options.json:
        print_json({'vm': name, 'verdict': worst(found),
                    'findings': [each.as_dict() for each in shown]})
    else:
        if shown:
            show(('SEVERITY', 'AREA', 'SUBJECT', 'REASON', 'REMEDY'),
                 [(each.severity, each.area, each.subject, each.reason,
                   each.remedy) for each in shown])
        print(f'{name}: {verdict(found)}; {len(found)} checks.')
    return int(any(each.severity in FAILS[options.fail_on]
                   for each in found))


def add(commands):
    """Add the subcommand."""
    parser = command(
        commands, 'check', _run, 'check whether a VM is ready for duty',
        'Memory, firmware, TPM, disks, isolation (every device, and whether '
        'anything escapes), limits, logging, metrics, hotplug ports and '
        'migratability. The exit status is 1 if there is an error.')
    vm_argument(parser)
    parser.add_argument('--all', action='store_true',
                        help='show also what is well')
    parser.add_argument('--fail-on', choices=tuple(FAILS), default='error',
                        help='from which severity on the exit status is 1 '
                        '(default: error)')
