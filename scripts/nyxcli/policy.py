# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""nyx policy: what devices may do wrong, and what follows."""

from .background import add_all, domains_to_show
from .domains import find
from .errors import NyxError
from .options import command, vm_option
from .output import print_json, show
from .units import count
from .vm import connect

FAULT_ACTIONS = ('quarantine', 'report', 'reset-device', 'pause-vm',
                 'reset-vm', 'shutdown', 'unplug', 'restore-snapshot')
RECOVERY_ACTIONS = ('fail', 'unplug', 'pause-vm', 'reset-vm', 'shutdown',
                    'restore-snapshot')
SETTINGS = ('max-faults', 'fault-window-ms', 'on-fault-limit',
            'max-recoveries', 'on-recovery-limit', 'scope', 'count-stage1',
            'recovery')


def _read(vm, options):
    """[{device or domain, policy}] of what the options name; all if none."""
    if options.device:
        device = vm.execute('query-nyx-devices', device=options.device)[0]
        return [{'device': options.device, 'policy': device['policy']}]
    domains = vm.execute('query-nyx-domains')
    if options.domain:
        domain = find(domains, options.domain)
        return [{'domain': options.domain, 'policy': domain['policy']}]
    by_domain = {domain['id']: domain['policy'] for domain in domains}
    devices = vm.execute('query-nyx-devices')
    own = [device for device in devices
           if device['policy'] != by_domain.get(device['domain'])]
    shown = domains_to_show(domains, devices, options.all or options.json)
    return [{'domain': domain['id'], 'policy': domain['policy']}
            for domain in shown] + \
        [{'device': device['device'], 'policy': device['policy']}
         for device in own]


def _cell(policy, name):
    value = policy.get(name, '-')
    return {True: 'on', False: 'off'}.get(value, value) \
        if isinstance(value, bool) else value


def _show(policies):
    rows = []
    for entry in policies:
        kind = 'device' if 'device' in entry else 'domain'
        rows.append((f'{kind} {entry[kind]}',
                     *(_cell(entry['policy'], name) for name in SETTINGS)))
    show(('OF', *(name.upper() for name in SETTINGS)), rows)


def _run(options):
    wanted = {name: getattr(options, name.replace('-', '_'))
              for name in SETTINGS}
    wanted = {name: value for name, value in wanted.items()
              if value is not None}
    if 'count-stage1' in wanted:
        wanted['count-stage1'] = wanted['count-stage1'] == 'on'
    if wanted and not (options.device or options.domain):
        raise NyxError('whose policy is to change is not said; give --device '
                       'DEVICE or --domain DOMAIN.')
    with connect(options.vm) as vm:
        if wanted:
            vm.execute('nyx-set-policy', device=options.device,
                       domain=options.domain, **wanted)
        policies = _read(vm, options)
    if options.json:
        print_json(policies)
    else:
        _show(policies)


def add(commands):
    """Add the subcommand."""
    parser = command(
        commands, 'policy', _run, 'show or change what devices may do wrong, '
        'and what follows', 'Without a device or domain all policies: those '
        'of domains, and those of devices that differ from their domain.')
    vm_option(parser)
    add_all(parser)
    whose = parser.add_mutually_exclusive_group()
    whose.add_argument('--device', metavar='DEVICE')
    whose.add_argument('--domain', metavar='DOMAIN')
    parser.add_argument('--max-faults', metavar='N', type=count,
                        help='faults within the window that are allowed')
    parser.add_argument('--fault-window-ms', metavar='MS', type=count,
                        help='the window; 0 counts for ever')
    parser.add_argument('--on-fault-limit', choices=FAULT_ACTIONS,
                        help='what happens past that limit')
    parser.add_argument('--max-recoveries', metavar='N', type=count,
                        help='recoveries within an hour')
    parser.add_argument('--on-recovery-limit', choices=RECOVERY_ACTIONS,
                        help='what happens past that limit')
    parser.add_argument('--scope', choices=('device', 'domain'),
                        help='whom a quarantine takes in')
    parser.add_argument('--count-stage1', choices=('on', 'off'),
                        help="whether what the guest's own IOMMU refuses "
                        'counts')
    parser.add_argument('--recovery', choices=('manual', 'auto'),
                        help='who begins a recovery: the operator, or the '
                        'guest, too')
