# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""What an operator wants to have set up: limits, log, metrics, ports."""

from .finding import Area

MANY_FAULTS = 1000
STOPS_VM = 'pause-vm', 'reset-vm', 'shutdown'
PORTS = 'nyx-root-port', 'pcie-root-port'


def _policy(facts, area, domain):
    name, policy = domain['id'], domain['policy']
    change = f'"nyx policy --domain {name} '
    action = policy['on-fault-limit']
    if action == 'report':
        return area.warning(name, 'a device past its limit is reported, and '
                            'goes on',
                            f'{change}--on-fault-limit quarantine"')
    if policy['max-faults'] >= MANY_FAULTS:
        return area.warning(name, f'{policy["max-faults"]} faults before '
                            'anything happens', f'{change}--max-faults 10"')
    if 'restore-snapshot' in (action, policy.get('on-recovery-limit')) and \
            not facts['query-nyx-iommu'].get('recovery-snapshot'):
        return area.error(name, 'restore-snapshot, and no snapshot is named',
                          'set the machine option recovery-snapshot')
    if action in STOPS_VM:
        return area.note(name, f'any of its devices can cause {action}',
                         f'{change}--on-fault-limit quarantine" if that is '
                         'not wanted')
    return None


def thresholds(facts):
    area = Area('limits')
    seen = [_policy(facts, area, domain)
            for domain in facts['query-nyx-domains'] if domain['devices']]
    found = [finding for finding in seen if finding]
    yield from found
    if seen and not found:
        yield area.ok(facts.name, f'{len(seen)} policies, each stops a device '
                      'that is past its limit')


def logging(facts):
    area = Area('logging')
    log = facts.folder / 'log' if facts.folder else None
    if log and log.exists():
        yield area.ok('log', str(log))
    elif log and log.parent.exists():
        yield area.note('log', f'there is no {log}', 'start the VM with "nyx '
                        'run", or with -D')
    if facts.traced('nyx_state') and facts.traced('nyx_fault'):
        yield area.ok('events', 'faults and states go to the log')
    else:
        yield area.note('events', 'faults and states do not go to the log',
                        '-trace nyx_fault -trace nyx_state, or the level info '
                        'for iommu in the spec; or "nyx faults --follow"')


def metrics(facts):
    area = Area('metrics')
    if facts.of_libvirt:
        yield area.ok('libvirt', '"nyx metrics --libvirt" can read it')
    elif any('metrics.sock' in chardev['filename']
           for chardev in facts['query-chardev']):
        yield area.ok('socket', '"nyx metrics" can read it')
    else:
        yield area.warning('socket', 'there is no metrics.sock for the '
                           'exporter', 'start the VM with "nyx run", or add '
                           'a QMP socket of that name')


def ports(facts):
    area = Area('hotplug')
    mine = {device['device']: device['driver']
            for device in facts['query-nyx-devices']
            if device['driver'] in PORTS}
    used = {name for name in mine if facts.occupied(name)}
    if len(used) < len(mine):
        yield area.ok('ports',
                      f'{len(mine) - len(used)} of {len(mine)} are free')
    else:
        what = f'none of {len(mine)} ports is free' if mine else \
            'there is no port'
        yield area.note('ports', f'{what}: no device can be added while the '
                        'VM runs',
                        'start it with more (machine option hotplug-ports)')
    for name in sorted(used):
        if mine[name] != 'nyx-root-port':
            yield area.note(name, 'a port without containment: the guest is '
                            'not told when the device below is cut off',
                            'use a nyx-root-port')


def migration(facts):
    area = Area('migration')
    for obstacle in facts['query-nyx-migration']['obstacles']:
        yield area.warning(facts.name, obstacle['reason'].rstrip('.'),
                           'without it, the VM can migrate and be saved')
    if facts['query-nyx-migration']['ready']:
        yield area.ok(facts.name, 'nothing stands in the way')
