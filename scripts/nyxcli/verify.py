# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""Whether both sides of a migration have the same state of the Nyx IOMMU."""

DOMAIN = 'isolation', 'mapped-bytes', 'mappings', 'policy'
DEVICE = 'driver', 'domain', 'state', 'policy', 'backend'


def read(vm):
    """What is compared, of one side."""
    return {'status': vm.execute('query-status')['status'],
            'migration': vm.execute('query-migrate').get('status', 'none'),
            'digest': vm.execute('query-nyx-migration').get('digest'),
            'domains': vm.execute('query-nyx-domains'),
            'devices': vm.execute('query-nyx-devices'),
            'faults': vm.execute('query-nyx-faults')}


def _differences(kind, key, fields, here, there):
    """Texts of what differs between two lists of objects."""
    others = {entry[key]: entry for entry in there}
    texts = []
    for entry in here:
        other = others.get(entry[key])
        if other is None:
            texts.append(f'{kind} {entry[key]} is missing')
            continue
        texts += [f'{kind} {entry[key]}: {field} was {entry[field]} and is '
                  f'{other[field]}' for field in fields
                  if entry[field] != other[field]]
    return texts


def _lost_faults(here, there):
    """Records that are not there, unless newer ones took their place."""
    totals = {device['device']: device['total-faults']
              for device in there['devices']}
    before = {device['device']: device['total-faults']
              for device in here['devices']}
    return [f'a fault of {fault["device"]} at {fault["address"]:#x} is '
            'missing' for fault in here['faults']
            if fault not in there['faults']
            and totals.get(fault['device'], 0) <= before[fault['device']]]


def _digest(here, there):
    if here['digest'] == there['digest']:
        return 'ok', f'the same on both sides: {here["digest"]}'
    if there['status'] == 'running':
        return 'ok', 'the destination checked it before it ran; it has run ' \
                     'on since'
    return 'error', f'{here["digest"]} here, {there["digest"]} there'


def compare(here, there):
    """[(what, ok or error, text)] of two read()."""
    gone = here['migration'] == 'completed'
    came = there['migration'] == 'completed' and \
        there['status'] != 'inmigrate'
    results = [
        ('source', 'ok' if gone else 'error',
         f'migration {here["migration"]}, {here["status"]}'),
        ('destination', 'ok' if came else 'error',
         f'migration {there["migration"]}, {there["status"]}'),
        ('digest', *_digest(here, there))]
    mine = [domain for domain in here['domains']
            if domain['devices'] or not domain['automatic']]
    for what, texts in (
            ('domains', _differences('domain', 'id', DOMAIN, mine,
                                     there['domains'])),
            ('devices', _differences('device', 'device', DEVICE,
                                     here['devices'], there['devices'])),
            ('faults', _lost_faults(here, there))):
        number = len(mine if what == 'domains' else here[what])
        results.append((what, 'error' if texts else 'ok',
                        '; '.join(texts) or f'{number}, all there'))
    return results
